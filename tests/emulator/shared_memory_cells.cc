#include "tests/emulator/shared_memory_cells.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "tests/emulator/memory_ranges.h"
#include "tests/emulator/wgmma.h"

namespace xception::emulator {

std::string thread_text(int warp, int lane) {
  return "thread " + std::to_string(warp * kWarpLanes + lane) + " (warp " + std::to_string(warp) +
         ", lane " + std::to_string(lane) + ")";
}

void SharedCells::begin_block(std::size_t bytes, int threads, bool partial_barriers) {
  bytes_ = bytes;
  partial_barriers_ = partial_barriers;
  const std::size_t words = (bytes + kWordBytes - 1) / kWordBytes;
  flags_.assign(words, 0);
  cells_.assign(words, Cell{});
  byte_cells_.clear();
  warps_ = static_cast<std::size_t>(threads + kWarpLanes - 1) / kWarpLanes;
  clocks_.begin_block(threads);
  for (std::vector<ProxyFence>& fences : proxy_fences_) {
    fences.clear();
  }
  wgmma_readers_.clear();
  wgmma_reads_ = 0;
}

// The common case, in which everything before lies beyond a synchronisation of the whole warp or
// belongs to readers beside this one. False where the case is another one, with nothing recorded.
inline bool SharedCells::touch_ordered(std::size_t word, const Lane& me, Stamp now) {
  Cell& cell = cells_[word];
  const std::uint8_t state = flags_[word];
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
  flags_[word] = kDefinedBits;
  cell = {{now, lane}, {}, {}};
  return true;
}

// The sets of one kind of records of neighbouring cells are neighbours.
std::size_t SharedCells::set_begin(const AccessRecord& record) const {
  static_assert(sizeof(Cell) == 3 * sizeof(AccessRecord));
  const auto number = [&](const std::vector<Cell>& cells) {
    const auto at =
        static_cast<std::size_t>(&record - reinterpret_cast<const AccessRecord*>(cells.data()));
    return at % 3 * cells.size() + at / 3;
  };
  const void* place = &record;
  const bool of_word =
      !std::less<>{}(place, static_cast<const void*>(cells_.data())) &&
      std::less<>{}(place, static_cast<const void*>(cells_.data() + cells_.size()));
  return (of_word ? number(cells_) : 3 * cells_.size() + number(byte_cells_)) * warps_;
}

std::span<AccessRecord> SharedCells::set_of(const AccessRecord& record) {
  const std::size_t begin = set_begin(record);
  if (sets_.size() < begin + warps_) {
    sets_.resize(begin + warps_);
  }
  return {sets_.data() + begin, warps_};
}

std::span<const AccessRecord> SharedCells::set_of(const AccessRecord& record) const {
  return {sets_.data() + set_begin(record), warps_};
}

bool SharedCells::before(const AccessRecord& record, const Lane& me) const {
  if (record.stamp.warp() != Stamp::kSetOfWarps) {
    return clocks_.before_lane(record, me.warp, me.lane);
  }
  const std::span<const AccessRecord> set = set_of(record);
  return std::all_of(set.begin(), set.end(), [&](const AccessRecord& of_warp) {
    return clocks_.before_lane(of_warp, me.warp, me.lane);
  });
}

// Adds an access to those of the same kind, which do not conflict with each other.
void SharedCells::add(AccessRecord& record, const Lane& me) {
  const Stamp now = clocks_.now(me.warp);
  const std::uint32_t lane = me.bit();
  const int other = record.stamp.warp();
  if (record.stamp == now) {
    record.lanes |= lane;
  } else if (other != Stamp::kSetOfWarps && clocks_.before_warp(record.stamp, me.warp)) {
    record = {now, lane};
  } else if (other == me.warp) {
    // After a __syncwarp of some lanes the older clock would be too young for its lanes; forgetting
    // them may miss a race and invents none.
    record = {now, clocks_.partly_synced(me.warp) ? lane : record.lanes | lane};
  } else if (other == Stamp::kManyWarps) {
    return;
  } else if (!partial_barriers_) {
    record = {clocks_.now_many(), 0};
  } else {
    const std::span<AccessRecord> set = set_of(record);
    if (other != Stamp::kSetOfWarps) {
      std::fill(set.begin(), set.end(), AccessRecord{});
      set[static_cast<std::size_t>(other)] = record;
      record = {Stamp(Stamp::kSetOfWarps, 1), 0};
    }
    add(set[static_cast<std::size_t>(me.warp)], me);
  }
}

SharedCells::Trouble SharedCells::race(const AccessRecord& record, const char* did,
                                       const Lane& me) const {
  AccessRecord other = record;
  if (record.stamp.warp() == Stamp::kSetOfWarps) {
    for (const AccessRecord& of_warp : set_of(record)) {
      if (!clocks_.before_lane(of_warp, me.warp, me.lane)) {
        other = of_warp;
      }
    }
  }
  if (other.stamp.warp() >= Stamp::kFirstMbarrier) {
    return {FaultKind::kAsyncCopyNotWaited, 0,
            "a bulk copy wrote it, and " + thread_text(me.warp, me.lane) +
                " has not waited for its mbarrier"};
  }
  const std::uint32_t lanes =
      other.stamp.warp() == me.warp ? other.lanes & ~(1U << me.lane) : other.lanes;
  std::string what = "threads of several warps";
  if (lanes != 0) {
    what = thread_text(other.stamp.warp(), __builtin_ctz(lanes));
  } else if (other.stamp.warp() < kMostWarps) {
    what = "a wgmma of warp " + std::to_string(other.stamp.warp());
  }
  what += std::string(" ") + did + " it, and no ";
  what += other.stamp.warp() == me.warp ? "__syncwarp or barrier" : "barrier";
  return {FaultKind::kSharedRace, 0, what + " lies between"};
}

std::optional<SharedCells::Trouble> SharedCells::touch(Cell& cell, const Lane& me) {
  if (!before(cell.write, me)) {
    return race(cell.write, "wrote", me);
  }
  if (me.kind != Access::kAtomic && !before(cell.atomic, me)) {
    return race(cell.atomic, "updated", me);
  }
  if (me.kind != Access::kRead && !before(cell.read, me)) {
    return race(cell.read, "read", me);
  }
  switch (me.kind) {
    case Access::kRead:
      add(cell.read, me);
      break;
    case Access::kWrite:
      cell = {{clocks_.now(me.warp), 1U << me.lane}, {}, {}};
      break;
    case Access::kAtomic:
      add(cell.atomic, me);
      break;
  }
  return std::nullopt;
}

// Gives each byte of a word a cell with what is remembered of the word.
void SharedCells::split(std::size_t word) {
  if (byte_cells_.empty()) {
    byte_cells_.resize(cells_.size() * kWordBytes);
  }
  const Cell& whole = cells_[word];
  for (std::size_t byte = 0; byte < kWordBytes; ++byte) {
    Cell& cell = byte_cells_[word * kWordBytes + byte];
    cell = whole;
    for (const auto kind : {&Cell::read, &Cell::atomic}) {
      if ((whole.*kind).stamp.warp() == Stamp::kSetOfWarps) {
        const std::span<AccessRecord> set = set_of(cell.*kind);  // first: it may move all of them
        std::ranges::copy(set_of(whole.*kind), set.begin());
      }
    }
  }
  flags_[word] |= kSplitBit;
}

// Bytes [begin, end) of one word, apart from the others.
std::optional<SharedCells::Trouble> SharedCells::touch_bytes(std::size_t begin, std::size_t end,
                                                             const Lane& me) {
  const std::size_t word = begin / kWordBytes;
  if ((flags_[word] & kMbarrierBit) != 0) {
    return Trouble{FaultKind::kMbarrier, begin, "an mbarrier object lives there"};
  }
  if ((flags_[word] & kInFlightBit) != 0) {
    return Trouble{FaultKind::kAsyncCopyNotWaited, begin, "a cp.async to it is in flight"};
  }
  if ((flags_[word] & kSplitBit) == 0) {
    split(word);
  }
  for (std::size_t byte = begin; byte < end; ++byte) {
    const auto bit = static_cast<std::uint8_t>(1U << (byte % kWordBytes));
    if (me.kind != Access::kWrite && (flags_[word] & bit) == 0) {
      return Trouble{FaultKind::kUninitialised, byte, "nobody has written it"};
    }
    if (auto trouble = touch(byte_cells_[byte], me)) {
      return trouble;
    }
    flags_[word] |= bit;
  }
  return std::nullopt;
}

std::optional<SharedCells::Trouble> SharedCells::touch_word(std::size_t word, const Lane& me) {
  const std::uint8_t state = flags_[word];
  if ((state & (kSplitBit | kInFlightBit)) != 0) {
    auto trouble = touch_bytes(word * kWordBytes, (word + 1) * kWordBytes, me);
    if (!trouble && me.kind == Access::kWrite) {
      // All four bytes have one history again.
      cells_[word] = byte_cells_[word * kWordBytes];
      flags_[word] = kDefinedBits;
    }
    return trouble;
  }
  if (me.kind == Access::kWrite) {
    flags_[word] = kDefinedBits;
  } else if (state != kDefinedBits) {
    return Trouble{FaultKind::kUninitialised, word * kWordBytes, "nobody has written it"};
  }
  return touch(cells_[word], me);
}

// Whether what stands against the lane's write of [begin, end) is a write of the same value by an
// earlier lane of the same instruction.
bool SharedCells::same_instruction(const WarpRequest& request, const Lane& me, std::size_t begin,
                                   std::size_t end, const std::byte* values) const {
  const std::size_t word = begin / kWordBytes;
  const Cell& cell = (flags_[word] & kSplitBit) != 0 ? byte_cells_[begin] : cells_[word];
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

std::optional<SharedCells::Trouble> SharedCells::access(const WarpRequest& request, const Lane& me,
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
  const Stamp now = clocks_.now(me.warp);
  for (std::size_t at = begin; at < end;) {
    const std::size_t stop = std::min(end, (at / kWordBytes + 1) * kWordBytes);
    if (stop - at == kWordBytes && touch_ordered(at / kWordBytes, me, now)) {
      at = stop;
      continue;
    }
    auto trouble =
        stop - at == kWordBytes ? touch_word(at / kWordBytes, me) : touch_bytes(at, stop, me);
    if (trouble && (trouble->kind != FaultKind::kSharedRace ||
                    !same_instruction(request, me, at, stop, values))) {
      return trouble;
    }
    at = stop;
  }
  return std::nullopt;
}

void SharedCells::begin_copy(std::size_t begin, std::size_t end) {
  for (std::size_t at = begin; at < end; at += kWordBytes) {
    flags_[at / kWordBytes] = kInFlightBit;
  }
}

void SharedCells::land_copy(std::size_t begin, std::size_t end, int warp, int lane) {
  const AccessRecord written{clocks_.now(warp), 1U << lane};
  for (std::size_t at = begin; at < end; at += kWordBytes) {
    cells_[at / kWordBytes] = {written, {}, {}};
    flags_[at / kWordBytes] = kDefinedBits;
  }
}

void SharedCells::land_bulk(std::size_t begin, std::size_t end, Stamp stamp) {
  for (std::size_t at = begin; at < end; at += kWordBytes) {
    cells_[at / kWordBytes] = {{stamp, 0}, {}, {}};
    flags_[at / kWordBytes] = kDefinedBits;
  }
}

void SharedCells::begin_mbarrier(std::size_t begin) {
  for (std::size_t i = 0; i < 8 / kWordBytes; ++i) {
    flags_[begin / kWordBytes + i] = kInFlightBit | kMbarrierBit;
  }
}

void SharedCells::end_mbarrier(std::size_t begin) {
  for (std::size_t i = 0; i < 8 / kWordBytes; ++i) {
    flags_[begin / kWordBytes + i] = 0;
  }
}

void SharedCells::forget_if_exhausted() {
  if (!clocks_.exhausted()) {
    return;
  }
  ++times_forgotten_;
  clocks_.restart();
  for (std::vector<ProxyFence>& fences : proxy_fences_) {
    fences.clear();
  }
  std::fill(cells_.begin(), cells_.end(), Cell{});
  std::fill(byte_cells_.begin(), byte_cells_.end(), Cell{});
}

}  // namespace xception::emulator
