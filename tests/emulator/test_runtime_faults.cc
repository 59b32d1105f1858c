// The proof that the emulator's checks work: kernels with one fault each. Every one must be caught,
// named and returned as a CUDA error, whatever the order of work; without its fault the same kernel
// must run in silence.

#include "tests/emulator/test_runtime_faults.h"

#include <cstdlib>

#include "tests/emulator/test_runtime_fixture.h"

namespace xception::emulator {
namespace {

constexpr std::uint64_t kSeeds = 5;

int arch() {
  cudaDeviceProp properties{};
  REQUIRE_CUDA(cudaGetDeviceProperties(&properties, 0));
  return 10 * properties.major + properties.minor;
}

TEST_CASE("every planted fault is caught and named, and nothing else is", "[faults]") {
  XC_NEEDS_EMULATOR();
  // Endless loops end after as many instructions of a warp.
  setenv("XC_EMULATOR_MAX_INSTRUCTIONS", "100000", 1);
  const Control& control = *emulator_control();
  int caught = 0;
  for (const PlantedFault& fault : planted_faults()) {
    if (arch() < fault.least_arch) {
      continue;
    }
    int seen = 0;
    for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
      CAPTURE(fault.name, seed);
      const TestSeed order(seed);

      CHECK_CUDA(cudaSuccess, fault.run(false));
      CHECK(std::string(control.last_fault()).empty());
      CHECK(nothing_lives());

      const cudaError_t error = fault.run(true);
      const std::string report = control.last_fault();
      INFO("the report is: " << report);
      if (!fault.some_seeds || error != cudaSuccess) {
        CHECK_CUDA(fault.error, error);
        CHECK(report.substr(0, fault.kind.size()) == fault.kind);
        CHECK(report.empty() == fault.kind.empty());
        CHECK(report.find(fault.says) != std::string::npos);
        ++seen;
      }
      // The device is usable again after this, and only after this.
      CHECK_CUDA(cudaSuccess, cudaDeviceReset());
      cudaGetLastError();
    }
    CAPTURE(fault.name);
    CHECK(seen >= 1);
    caught += seen > 0 ? 1 : 0;
  }
  REQUIRE(caught >= 25);
}

TEST_CASE("a GPU before sm_90 starts a dependent launch behind the kernel before it", "[faults]") {
  XC_NEEDS_EMULATOR();
  if (arch() >= 90) {
    return;
  }
  int ran = 0;
  for (const PlantedFault& fault : planted_faults()) {
    if (fault.kind == "dependent launch") {
      CAPTURE(fault.name);
      CHECK_CUDA(cudaSuccess, fault.run(true));
      CHECK(std::string(emulator_control()->last_fault()).empty());
      ++ran;
    }
  }
  REQUIRE(ran >= 8);
}

TEST_CASE("a report says which kernel, thread and line", "[faults]") {
  XC_NEEDS_EMULATOR();
  const auto faults = planted_faults();
  const auto found = std::find_if(faults.begin(), faults.end(), [](const PlantedFault& fault) {
    return fault.name == "load_past_the_end";
  });
  REQUIRE(found != faults.end());
  CHECK_CUDA(found->error, found->run(true));
  const std::string report = emulator_control()->last_fault();
  INFO(report);
  for (const char* part : {"load_past_the_end", "thread", "ld.global", "1024 bytes",
                           "just past the end of allocation"}) {
    CHECK(report.find(part) != std::string::npos);
  }
  CHECK_CUDA(cudaSuccess, cudaDeviceReset());
  cudaGetLastError();
}

}  // namespace
}  // namespace xception::emulator
