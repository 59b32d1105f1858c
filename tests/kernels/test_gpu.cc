// What is asked of the GPU before a kernel is chosen.
#include "kernels/gpu.h"

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <string>

#include "device_fixture.h"
#include "testing.h"
#include "tests/emulator/control.h"

namespace xception {
namespace {

TEST_CASE("the architecture is that of the code, not the GPU's own") {
  if (emulator::emulator_control() == nullptr) {
    // Hopper's own code has wgmma. The PTX beside it, which later GPUs run, has not.
    int major = 0;
    REQUIRE(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess);
    const GpuInfo gpu = device_under_test();
    CHECK(gpu.has_wgmma == (major == 9 && gpu.arch == 90));
    return;
  }
  // Of the tests' PTX, which has none for 8.6, that GPU runs that of 8.0.
  const char* const emulated = std::getenv("XC_EMULATOR_DEVICE");
  REQUIRE(emulated != nullptr);
  if (std::string(emulated) == "sm_90") {  // runs PTX of sm_90a
    CHECK(device_under_test().arch == 90);
    CHECK(device_under_test().has_wgmma);
    return;
  }
  REQUIRE(std::string(emulated) == "sm_86");
  CHECK(device_under_test().arch == 80);
  CHECK_FALSE(device_under_test().has_wgmma);
}

}  // namespace
}  // namespace xception
