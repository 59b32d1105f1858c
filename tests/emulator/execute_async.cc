// cp.async and its groups.
#include <bit>
#include <string>

#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"
#include "tests/emulator/execute_memory.h"

namespace xception::emulator {
namespace {

// The bytes that a lane reads: all of its copy, or some where a source size or an ignored source
// says so.
std::size_t source_bytes(Warp& warp, const Instruction& in, int lane, std::size_t bytes) {
  if (in.sources < 3) {
    return bytes;
  }
  const Slot& slot = in.slots[2];
  if (slot.width == 0) {
    return (warp.predicate(slot) >> lane & 1) != 0 ? 0 : bytes;
  }
  return lanes_of<std::uint32_t>(warp, slot)[lane];
}

Flow check_sources(Warp& warp, LaneMask mask, std::size_t bytes, const std::size_t* wanted,
                   Address* addresses) {
  LaneMask whole = 0;
  LaneMask parts = 0;
  for (LaneMask rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    if (wanted[lane] > bytes) {
      return warp.fail(FaultKind::kOutOfBounds,
                       "cp.async of " + std::to_string(bytes) + " bytes with a source of " +
                           std::to_string(wanted[lane]),
                       lane);
    }
    const LaneMask bit = LaneMask{1} << lane;
    whole |= wanted[lane] == bytes ? bit : 0;
    parts |= wanted[lane] != bytes && wanted[lane] != 0 ? bit : 0;
  }
  std::byte* targets[kLanes];
  if (whole != 0) {
    const Flow flow =
        touch(warp, Access::kRead, Space::kGlobal, bytes, whole, addresses, targets, nullptr);
    if (flow != Flow::kNext) {
      return flow;
    }
  }
  // A part is read byte by byte; the copy's alignment holds for it all the same.
  for (LaneMask rest = parts; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    if (addresses[lane] % bytes != 0) {
      return warp.fail(FaultKind::kMisaligned, "cp.async's source is misaligned", lane);
    }
    Address bytewise[kLanes] = {};
    for (std::size_t i = 0; i < wanted[lane]; ++i) {
      bytewise[lane] = addresses[lane] + i;
      const Flow flow = touch(warp, Access::kRead, Space::kGlobal, 1, LaneMask{1} << lane, bytewise,
                              targets, nullptr);
      if (flow != Flow::kNext) {
        return flow;
      }
    }
  }
  return Flow::kNext;
}

Flow copy_async(Warp& warp, const Instruction& in, LaneMask mask) {
  Address destinations[kLanes];
  Address sources[kLanes];
  const auto bytes = static_cast<std::size_t>(in.variant);
  read_addresses(warp, in.slots[0], in.immediate, destinations);
  read_addresses(warp, in.slots[1], in.immediate2, sources);
  std::size_t wanted[kLanes] = {};
  for (LaneMask rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    wanted[lane] = source_bytes(warp, in, lane, bytes);
    if (destinations[lane] >= kSharedWindow) {
      destinations[lane] -= kSharedWindow;
    }
  }
  const Flow flow = check_sources(warp, mask, bytes, wanted, sources);
  if (flow != Flow::kNext) {
    return flow;
  }
  Block& block = warp.block();
  for (LaneMask rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    if (std::optional<Fault> fault = block.shared().copy_async(
            warp.index(), lane, destinations[lane], sources[lane], bytes, wanted[lane])) {
      return warp.fail(*fault, lane);
    }
  }
  const SharedCost cost = shared_cost({mask, {destinations, kLanes}, bytes});
  block.count().shared_wavefronts += cost.wavefronts;
  block.count().shared_wavefronts_ideal += cost.ideal;
  return Flow::kNext;
}

Flow commit_group(Warp& warp, const Instruction&, LaneMask mask) {
  warp.block().shared().commit(warp.index(), mask);
  return Flow::kNext;
}

Flow wait_group(Warp& warp, const Instruction& in, LaneMask mask) {
  warp.block().shared().wait(warp.index(), mask, static_cast<int>(in.immediate));
  return Flow::kNext;
}

Flow wait_all(Warp& warp, const Instruction&, LaneMask mask) {
  warp.block().shared().wait_all(warp.index(), mask);
  return Flow::kNext;
}

Handler decode_copy(Statement* s) {
  const bool all_levels = s->take("ca");
  const bool global_level = s->take("cg");
  const bool to_shared = s->take("shared") || s->take("shared::cta");
  const bool from_global = s->take("global");
  const bool hint = take_memory_hints(s);
  if (all_levels == global_level || !to_shared || !from_global || s->count() < 3 ||
      s->operands[2].kind != Operand::Kind::kNumber) {
    return nullptr;
  }
  const std::uint64_t bytes = s->operands[2].number.bits;
  if (bytes != 16 && (global_level || (bytes != 4 && bytes != 8))) {
    return nullptr;
  }
  s->in.variant = static_cast<std::uint8_t>(bytes);
  s->address(0);
  s->address(1, &s->in.immediate2);
  const std::size_t end = s->count() - (hint ? 1 : 0);
  if (end > 3) {
    const Operand& operand = s->operands[3];
    const bool ignore = operand.kind == Operand::Kind::kRegister && operand.slot.width == 0;
    s->source(3, ignore ? Type::kPred : Type::kU32);
  }
  return end > 4 ? nullptr : copy_async;
}

}  // namespace

Handler decode_async(Statement* s) {
  if (s->opcode != "cp" || !s->take("async")) {
    return nullptr;
  }
  s->in.kind = InstructionClass::kMemory;
  if (s->take("commit_group")) {
    s->in.kind = InstructionClass::kControl;
    return commit_group;
  }
  if (s->take("wait_all")) {
    s->in.kind = InstructionClass::kControl;
    return wait_all;
  }
  if (s->take("wait_group")) {
    s->in.kind = InstructionClass::kControl;
    if (s->count() != 1 || s->operands[0].kind != Operand::Kind::kNumber) {
      return nullptr;
    }
    s->in.immediate = static_cast<std::int64_t>(s->operands[0].number.bits);
    return wait_group;
  }
  return decode_copy(s);
}

}  // namespace xception::emulator
