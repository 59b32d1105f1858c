// What a test can ask of the emulator beside the CUDA runtime API.
//
// The functions are found by name at run time, so that one test program runs on the emulator and on
// a GPU alike: emulator_control() is null where the CUDA runtime is NVIDIA's. All are safe to call
// from any thread.
//
// Environment, read once, when the first kernel registers itself, which is before main():
//   XC_EMULATOR_DEVICE=sm_80,sm_75  devices, in this order (default sm_80); `none`: there is none;
//                                   `no-driver`: the driver is too old
//   XC_EMULATOR_MEMORY=BYTES        global memory of each device, instead of the board's
//   XC_EMULATOR_SEED=N              order of streams, blocks and warps. N % 3 chooses when queued
//                                   work runs: 0 only when somebody waits for it, 1 now and then
//                                   before, 2 nearly always at once
//   XC_EMULATOR_THREADS=N           host threads of a launch (default: one a core)
//   XC_EMULATOR_COUNTERS=FILE       a JSON object a launch is appended
//   XC_EMULATOR_FAIL_CALL=N         see xc_emulator_fail_call
//   XC_EMULATOR_FAIL_ALLOC=N        see xc_emulator_fail_allocation
//   XC_EMULATOR_LEAKS=error         what is still allocated at exit: `report`, the default, on
//                                   standard error; `error`: the exit status is 99 besides;
//                                   `ignore`
#pragma once

#include <dlfcn.h>

#include <cstdint>
#include <type_traits>

extern "C" {

// Handles and allocations that the program holds, on all devices.
struct XcEmulatorLive {
  std::uint64_t device_allocations;
  std::uint64_t device_bytes;
  std::uint64_t host_allocations;  // pinned, and registered regions
  std::uint64_t streams;           // default streams apart
  std::uint64_t events;
  std::uint64_t graphs;
  std::uint64_t graph_execs;
};

// What went wrong in the last faulty kernel or copy, as one sentence; "" where nothing has since
// the last cudaDeviceReset. Valid until the process ends.
const char* xc_emulator_last_fault(void);

// The N-th runtime call from now that can fail (1: the next) fails once: cudaErrorMemoryAllocation
// where it allocates, else cudaErrorUnknown. Calls that release something release it all the same.
// 0 takes an order back.
void xc_emulator_fail_call(std::uint64_t n);
// The same, counting calls that allocate device or pinned memory only.
void xc_emulator_fail_allocation(std::uint64_t n);
// Calls made so far that can fail, and those among them that allocate memory.
std::uint64_t xc_emulator_calls(void);
std::uint64_t xc_emulator_allocations(void);

void xc_emulator_live(XcEmulatorLive* live);

// Starts to keep the counters of launches, from none.
void xc_emulator_reset_counters(void);
// Counters since then, one JSON object a line, a line a launch that has run. Valid until the
// calling thread asks again.
const char* xc_emulator_counters(void);

// Of every kernel that runs from now on only the last `count` blocks do: the end of a tensor that
// is too large to be there. 0: all of them. What was launched before may not have run yet.
void xc_emulator_last_blocks(std::uint64_t count);

// Seeds the order of work anew: what XC_EMULATOR_SEED does for the whole process.
void xc_emulator_seed(std::uint64_t seed);
}

namespace xception::emulator {

// The functions above, where the runtime is the emulator.
struct Control {
  decltype(&xc_emulator_last_fault) last_fault = nullptr;
  decltype(&xc_emulator_fail_call) fail_call = nullptr;
  decltype(&xc_emulator_fail_allocation) fail_allocation = nullptr;
  decltype(&xc_emulator_calls) calls = nullptr;
  decltype(&xc_emulator_allocations) allocations = nullptr;
  decltype(&xc_emulator_live) live = nullptr;
  decltype(&xc_emulator_reset_counters) reset_counters = nullptr;
  decltype(&xc_emulator_counters) counters = nullptr;
  decltype(&xc_emulator_last_blocks) last_blocks = nullptr;
  decltype(&xc_emulator_seed) seed = nullptr;
};

// Null on a GPU.
inline const Control* emulator_control() {
  static const Control control = [] {
    Control found;
    const auto find = [](auto& function, const char* name) {
      function =
          reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(RTLD_DEFAULT, name));
    };
    find(found.last_fault, "xc_emulator_last_fault");
    find(found.fail_call, "xc_emulator_fail_call");
    find(found.fail_allocation, "xc_emulator_fail_allocation");
    find(found.calls, "xc_emulator_calls");
    find(found.allocations, "xc_emulator_allocations");
    find(found.live, "xc_emulator_live");
    find(found.reset_counters, "xc_emulator_reset_counters");
    find(found.counters, "xc_emulator_counters");
    find(found.last_blocks, "xc_emulator_last_blocks");
    find(found.seed, "xc_emulator_seed");
    return found;
  }();
  return control.last_fault != nullptr ? &control : nullptr;
}

}  // namespace xception::emulator
