// Streams and host functions.

#include <algorithm>

#include "tests/emulator/runtime_state.h"

using namespace xception::emulator;  // NOLINT(google-build-using-namespace)

namespace {

constexpr int kGreatestPriority = -5;

cudaError_t create_stream(cudaStream_t* handle, unsigned flags, int priority) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    if (handle == nullptr || (flags & ~unsigned{cudaStreamNonBlocking}) != 0) {
      return cudaErrorInvalidValue;
    }
    Device& device = runtime.current();
    auto stream = std::make_shared<Stream>();
    stream->device = &device;
    stream->flags = flags;
    stream->priority = std::clamp(priority, kGreatestPriority, 0);
    stream->id = runtime.next_id++;
    device.streams.push_back(stream);
    *handle = runtime.streams.add(std::move(stream));
    return cudaSuccess;
  });
}

}  // namespace

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return create_stream(stream, cudaStreamDefault, 0);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return create_stream(stream, flags, 0);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  return create_stream(stream, flags, priority);
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  return runtime_call(kReleases, [&](Runtime& runtime, Lock&) {
    const auto stream = runtime.streams.share(handle);
    if (stream == nullptr) {
      return cudaErrorInvalidResourceHandle;
    }
    if (const std::shared_ptr<Capture> capture = stream->capture; capture != nullptr) {
      // What it captured can no longer be joined, or ended.
      capture->invalidated = true;
      if (capture->origin == stream.get()) {
        std::erase(runtime.captures, capture);
        runtime.graphs.remove(capture->handle);
        leave_capture(*capture);
      } else {
        std::erase(capture->streams, stream.get());
        stream->capture.reset();
      }
    }
    // Queued work is still done, as on a GPU.
    stream->destroyed = true;
    runtime.streams.remove(handle);
    if (stream->queue.empty()) {
      std::erase(stream->device->streams, stream);
    }
    return cudaSuccess;
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return stream_call(kOrdinary, handle, [](Runtime& runtime, Stream& stream, Lock& lock) {
    XC_RETURN_IF_CUDA(check_not_captured(runtime, stream));
    return synchronize(stream, lock);
  });
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return stream_call(kOrdinary, handle, [](Runtime& runtime, Stream& stream, Lock& lock) {
    XC_RETURN_IF_CUDA(check_not_captured(runtime, stream));
    if (stream.queue.empty()) {
      return stream.device->sticky;
    }
    // Time passes: who asks again and again gets there.
    Device& device = *stream.device;
    const std::shared_ptr<Work> last = stream.queue.back();
    advance(last, lock);
    XC_RETURN_IF_CUDA(device.sticky);
    return last->done ? cudaSuccess : cudaErrorNotReady;
  });
}

cudaError_t cudaStreamGetPriority(cudaStream_t handle, int* priority) {
  return stream_call(kOrdinary, handle, [&](Runtime&, Stream& stream, Lock&) {
    if (priority == nullptr) {
      return cudaErrorInvalidValue;
    }
    *priority = stream.priority;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamGetFlags(cudaStream_t handle, unsigned* flags) {
  return stream_call(kOrdinary, handle, [&](Runtime&, Stream& stream, Lock&) {
    if (flags == nullptr) {
      return cudaErrorInvalidValue;
    }
    *flags = stream.flags;
    return cudaSuccess;
  });
}

#if CUDART_VERSION >= 12080
cudaError_t cudaStreamGetDevice(cudaStream_t handle, int* device) {
  return stream_call(kOrdinary, handle, [&](Runtime&, Stream& stream, Lock&) {
    if (device == nullptr) {
      return cudaErrorInvalidValue;
    }
    *device = stream.device->index;
    return cudaSuccess;
  });
}
#endif

cudaError_t cudaStreamGetId(cudaStream_t handle, unsigned long long* id) {
  return stream_call(kOrdinary, handle, [&](Runtime&, Stream& stream, Lock&) {
    if (id == nullptr) {
      return cudaErrorInvalidValue;
    }
    *id = stream.id;
    return cudaSuccess;
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  return stream_call(kOrdinary, handle, [&](Runtime& runtime, Stream& stream, Lock& lock) {
    if (function == nullptr) {
      return cudaErrorInvalidValue;
    }
    return submit(runtime, stream, {stream.device, HostOperation{function, data}}, lock);
  });
}
}
