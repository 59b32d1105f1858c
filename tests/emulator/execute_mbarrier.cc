// mbarrier, and what else came with sm_90 for its sake.
#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"
#include "tests/emulator/execute_memory.h"

namespace xception::emulator {
namespace {

constexpr std::uint8_t kExpects = 1;  // the last source: bytes
constexpr std::uint8_t kArrives = 2;
constexpr std::uint8_t kCounted = 4;    // a second source: how many arrivals
constexpr std::uint8_t kParity = 8;     // the phase by its parity, not by a state
constexpr std::uint8_t kSuspends = 16;  // try_wait

// Addresses of objects as offsets in shared memory.
Flow object_addresses(Warp& warp, const Instruction& in, LaneMask mask, Address* addresses) {
  const Flow flow = needs_sm90(warp, mask);
  if (flow != Flow::kNext) {
    return flow;
  }
  read_addresses(warp, in.slots[in.destinations], in.immediate, addresses);
  return to_shared_offsets(warp, in.space, mask, addresses);
}

template <class Operation>
Flow each_lane(Warp& warp, LaneMask mask, const Operation& operation) {
  for (LaneMask rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    if (const std::optional<Fault> fault = operation(lane)) {
      return warp.fail(*fault, lane);
    }
  }
  return Flow::kNext;
}

Flow initialise(Warp& warp, const Instruction& in, LaneMask mask) {
  Address addresses[kLanes];
  const Flow flow = object_addresses(warp, in, mask, addresses);
  if (flow != Flow::kNext) {
    return flow;
  }
  const auto* const counts = lanes_of<std::uint32_t>(warp, in.slots[1]);
  return each_lane(warp, mask, [&](int lane) {
    return warp.block().shared().mbarriers().init(warp.index(), lane, addresses[lane],
                                                  counts[lane]);
  });
}

Flow invalidate(Warp& warp, const Instruction& in, LaneMask mask) {
  Address addresses[kLanes];
  const Flow flow = object_addresses(warp, in, mask, addresses);
  if (flow != Flow::kNext) {
    return flow;
  }
  return each_lane(warp, mask, [&](int lane) {
    return warp.block().shared().mbarriers().invalidate(warp.index(), lane, addresses[lane]);
  });
}

// Lanes of `mask` whose value is that of its first lane.
template <class T>
LaneMask same_as_first(LaneMask mask, const T* values) {
  LaneMask same = 0;
  for (LaneMask rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    same |= values[lane] == values[std::countr_zero(mask)] ? LaneMask{1} << lane : 0;
  }
  return same;
}

Flow arrive(Warp& warp, const Instruction& in, LaneMask mask) {
  Address addresses[kLanes];
  const Flow flow = object_addresses(warp, in, mask, addresses);
  if (flow != Flow::kNext) {
    return flow;
  }
  const Slot* const source = in.slots + in.destinations;
  std::uint32_t counts[kLanes];
  std::uint32_t bytes[kLanes] = {};
  std::uint64_t states[kLanes] = {};
  std::fill_n(counts, kLanes, 1);
  if ((in.variant & kCounted) != 0) {
    std::copy_n(lanes_of<std::uint32_t>(warp, source[1]), kLanes, counts);
  }
  if ((in.variant & kExpects) != 0) {
    std::copy_n(lanes_of<std::uint32_t>(warp, source[1]), kLanes, bytes);
  }
  for (LaneMask rest = mask; rest != 0;) {
    const LaneMask same = same_as_first(rest, addresses);
    int lane = std::countr_zero(rest);
    if (const std::optional<Fault> fault = warp.block().shared().mbarriers().arrive(
            warp.index(), same, addresses[lane], (in.variant & kArrives) != 0 ? counts : nullptr,
            (in.variant & kExpects) != 0 ? bytes : nullptr, states, &lane)) {
      return warp.fail(*fault, lane);
    }
    rest &= ~same;
  }
  if (in.destinations != 0) {
    store_lanes(warp, in.slots[0], states, mask);
  }
  warp.block().settle_mbarriers();
  return Flow::kNext;
}

// Whether the phase that a lane asks for is complete.
std::optional<Fault> is_complete(Warp& warp, const Instruction& in, int lane, Address address,
                                 bool* complete) {
  std::uint64_t current = 0;
  if (std::optional<Fault> fault =
          warp.block().shared().mbarriers().phase(warp.index(), lane, address, &current)) {
    return fault;
  }
  const Slot& slot = in.slots[in.destinations + 1];
  if ((in.variant & kParity) != 0) {
    const std::uint32_t parity = lanes_of<std::uint32_t>(warp, slot)[lane];
    if (parity > 1) {
      return Fault{FaultKind::kMbarrier, "waits for the parity " + std::to_string(parity)};
    }
    *complete = (current & 1) != parity;
    return std::nullopt;
  }
  const std::uint64_t state = lanes_of<std::uint64_t>(warp, slot)[lane];
  if (state > current || state + 1 < current) {
    return Fault{FaultKind::kMbarrier, "waits with a state that is not of this phase, number " +
                                           std::to_string(current) +
                                           " of the mbarrier, or of the one before"};
  }
  *complete = state < current;
  return std::nullopt;
}

Flow wait(Warp& warp, const Instruction& in, LaneMask mask) {
  Address addresses[kLanes];
  Flow flow = object_addresses(warp, in, mask, addresses);
  if (flow != Flow::kNext) {
    return flow;
  }
  LaneMask complete = 0;
  flow = each_lane(warp, mask, [&](int lane) {
    bool is = false;
    std::optional<Fault> fault = is_complete(warp, in, lane, addresses[lane], &is);
    complete |= static_cast<LaneMask>(is) << lane;
    return fault;
  });
  if (flow != Flow::kNext) {
    return flow;
  }
  warp.set_predicate(in.slots[0], complete, mask);
  Block& block = warp.block();
  for (LaneMask rest = complete; rest != 0;) {
    const LaneMask same = same_as_first(rest, addresses);
    block.shared().mbarriers().waited(warp.index(), same, addresses[std::countr_zero(rest)]);
    rest &= ~same;
  }
  const LaneMask left = mask & ~complete;
  if (left == 0) {
    return Flow::kNext;
  }
  if ((in.variant & kSuspends) == 0) {
    block.polled();
    return Flow::kYield;
  }
  if (block.context().request->waits_end_early && block.shared().mbarriers().draw(8)) {
    return Flow::kYield;
  }
  for (LaneMask rest = left; rest != 0;) {
    const LaneMask same = same_as_first(rest, addresses);
    block.wait_at_mbarrier(&warp, in, same, addresses[std::countr_zero(rest)]);
    rest &= ~same;
  }
  return warp.wait_at_barrier(left);
}

Flow nothing(Warp& warp, const Instruction&, LaneMask mask) { return needs_sm90(warp, mask); }

// How many registers there are is ptxas's to know; what is left is who executes it.
Flow set_registers(Warp& warp, const Instruction& in, LaneMask mask) {
  const Flow flow = needs_sm90(warp, mask);
  if (flow != Flow::kNext) {
    return flow;
  }
  const std::string what = warp.block().registers_log().add(warp.index(), in);
  return what.empty() ? Flow::kNext
                      : warp.fail(FaultKind::kDivergentBarrier, what, std::countr_zero(mask));
}

void take_scope(Statement* s, std::string_view order) {
  s->take(order);
  s->take("cta");
}

Handler decode_registers(Statement* s) {
  const bool more = s->take("inc");
  if (more == s->take("dec") || !s->take("sync") || !s->take("aligned") || !s->take("u32") ||
      s->count() != 1 || s->operands[0].kind != Operand::Kind::kNumber) {
    return nullptr;
  }
  const std::uint64_t count = s->operands[0].number.bits;
  s->in.kind = InstructionClass::kControl;
  s->in.collective = Collective::kLive;
  return count % 8 == 0 && count >= 24 && count <= 256 ? set_registers : nullptr;
}

}  // namespace

bool is_mbarrier_init(Handler handler) { return handler == initialise; }

Flow needs_sm90(Warp& warp, LaneMask mask) {
  const int arch = warp.block().context().profile->arch;
  return arch >= 90
             ? Flow::kNext
             : warp.fail(FaultKind::kUnsupported,
                         "this instruction needs sm_90, the device is sm_" + std::to_string(arch),
                         std::countr_zero(mask));
}

Flow execute_nothing_sm90(Warp& warp, const Instruction& in, LaneMask mask) {
  return nothing(warp, in, mask);
}

Handler decode_mbarrier(Statement* s) {
  if (s->opcode == "setmaxnreg") {
    return decode_registers(s);
  }
  if (s->opcode != "mbarrier") {
    return nullptr;
  }
  s->in.kind = InstructionClass::kControl;
  s->in.space = take_space(s);
  if (!s->take("b64") || (s->in.space != Space::kShared && s->in.space != Space::kGeneric)) {
    return nullptr;
  }
  if (s->take("init")) {
    s->address(0);
    s->source(1, Type::kU32);
    return s->count() == 2 ? initialise : nullptr;
  }
  if (s->take("inval")) {
    s->address(0);
    return s->count() == 1 ? invalidate : nullptr;
  }
  const bool expects = s->take("expect_tx");
  if (s->take("arrive")) {
    take_scope(s, "release");
    s->destination(0, Type::kB64);
    s->address(1);
    s->in.variant = kArrives | (expects ? kExpects : s->count() > 2 ? kCounted : 0);
    if (s->count() > 2) {
      s->source(2, Type::kU32);
    }
    return s->count() == 3 || (s->count() == 2 && !expects) ? arrive : nullptr;
  }
  if (expects) {
    take_scope(s, "relaxed");
    s->in.variant = kExpects;
    s->address(0);
    s->source(1, Type::kU32);
    return s->count() == 2 ? arrive : nullptr;
  }
  const bool suspends = s->take("try_wait");
  if (suspends == s->take("test_wait")) {
    return nullptr;
  }
  take_scope(s, "acquire");
  const bool parity = s->take("parity");
  s->in.variant = (suspends ? kSuspends : 0) | (parity ? kParity : 0);
  s->destination(0, Type::kPred);
  s->address(1);
  s->source(2, parity ? Type::kU32 : Type::kB64);
  if (suspends && s->count() == 4) {
    s->source(3, Type::kU32);
    return wait;
  }
  return s->count() == 3 ? wait : nullptr;
}

}  // namespace xception::emulator
