// Which GPUs code runs on, how activations lie there, and how a GPU is chosen: host code, no
// device. The linker turns the engine's calls that choose one into calls of those here (see
// CMakeLists.txt).
#include "engine/cuda_device.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/cuda_layout.h"
#include "engine/cuda_raii.h"
#include "kernels/numeric.h"
#include "random.h"
#include "testing.h"

namespace xception {
namespace {

int current_device = 0;                    // of the thread
cudaError_t opening_result = cudaSuccess;  // of a context, once

}  // namespace
}  // namespace xception

extern "C" {

cudaError_t __wrap_cudaGetDevice(int* device) {  // NOLINT(clang-diagnostic-reserved-identifier)
  *device = xception::current_device;
  return cudaSuccess;
}

// Chooses, then opens a context, as CUDA does from 12 on.
cudaError_t __wrap_cudaSetDevice(int device) {  // NOLINT(clang-diagnostic-reserved-identifier)
  xception::current_device = device;
  return std::exchange(xception::opening_result, cudaSuccess);
}
}

namespace xception {

TEST_CASE("a device is the thread's for a while, and the one before it afterwards") {
  for (const int before : {0, 1}) {
    CAPTURE(before);
    current_device = before;
    {
      const cuda::DeviceScope scope(1);
      CHECK(scope.status().ok());
      CHECK(current_device == 1);
    }
    CHECK(current_device == before);
  }
}

TEST_CASE("a device that cannot be opened is not left to the thread") {
  for (const auto& [error, code] : {std::pair(cudaErrorMemoryAllocation, Code::kOutOfMemory),
                                    std::pair(cudaErrorDevicesUnavailable, Code::kDevice)}) {
    current_device = 0;
    opening_result = error;
    {
      const cuda::DeviceScope scope(2);
      CHECK(scope.status().code() == code);
      CHECK(scope.status().message() ==
            "make cuda:2 the thread's device: " + std::string(cudaGetErrorName(error)) + ": " +
                cudaGetErrorString(error));
    }
    CHECK(current_device == 0);
  }
}

TEST_CASE("machine code runs on its own major version, PTX on everything later") {
  using cuda::has_code_for;
  constexpr const char* kTargets = "75-real,80-real,86-real,90-real,120-virtual";
  for (const int arch : {75, 80, 86, 87, 89, 90, 120, 121, 130}) {
    CAPTURE(arch);
    CHECK(has_code_for(kTargets, arch));
  }
  for (const int arch : {50, 61, 70, 72, 100, 103, 110}) {
    CAPTURE(arch);
    CHECK_FALSE(has_code_for(kTargets, arch));
  }
  CHECK(has_code_for("75-virtual", 103));
  CHECK(has_code_for("80-virtual,90a-virtual", 90));
  CHECK(has_code_for("90a-virtual", 90));  // which no other GPU runs
  CHECK_FALSE(has_code_for("90a-virtual", 89));
  CHECK_FALSE(has_code_for("90a-virtual", 100));
  CHECK_FALSE(has_code_for("", 80));
}

TEST_CASE("an activation comes back from the device's layout, zeros between its channels") {
  XC_RANDOM(random);
  for (const int channels : {1, 3, 4, 5, 16, 17, 728}) {
    for (const Numeric numeric : {Numeric::kFp32, Numeric::kTf32, Numeric::kFp16, Numeric::kBf16}) {
      const Shape shape = {2, 3, random.integer(1, 5), channels};
      CAPTURE(channels, numeric_name(numeric));
      const std::vector<float> values = random.integers(shape.elements());  // exact in all
      std::vector<std::byte> device(device_bytes(shape, numeric), std::byte{0xFF});
      to_device_layout(values.data(), shape, numeric, device.data());
      std::vector<float> back(values.size());
      from_device_layout(device.data(), shape, numeric, back.data());
      CHECK(back == values);

      const std::size_t stride =
          static_cast<std::size_t>(channel_stride(channels)) * element_bytes(numeric);
      const std::size_t used = static_cast<std::size_t>(channels) * element_bytes(numeric);
      for (std::size_t i = 0; i < device.size(); ++i) {
        if (i % stride >= used) {
          REQUIRE(device[i] == std::byte{0});
        }
      }
    }
  }
}

}  // namespace xception
