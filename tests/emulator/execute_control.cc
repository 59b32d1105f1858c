// Branches, calls, exits, barriers of the block, and instructions that do nothing here.
#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>

#include "tests/emulator/block.h"
#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"

namespace xception::emulator {
namespace {

Flow execute_nothing(Warp&, const Instruction&, LaneMask) { return Flow::kNext; }

// An mbarrier's init is known to bulk copies behind it.
Flow execute_mbarrier_fence(Warp& warp, const Instruction& in, LaneMask mask) {
  const Flow flow = execute_nothing_sm90(warp, in, mask);
  if (flow == Flow::kNext) {
    warp.block().shared().mbarriers().publish(warp.index(), mask);
  }
  return flow;
}

// When the next kernel starts shows nowhere: it always finds this one at its end. On a GPU it could
// fill caches with what the kernel before this one has not written yet.
Flow execute_launch_dependents(Warp& warp, const Instruction&, LaneMask mask) {
  const LaneMask early = mask & warp.early();
  return early == 0 ? Flow::kNext
                    : warp.fail(FaultKind::kDependentLaunch,
                                "griddepcontrol.launch_dependents before griddepcontrol.wait",
                                std::countr_zero(early));
}

Flow execute_grid_wait(Warp& warp, const Instruction&, LaneMask mask) {
  warp.await_previous_kernel(mask);
  return Flow::kNext;
}

// The first lane of `mask` whose value is not that of its first lane; kLanes where there is none.
int first_different(Warp& warp, const Slot& slot, LaneMask mask) {
  const auto* const values = lanes_of<std::uint32_t>(warp, slot);
  LaneMask rest = mask;
  while (rest != 0 && values[std::countr_zero(rest)] == values[std::countr_zero(mask)]) {
    rest &= rest - 1;
  }
  return std::countr_zero(rest);
}

Flow execute_trap(Warp& warp, const Instruction&, LaneMask mask) {
  return warp.fail(FaultKind::kTrap, "trap", std::countr_zero(mask));
}

Handler decode_barrier(Statement* s) {
  // The cluster's barriers are no-ops where a cluster is one block: not supported until needed.
  const bool warp = s->take("warp");
  s->take("cta");
  const bool sync = s->take("sync");
  const bool arrive = s->take("arrive");
  const bool reduce = s->take("red");
  const bool aligned = s->take("aligned") || s->opcode == "bar";
  s->in.kind = InstructionClass::kControl;
  if (warp) {
    if (!sync) {
      s->fail();
    }
    s->source(0, Type::kU32);
    s->in.collective = Collective::kMembers;
    s->in.member_mask = 0;
    return execute_warp_barrier;
  }
  s->in.collective = aligned ? Collective::kLive : Collective::kNone;
  std::size_t next = 0;
  std::size_t sources = s->count();
  if (reduce) {
    const Type type = s->take_type();
    const bool count = s->take("popc");
    const BarrierReduction how = count            ? BarrierReduction::kCount
                                 : s->take("and") ? BarrierReduction::kAnd
                                                  : BarrierReduction::kOr;
    s->take("or");
    if (type != (count ? Type::kU32 : Type::kPred)) {
      s->fail();
    }
    s->destination(next++, type);
    s->in.variant =
        static_cast<std::uint8_t>(kBarrierReduces | (static_cast<int>(how) << kBarrierReduceShift));
    --sources;
  } else if (sync == arrive) {
    s->fail();
  }
  s->in.variant |= arrive ? kBarrierArrive : 0;
  s->source(next++, Type::kU32);
  if (next < sources) {
    s->source(next++, Type::kU32);
    s->in.variant |= kBarrierCounted;
  }
  if (reduce) {
    s->source(s->count() - 1, Type::kPred);
  }
  return execute_barrier;
}

}  // namespace

Flow execute_unsupported(Warp& warp, const Instruction&, LaneMask mask) {
  return warp.fail(FaultKind::kUnsupported, "this instruction is not supported by the emulator",
                   std::countr_zero(mask));
}

Flow execute_newer(Warp& warp, const Instruction& in, LaneMask mask) {
  return warp.fail(FaultKind::kUnsupported,
                   "this instruction needs sm_" + std::to_string(in.immediate) +
                       ", the module's target is sm_" +
                       std::to_string(warp.block().program().target),
                   std::countr_zero(mask));
}

Flow execute_branch(Warp& warp, const Instruction& in, LaneMask mask) {
  return warp.jump(in.target, mask);
}

Flow execute_branch_indexed(Warp& warp, const Instruction& in, LaneMask mask) {
  const auto* const index = lanes_of<std::uint32_t>(warp, in.slots[0]);
  const auto& targets = warp.frame().function->branch_targets[in.target];
  // One target at a time: lanes of the others stay here and come again.
  const int first = std::countr_zero(mask);
  const std::uint32_t chosen = index[first];
  if (chosen >= targets.size()) {
    return warp.fail(FaultKind::kOutOfBounds,
                     "branch " + std::to_string(chosen) + " of " + std::to_string(targets.size()),
                     first);
  }
  LaneMask same = 0;
  for (LaneMask rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    same |= index[lane] == chosen ? LaneMask{1} << lane : 0;
  }
  return warp.jump_some(targets[chosen], same, mask & ~same);
}

Flow execute_call(Warp& warp, const Instruction& in, LaneMask mask) {
  const Call& call = warp.frame().function->calls[in.target];
  const Program& program = warp.block().program();
  if (call.function == kPrintfCall) {
    return execute_printf(warp, call, mask);
  }
  if (call.function == kAssertCall) {
    return execute_assert(warp, call, mask);
  }
  const int first = std::countr_zero(mask);
  auto index = static_cast<std::size_t>(call.function);
  LaneMask same = mask;
  if (call.function == kIndirectCall) {
    const auto* const target = lanes_of<std::uint64_t>(warp, in.slots[0]);
    index = static_cast<std::size_t>(target[first] - kFunctionWindow);
    for (int lane = 0; lane < kLanes; ++lane) {
      same &= target[lane] == target[first] ? kAllLanes : ~(LaneMask{1} << lane);
    }
  }
  if (index >= program.functions.size() || !program.functions[index].defined) {
    return warp.fail(FaultKind::kUnsupported, "function " + call.name + " is not in this module",
                     first);
  }
  return warp.enter(program.functions[index], call, same, mask & ~same);
}

Flow execute_return(Warp& warp, const Instruction&, LaneMask mask) { return warp.leave(mask); }

Flow execute_exit(Warp& warp, const Instruction&, LaneMask mask) { return warp.exit(mask); }

Flow execute_warp_barrier(Warp& warp, const Instruction&, LaneMask mask) {
  warp.block().shared().warp_sync(warp.index(), mask);
  return Flow::kNext;
}

Flow execute_barrier(Warp& warp, const Instruction& in, LaneMask mask) {
  const Slot* source = in.slots + in.destinations;
  const int first = std::countr_zero(mask);
  const bool counted = (in.variant & kBarrierCounted) != 0;
  const int differs = counted ? std::min(first_different(warp, source[0], mask),
                                         first_different(warp, source[1], mask))
                              : first_different(warp, source[0], mask);
  if (differs != kLanes) {
    // Threads of a warp are to execute the same barrier where it is .aligned. What else they may do
    // is left out.
    return warp.fail(
        in.collective == Collective::kLive ? FaultKind::kDivergentBarrier : FaultKind::kUnsupported,
        "comes to another barrier, or another count, than lane " + std::to_string(first) +
            " by one instruction",
        differs);
  }
  const auto id = static_cast<int>(lanes_of<std::uint32_t>(warp, source[0])[first]);
  int threads = 0;
  if (counted) {
    threads = static_cast<int>(lanes_of<std::uint32_t>(warp, source[1])[first]);
    if (threads == 0) {
      return warp.fail(FaultKind::kDivergentBarrier, "a barrier of 0 threads", first);
    }
  }
  const LaneMask values =
      (in.variant & kBarrierReduces) != 0 ? warp.predicate(source[in.sources - 1]) : 0;
  return warp.block().barrier(&warp, in, id, threads, mask, (in.variant & kBarrierArrive) == 0,
                              values);
}

Flow execute_clock(Warp& warp, const Instruction& in, LaneMask mask) {
  const auto now =
      static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  if (in.type == Type::kU64) {
    std::uint64_t values[kLanes];
    std::fill_n(values, kLanes, now);
    store_lanes(warp, in.slots[0], values, mask);
  } else {
    std::uint32_t values[kLanes];
    std::fill_n(values, kLanes, static_cast<std::uint32_t>(now >> in.immediate));
    store_lanes(warp, in.slots[0], values, mask);
  }
  return Flow::kNext;
}

Flow execute_local_address(Warp& warp, const Instruction& in, LaneMask mask) {
  std::uint64_t values[kLanes];
  std::fill_n(values, kLanes,
              (static_cast<std::uint64_t>(warp.frame().depth) << kLocalDepthShift) +
                  static_cast<std::uint64_t>(in.immediate));
  store_lanes(warp, in.slots[0], values, mask);
  return Flow::kNext;
}

// membar and fence in all their forms.
Handler decode_fence(Statement* s) {
  const bool fence = s->opcode == "fence";
  if (fence && s->take("proxy")) {
    // Between the generic proxy and that of wgmma and bulk copies. What is said of global memory
    // alone does nothing here: copies read there what earlier launches wrote.
    const bool elsewhere = s->take("global");
    s->take("shared::cta");
    s->take("shared::cluster");
    if (!s->take("async")) {
      return nullptr;
    }
    return elsewhere ? execute_nothing_sm90 : execute_proxy_fence;
  }
  // One host thread runs a block, and blocks that hand data to each other are reported anyway.
  for (const char* modifier :
       {"acq_rel", "acquire", "release", "sc", "cta", "gpu", "gl", "sys", "cluster"}) {
    s->take(modifier);
  }
  return fence && s->take("mbarrier_init") ? execute_mbarrier_fence : execute_nothing;
}

Handler decode_control(Statement* s) {
  const std::string_view op = s->opcode;
  if (op == "bar" || op == "barrier") {
    return decode_barrier(s);
  }
  if (op == "bra" || op == "brx" || op == "call" || op == "ret" || op == "exit" || op == "trap" ||
      op == "brkpt" || op == "membar" || op == "fence" || op == "nanosleep" || op == "pmevent" ||
      op == "griddepcontrol") {
    s->in.kind = InstructionClass::kControl;
  }
  if (op == "bra") {
    s->take("uni");
    return execute_branch;
  }
  if (op == "brx") {
    s->take("idx");
    s->take("uni");
    s->source(0, Type::kU32);
    return execute_branch_indexed;
  }
  if (op == "call") {
    s->take("uni");
    if (!s->operands.empty()) {
      s->source(0, Type::kU64);
    }
    return execute_call;
  }
  if (op == "ret") {
    s->take("uni");
    return execute_return;
  }
  if (op == "exit") {
    return execute_exit;
  }
  if (op == "trap") {
    return execute_trap;
  }
  if (op == "membar" || op == "fence") {
    return decode_fence(s);
  }
  if (op == "nanosleep") {
    s->take("u32");
    s->source(0, Type::kU32);
    return execute_nothing;
  }
  if (op == "brkpt" || op == "pmevent") {
    s->take("mask");
    return execute_nothing;
  }
  if (op == "griddepcontrol") {
    if (s->take("wait")) {
      return execute_grid_wait;
    }
    return s->take("launch_dependents") ? execute_launch_dependents : nullptr;
  }
  return nullptr;
}

}  // namespace xception::emulator
