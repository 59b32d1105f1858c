// control.h

#include "tests/emulator/control.h"

#include "tests/emulator/runtime_state.h"

using namespace xception::emulator;  // NOLINT(google-build-using-namespace)

extern "C" {

const char* xc_emulator_last_fault() {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  return runtime.fault_since_reset ? runtime.faults.back().c_str() : "";
}

void xc_emulator_fail_call(std::uint64_t n) {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  runtime.fail_call_in = n;
}

void xc_emulator_fail_allocation(std::uint64_t n) {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  runtime.fail_allocation_in = n;
}

std::uint64_t xc_emulator_calls() {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  return runtime.calls;
}

std::uint64_t xc_emulator_allocations() {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  return runtime.allocations;
}

void xc_emulator_live(XcEmulatorLive* live) {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  *live = runtime.live();
}

void xc_emulator_reset_counters() {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  runtime.keep_counters = true;
  runtime.counters.clear();
}

const char* xc_emulator_counters() {
  thread_local std::string text;
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  text = runtime.counters;
  return text.c_str();
}

void xc_emulator_last_blocks(std::uint64_t count) {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  runtime.last_blocks = count;
}

void xc_emulator_seed(std::uint64_t seed) {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  runtime.set_seed(seed);
}
}
