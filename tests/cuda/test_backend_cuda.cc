// Sessions on a CUDA device, which here is the emulator as a rule: miniature networks against the
// reference backend, and what must be the same to the bit.
#include <cuda_runtime_api.h>

#include <string>
#include <vector>

#include "emulator/control.h"
#include "engine/backend.h"
#include "model_fixture.h"
#include "needs_emulator.h"
#include "session_fixture.h"
#include "testing.h"
#include "xception/engine.h"

namespace xception {
namespace {

// Whether the device multiplies in this precision.
bool has(Precision precision) {
  int major = 0;
  REQUIRE(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess);
  return precision != Precision::kTf32 || major >= 8;
}

SessionOptions on_cuda(SessionOptions options) {
  options.device = "cuda";
  return options;
}

}  // namespace

TEST_CASE("every layer of the networks agrees with the reference") {
  XC_RANDOM(random);
  for (const bool depthwise : {false, true}) {
    const std::string bytes = seed_fixture(random, {.depthwise = depthwise, .width = 0.03}).bytes();
    const auto model = load(bytes);
    for (const bool fuse : {true, false}) {
      const SessionOptions options = {
          .device = "reference", .batch = 2, .height = 21, .width = 18, .fuse = fuse};
      Session reference = create(model, options);
      Session cuda = create(model, on_cuda(options));
      CHECK(cuda.info().device == "cuda:0");
      const Values images = pictures(random, cuda.info().input);
      const std::vector<Layer> expected = run_layers(reference, images);
      const std::vector<Layer> actual = run_layers(cuda, images);
      REQUIRE(actual.size() == expected.size());
      for (std::size_t i = 0; i < actual.size(); ++i) {
        INFO("depthwise " << depthwise << ", fused " << fuse << ", layer " << actual[i].name);
        CHECK(relative_difference(actual[i].values, expected[i].values) <= 1e-5F);
      }
    }
  }
}

TEST_CASE("logits in every precision agree with the reference") {
  XC_RANDOM(random);
  for (const bool depthwise : {false, true}) {
    const std::string bytes = seed_fixture(random, {.depthwise = depthwise}).bytes();
    const auto model = load(bytes);
    Session reference = create(model, {.device = "reference", .batch = 2});
    const Values images = pictures(random, reference.info().input);
    const Values expected = run(reference, images);
    const std::pair<Precision, float> bounds[] = {
        {Precision::kFp32, 1e-4F}, {Precision::kFp16, 2e-2F}, {Precision::kTf32, 2e-2F}};
    for (const auto& [precision, bound] : bounds) {
      if (!has(precision)) {
        continue;
      }
      INFO("depthwise " << depthwise << ", " << precision_name(precision));
      Session cuda = create(model, {.device = "cuda", .precision = precision, .batch = 2});
      CHECK(relative_difference(run(cuda, images), expected) <= bound);
    }
  }
}

// They end in a pooling, whose result is float32 too.
TEST_CASE("features of a network without a head agree with the reference") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  fixture.remove("fc.weight");
  fixture.remove("fc.bias");
  const std::string bytes = fixture.bytes();
  const auto model = load(bytes);
  Session reference = create(model, {.device = "reference", .batch = 2});
  const Values images = pictures(random, reference.info().input);
  const Values expected = run(reference, images);
  for (const auto& [precision, bound] :
       {std::pair{Precision::kFp32, 1e-4F}, std::pair{Precision::kFp16, 2e-2F}}) {
    INFO(precision_name(precision));
    Session cuda = create(model, {.device = "cuda", .precision = precision, .batch = 2});
    CHECK(relative_difference(run(cuda, images), expected) <= bound);
  }
}

TEST_CASE("a picture's logits are the same to the bit, however it is run") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  const auto model = load(bytes);
  for (const Precision precision : {Precision::kFp32, Precision::kFp16, Precision::kBf16}) {
    INFO(precision_name(precision));
    const SessionOptions options = {.device = "cuda", .precision = precision, .batch = 3};
    Session three = create(model, options);
    const Values images = pictures(random, three.info().input);
    const Values expected = run(three, images);
    CHECK(same_bits(run(three, images), expected));  // twice

    SessionOptions without = options;
    without.cuda_graph = false;
    Session plain = create(model, without);
    CHECK(same_bits(run(plain, images), expected));

    SessionOptions single = options;
    single.batch = 1;
    Session one = create(model, single);
    Values joined;
    for (int n = 0; n < 3; ++n) {
      const Values logits = run(one, images, n);
      joined.insert(joined.end(), logits.begin(), logits.end());
    }
    CHECK(same_bits(joined, expected));

    // While layers are looked at, every step is started by itself.
    CHECK(same_bits(run_layers(three, images).back().values, expected));
  }
}

TEST_CASE("with a CUDA graph a run is a few calls, whatever the number of layers") {
  const emulator::Control* control = needs_emulator();
  if (control == nullptr) {
    return;
  }
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random, {.width = 0.01}).bytes();
  const auto model = load(bytes);
  for (const bool graph : {true, false}) {
    CAPTURE(graph);
    Session session =
        create(model, {.device = "cuda", .height = 17, .width = 17, .cuda_graph = graph});
    const Values images = pictures(random, session.info().input);
    run(session, images);
    const std::uint64_t before = control->calls();
    const std::uint64_t allocations = control->allocations();
    run(session, images);
    const std::uint64_t calls = control->calls() - before;
    CHECK(control->allocations() == allocations);
    if (graph) {
      CHECK(calls <= 20);
    } else {
      CHECK(calls > session.info().layers.size());
    }
  }
}

TEST_CASE("8-bit pictures are normalised on the device as on the host") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  const auto model = load(bytes);
  Preprocess preprocess;
  preprocess.mean = {0.1F, 0.4F, 0.7F};
  preprocess.std = {0.3F, 0.5F, 0.2F};
  for (const Precision precision : {Precision::kFp32, Precision::kFp16}) {
    INFO(precision_name(precision));
    Session session = create(model, {.device = "cuda", .precision = precision, .batch = 2});
    REQUIRE(session.set_normalisation(preprocess).ok());
    const std::vector<std::uint8_t> samples = pixels(random, session.info().input);
    Values images;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      images.push_back(normalised(samples[i], i % 3, preprocess));
    }
    CHECK(same_bits(run(session, samples), run(session, images)));
  }
}

TEST_CASE("what has no kernel for pictures is refused, and on other values is not") {
  auto made = make_cuda_backend({.device = "cuda"});
  INFO(made.status().message());
  REQUIRE(made.ok());
  for (const int channels : {3, 4}) {
    const Shape shape = {1, 4, 4, channels};
    GraphMaker maker(shape);
    maker.append("first", Relu{}, {0});
    maker.append("second", Relu{}, {1});
    const TestGraph graph = maker.finish();
    WeightCache cache;
    const auto prepare = [&](std::size_t node) {
      return (*made)->prepare({graph.graph.nodes[node], {shape}, shape}, *graph.file, cache);
    };
    const Status first = prepare(1).status();
    if (channels == kPictureColours) {
      CHECK(first.code() == Code::kUnsupported);
      check_says(first, {"layer 'first'", "relu has no CUDA kernel that reads pictures"});
    } else {
      CHECK(first.ok());
    }
    CHECK(prepare(2).ok());
  }
}

TEST_CASE("pictures are staged while others compute, and results come in order") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random, {.width = 0.03}).bytes();
  Session session = create(load(bytes), {.device = "cuda", .height = 17, .width = 17});
  const SessionInfo& info = session.info();
  REQUIRE(info.runs_in_flight == 2);
  std::vector<Values> images;
  std::vector<Values> expected;
  for (int i = 0; i < 5; ++i) {
    images.push_back(pictures(random, info.input));
    expected.push_back(run(session, images.back()));
  }
  const auto submit = [&](std::size_t i) {
    Values copy = images[i];  // what is handed over may go afterwards
    return session.submit(TensorView<const float>{copy.data(), info.input});
  };
  Values logits(expected[0].size());
  const auto collect = [&] { return session.collect({logits.data(), info.logits}); };
  CHECK(collect().code() == Code::kInvalidArgument);
  REQUIRE(submit(0).ok());
  for (std::size_t i = 1; i < images.size(); ++i) {
    REQUIRE(submit(i).ok());
    CHECK(submit(i).code() == Code::kInvalidArgument);
    REQUIRE(collect().ok());
    CHECK(same_bits(logits, expected[i - 1]));
    CHECK(session.profile(1).status().code() == Code::kInvalidArgument);
    CHECK(session
              .run(TensorView<const float>{images[0].data(), info.input},
                   {logits.data(), info.logits})
              .code() == Code::kInvalidArgument);
  }
  REQUIRE(collect().ok());
  CHECK(same_bits(logits, expected.back()));
  CHECK(collect().code() == Code::kInvalidArgument);
}

TEST_CASE("a profile has a time for every layer, by the device's clock") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random, {.width = 0.03}).bytes();
  Session session = create(load(bytes), {.device = "cuda", .height = 17, .width = 17});
  const auto before = session.profile(1);  // of pictures that are zero
  REQUIRE(before.ok());
  const Values images = pictures(random, session.info().input);
  const Values expected = run(session, images);
  const auto profile = session.profile(2);
  INFO(profile.status().message());
  REQUIRE(profile.ok());
  REQUIRE(profile->size() == 2);
  for (const std::vector<double>& row : *profile) {
    CHECK(row.size() == session.info().layers.size());
    for (const double seconds : row) {
      CHECK(seconds >= 0);
    }
  }
  CHECK(same_bits(run(session, images), expected));
}

TEST_CASE("the network is timed by the device's clock, with a CUDA graph and without") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random, {.width = 0.03}).bytes();
  for (const bool graph : {true, false}) {
    Session session =
        create(load(bytes), {.device = "cuda", .height = 17, .width = 17, .cuda_graph = graph});
    const Values images = pictures(random, session.info().input);
    const Values expected = run(session, images);
    const auto times = session.time_network(2);
    INFO(times.status().message());
    REQUIRE(times.ok());
    REQUIRE(times->size() == 2);
    CHECK(std::min(times->front(), times->back()) > 0);
    CHECK(same_bits(run(session, images), expected));
    for (std::size_t layer = 0; layer < session.info().layers.size(); ++layer) {
      const auto seconds = session.time_layer(layer, 2);
      INFO(seconds.status().message());
      REQUIRE(seconds.ok());
      CHECK(*seconds > 0);
    }
    CHECK(same_bits(run(session, images), expected));
    CHECK(session.info().peak.flops_per_s == 0);  // the emulator has no clock
  }
}

}  // namespace xception
