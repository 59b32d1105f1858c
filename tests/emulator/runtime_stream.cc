// Streams, stream capture, host functions and events.

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

// Calls body(runtime, stream, lock) for the stream that the handle names.
template <class Body>
cudaError_t stream_call(const CallTraits& traits, cudaStream_t handle, Body&& body) {
  return runtime_call(traits, [&](Runtime& runtime, Lock& lock) {
    const auto stream = find_stream(runtime, handle);
    return stream == nullptr ? cudaErrorInvalidResourceHandle : body(runtime, *stream, lock);
  });
}

cudaStreamCaptureStatus capture_status(const Stream& stream) {
  if (stream.capture == nullptr) {
    return cudaStreamCaptureStatusNone;
  }
  return stream.capture->invalidated ? cudaStreamCaptureStatusInvalidated
                                     : cudaStreamCaptureStatusActive;
}

// Ends the stream's capture. The graph is null where it was invalidated or is not whole.
cudaError_t end_capture(Runtime& runtime, Stream& stream, cudaGraph_t* graph) {
  *graph = nullptr;
  const std::shared_ptr<Capture> capture = stream.capture;
  if (capture == nullptr) {
    return cudaErrorIllegalState;
  }
  if (capture->origin != &stream) {
    return cudaErrorStreamCaptureUnmatched;
  }
  if (capture->mode != cudaStreamCaptureModeRelaxed &&
      capture->thread != std::this_thread::get_id()) {
    return cudaErrorStreamCaptureWrongThread;
  }
  const bool whole = joined(*capture);
  std::erase(runtime.captures, capture);
  leave_capture(*capture);
  if (capture->invalidated || !whole) {
    runtime.graphs.remove(capture->handle);
    return capture->invalidated ? cudaErrorStreamCaptureInvalidated
                                : cudaErrorStreamCaptureUnjoined;
  }
  *graph = capture->handle != nullptr ? capture->handle : runtime.graphs.add(capture->graph);
  return cudaSuccess;
}

cudaError_t record_event(Runtime& runtime, Event& event, Stream& stream, Lock& lock) {
  if (event.device != stream.device) {
    return cudaErrorInvalidResourceHandle;
  }
  if (stream.capture != nullptr) {
    if (stream.capture->invalidated) {
      return cudaErrorStreamCaptureInvalidated;
    }
    event.capture = stream.capture;
    event.capture_nodes = stream.capture_nodes;
    event.recorded.reset();
    return cudaSuccess;
  }
  XC_RETURN_IF_CUDA(check_legacy_use(runtime, stream));
  event.capture.reset();
  event.capture_nodes.clear();
  event.recorded = enqueue(stream, {stream.device, EmptyOperation{}});
  run_ahead(lock);
  return cudaSuccess;
}

cudaError_t wait_event(Runtime& runtime, Stream& stream, const Event& event, Lock& lock) {
  if (event.capture != nullptr) {
    const bool over = std::find(runtime.captures.begin(), runtime.captures.end(), event.capture) ==
                      runtime.captures.end();
    if (over) {
      return cudaErrorCapturedEvent;
    }
    if (event.capture->invalidated) {
      return cudaErrorStreamCaptureInvalidated;
    }
    if (stream.capture != nullptr && stream.capture != event.capture) {
      stream.capture->invalidated = true;
      event.capture->invalidated = true;
      return cudaErrorStreamCaptureMerge;
    }
    if (stream.kind == Stream::Kind::kLegacy) {
      event.capture->invalidated = true;
      return cudaErrorStreamCaptureImplicit;
    }
    join_capture(event.capture, stream, event.capture_nodes);
    return cudaSuccess;
  }
  if (event.recorded == nullptr) {
    return cudaSuccess;
  }
  if (stream.capture != nullptr) {
    stream.capture->invalidated = true;
    return cudaErrorStreamCaptureIsolation;
  }
  XC_RETURN_IF_CUDA(check_legacy_use(runtime, stream));
  enqueue(stream, {stream.device, EmptyOperation{}}, {event.recorded});
  run_ahead(lock);
  return cudaSuccess;
}

// The error of asking after, or waiting for, an event.
cudaError_t check_event(Runtime& runtime, const Event* event) {
  if (event == nullptr) {
    return cudaErrorInvalidResourceHandle;
  }
  if (event->capture != nullptr) {
    event->capture->invalidated = true;
    return cudaErrorCapturedEvent;
  }
  return check_unsafe_call(runtime);
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

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned flags) {
  return stream_call(kOrdinary, handle, [&](Runtime& runtime, Stream& stream, Lock& lock) {
    const Event* event = runtime.events.find(event_handle);
    if (event == nullptr) {
      return cudaErrorInvalidResourceHandle;
    }
    if (flags != cudaEventWaitDefault) {
      return flags == cudaEventWaitExternal ? cudaErrorNotSupported : cudaErrorInvalidValue;
    }
    return wait_event(runtime, stream, *event, lock);
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

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    const auto stream = find_stream(runtime, handle);
    if (stream == nullptr) {
      return cudaErrorInvalidResourceHandle;
    }
    if (mode < cudaStreamCaptureModeGlobal || mode > cudaStreamCaptureModeRelaxed) {
      return cudaErrorInvalidValue;
    }
    if (stream->kind == Stream::Kind::kLegacy) {
      return cudaErrorStreamCaptureUnsupported;
    }
    if (stream->capture != nullptr) {
      return cudaErrorIllegalState;
    }
    auto capture = std::make_shared<Capture>();
    capture->id = runtime.next_id++;
    capture->mode = mode;
    capture->thread = std::this_thread::get_id();
    capture->origin = stream.get();
    capture->graph = std::make_shared<Graph>();
    join_capture(capture, *stream, {});
    runtime.captures.push_back(std::move(capture));
    return cudaSuccess;
  });
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  return stream_call(kOrdinary, handle, [&](Runtime& runtime, Stream& stream, Lock&) {
    return graph == nullptr ? cudaErrorInvalidValue : end_capture(runtime, stream, graph);
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  return stream_call(kOrdinary, handle, [&](Runtime& runtime, Stream& stream, Lock&) {
    if (status == nullptr) {
      return cudaErrorInvalidValue;
    }
    XC_RETURN_IF_CUDA(check_legacy_use(runtime, stream));
    *status = capture_status(stream);
    return cudaSuccess;
  });
}

#if CUDART_VERSION >= 13000
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t handle, cudaStreamCaptureStatus* status,
                                     unsigned long long* id, cudaGraph_t* graph,
                                     const cudaGraphNode_t** dependencies,
                                     const cudaGraphEdgeData** edges, std::size_t* count) {
#else
cudaError_t cudaStreamGetCaptureInfo_v2(cudaStream_t handle, cudaStreamCaptureStatus* status,
                                        unsigned long long* id, cudaGraph_t* graph,
                                        const cudaGraphNode_t** dependencies, std::size_t* count) {
  const cudaGraphEdgeData** edges = nullptr;
#endif
  // The caller's until this thread asks again.
  thread_local std::vector<cudaGraphNode_t> nodes;
  return stream_call(kOrdinary, handle, [&](Runtime& runtime, Stream& stream, Lock&) {
    if (status == nullptr) {
      return cudaErrorInvalidValue;
    }
    XC_RETURN_IF_CUDA(check_legacy_use(runtime, stream));
    *status = capture_status(stream);
    if (*status != cudaStreamCaptureStatusActive) {
      return cudaSuccess;
    }
    Capture& capture = *stream.capture;
    if (id != nullptr) {
      *id = capture.id;
    }
    if (graph != nullptr) {
      if (capture.handle == nullptr) {
        capture.handle = runtime.graphs.add(capture.graph);
      }
      *graph = capture.handle;
    }
    nodes.clear();
    for (const Node* node : stream.capture_nodes) {
      nodes.push_back(node->handle);
    }
    if (dependencies != nullptr) {
      *dependencies = nodes.data();
    }
    if (edges != nullptr) {
      *edges = nullptr;
    }
    if (count != nullptr) {
      *count = nodes.size();
    }
    return cudaSuccess;
  });
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return runtime_call(kOrdinary, [&](Runtime&, Lock&) {
    if (mode == nullptr || *mode < cudaStreamCaptureModeGlobal ||
        *mode > cudaStreamCaptureModeRelaxed) {
      return cudaErrorInvalidValue;
    }
    std::swap(*mode, thread_state().capture_mode);
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    constexpr unsigned kKnown = cudaEventBlockingSync | cudaEventDisableTiming;
    if (event == nullptr || (flags & ~kKnown) != 0) {
      return cudaErrorInvalidValue;
    }
    auto created = std::make_shared<Event>();
    created->device = &runtime.current();
    created->flags = flags;
    *event = runtime.events.add(std::move(created));
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t handle, cudaStream_t stream_handle,
                                     unsigned flags) {
  return stream_call(kOrdinary, stream_handle, [&](Runtime& runtime, Stream& stream, Lock& lock) {
    Event* event = runtime.events.find(handle);
    if (event == nullptr) {
      return cudaErrorInvalidResourceHandle;
    }
    if (flags != cudaEventRecordDefault) {
      return flags == cudaEventRecordExternal ? cudaErrorNotSupported : cudaErrorInvalidValue;
    }
    return record_event(runtime, *event, stream, lock);
  });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault);
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock& lock) {
    const auto event = runtime.events.share(handle);
    XC_RETURN_IF_CUDA(check_event(runtime, event.get()));
    if (const std::shared_ptr<Work> recorded = event->recorded; recorded != nullptr) {
      finish({&recorded, 1}, lock);
    }
    return event->device->sticky;
  });
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock& lock) {
    const auto event = runtime.events.share(handle);
    XC_RETURN_IF_CUDA(check_event(runtime, event.get()));
    const std::shared_ptr<Work> recorded = event->recorded;
    if (recorded != nullptr && !recorded->done) {
      advance(recorded, lock);
    }
    XC_RETURN_IF_CUDA(event->device->sticky);
    return recorded == nullptr || recorded->done ? cudaSuccess : cudaErrorNotReady;
  });
}

// Time that the emulation took, which says nothing of a GPU's.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    const Event* from = runtime.events.find(start);
    const Event* to = runtime.events.find(end);
    if (milliseconds == nullptr) {
      return cudaErrorInvalidValue;
    }
    XC_RETURN_IF_CUDA(check_event(runtime, from));
    XC_RETURN_IF_CUDA(check_event(runtime, to));
    const bool timed = ((from->flags | to->flags) & cudaEventDisableTiming) == 0;
    if (!timed || from->recorded == nullptr || to->recorded == nullptr) {
      return cudaErrorInvalidResourceHandle;
    }
    if (!from->recorded->done || !to->recorded->done) {
      return cudaErrorNotReady;
    }
    const std::chrono::duration<float, std::milli> elapsed =
        to->recorded->finished - from->recorded->finished;
    *milliseconds = elapsed.count();
    return cudaSuccess;
  });
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return runtime_call(kReleases, [&](Runtime& runtime, Lock&) {
    if (runtime.events.find(event) == nullptr) {
      return cudaErrorInvalidResourceHandle;
    }
    runtime.events.remove(event);
    return cudaSuccess;
  });
}
}
