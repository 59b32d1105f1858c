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

// Against NVIDIA's data sheets, at the clocks that they give: H100's at that of its tensor cores'
// figures, where the sheet has float32 at a higher one (67 TFLOP/s).
TEST_CASE("what a GPU can do at most follows from its clocks") {
  struct Board {
    const char* name;
    cuda::BoardRates rates;
    double fp32, fp16, tf32, memory;  // TFLOP/s, dense; GB/s
  };
  const Board boards[] = {
      {"T4", {75, 40, 1590e6, 2 * 5001e6 * 256, false}, 8.1, 65, 0, 320},
      {"A100", {80, 108, 1410e6, 2 * 1215e6 * 5120, false}, 19.5, 312, 156, 1555},
      {"RTX 3090", {86, 82, 1695e6, 2 * 9751e6 * 384, true}, 35.6, 71, 35.6, 936},
      {"A40", {86, 84, 1740e6, 2 * 7251e6 * 384, false}, 37.4, 149.7, 74.8, 696},
      {"RTX 4090", {89, 128, 2520e6, 2 * 10501e6 * 384, true}, 82.6, 165.2, 82.6, 1008},
      {"H100", {90, 132, 1830e6, 2 * 2619e6 * 5120, false}, 61.9, 989, 495, 3352},
      {"RTX 5090", {120, 170, 2407e6, 2 * 14001e6 * 512, true}, 104.8, 209.5, 104.8, 1792},
  };
  const auto near = [](double value) { return Approx(value).epsilon(0.01); };
  for (const Board& board : boards) {
    CAPTURE(board.name);
    CHECK(cuda::rated_peak(board.rates, Numeric::kFp32).flops_per_s == near(1e12 * board.fp32));
    CHECK(cuda::rated_peak(board.rates, Numeric::kFp16).flops_per_s == near(1e12 * board.fp16));
    CHECK(cuda::rated_peak(board.rates, Numeric::kFp16).bytes_per_s == near(1e9 * board.memory));
    const double bf16 = board.rates.arch == 75 ? board.fp32 : board.fp16;  // one by one there
    CHECK(cuda::rated_peak(board.rates, Numeric::kBf16).flops_per_s == near(1e12 * bf16));
    if (board.tf32 > 0) {
      CHECK(cuda::rated_peak(board.rates, Numeric::kTf32).flops_per_s == near(1e12 * board.tf32));
    }
  }
  const DevicePeak unknown = cuda::rated_peak({990, 100, 1e9, 8e12, false}, Numeric::kFp16);
  CHECK(unknown.flops_per_s == 0);
  CHECK(unknown.bytes_per_s == 1e12);
}

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
