// Events: recording, waiting, time between them.

#include <algorithm>

#include "tests/emulator/runtime_state.h"

using namespace xception::emulator;  // NOLINT(google-build-using-namespace)

namespace {

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
}
