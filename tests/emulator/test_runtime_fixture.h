// What the tests of the runtime share.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "tests/emulator/control.h"
#include "tests/emulator/test_runtime_kernels.h"
#include "tests/testing.h"

// A call that must return `expected`; a failure prints both names.
#define CHECK_CUDA(expected, expr) \
  CHECK(std::string(cudaGetErrorName(expr)) == std::string(cudaGetErrorName(expected)))
#define REQUIRE_CUDA(expr) REQUIRE(std::string(cudaGetErrorName(expr)) == "cudaSuccess")

// That a text contains another, or does not; a failure prints the text.
#define CHECK_CONTAINS(text, part)                  \
  do {                                              \
    const std::string xc_text = text;               \
    INFO(xc_text);                                  \
    CHECK(xc_text.find(part) != std::string::npos); \
  } while (false)
#define CHECK_LACKS(text, part)                     \
  do {                                              \
    const std::string xc_text = text;               \
    INFO(xc_text);                                  \
    CHECK(xc_text.find(part) == std::string::npos); \
  } while (false)

namespace xception::emulator {

// A stream, event or array that goes with its scope. The destructors check nothing: what is left
// over shows in nothing_lives().
class TestStream {
 public:
  explicit TestStream(unsigned flags = cudaStreamNonBlocking) {
    REQUIRE_CUDA(cudaStreamCreateWithFlags(&stream_, flags));
  }
  ~TestStream() { cudaStreamDestroy(stream_); }
  TestStream(const TestStream&) = delete;
  TestStream& operator=(const TestStream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class TestEvent {
 public:
  explicit TestEvent(unsigned flags = cudaEventDefault) {
    REQUIRE_CUDA(cudaEventCreateWithFlags(&event_, flags));
  }
  ~TestEvent() { cudaEventDestroy(event_); }
  TestEvent(const TestEvent&) = delete;
  TestEvent& operator=(const TestEvent&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t count) : count_(count) {
    REQUIRE_CUDA(cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(T)));
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    REQUIRE_CUDA(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice));
    REQUIRE_CUDA(cudaDeviceSynchronize());
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* get() const { return data_; }
  std::size_t bytes() const { return count_ * sizeof(T); }
  // Waits for the device.
  std::vector<T> values() const {
    std::vector<T> values(count_);
    REQUIRE_CUDA(cudaDeviceSynchronize());
    REQUIRE_CUDA(cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  T* data_ = nullptr;
  std::size_t count_;
};

template <class T>
class PinnedArray {
 public:
  explicit PinnedArray(std::size_t count, T value = T()) : count_(count) {
    REQUIRE_CUDA(cudaMallocHost(reinterpret_cast<void**>(&data_), count * sizeof(T)));
    std::fill(data_, data_ + count, value);
  }
  ~PinnedArray() { cudaFreeHost(data_); }
  PinnedArray(const PinnedArray&) = delete;
  PinnedArray& operator=(const PinnedArray&) = delete;

  T* get() const { return data_; }
  std::size_t bytes() const { return count_ * sizeof(T); }
  std::vector<T> values() const { return std::vector<T>(data_, data_ + count_); }

 private:
  T* data_ = nullptr;
  std::size_t count_;
};

// The order of work of this scope: with seed 0, nothing runs that is not waited for.
class TestSeed {
 public:
  explicit TestSeed(std::uint64_t seed) { set(seed); }
  ~TestSeed() { set(0); }

 private:
  static void set(std::uint64_t seed) {
    if (const Control* control = emulator_control(); control != nullptr) {
      control->seed(seed);
    }
  }
};

// Whether the program holds nothing that it could leak. Where that is not known: yes.
inline bool nothing_lives() {
  const Control* control = emulator_control();
  if (control == nullptr) {
    return true;
  }
  XcEmulatorLive live{};
  control->live(&live);
  return live.device_allocations + live.device_bytes + live.host_allocations + live.streams +
             live.events + live.graphs + live.graph_execs ==
         0;
}

}  // namespace xception::emulator

// For what only the emulator can be asked, or what would break a GPU's context for good.
#define XC_NEEDS_EMULATOR()                                    \
  do {                                                         \
    if (::xception::emulator::emulator_control() == nullptr) { \
      SUCCEED("not on the emulator");                          \
      return;                                                  \
    }                                                          \
  } while (false)
