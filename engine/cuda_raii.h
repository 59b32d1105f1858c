// What the CUDA runtime hands out, owned: memory, streams, events, graphs. Move-only; a destructor
// gives back what is owned, ignores what the runtime says to that (an earlier failure, as a rule),
// and neither throws nor waits for the device by itself.
//
// And failures of the runtime as values.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "xception/status.h"

namespace xception::cuda {

// Success, or kDevice (kOutOfMemory for want of memory) with `what`, and the error's name and text
// as CUDA has them. Takes the error off the runtime's record, where later calls would find it.
Status to_status(cudaError_t error, std::string_view what);

// Takes an error that nobody can be told of off the runtime's record.
inline void ignore(cudaError_t error) {
  if (error != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
  }
}

// Makes a device the calling thread's for a while, and lets the thread wait and allocate there
// though somebody captures a stream: none of that is a part of the capture. Putting
// the former one back opens a context on it where there was none (cudaSetDevice, CUDA 12). Not to
// put it back would leave the caller's later calls on another GPU than before, and the runtime has
// neither a way to ask whether a context is open nor one to choose a device without; both are the
// driver API's, which we do not link.
//
// Neither end throws: destructors use it.
class DeviceScope {
 public:
  explicit DeviceScope(int device) noexcept;
  ~DeviceScope() {
    if (relaxed_) {
      ignore(cudaThreadExchangeStreamCaptureMode(&capture_mode_));
    }
    if (left_) {
      ignore(cudaSetDevice(previous_));
    }
  }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

  // Success, or why the device is not the thread's.
  Status status() const;

 private:
  int device_;
  int previous_ = 0;
  bool left_ = false;  // the previous one
  bool relaxed_ = false;
  cudaStreamCaptureMode capture_mode_ = cudaStreamCaptureModeRelaxed;  // outside: the thread's own
  cudaError_t error_ = cudaSuccess;
};

// Owns a handle of the runtime that `Destroy` gives back.
template <class T, cudaError_t (*Destroy)(T)>
class Owned {
 public:
  Owned() = default;
  explicit Owned(T handle) : handle_(handle), owns_(true) {}
  ~Owned() { reset(); }
  Owned(Owned&& other) noexcept : handle_(other.handle_), owns_(std::exchange(other.owns_, false)) {
    other.handle_ = T{};
  }
  Owned& operator=(Owned&& other) noexcept {
    if (this != &other) {
      reset();
      handle_ = std::exchange(other.handle_, T{});
      owns_ = std::exchange(other.owns_, false);
    }
    return *this;
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;

  T get() const { return handle_; }
  explicit operator bool() const { return owns_; }

  void reset() {
    if (std::exchange(owns_, false)) {
      ignore(Destroy(std::exchange(handle_, T{})));
    }
  }

 private:
  T handle_{};
  bool owns_ = false;
};

using DeviceMemory = Owned<void*, cudaFree>;
using PinnedMemory = Owned<void*, cudaFreeHost>;  // of the host, where a device reads and writes it
using OwnedStream = Owned<cudaStream_t, cudaStreamDestroy>;
using OwnedEvent = Owned<cudaEvent_t, cudaEventDestroy>;
using OwnedGraph = Owned<cudaGraph_t, cudaGraphDestroy>;
using OwnedGraphExec = Owned<cudaGraphExec_t, cudaGraphExecDestroy>;

// What helps where memory is short, at the end of a message.
constexpr const char* kSmallerBatch = "use a smaller batch or picture";
constexpr const char* kSmallerWeights =
    "weights take the same for every batch; free memory there, or use 16 bits (precision fp16), "
    "another device or device cpu";

// On the current device, and in host memory that it copies from and to. Fail with kOutOfMemory,
// saying how many bytes `what` is, and of the device how many are free. At least one byte.
Result<DeviceMemory> allocate_device(std::size_t bytes, const std::string& what,
                                     const char* advice = kSmallerBatch);
Result<PinnedMemory> allocate_pinned(std::size_t bytes, const std::string& what);

// One that does not wait for the legacy default stream, nor makes it wait.
Result<OwnedStream> make_stream();
Result<OwnedEvent> make_event(unsigned flags = cudaEventDisableTiming);

}  // namespace xception::cuda
