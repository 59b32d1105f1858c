#include "engine/cuda_raii.h"

#include <algorithm>

namespace xception::cuda {

Status to_status(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) {
    return {};
  }
  static_cast<void>(cudaGetLastError());
  return {error == cudaErrorMemoryAllocation ? Code::kOutOfMemory : Code::kDevice,
          std::string(what) + ": " + cudaGetErrorName(error) + ": " + cudaGetErrorString(error)};
}

DeviceScope::DeviceScope(int device) noexcept : device_(device), error_(cudaGetDevice(&previous_)) {
  if (error_ == cudaSuccess && previous_ != device) {
    // CUDA chooses the device before it opens a context there: where that fails, it stays chosen.
    left_ = true;
    error_ = cudaSetDevice(device);
  }
  ignore(error_);
  const cudaError_t exchanged = cudaThreadExchangeStreamCaptureMode(&capture_mode_);
  relaxed_ = exchanged == cudaSuccess;
  ignore(exchanged);
}

Status DeviceScope::status() const {
  return error_ == cudaSuccess
             ? Status()
             : to_status(error_, "make cuda:" + std::to_string(device_) + " the thread's device");
}

namespace {

Status out_of_memory(cudaError_t error, std::size_t bytes, const std::string& what,
                     const char* advice) {
  if (error != cudaErrorMemoryAllocation) {
    return to_status(error, "cannot allocate " + std::to_string(bytes) + " bytes for " + what);
  }
  static_cast<void>(cudaGetLastError());
  std::size_t free = 0;
  std::size_t total = 0;
  std::string room;
  if (cudaMemGetInfo(&free, &total) == cudaSuccess) {
    room = "; of the device's " + std::to_string(total) + " bytes " + std::to_string(free) +
           " are free";
  } else {
    static_cast<void>(cudaGetLastError());
  }
  return {Code::kOutOfMemory,
          "cannot allocate " + std::to_string(bytes) + " bytes for " + what + room + "; " + advice};
}

}  // namespace

Result<DeviceMemory> allocate_device(std::size_t bytes, const std::string& what,
                                     const char* advice) {
  void* memory = nullptr;
  const std::size_t size = std::max<std::size_t>(bytes, 1);
  if (const cudaError_t error = cudaMalloc(&memory, size); error != cudaSuccess) {
    return out_of_memory(error, size, what, advice);
  }
  return DeviceMemory(memory);
}

Result<PinnedMemory> allocate_pinned(std::size_t bytes, const std::string& what) {
  void* memory = nullptr;
  const std::size_t size = std::max<std::size_t>(bytes, 1);
  if (const cudaError_t error = cudaMallocHost(&memory, size); error != cudaSuccess) {
    const std::string asked =
        "cannot allocate " + std::to_string(size) + " bytes of pinned host memory for " + what;
    if (error != cudaErrorMemoryAllocation) {
      return to_status(error, asked);
    }
    static_cast<void>(cudaGetLastError());
    return Status(Code::kOutOfMemory, asked + "; " + kSmallerBatch);
  }
  return PinnedMemory(memory);
}

Result<OwnedStream> make_stream() {
  cudaStream_t stream = nullptr;
  XC_RETURN_IF_ERROR(
      to_status(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "create a CUDA stream"));
  return OwnedStream(stream);
}

Result<OwnedEvent> make_event(unsigned flags) {
  cudaEvent_t event = nullptr;
  XC_RETURN_IF_ERROR(to_status(cudaEventCreateWithFlags(&event, flags), "create a CUDA event"));
  return OwnedEvent(event);
}

}  // namespace xception::cuda
