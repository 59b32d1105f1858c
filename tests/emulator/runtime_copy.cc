// Copies and fills: cudaMemcpy and cudaMemset in all their forms.
//
// When they take place is what CUDA documents ("API synchronization behavior") and no earlier:
//   from pageable host memory  the bytes are staged in the call; they reach the device in stream
//   order from pinned host memory    read in stream order, as late as somebody waits to pageable
//   host memory    the call returns when the copy is done to pinned host memory      written in
//   stream order within a device, and fills in stream order
// The calls without "Async" are queued on the legacy default stream and wait for it where host
// memory is involved, but for pageable sources, which they leave staged.

#include <cstring>

#include "tests/emulator/runtime_state.h"

using namespace xception::emulator;  // NOLINT(google-build-using-namespace)

namespace {

// A copy as the program asks for it.
struct CopyRequest {
  void* dst = nullptr;
  std::size_t dst_pitch = 0;
  const void* src = nullptr;
  std::size_t src_pitch = 0;
  std::size_t width = 0;
  std::size_t height = 1;
  cudaMemcpyKind kind = cudaMemcpyDefault;
};

CopyRequest row_copy(void* dst, const void* src, std::size_t bytes, cudaMemcpyKind kind) {
  return {dst, bytes, src, bytes, bytes, 1, kind};
}

// Bytes from the first to behind the last one of some rows; 0 where that overflows.
std::size_t extent(std::size_t pitch, std::size_t width, std::size_t height) {
  if (height > 1 && pitch > (SIZE_MAX - width) / (height - 1)) {
    return 0;
  }
  return (height - 1) * pitch + width;
}

// Whether rows of device memory lie inside their allocation.
bool holds(const Place& place, std::size_t pitch, std::size_t width, std::size_t height) {
  const std::size_t bytes = extent(pitch, width, height);
  return bytes != 0 && !place.freed && bytes <= place.bytes;
}

bool pinned(const Place& place, std::size_t pitch, std::size_t width, std::size_t height) {
  return place.pinned && extent(pitch, width, height) <= place.bytes;
}

// Whether the direction fits where the pointers point.
bool fits(cudaMemcpyKind kind, bool dst_on_device, bool src_on_device) {
  switch (kind) {
    case cudaMemcpyHostToHost:
      return !dst_on_device && !src_on_device;
    case cudaMemcpyHostToDevice:
      return dst_on_device && !src_on_device;
    case cudaMemcpyDeviceToHost:
      return !dst_on_device && src_on_device;
    case cudaMemcpyDeviceToDevice:
      return dst_on_device && src_on_device;
    case cudaMemcpyDefault:
      return true;
  }
  return false;
}

std::vector<std::byte> stage(const CopyRequest& copy) {
  std::vector<std::byte> staged(copy.width * copy.height);
  for (std::size_t row = 0; row < copy.height; ++row) {
    std::memcpy(staged.data() + row * copy.width,
                static_cast<const std::byte*>(copy.src) + row * copy.src_pitch, copy.width);
  }
  return staged;
}

cudaError_t copy(Runtime& runtime, Stream& stream, const CopyRequest& request, bool async,
                 Lock& lock) {
  if (!async) {
    XC_RETURN_IF_CUDA(check_legacy_use(runtime, stream));
    XC_RETURN_IF_CUDA(check_unsafe_call(runtime));
  }
  if (request.kind < cudaMemcpyHostToHost || request.kind > cudaMemcpyDefault) {
    return cudaErrorInvalidMemcpyDirection;
  }
  if (request.width == 0 || request.height == 0) {
    return cudaSuccess;
  }
  if (request.dst == nullptr || request.src == nullptr) {
    return cudaErrorInvalidValue;
  }
  if (request.height > 1 &&
      (request.width > request.dst_pitch || request.width > request.src_pitch)) {
    return cudaErrorInvalidPitchValue;
  }
  const Place dst = find_place(runtime, request.dst);
  const Place src = find_place(runtime, request.src);
  const bool dst_on_device = dst.device != nullptr;
  const bool src_on_device = src.device != nullptr;
  if (!fits(request.kind, dst_on_device, src_on_device) ||
      (dst_on_device && !holds(dst, request.dst_pitch, request.width, request.height)) ||
      (src_on_device && !holds(src, request.src_pitch, request.width, request.height))) {
    return cudaErrorInvalidValue;
  }

  CopyOperation operation{request.dst,   request.dst_pitch, request.src, request.src_pitch,
                          request.width, request.height,    {}};
  const bool capturing = stream.capture != nullptr;
  const bool src_pinned = pinned(src, request.src_pitch, request.width, request.height);
  const bool dst_pinned = pinned(dst, request.dst_pitch, request.width, request.height);
  bool waits = false;
  if (dst_on_device && src_on_device) {
    waits = false;
  } else if (dst_on_device) {
    if (!capturing && !src_pinned) {
      operation.staged = stage(request);
    }
    waits = !async && src_pinned;
  } else {
    waits = !async || !dst_pinned;
  }
  XC_RETURN_IF_CUDA(submit(runtime, stream, {stream.device, std::move(operation)}, lock));
  return waits && !capturing ? synchronize(stream, lock) : cudaSuccess;
}

cudaError_t copy_call(const CopyRequest& request, cudaStream_t handle, bool async) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock& lock) {
    const auto stream = find_stream(runtime, handle);
    return stream == nullptr ? cudaErrorInvalidResourceHandle
                             : copy(runtime, *stream, request, async, lock);
  });
}

// A copy to or from a __device__ or __constant__ variable.
cudaError_t symbol_call(const void* symbol, void* dst, const void* src, std::size_t bytes,
                        std::size_t offset, cudaMemcpyKind kind, cudaStream_t handle, bool async) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock& lock) {
    const auto stream = find_stream(runtime, handle);
    if (stream == nullptr) {
      return cudaErrorInvalidResourceHandle;
    }
    Address address = 0;
    std::size_t size = 0;
    XC_RETURN_IF_CUDA(find_variable(runtime.current(), symbol, &address, &size));
    if (offset > size || bytes > size - offset) {
      return cudaErrorInvalidValue;
    }
    void* variable = reinterpret_cast<void*>(address + offset);
    const CopyRequest request = dst == nullptr ? row_copy(variable, src, bytes, kind)
                                               : row_copy(dst, variable, bytes, kind);
    return copy(runtime, *stream, request, async, lock);
  });
}

cudaError_t fill_call(void* pointer, std::size_t pitch, int value, std::size_t width,
                      std::size_t height, cudaStream_t handle, bool async) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock& lock) {
    const auto stream = find_stream(runtime, handle);
    if (stream == nullptr) {
      return cudaErrorInvalidResourceHandle;
    }
    if (!async) {
      XC_RETURN_IF_CUDA(check_legacy_use(runtime, *stream));
      XC_RETURN_IF_CUDA(check_unsafe_call(runtime));
    }
    if (width == 0 || height == 0) {
      return cudaSuccess;
    }
    if (height > 1 && width > pitch) {
      return cudaErrorInvalidPitchValue;
    }
    const Place place = find_place(runtime, pointer);
    const bool reachable = place.device != nullptr ? holds(place, pitch, width, height)
                                                   : pinned(place, pitch, width, height);
    if (!reachable) {
      return cudaErrorInvalidValue;
    }
    FillOperation operation{reinterpret_cast<Address>(pointer), pitch, value & 0xFF, width, height};
    XC_RETURN_IF_CUDA(submit(runtime, *stream, {stream->device, operation}, lock));
    const bool waits = !async && place.device == nullptr;
    return waits ? synchronize(*stream, lock) : cudaSuccess;
  });
}

}  // namespace

extern "C" {

cudaError_t cudaMemcpy(void* dst, const void* src, std::size_t bytes, cudaMemcpyKind kind) {
  return copy_call(row_copy(dst, src, bytes, kind), cudaStreamLegacy, false);
}

cudaError_t cudaMemcpyAsync(void* dst, const void* src, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return copy_call(row_copy(dst, src, bytes, kind), stream, true);
}

cudaError_t cudaMemcpy2D(void* dst, std::size_t dst_pitch, const void* src, std::size_t src_pitch,
                         std::size_t width, std::size_t height, cudaMemcpyKind kind) {
  return copy_call({dst, dst_pitch, src, src_pitch, width, height, kind}, cudaStreamLegacy, false);
}

cudaError_t cudaMemcpy2DAsync(void* dst, std::size_t dst_pitch, const void* src,
                              std::size_t src_pitch, std::size_t width, std::size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream) {
  return copy_call({dst, dst_pitch, src, src_pitch, width, height, kind}, stream, true);
}

cudaError_t cudaMemcpyPeer(void* dst, int /*dst_device*/, const void* src, int /*src_device*/,
                           std::size_t bytes) {
  return copy_call(row_copy(dst, src, bytes, cudaMemcpyDeviceToDevice), cudaStreamLegacy, false);
}

cudaError_t cudaMemcpyPeerAsync(void* dst, int /*dst_device*/, const void* src, int /*src_device*/,
                                std::size_t bytes, cudaStream_t stream) {
  return copy_call(row_copy(dst, src, bytes, cudaMemcpyDeviceToDevice), stream, true);
}

cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* src, std::size_t bytes,
                               std::size_t offset, cudaMemcpyKind kind) {
  return symbol_call(symbol, nullptr, src, bytes, offset, kind, cudaStreamLegacy, false);
}

cudaError_t cudaMemcpyToSymbolAsync(const void* symbol, const void* src, std::size_t bytes,
                                    std::size_t offset, cudaMemcpyKind kind, cudaStream_t stream) {
  return symbol_call(symbol, nullptr, src, bytes, offset, kind, stream, true);
}

cudaError_t cudaMemcpyFromSymbol(void* dst, const void* symbol, std::size_t bytes,
                                 std::size_t offset, cudaMemcpyKind kind) {
  return symbol_call(symbol, dst, nullptr, bytes, offset, kind, cudaStreamLegacy, false);
}

cudaError_t cudaMemcpyFromSymbolAsync(void* dst, const void* symbol, std::size_t bytes,
                                      std::size_t offset, cudaMemcpyKind kind,
                                      cudaStream_t stream) {
  return symbol_call(symbol, dst, nullptr, bytes, offset, kind, stream, true);
}

cudaError_t cudaGetSymbolAddress(void** pointer, const void* symbol) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    if (pointer == nullptr) {
      return cudaErrorInvalidValue;
    }
    Address address = 0;
    std::size_t bytes = 0;
    XC_RETURN_IF_CUDA(find_variable(runtime.current(), symbol, &address, &bytes));
    *pointer = reinterpret_cast<void*>(address);
    return cudaSuccess;
  });
}

cudaError_t cudaGetSymbolSize(std::size_t* size, const void* symbol) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    if (size == nullptr) {
      return cudaErrorInvalidValue;
    }
    Address address = 0;
    return find_variable(runtime.current(), symbol, &address, size);
  });
}

cudaError_t cudaMemset(void* pointer, int value, std::size_t bytes) {
  return fill_call(pointer, bytes, value, bytes, 1, cudaStreamLegacy, false);
}

cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t bytes, cudaStream_t stream) {
  return fill_call(pointer, bytes, value, bytes, 1, stream, true);
}

cudaError_t cudaMemset2D(void* pointer, std::size_t pitch, int value, std::size_t width,
                         std::size_t height) {
  return fill_call(pointer, pitch, value, width, height, cudaStreamLegacy, false);
}

cudaError_t cudaMemset2DAsync(void* pointer, std::size_t pitch, int value, std::size_t width,
                              std::size_t height, cudaStream_t stream) {
  return fill_call(pointer, pitch, value, width, height, stream, true);
}
}
