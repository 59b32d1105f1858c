// Runs between buffers of the device, on streams of the caller's.
#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "allocations.h"
#include "emulator/control.h"
#include "engine/cuda_raii.h"
#include "model_fixture.h"
#include "needs_emulator.h"
#include "planes.h"
#include "session_fixture.h"
#include "testing.h"
#include "xception/engine.h"

namespace xception {
namespace {

using cuda::OwnedGraph;
using cuda::OwnedGraphExec;
using cuda::OwnedStream;

OwnedStream make_stream() {
  auto stream = cuda::make_stream();
  REQUIRE(stream.ok());
  return *std::move(stream);
}

// Images and logits of a session on the device, put there and fetched on a stream.
template <class T>
class Buffers {
 public:
  explicit Buffers(const SessionInfo& info, Layout layout = Layout::kNHWC)
      : info_(info),
        layout_(layout),
        images_(allocate(static_cast<std::size_t>(info.input.elements()) * sizeof(T))),
        logits_(allocate(static_cast<std::size_t>(info.logits.elements()) * sizeof(float))) {}

  void put(const std::vector<T>& images, cudaStream_t stream) const {
    REQUIRE(cudaMemcpyAsync(images_.get(), images.data(), images.size() * sizeof(T),
                            cudaMemcpyHostToDevice, stream) == cudaSuccess);
  }
  Status enqueue(Session& session, cudaStream_t stream) const {
    return session.enqueue(images(), logits(), stream);
  }
  // Waits for the stream.
  Values fetch(cudaStream_t stream) const {
    Values values(static_cast<std::size_t>(info_.logits.elements()));
    REQUIRE(cudaMemcpyAsync(values.data(), logits_.get(), values.size() * sizeof(float),
                            cudaMemcpyDeviceToHost, stream) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
    return values;
  }

  TensorView<const T> images() const {
    return {static_cast<const T*>(images_.get()), info_.input, layout_};
  }
  TensorView<float> logits() const { return {static_cast<float*>(logits_.get()), info_.logits}; }

 private:
  static cuda::DeviceMemory allocate(std::size_t bytes) {
    auto memory = cuda::allocate_device(bytes, "a buffer of a test");
    REQUIRE(memory.ok());
    return *std::move(memory);
  }

  SessionInfo info_;
  Layout layout_;
  cuda::DeviceMemory images_;
  cuda::DeviceMemory logits_;
};

// A session of a small network, and what goes through it.
struct Fixture {
  Fixture(Random& random, SessionOptions options)
      : bytes(seed_fixture(random, {.width = 0.03}).bytes()),
        session([&] {
          options.device = "cuda";
          options.batch = 2;
          options.height = 17;
          options.width = 19;
          return create(load(bytes), options);
        }()),
        stream(make_stream()) {}

  std::string bytes;
  Session session;
  OwnedStream stream;
};

}  // namespace

TEST_CASE("a run on a caller's stream gives what run() gives, to the bit") {
  XC_RANDOM(random);
  for (const Precision precision : {Precision::kFp32, Precision::kFp16}) {
    for (const bool graph : {true, false}) {
      CAPTURE(precision_name(precision), graph);
      Fixture f(random, {.precision = precision, .cuda_graph = graph});
      const SessionInfo& info = f.session.info();
      for (cudaStream_t stream : {f.stream.get(), cudaStream_t{nullptr}}) {
        const Values images = pictures(random, info.input);
        const Values expected = run(f.session, images);
        const Buffers<float> nhwc(info);
        nhwc.put(images, stream);
        const Status status = nhwc.enqueue(f.session, stream);
        INFO(status.message());
        REQUIRE(status.ok());
        CHECK(same_bits(nhwc.fetch(stream), expected));

        const Buffers<float> nchw(info, Layout::kNCHW);
        nchw.put(to_planes(images, info.input), stream);
        REQUIRE(nchw.enqueue(f.session, stream).ok());
        CHECK(same_bits(nchw.fetch(stream), expected));

        const std::vector<std::uint8_t> samples = pixels(random, info.input);
        const Buffers<std::uint8_t> bytes(info);
        bytes.put(samples, stream);
        REQUIRE(bytes.enqueue(f.session, stream).ok());
        CHECK(same_bits(bytes.fetch(stream), run(f.session, samples)));
      }
    }
  }
}

TEST_CASE("a run is captured into a CUDA graph of the caller's") {
  XC_RANDOM(random);
  for (const bool graph : {true, false}) {
    CAPTURE(graph);
    Fixture f(random, {.precision = Precision::kFp16, .cuda_graph = graph});
    const Buffers<std::uint8_t> buffers(f.session.info());
    cudaStream_t stream = f.stream.get();
    buffers.put(pixels(random, f.session.info().input), stream);
    REQUIRE(buffers.enqueue(f.session, stream).ok());
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
    const Status status = buffers.enqueue(f.session, stream);
    cudaGraph_t captured = nullptr;
    REQUIRE(cudaStreamEndCapture(stream, &captured) == cudaSuccess);
    const OwnedGraph owned(captured);
    INFO(status.message());
    REQUIRE(status.ok());
    cudaGraphExec_t ready = nullptr;
    REQUIRE(cudaGraphInstantiate(&ready, captured, 0) == cudaSuccess);
    const OwnedGraphExec replayed(ready);
    for (int replay = 0; replay < 2; ++replay) {
      const std::vector<std::uint8_t> samples = pixels(random, f.session.info().input);
      buffers.put(samples, stream);
      REQUIRE(cudaGraphLaunch(ready, stream) == cudaSuccess);
      const Values logits = buffers.fetch(stream);
      CHECK(same_bits(logits, run(f.session, samples)));
    }
  }
}

// On the emulator each seed does the work of streams that nothing orders in another order.
TEST_CASE("runs on several streams and the session's own follow each other") {
  XC_RANDOM(random);
  Fixture f(random, {});
  const SessionInfo& info = f.session.info();
  const OwnedStream other = make_stream();
  const std::array streams = {f.stream.get(), other.get(), f.stream.get(), other.get()};
  std::vector<Values> images;
  std::vector<Values> expected;
  std::vector<Buffers<float>> buffers;
  for (std::size_t i = 0; i <= streams.size(); ++i) {
    images.push_back(pictures(random, info.input));
    expected.push_back(run(f.session, images.back()));
    buffers.emplace_back(info);
  }
  const emulator::Control* control = emulator::emulator_control();
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    CAPTURE(seed);
    if (control != nullptr) {
      control->seed(seed);
    }
    for (std::size_t i = 0; i < streams.size(); ++i) {
      buffers[i].put(images[i], streams[i]);
      REQUIRE(buffers[i].enqueue(f.session, streams[i]).ok());
    }
    CHECK(same_bits(run(f.session, images.back()), expected.back()));
    for (std::size_t i = 0; i < streams.size(); ++i) {
      CHECK(same_bits(buffers[i].fetch(streams[i]), expected[i]));
    }
    // And a profile, whose pictures are the last that were submitted.
    REQUIRE(buffers[0].enqueue(f.session, streams[0]).ok());
    REQUIRE(f.session.profile(1).ok());
    CHECK(same_bits(buffers[0].fetch(streams[0]), expected[0]));
  }
}

TEST_CASE("enqueue allocates nothing") {
  const emulator::Control* control = needs_emulator();  // a driver has its own ways
  if (control == nullptr) {
    return;
  }
  XC_RANDOM(random);
  for (const bool graph : {true, false}) {
    CAPTURE(graph);
    Fixture f(random, {.cuda_graph = graph});
    const OwnedStream other = make_stream();
    const Buffers<float> buffers(f.session.info());
    buffers.put(pictures(random, f.session.info().input), f.stream.get());
    allocations::leave_out("libcudart");
    const std::uint64_t bytes = allocations::total_bytes();
    const std::uint64_t device = control->allocations();
    const Status status = buffers.enqueue(f.session, f.stream.get());
    const Status behind = buffers.enqueue(f.session, other.get());
    const std::uint64_t asked = allocations::total_bytes() - bytes;
    allocations::leave_out(nullptr);
    REQUIRE((status.ok() && behind.ok()));
    CHECK(asked == 0);
    CHECK(control->allocations() == device);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  }
}

// What a session waits for and allocates is no part of a capture, whoever makes it.
TEST_CASE("a session goes on beside a capture, and leaves it whole where it refuses to be a part") {
  XC_RANDOM(random);
  for (const cudaStreamCaptureMode mode :
       {cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal}) {
    CAPTURE(static_cast<int>(mode));
    Fixture f(random, {});
    const SessionInfo& info = f.session.info();
    const Buffers<float> buffers(info);
    const Values images = pictures(random, info.input);
    const Values expected = run(f.session, images);
    const auto model = load(f.bytes);
    buffers.put(images, f.stream.get());
    REQUIRE(cudaStreamSynchronize(f.stream.get()) == cudaSuccess);
    REQUIRE(cudaStreamBeginCapture(f.stream.get(), mode) == cudaSuccess);
    const Status refused = f.session.enqueue(TensorView<const float>{images.data(), info.input},
                                             buffers.logits(), f.stream.get());
    Values beside;
    const Status ran = run(f.session, images, beside);
    Status elsewhere;
    std::thread([&] {
      const auto session =
          Session::create(model, {.device = "cuda", .batch = 2, .height = 17, .width = 19});
      elsewhere = session.status();
    }).join();
    const Status part = buffers.enqueue(f.session, f.stream.get());
    cudaGraph_t captured = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(f.stream.get(), &captured);
    const OwnedGraph graph = captured != nullptr ? OwnedGraph(captured) : OwnedGraph();
    CHECK(ended == cudaSuccess);
    CHECK(refused.code() == Code::kInvalidArgument);
    INFO(ran.message() << elsewhere.message() << part.message());
    REQUIRE((ran.ok() && elsewhere.ok() && part.ok()));
    CHECK(same_bits(beside, expected));

    cudaGraphExec_t ready = nullptr;
    REQUIRE(cudaGraphInstantiate(&ready, graph.get(), 0) == cudaSuccess);
    const OwnedGraphExec replayed(ready);
    REQUIRE(cudaGraphLaunch(ready, f.stream.get()) == cudaSuccess);
    CHECK(same_bits(buffers.fetch(f.stream.get()), expected));
  }
}

TEST_CASE("enqueue says what it cannot take, and the session goes on") {
  XC_RANDOM(random);
  Fixture f(random, {});
  const SessionInfo info = f.session.info();
  const Buffers<float> buffers(info);
  const Values images = pictures(random, info.input);
  Values host(static_cast<std::size_t>(info.logits.elements()));
  const TensorView<const float> there = buffers.images();
  const TensorView<float> logits = buffers.logits();
  const auto enqueue = [&](TensorView<const float> from, TensorView<float> to) {
    return f.session.enqueue(from, to, f.stream.get());
  };

  check_refused(enqueue({images.data(), info.input}, logits), Code::kInvalidArgument,
                "images are not in memory of cuda:0; enqueue() takes buffers of the device, run() "
                "those of the host");
  check_refused(enqueue(there, {host.data(), info.logits}), Code::kInvalidArgument,
                "logits are not in memory of cuda:0; enqueue() takes buffers of the device, run() "
                "those of the host");
  check_refused(enqueue({nullptr, info.input}, logits), Code::kInvalidArgument,
                "images have no memory: their pointer is null");
  check_refused(enqueue(there, {nullptr, info.logits}), Code::kInvalidArgument,
                "logits have no memory: their pointer is null");
  check_refused(enqueue({there.data, {2, 16, 19, 3}}, logits), Code::kInvalidArgument,
                "images have shape 2x16x19x3, this session takes 2x17x19x3");
  CHECK(enqueue(there, {logits.data, {1, 1, 1, 1}}).code() == Code::kInvalidArgument);

  const auto* samples = reinterpret_cast<const std::uint8_t*>(there.data);
  const Status planes = f.session.enqueue(
      TensorView<const std::uint8_t>{samples, info.input, Layout::kNCHW}, logits, f.stream.get());
  check_refused(planes, Code::kInvalidArgument, "8-bit images must be NHWC");
  const Status unaligned = f.session.enqueue(
      TensorView<const std::uint8_t>{samples + 1, info.input}, logits, f.stream.get());
  check_refused(unaligned, Code::kInvalidArgument,
                "normalize of 2x17x19x3: the samples are not aligned to 4 bytes");

  f.session.set_layer_callback([](const LayerOutput&) { return Status(); });
  check_refused(enqueue(there, logits), Code::kInvalidArgument,
                "enqueue() returns before a layer is done; use run() with a layer callback");
  f.session.set_layer_callback({});

  REQUIRE(f.session.submit(TensorView<const float>{images.data(), info.input}).ok());
  check_refused(enqueue(there, logits), Code::kInvalidArgument,
                "collect the logits of an earlier run before another");
  REQUIRE(f.session.collect({host.data(), info.logits}).ok());

  buffers.put(images, f.stream.get());
  REQUIRE(enqueue(there, logits).ok());
  CHECK(same_bits(buffers.fetch(f.stream.get()), host));
}

}  // namespace xception
