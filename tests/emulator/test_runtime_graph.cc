// Stream capture and graphs over the CUDA runtime API.

#include <algorithm>
#include <thread>

#include "tests/emulator/test_runtime_fixture.h"
#include "tests/random.h"

namespace xception::emulator {
namespace {

using Bytes = std::vector<unsigned char>;

// Ends a capture that a test has spoiled, and forgets the error.
void drop_capture(cudaStream_t stream) {
  cudaGraph_t graph = nullptr;
  (void)cudaStreamEndCapture(stream, &graph);
  if (graph != nullptr) {
    (void)cudaGraphDestroy(graph);
  }
  (void)cudaGetLastError();
}

class TestGraph {
 public:
  // Captures what `body(stream)` calls.
  template <class Body>
  explicit TestGraph(Body&& body, cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal) {
    const TestStream stream;
    REQUIRE_CUDA(cudaStreamBeginCapture(stream.get(), mode));
    body(stream.get());
    REQUIRE_CUDA(cudaStreamEndCapture(stream.get(), &graph_));
    REQUIRE_CUDA(cudaGraphInstantiate(&exec_, graph_, 0));
  }
  ~TestGraph() {
    cudaGraphExecDestroy(exec_);
    cudaGraphDestroy(graph_);
  }
  TestGraph(const TestGraph&) = delete;
  TestGraph& operator=(const TestGraph&) = delete;
  cudaGraph_t graph() const { return graph_; }
  cudaGraphExec_t exec() const { return exec_; }

 private:
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t exec_ = nullptr;
};

TEST_CASE("capturing runs nothing, replaying runs it each time") {
  const TestStream stream;
  const DeviceArray<unsigned char> device(Bytes(4, 0));
  const PinnedArray<unsigned char> source(4, 1);
  const TestGraph graph([&](cudaStream_t captured) {
    CHECK_CUDA(cudaSuccess,
               cudaMemcpyAsync(device.get(), source.get(), 4, cudaMemcpyHostToDevice, captured));
    CHECK_CUDA(cudaSuccess, cudaMemsetAsync(device.get() + 3, 7, 1, captured));
  });
  CHECK(device.values() == Bytes(4, 0));
  for (const unsigned char value : Bytes{1, 2, 3}) {
    std::fill(source.get(), source.get() + 4, value);
    CHECK_CUDA(cudaSuccess, cudaGraphLaunch(graph.exec(), stream.get()));
    CHECK_CUDA(cudaSuccess, cudaStreamSynchronize(stream.get()));
    CHECK(device.values() == Bytes{value, value, value, 7});
  }
  std::size_t count = 0;
  CHECK_CUDA(cudaSuccess, cudaGraphGetNodes(graph.graph(), nullptr, &count));
  REQUIRE(count == 2);
  cudaGraphNode_t nodes[2];
  CHECK_CUDA(cudaSuccess, cudaGraphGetNodes(graph.graph(), nodes, &count));
  cudaGraphNodeType type = cudaGraphNodeTypeEmpty;
  CHECK_CUDA(cudaSuccess, cudaGraphNodeGetType(nodes[1], &type));
  CHECK(type == cudaGraphNodeTypeMemset);
  CHECK_CUDA(cudaSuccess, cudaGraphGetRootNodes(graph.graph(), nullptr, &count));
  CHECK(count == 1);
}

TEST_CASE("a graph outlives the graph it was made of, and its launches outlive it") {
  const TestStream stream;
  const DeviceArray<unsigned char> device(Bytes(1, 0));
  {
    const TestGraph graph([&](cudaStream_t captured) {
      CHECK_CUDA(cudaSuccess, cudaMemsetAsync(device.get(), 7, 1, captured));
    });
    CHECK_CUDA(cudaSuccess, cudaGraphUpload(graph.exec(), stream.get()));
    CHECK_CUDA(cudaSuccess, cudaGraphLaunch(graph.exec(), stream.get()));
  }
  CHECK(device.values() == Bytes{7});
}

// Fork, two branches, join: 1 goes from byte 0 to byte 1 on the branch, 2 to byte 2 on the origin,
// and both from there.
void capture_fork(cudaStream_t origin, cudaStream_t branch, const TestEvent& forked,
                  const TestEvent& joined, unsigned char* device) {
  CHECK_CUDA(cudaSuccess, cudaMemsetAsync(device, 1, 1, origin));
  CHECK_CUDA(cudaSuccess, cudaEventRecord(forked.get(), origin));
  CHECK_CUDA(cudaSuccess, cudaStreamWaitEvent(branch, forked.get(), 0));
  CHECK_CUDA(cudaSuccess, cudaMemcpyAsync(device + 1, device, 1, cudaMemcpyDeviceToDevice, branch));
  CHECK_CUDA(cudaSuccess, cudaMemsetAsync(device + 2, 2, 1, origin));
  CHECK_CUDA(cudaSuccess, cudaEventRecord(joined.get(), branch));
  CHECK_CUDA(cudaSuccess, cudaStreamWaitEvent(origin, joined.get(), 0));
  CHECK_CUDA(cudaSuccess,
             cudaMemcpyAsync(device + 3, device + 1, 2, cudaMemcpyDeviceToDevice, origin));
}

TEST_CASE("events carry a capture to other streams and back") {
  const TestStream branch;
  const TestEvent forked(cudaEventDisableTiming);
  const TestEvent joined(cudaEventDisableTiming);
  const DeviceArray<unsigned char> device(Bytes(5, 0));
  const TestGraph graph([&](cudaStream_t origin) {
    capture_fork(origin, branch.get(), forked, joined, device.get());
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    CHECK_CUDA(cudaSuccess, cudaStreamIsCapturing(branch.get(), &status));
    CHECK(status == cudaStreamCaptureStatusActive);
  });
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusActive;
  CHECK_CUDA(cudaSuccess, cudaStreamIsCapturing(branch.get(), &status));
  CHECK(status == cudaStreamCaptureStatusNone);
  for (std::uint64_t i = 0; i < 20; ++i) {
    const TestSeed seed(i);
    const TestStream stream;
    CHECK_CUDA(cudaSuccess, cudaMemsetAsync(device.get(), 0, 5, stream.get()));
    CHECK_CUDA(cudaSuccess, cudaGraphLaunch(graph.exec(), stream.get()));
    CHECK_CUDA(cudaSuccess, cudaStreamSynchronize(stream.get()));
    CHECK(device.values() == Bytes{1, 1, 2, 1, 2});
  }
}

TEST_CASE("what a graph does not order runs in either order") {
  XC_NEEDS_EMULATOR();
  const TestStream branch;
  const TestEvent forked(cudaEventDisableTiming);
  const TestEvent joined(cudaEventDisableTiming);
  const DeviceArray<unsigned char> device(Bytes(1, 0));
  const TestGraph graph([&](cudaStream_t origin) {
    CHECK_CUDA(cudaSuccess, cudaEventRecord(forked.get(), origin));
    CHECK_CUDA(cudaSuccess, cudaStreamWaitEvent(branch.get(), forked.get(), 0));
    CHECK_CUDA(cudaSuccess, cudaMemsetAsync(device.get(), 1, 1, branch.get()));
    CHECK_CUDA(cudaSuccess, cudaMemsetAsync(device.get(), 2, 1, origin));
    CHECK_CUDA(cudaSuccess, cudaEventRecord(joined.get(), branch.get()));
    CHECK_CUDA(cudaSuccess, cudaStreamWaitEvent(origin, joined.get(), 0));
  });
  int seen[3] = {};
  for (std::uint64_t i = 0; i < 30; ++i) {
    const TestSeed seed(i);
    const TestStream stream;
    CHECK_CUDA(cudaSuccess, cudaGraphLaunch(graph.exec(), stream.get()));
    CHECK_CUDA(cudaSuccess, cudaStreamSynchronize(stream.get()));
    ++seen[device.values()[0]];
  }
  CHECK(seen[1] > 0);
  CHECK(seen[2] > 0);
}

TEST_CASE("launches of one graph come after each other, on whatever streams") {
  const DeviceArray<unsigned char> device(Bytes{1, 2, 3, 4});
  // Shifts by one: two launches shift by two only where they do not mix.
  const DeviceArray<unsigned char> between(Bytes(4, 0));
  const TestGraph graph([&](cudaStream_t stream) {
    CHECK_CUDA(cudaSuccess,
               cudaMemcpyAsync(between.get(), device.get(), 4, cudaMemcpyDeviceToDevice, stream));
    CHECK_CUDA(cudaSuccess, cudaMemcpyAsync(device.get(), between.get() + 1, 3,
                                            cudaMemcpyDeviceToDevice, stream));
  });
  const TestStream a;
  const TestStream b;
  CHECK_CUDA(cudaSuccess, cudaGraphLaunch(graph.exec(), a.get()));
  CHECK_CUDA(cudaSuccess, cudaGraphLaunch(graph.exec(), b.get()));
  CHECK_CUDA(cudaSuccess, cudaStreamSynchronize(b.get()));
  CHECK(device.values() == Bytes{3, 4, 4, 4});
}

TEST_CASE("a graph is updated to another of the same shape") {
  const DeviceArray<unsigned char> device(Bytes(2, 0));
  const auto captured = [&](int value, int nodes) {
    return [&device, value, nodes](cudaStream_t stream) {
      for (int i = 0; i < nodes; ++i) {
        CHECK_CUDA(cudaSuccess, cudaMemsetAsync(device.get(), value, 2, stream));
      }
    };
  };
  const TestGraph graph(captured(1, 1));
  const TestGraph other(captured(2, 1));
  const TestGraph longer(captured(3, 2));
  const TestStream stream;
  cudaGraphExecUpdateResultInfo information{};
  CHECK_CUDA(cudaSuccess, cudaGraphExecUpdate(graph.exec(), other.graph(), &information));
  CHECK(information.result == cudaGraphExecUpdateSuccess);
  CHECK_CUDA(cudaErrorGraphExecUpdateFailure,
             cudaGraphExecUpdate(graph.exec(), longer.graph(), &information));
  CHECK(information.result == cudaGraphExecUpdateErrorTopologyChanged);
  (void)cudaGetLastError();
  CHECK_CUDA(cudaSuccess, cudaGraphLaunch(graph.exec(), stream.get()));
  CHECK_CUDA(cudaSuccess, cudaStreamSynchronize(stream.get()));
  CHECK(device.values() == Bytes{2, 2});
}

TEST_CASE("a graph that is launched into a capture becomes part of it") {
  const DeviceArray<unsigned char> device(Bytes(1, 0));
  const TestGraph inner([&](cudaStream_t stream) {
    CHECK_CUDA(cudaSuccess, cudaMemsetAsync(device.get(), 5, 1, stream));
  });
  const TestGraph outer([&](cudaStream_t stream) {
    CHECK_CUDA(cudaSuccess, cudaMemsetAsync(device.get(), 1, 1, stream));
    CHECK_CUDA(cudaSuccess, cudaGraphLaunch(inner.exec(), stream));
  });
  const TestStream stream;
  CHECK_CUDA(cudaSuccess, cudaGraphLaunch(outer.exec(), stream.get()));
  CHECK(device.values() == Bytes{5});
}

TEST_CASE("what a capture holds can be asked") {
  const TestStream stream;
  const DeviceArray<unsigned char> device(1);
  REQUIRE_CUDA(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeRelaxed));
  REQUIRE_CUDA(cudaMemsetAsync(device.get(), 5, 1, stream.get()));
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  cudaGraph_t graph = nullptr;
  const cudaGraphNode_t* nodes = nullptr;
  std::size_t count = 0;
#if CUDART_VERSION >= 13000
  const cudaGraphEdgeData* edges = nullptr;
  CHECK_CUDA(cudaSuccess,
             cudaStreamGetCaptureInfo(stream.get(), &status, &id, &graph, &nodes, &edges, &count));
#else
  CHECK_CUDA(cudaSuccess,
             cudaStreamGetCaptureInfo(stream.get(), &status, &id, &graph, &nodes, &count));
#endif
  CHECK(status == cudaStreamCaptureStatusActive);
  CHECK(id != 0);
  CHECK(graph != nullptr);
  CHECK(count == 1);
  cudaGraph_t ended = nullptr;
  REQUIRE_CUDA(cudaStreamEndCapture(stream.get(), &ended));
  CHECK(ended == graph);
  CHECK_CUDA(cudaSuccess, cudaGraphDestroy(ended));
  CHECK_CUDA(cudaErrorInvalidValue, cudaGraphDestroy(ended));
  (void)cudaGetLastError();
}

TEST_CASE("waiting for a captured stream spoils the capture") {
  const TestStream stream;
  const TestEvent event;
  const auto spoiled_by = [&](cudaError_t expected, auto&& call) {
    REQUIRE_CUDA(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeRelaxed));
    CHECK_CUDA(expected, call());
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    CHECK_CUDA(cudaSuccess, cudaStreamIsCapturing(stream.get(), &status));
    CHECK(status == cudaStreamCaptureStatusInvalidated);
    CHECK_CUDA(cudaErrorStreamCaptureInvalidated, cudaEventRecord(event.get(), stream.get()));
    cudaGraph_t graph = nullptr;
    CHECK_CUDA(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(stream.get(), &graph));
    CHECK(graph == nullptr);
    (void)cudaGetLastError();
  };
  spoiled_by(cudaErrorStreamCaptureUnsupported,
             [&] { return cudaStreamSynchronize(stream.get()); });
  spoiled_by(cudaErrorStreamCaptureUnsupported, [&] { return cudaStreamQuery(stream.get()); });
  spoiled_by(cudaErrorStreamCaptureUnsupported, [&] { return cudaDeviceSynchronize(); });
  spoiled_by(cudaErrorCapturedEvent, [&] {
    REQUIRE_CUDA(cudaEventRecord(event.get(), stream.get()));
    return cudaEventQuery(event.get());
  });
  CHECK_CUDA(cudaSuccess, cudaStreamSynchronize(stream.get()));
}

TEST_CASE("allocation disturbs a capture unless it is relaxed") {
  const TestStream stream;
  void* pointer = nullptr;
  for (const auto mode : {cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal}) {
    REQUIRE_CUDA(cudaStreamBeginCapture(stream.get(), mode));
    CHECK_CUDA(cudaErrorStreamCaptureUnsupported, cudaMalloc(&pointer, 64));
    drop_capture(stream.get());
  }
  REQUIRE_CUDA(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeRelaxed));
  CHECK_CUDA(cudaSuccess, cudaMalloc(&pointer, 64));
  CHECK_CUDA(cudaSuccess, cudaFree(pointer));
  cudaGraph_t graph = nullptr;
  CHECK_CUDA(cudaSuccess, cudaStreamEndCapture(stream.get(), &graph));
  CHECK_CUDA(cudaSuccess, cudaGraphDestroy(graph));

  // A thread may declare its calls harmless.
  REQUIRE_CUDA(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeGlobal));
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  CHECK_CUDA(cudaSuccess, cudaThreadExchangeStreamCaptureMode(&mode));
  CHECK(mode == cudaStreamCaptureModeGlobal);
  CHECK_CUDA(cudaSuccess, cudaMalloc(&pointer, 64));
  CHECK_CUDA(cudaSuccess, cudaFree(pointer));
  CHECK_CUDA(cudaSuccess, cudaThreadExchangeStreamCaptureMode(&mode));
  CHECK_CUDA(cudaSuccess, cudaStreamEndCapture(stream.get(), &graph));
  CHECK_CUDA(cudaSuccess, cudaGraphDestroy(graph));
}

TEST_CASE("another thread's allocation disturbs a global capture, and no other") {
  const TestStream stream;
  const auto error_elsewhere = [&](cudaStreamCaptureMode mode) {
    REQUIRE_CUDA(cudaStreamBeginCapture(stream.get(), mode));
    cudaError_t error = cudaSuccess;
    std::thread([&] {
      void* pointer = nullptr;
      error = cudaMalloc(&pointer, 64);
      (void)cudaFree(pointer);
    }).join();
    drop_capture(stream.get());
    return error;
  };
  CHECK_CUDA(cudaErrorStreamCaptureUnsupported, error_elsewhere(cudaStreamCaptureModeGlobal));
  CHECK_CUDA(cudaSuccess, error_elsewhere(cudaStreamCaptureModeThreadLocal));
  CHECK_CUDA(cudaSuccess, error_elsewhere(cudaStreamCaptureModeRelaxed));
}

TEST_CASE("the legacy stream is out of reach while a blocking stream is captured") {
  const DeviceArray<unsigned char> device(4);
  const TestStream blocking(cudaStreamDefault);
  unsigned char value = 0;
  REQUIRE_CUDA(cudaStreamBeginCapture(blocking.get(), cudaStreamCaptureModeRelaxed));
  CHECK_CUDA(cudaErrorStreamCaptureImplicit, cudaMemsetAsync(device.get(), 0, 4, nullptr));
  drop_capture(blocking.get());
  REQUIRE_CUDA(cudaStreamBeginCapture(blocking.get(), cudaStreamCaptureModeRelaxed));
  CHECK_CUDA(cudaErrorStreamCaptureImplicit,
             cudaMemcpy(device.get(), &value, 1, cudaMemcpyHostToDevice));
  drop_capture(blocking.get());
  const TestStream apart(cudaStreamNonBlocking);
  REQUIRE_CUDA(cudaStreamBeginCapture(apart.get(), cudaStreamCaptureModeRelaxed));
  CHECK_CUDA(cudaSuccess, cudaMemsetAsync(device.get(), 0, 4, nullptr));
  drop_capture(apart.get());
  CHECK_CUDA(cudaErrorStreamCaptureUnsupported,
             cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeRelaxed));
  (void)cudaGetLastError();
}

TEST_CASE("captures are begun and ended where they may be") {
  const TestStream stream;
  const TestStream other;
  const TestEvent event(cudaEventDisableTiming);
  const DeviceArray<unsigned char> device(1);
  cudaGraph_t graph = nullptr;
  CHECK_CUDA(cudaErrorIllegalState, cudaStreamEndCapture(stream.get(), &graph));
  REQUIRE_CUDA(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal));
  CHECK_CUDA(cudaErrorIllegalState,
             cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal));
  REQUIRE_CUDA(cudaEventRecord(event.get(), stream.get()));
  REQUIRE_CUDA(cudaStreamWaitEvent(other.get(), event.get(), 0));
  CHECK_CUDA(cudaErrorStreamCaptureUnmatched, cudaStreamEndCapture(other.get(), &graph));
  cudaError_t elsewhere = cudaSuccess;
  std::thread([&] { elsewhere = cudaStreamEndCapture(stream.get(), &graph); }).join();
  CHECK_CUDA(cudaErrorStreamCaptureWrongThread, elsewhere);
  // A branch that nobody waited for.
  REQUIRE_CUDA(cudaMemsetAsync(device.get(), 0, 1, other.get()));
  CHECK_CUDA(cudaErrorStreamCaptureUnjoined, cudaStreamEndCapture(stream.get(), &graph));
  CHECK(graph == nullptr);
  (void)cudaGetLastError();
  CHECK_CUDA(cudaSuccess, cudaStreamSynchronize(other.get()));
}

TEST_CASE("a capture depends on nothing outside, and on no other capture") {
  const TestStream a;
  const TestStream b;
  const TestEvent outside(cudaEventDisableTiming);
  REQUIRE_CUDA(cudaEventRecord(outside.get(), b.get()));
  REQUIRE_CUDA(cudaStreamBeginCapture(a.get(), cudaStreamCaptureModeRelaxed));
  CHECK_CUDA(cudaErrorStreamCaptureIsolation, cudaStreamWaitEvent(a.get(), outside.get(), 0));
  drop_capture(a.get());
  REQUIRE_CUDA(cudaStreamBeginCapture(a.get(), cudaStreamCaptureModeRelaxed));
  REQUIRE_CUDA(cudaStreamBeginCapture(b.get(), cudaStreamCaptureModeRelaxed));
  REQUIRE_CUDA(cudaEventRecord(outside.get(), b.get()));
  CHECK_CUDA(cudaErrorStreamCaptureMerge, cudaStreamWaitEvent(a.get(), outside.get(), 0));
  drop_capture(a.get());
  drop_capture(b.get());
}

TEST_CASE("graph calls refuse what is no graph") {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  CHECK_CUDA(cudaErrorInvalidValue, cudaGraphCreate(&graph, 1));
  REQUIRE_CUDA(cudaGraphCreate(&graph, 0));
  CHECK_CUDA(cudaErrorInvalidValue, cudaGraphInstantiate(nullptr, graph, 0));
  REQUIRE_CUDA(cudaGraphInstantiateWithFlags(&exec, graph, 0));
  CHECK_CUDA(cudaErrorInvalidValue, cudaGraphLaunch(nullptr, nullptr));
  CHECK_CUDA(cudaSuccess, cudaGraphLaunch(exec, nullptr));  // empty
  CHECK_CUDA(cudaSuccess, cudaDeviceSynchronize());
  CHECK_CUDA(cudaSuccess, cudaGraphExecDestroy(exec));
  CHECK_CUDA(cudaSuccess, cudaGraphDestroy(graph));
  (void)cudaGetLastError();
  CHECK(nothing_lives());
}

}  // namespace
}  // namespace xception::emulator
