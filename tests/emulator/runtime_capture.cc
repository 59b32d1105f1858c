// Capture of streams into graphs: its begin, its end, and what can be asked meanwhile.

#include <utility>

#include "tests/emulator/runtime_state.h"

using namespace xception::emulator;  // NOLINT(google-build-using-namespace)

namespace {

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

}  // namespace

extern "C" {

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
}
