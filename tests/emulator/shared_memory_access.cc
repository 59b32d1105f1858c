// What the lanes of one instruction do to a block's shared memory, checked and remembered.
#include <algorithm>
#include <cstring>

#include "tests/emulator/memory_ranges.h"
#include "tests/emulator/shared_memory_cells.h"

namespace xception::emulator {

// The common case, in which everything before lies beyond a synchronisation of the whole warp or
// belongs to readers beside this one. False where the case is another one, with nothing recorded.
inline bool SharedCells::touch_ordered(std::size_t unit, const Lane& me, Stamp now) {
  Cell& cell = cells_[unit];
  const std::uint8_t state = flags_[unit];
  if (!clocks_.before_warp(cell.write.stamp, me.warp) ||
      !clocks_.before_warp(cell.atomic.stamp, me.warp)) {
    return false;
  }
  const bool reads_before = clocks_.before_warp(cell.read.stamp, me.warp);
  const std::uint32_t lane = me.bit();
  if (me.kind == Access::kRead) {
    if (state != kDefinedBits) {
      return false;
    }
    if (cell.read.stamp == now) {
      cell.read.lanes |= lane;
    } else if (reads_before) {
      cell.read = {now, lane};
    } else if (const int other = cell.read.stamp.warp(); other != Stamp::kManyWarps) {
      if (partial_barriers_ || other == me.warp) {
        return false;
      }
      cell.read = {clocks_.now_many(), 0};
    }
    return true;
  }
  if (me.kind != Access::kWrite || !reads_before || (state & (kSplitBit | kInFlightBit)) != 0) {
    return false;
  }
  flags_[unit] = kDefinedBits;
  cell = {{now, lane}, {}, {}};
  return true;
}

// That of the chunk, word or byte, whichever the place has.
const SharedCells::Cell& SharedCells::cell_of(std::size_t offset) const {
  const std::size_t chunk = offset / kChunkBytes;
  const std::size_t word = word_unit(offset);
  return cells_[!is_split(chunk) ? chunk : !is_split(word) ? word : byte_cell(offset)];
}

// Whether what stands against the lane's write of [begin, end) is a write of the same value by an
// earlier lane of the same instruction.
bool SharedCells::same_instruction(const WarpRequest& request, const Lane& me, std::size_t begin,
                                   std::size_t end, const std::byte* values) const {
  const Cell& cell = cell_of(begin);
  if (me.kind != Access::kWrite || cell.write.stamp != clocks_.now(me.warp)) {
    return false;
  }
  const int other = __builtin_ctz(cell.write.lanes);
  if (other >= me.lane || (request.active >> other & 1) == 0) {
    return false;
  }
  const auto mine = static_cast<std::size_t>(request.addresses[static_cast<std::size_t>(me.lane)]);
  const auto theirs = static_cast<std::size_t>(request.addresses[static_cast<std::size_t>(other)]);
  if (begin < theirs || end > theirs + request.bytes) {
    return false;
  }
  const auto value_of = [&](int lane, std::size_t address) {
    return values + static_cast<std::size_t>(lane) * request.bytes + (begin - address);
  };
  return values == nullptr ||
         std::memcmp(value_of(me.lane, mine), value_of(other, theirs), end - begin) == 0;
}

std::optional<SharedCells::Trouble> SharedCells::access_lane(const WarpRequest& request,
                                                             const Lane& me,
                                                             const std::byte* values) {
  const Address address = request.addresses[static_cast<std::size_t>(me.lane)];
  if ((address & (request.bytes - 1)) != 0) {
    return Trouble{FaultKind::kMisaligned, address,
                   "the address is no multiple of " + std::to_string(request.bytes)};
  }
  if (address >= bytes_ || bytes_ - address < request.bytes) {
    return Trouble{FaultKind::kOutOfBounds, address,
                   "the block has " + bytes_text(bytes_) + " of shared memory"};
  }
  const auto begin = static_cast<std::size_t>(address);
  const std::size_t end = begin + request.bytes;
  if (wgmma_reads_ != 0 && me.kind != Access::kRead &&
      wgmma_readers_[begin / kChunkBytes].count != 0) {
    return Trouble{FaultKind::kWgmmaNotWaited, begin,
                   "a wgmma that warp " + std::to_string(wgmma_readers_[begin / kChunkBytes].warp) +
                       " has not waited for reads it"};
  }
  const std::size_t chunk = begin / kChunkBytes;
  if (request.bytes < kChunkBytes && !is_split(chunk)) {
    split(chunk);
  }
  // What is touched: the chunk, or words of it, or a part of one word.
  const bool words = is_split(chunk);
  const std::size_t step = words ? std::min(request.bytes, kWordBytes) : kChunkBytes;
  const bool whole = step >= kWordBytes;
  for (std::size_t at = begin; at < end; at += step) {
    auto trouble =
        whole ? touch_unit(words ? word_unit(at) : chunk, me) : touch_bytes(at, at + step, me);
    if (trouble && (trouble->kind != FaultKind::kSharedRace ||
                    !same_instruction(request, me, at, at + step, values))) {
      trouble->offset = std::max(trouble->offset, at);
      return trouble;
    }
  }
  if (words && request.bytes == kChunkBytes && me.kind == Access::kWrite) {
    join(chunk, first_unit(chunk));
  }
  return std::nullopt;
}

// Whether the lane's access is the common case throughout: see touch_ordered(). Where it is not,
// some of it may have been recorded, which it does no harm to do again.
inline bool SharedCells::access_ordered(Address address, std::size_t bytes, const Lane& me,
                                        Stamp now) {
  if ((address & (bytes - 1)) != 0 || address >= bytes_ || bytes_ - address < bytes ||
      (wgmma_reads_ != 0 && me.kind != Access::kRead)) {
    return false;
  }
  const std::size_t chunk = address / kChunkBytes;
  if (!is_split(chunk)) {
    return bytes == kChunkBytes && touch_ordered(chunk, me, now);
  }
  if (bytes < kWordBytes || (bytes == kChunkBytes && me.kind == Access::kWrite)) {
    return false;
  }
  bool ordered = true;
  for (std::size_t word = word_unit(address); ordered && word < word_unit(address + bytes);
       ++word) {
    ordered = touch_ordered(word, me, now);
  }
  return ordered;
}

std::optional<SharedCells::Trouble> SharedCells::access(Access kind, const WarpRequest& request,
                                                        int warp, int* lane,
                                                        const std::byte* values) {
  const Stamp now = clocks_.now(warp);
  for (std::uint32_t rest = request.active; rest != 0; rest &= rest - 1) {
    const Lane me{kind, warp, __builtin_ctz(rest)};
    const Address address = request.addresses[static_cast<std::size_t>(me.lane)];
    if (access_ordered(address, request.bytes, me, now)) {
      continue;
    }
    if (auto trouble = access_lane(request, me, values)) {
      *lane = me.lane;
      return trouble;
    }
  }
  return std::nullopt;
}

std::optional<SharedCells::Trouble> SharedCells::write(int warp, int lane, Address offset,
                                                       std::size_t bytes) {
  std::array<Address, kWarpLanes> addresses;  // only the lane's is looked at
  addresses[static_cast<std::size_t>(lane)] = offset;
  return access(Access::kWrite, {1U << lane, addresses, bytes}, warp, &lane, nullptr);
}

}  // namespace xception::emulator
