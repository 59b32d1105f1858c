// cp.async.bulk from global to shared memory: runs of bytes, and boxes of tensors.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>

#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"
#include "tests/emulator/execute_memory.h"
#include "tests/emulator/memory_ranges.h"
#include "tests/emulator/tensor_map.h"

namespace xception::emulator {
namespace {

constexpr std::size_t kUnit = 16;
constexpr std::size_t kBoxAlignment = 128;

// Checks reads of global memory that are of any length, as loads of up to 16 bytes.
class SourceReader {
 public:
  SourceReader(Warp* warp, int lane) : warp_(*warp), early_((warp->early() >> lane & 1) != 0) {}

  std::optional<Fault> read(Address address, std::size_t bytes) {
    LaunchCounters& counters = warp_.block().count();
    counters.load_bytes += bytes;
    counters.lane_load_bytes += bytes;
    counters.load_sector_bytes +=
        ((address + bytes - 1) / kSectorBytes - address / kSectorBytes + 1) * kSectorBytes;
    std::optional<Fault> fault;
    while (bytes > 0 && !fault) {
      std::size_t step = std::min(kUnit, std::bit_floor(bytes));
      while (address % step != 0) {
        step /= 2;
      }
      fault = add(address, step);
      address += step;
      bytes -= step;
    }
    return fault;
  }

  std::optional<Fault> flush() {
    std::optional<Fault> fault;
    if (count_ != 0) {
      Block& block = warp_.block();
      int lane = 0;
      const WarpRequest request = {kAllLanes >> (kLanes - count_), addresses_, step_};
      fault = block.memory().access(Access::kRead, request, block.accessor(), &lane);
      if (!fault && early_) {
        fault = read_of_earlier_kernel(warp_, request, kBeforeWait, &lane);
      }
    }
    count_ = 0;
    return fault;
  }

 private:
  std::optional<Fault> add(Address address, std::size_t step) {
    if (count_ == kLanes || (count_ != 0 && step != step_)) {
      if (std::optional<Fault> fault = flush()) {
        return fault;
      }
    }
    step_ = step;
    addresses_[static_cast<std::size_t>(count_++)] = address;
    return std::nullopt;
  }

  Warp& warp_;
  bool early_;  // the lane that copies has not waited for the kernel before
  std::array<Address, kLanes> addresses_{};
  int count_ = 0;
  std::size_t step_ = 0;
};

std::string number(std::uint64_t value) { return std::to_string(value); }

// Targets and mbarriers of the lanes, as offsets in shared memory.
Flow shared_operands(Warp& warp, const Instruction& in, LaneMask mask, Address* targets,
                     Address* mbarriers) {
  Flow flow = needs_sm90(warp, mask);
  if (flow != Flow::kNext) {
    return flow;
  }
  read_addresses(warp, in.slots[0], in.immediate, targets);
  read_addresses(warp, in.slots[2], in.immediate3, mbarriers);
  flow = to_shared_offsets(warp, Space::kShared, mask, targets);
  return flow != Flow::kNext ? flow : to_shared_offsets(warp, Space::kShared, mask, mbarriers);
}

Flow copy_run(Warp& warp, const Instruction& in, LaneMask mask) {
  Address targets[kLanes];
  Address mbarriers[kLanes];
  const Flow flow = shared_operands(warp, in, mask, targets, mbarriers);
  if (flow != Flow::kNext) {
    return flow;
  }
  Address sources[kLanes];
  read_addresses(warp, in.slots[1], in.immediate2, sources);
  const auto* const sizes = lanes_of<std::uint32_t>(warp, in.slots[3]);
  for (LaneMask rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const std::uint32_t bytes = sizes[lane];
    if (bytes % kUnit != 0 || targets[lane] % kUnit != 0 || sources[lane] % kUnit != 0) {
      return warp.fail(FaultKind::kMisaligned,
                       "cp.async.bulk of " + number(bytes) + " bytes from " + hex(sources[lane]) +
                           " to shared address " + hex(targets[lane]) +
                           ": all three must be multiples of 16",
                       lane);
    }
    SourceReader reader(&warp, lane);
    std::optional<Fault> fault = reader.read(sources[lane], bytes);
    fault = fault ? fault : reader.flush();
    if (!fault) {
      fault = warp.block().shared().mbarriers().copy(
          warp.index(), lane, targets[lane], bytes, mbarriers[lane],
          {{sources[lane], static_cast<std::uint32_t>(targets[lane]), bytes}});
    }
    if (fault) {
      return warp.fail(*fault, lane);
    }
  }
  warp.block().settle_mbarriers();
  return Flow::kNext;
}

std::optional<Fault> read_map(Warp& warp, Address address, TensorMap* map) {
  Block& block = warp.block();
  if (address % kTensorMapAlignment != 0) {
    return Fault{FaultKind::kMisaligned, "a tensor map's address is no multiple of 64"};
  }
  std::array<std::byte, kTensorMapBytes> bytes{};
  if ((address & ~(kSharedWindow - 1)) == kParamWindow) {
    const std::span<const std::byte> parameters = block.context().request->parameters;
    const Address offset = address - kParamWindow;
    if (offset + bytes.size() > block.context().parameters_total) {
      return Fault{FaultKind::kOutOfBounds, "a tensor map past the end of the parameters"};
    }
    std::memcpy(bytes.data(), parameters.data() + offset, bytes.size());
  } else {
    for (std::size_t i = 0; i < bytes.size(); i += kUnit) {
      if (std::optional<Fault> fault =
              block.memory().access(Access::kRead, address + i, kUnit, block.accessor())) {
        return fault;
      }
    }
    // NOLINTNEXTLINE(performance-no-int-to-ptr)
    std::memcpy(bytes.data(), reinterpret_cast<const std::byte*>(address), bytes.size());
  }
  const std::optional<TensorMap> decoded = decode_tensor_map(bytes);
  if (!decoded) {
    return Fault{FaultKind::kOutOfBounds,
                 "what stands at " + hex(address) + " is no tensor map that was encoded"};
  }
  *map = *decoded;
  return std::nullopt;
}

// The pieces of a box, row by row; what lies outside the tensor is left out.
std::optional<Fault> box_pieces(Warp& warp, int lane, const TensorMap& map,
                                const std::array<std::int32_t, kMostTensorRank>& corner,
                                Address target, std::vector<BulkPiece>* pieces) {
  SourceReader reader(&warp, lane);
  const auto extent = static_cast<std::int64_t>(map.extents[0]);
  const std::int64_t first = std::max<std::int64_t>(corner[0], 0);
  const std::int64_t last = std::min<std::int64_t>(std::int64_t{corner[0]} + map.box[0], extent);
  const std::uint32_t row_bytes = map.row_bytes();
  for (std::uint64_t row = 0; row < map.rows() && first < last; ++row) {
    std::uint64_t left = row;
    bool inside = true;
    Address source = map.address + static_cast<Address>(first) * map.element_bytes;
    for (std::size_t i = 1; i < kMostTensorRank; ++i) {
      const std::int64_t at = corner[i] + static_cast<std::int64_t>(left % map.box[i]);
      left /= map.box[i];
      inside = inside && at >= 0 && at < static_cast<std::int64_t>(map.extents[i]);
      source += static_cast<Address>(at) * map.strides[i];
    }
    if (!inside) {
      continue;
    }
    const auto bytes = static_cast<std::size_t>(last - first) * map.element_bytes;
    if (std::optional<Fault> fault = reader.read(source, bytes)) {
      return fault;
    }
    // Chunks move apart where they are swizzled, and stay together where not.
    Address at =
        target + row * row_bytes + static_cast<Address>(first - corner[0]) * map.element_bytes;
    for (const Address end = at + bytes; at < end;) {
      const Address stop = map.swizzle_bytes == 0 ? end : std::min(end, (at / kUnit + 1) * kUnit);
      pieces->push_back({source, static_cast<std::uint32_t>(swizzled(at, map.swizzle_bytes)),
                         static_cast<std::uint32_t>(stop - at)});
      source += stop - at;
      at = stop;
    }
  }
  return reader.flush();
}

Flow copy_box(Warp& warp, const Instruction& in, LaneMask mask) {
  Address targets[kLanes];
  Address mbarriers[kLanes];
  const Flow flow = shared_operands(warp, in, mask, targets, mbarriers);
  if (flow != Flow::kNext) {
    return flow;
  }
  Address maps[kLanes];
  read_addresses(warp, in.slots[1], in.immediate2, maps);
  const int rank = in.variant;
  for (LaneMask rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    TensorMap map;
    std::optional<Fault> fault = read_map(warp, maps[lane], &map);
    if (fault) {
      return warp.fail(*fault, lane);
    }
    if (map.rank != rank) {
      return warp.fail(FaultKind::kOutOfBounds,
                       "a copy of " + number(static_cast<std::uint64_t>(rank)) +
                           " dimensions by a tensor map of " +
                           number(static_cast<std::uint64_t>(map.rank)),
                       lane);
    }
    if (map.swizzle_bytes != 0 && map.row_bytes() != map.swizzle_bytes) {
      return warp.fail(FaultKind::kUnsupported,
                       "a swizzle over " + number(map.swizzle_bytes) + " bytes of rows of " +
                           number(map.row_bytes()) + " is not supported by the emulator",
                       lane);
    }
    if (targets[lane] % kBoxAlignment != 0) {
      return warp.fail(FaultKind::kMisaligned,
                       "cp.async.bulk.tensor to shared address " + hex(targets[lane]) +
                           ", which is no multiple of 128",
                       lane);
    }
    std::array<std::int32_t, kMostTensorRank> corner{};
    for (std::size_t i = 0; i < static_cast<std::size_t>(rank); ++i) {
      corner[i] = lanes_of<std::int32_t>(warp, in.slots[3 + i])[lane];
    }
    std::vector<BulkPiece> pieces;
    fault = box_pieces(warp, lane, map, corner, targets[lane], &pieces);
    if (!fault) {
      fault = warp.block().shared().mbarriers().copy(warp.index(), lane, targets[lane],
                                                     map.rows() * map.row_bytes(), mbarriers[lane],
                                                     std::move(pieces));
    }
    if (fault) {
      return warp.fail(*fault, lane);
    }
  }
  warp.block().settle_mbarriers();
  return Flow::kNext;
}

int take_rank(Statement* s) {
  constexpr std::array<std::string_view, kMostTensorRank> kNames = {"1d", "2d", "3d", "4d", "5d"};
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (s->take(kNames[i])) {
      return static_cast<int>(i) + 1;
    }
  }
  return 0;
}

}  // namespace

Flow to_shared_offsets(Warp& warp, Space space, LaneMask mask, Address* addresses) {
  for (LaneMask rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    if ((addresses[lane] & ~(kSharedWindow - 1)) == kSharedWindow) {
      addresses[lane] -= kSharedWindow;
    } else if (space == Space::kGeneric) {
      return warp.fail(FaultKind::kOutOfBounds,
                       "the address " + hex(addresses[lane]) + " is not in shared memory", lane);
    }
  }
  return Flow::kNext;
}

Handler decode_bulk(Statement* s) {
  if (s->opcode != "cp" || std::ranges::find(s->modifiers, "bulk") == s->modifiers.end()) {
    return nullptr;
  }
  s->in.kind = InstructionClass::kMemory;
  s->take("async");
  s->take("bulk");
  const bool tensor = s->take("tensor");
  const int rank = take_rank(s);
  s->take("tile");
  const bool to_shared = s->take("shared::cluster") || s->take("shared::cta");
  if (!to_shared || !s->take("global") || !s->take("mbarrier::complete_tx::bytes") ||
      tensor != (rank != 0) || s->count() != (tensor ? 3U : 4U)) {
    s->fail();
    return nullptr;
  }
  s->address(0);
  s->address(1, &s->in.immediate2);
  s->address(s->count() - 1, &s->in.immediate3);
  if (!tensor) {
    s->source(2, Type::kU32);
    return copy_run;
  }
  const Operand& place = s->operands[1];
  if (place.elements.size() != 2 ||
      place.elements[1].elements.size() != static_cast<std::size_t>(rank)) {
    s->fail();
    return nullptr;
  }
  for (const Operand& coordinate : place.elements[1].elements) {
    s->source(coordinate, Type::kS32);
  }
  s->in.variant = static_cast<std::uint8_t>(rank);
  return copy_box;
}

}  // namespace xception::emulator
