// Handlers of instructions that others must know, and what handlers share.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tests/emulator/ptx.h"
#include "tests/emulator/warp.h"

namespace xception::emulator {

Flow execute_unsupported(Warp& warp, const Instruction& in, LaneMask mask);
// A fault too: of an instruction that is of targets from sm_N on, N in the immediate.
Flow execute_newer(Warp& warp, const Instruction& in, LaneMask mask);
Flow execute_branch(Warp& warp, const Instruction& in, LaneMask mask);
Flow execute_branch_indexed(Warp& warp, const Instruction& in, LaneMask mask);
Flow execute_call(Warp& warp, const Instruction& in, LaneMask mask);
Flow execute_return(Warp& warp, const Instruction& in, LaneMask mask);
Flow execute_exit(Warp& warp, const Instruction& in, LaneMask mask);
Flow execute_barrier(Warp& warp, const Instruction& in, LaneMask mask);
Flow execute_warp_barrier(Warp& warp, const Instruction& in, LaneMask mask);
bool is_mbarrier_init(Handler handler);
// A fault on devices before sm_90.
Flow needs_sm90(Warp& warp, LaneMask mask);
Flow execute_nothing_sm90(Warp& warp, const Instruction& in, LaneMask mask);
Flow execute_clock(Warp& warp, const Instruction& in, LaneMask mask);
Flow execute_wgmma(Warp& warp, const Instruction& in, LaneMask mask);
Flow execute_proxy_fence(Warp& warp, const Instruction& in, LaneMask mask);
Flow execute_local_address(Warp& warp, const Instruction& in, LaneMask mask);
// The device's vprintf and __assertfail, of one lane's arguments.
Flow execute_printf(Warp& warp, const Call& call, LaneMask mask);
Flow execute_assert(Warp& warp, const Call& call, LaneMask mask);

// Bits of execute_barrier's variant; a BarrierReduction stands above them, by kBarrierReduceShift.
inline constexpr std::uint8_t kBarrierArrive = 1;   // does not wait
inline constexpr std::uint8_t kBarrierCounted = 2;  // a second source: how many threads
inline constexpr std::uint8_t kBarrierReduces = 4;  // the last source: a predicate
inline constexpr int kBarrierReduceShift = 4;
enum class BarrierReduction : std::uint8_t { kAnd, kOr, kCount };

// An lvalue of T in bytes of no declared type.
template <class T>
struct Aliased {
  using type [[gnu::may_alias]] = T;
};

// The 32 lanes of a slot.
template <class T>
const typename Aliased<T>::type* lanes_of(Warp& warp, const Slot& slot) {
  return reinterpret_cast<const typename Aliased<T>::type*>(warp.bytes(slot));
}

// Stores the lanes of `mask`. Results are computed for all lanes into an array of the handler's own
// first: sources may be the destination, and loops over 32 lanes become vector code.
template <class T>
void store_lanes(Warp& warp, const Slot& slot, const T* values, LaneMask mask) {
  if (slot.sink) {
    return;
  }
  auto* const target = reinterpret_cast<typename Aliased<T>::type*>(warp.bytes(slot));
  if (mask == kAllLanes) {
    std::memcpy(target, values, sizeof(T) * kLanes);
    return;
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    target[lane] = ((mask >> lane) & 1) != 0 ? values[lane] : T(target[lane]);
  }
}

// Results of `Operation()(a, b, ...)` on the sources behind one destination.
template <class Operation, class Result, class... Sources>
Flow map_lanes(Warp& warp, const Instruction& in, LaneMask mask) {
  alignas(64) Result results[kLanes];
  const Slot* source = in.slots + in.destinations;
  const auto apply = [&](const auto*... sources) {
    for (int lane = 0; lane < kLanes; ++lane) {
      results[lane] = Operation()(static_cast<Sources>(sources[lane])...);
    }
  };
  [&]<std::size_t... kIndex>(std::index_sequence<kIndex...>) {
    apply(lanes_of<Sources>(warp, source[kIndex])...);
  }
  (std::index_sequence_for<Sources...>());
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}

}  // namespace xception::emulator
