// What a session tells of itself, what it takes and what it refuses. What comes out of it is in
// test_session_results.cc, and what it shows in test_session_inside.cc.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "model_fixture.h"
#include "session_fixture.h"
#include "testing.h"
#include "xception/engine.h"

#ifdef XC_SANITIZED
// A test asks for more memory than there is, and wants malloc's answer.
extern "C" const char* __asan_default_options() {  // NOLINT(clang-diagnostic-reserved-identifier)
  return "allocator_may_return_null=1";
}
#endif

namespace xception {

TEST_CASE("a session tells what it is") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  const auto model = load(bytes);
  const Session session = create(model, {.device = "cpu", .batch = 3, .height = 17, .threads = 1});
  const SessionInfo& info = session.info();
  CHECK(info.device == "cpu");
  CHECK(info.precision == Precision::kFp32);
  CHECK(info.input == Shape{3, 17, 32, 3});
  CHECK(info.logits == Shape{3, 1, 1, 7});
  CHECK(info.threads == 1);
  CHECK(info.runs_in_flight == 1);
  CHECK(info.parameter_bytes > 4 * 30'000);
  CHECK(info.layers.back().name == "fc");
  CHECK(info.layers.back().output == info.logits);
  std::int64_t macs = 0;
  std::size_t parameter_bytes = 0;
  for (const LayerInfo& layer : info.layers) {
    INFO(layer.name);
    CHECK_FALSE(layer.operation.empty());
    CHECK_FALSE(layer.implementation.empty());
    CHECK(layer.output_bytes == static_cast<std::size_t>(layer.output.elements()) * 4);
    std::size_t elements = 0;
    for (const Shape& input : layer.inputs) {
      elements += static_cast<std::size_t>(input.elements());
    }
    CHECK(layer.input_bytes == elements * 4);
    CHECK(layer.arena_offset + layer.output_bytes <= info.arena_bytes);
    macs += layer.macs;
    parameter_bytes += layer.parameter_bytes;
  }
  CHECK(macs > 1'000'000);
  CHECK(parameter_bytes == info.parameter_bytes);

  const Session unfused = create(model, {.device = "cpu", .batch = 3, .height = 17, .fuse = false});
  CHECK(unfused.info().layers.size() == 297);
  CHECK(info.layers.size() == 80);
  std::int64_t unfused_macs = 0;
  for (const LayerInfo& layer : unfused.info().layers) {
    unfused_macs += layer.macs;
  }
  CHECK(unfused_macs == macs);
}

TEST_CASE("sizes that a network does not take are refused") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  const auto seed = load(bytes);
  const auto check = [](const std::shared_ptr<const Model>& model, const SessionOptions& options,
                        const std::string& message) {
    check_refused(create_status(model, options), Code::kInvalidArgument, message);
  };
  const std::string takes = ": network 'seed_depthwise' takes 17 to 32 pixels";
  check(seed, {.device = "cpu", .height = 16}, "input height 16" + takes);
  check(seed, {.device = "cpu", .height = 33}, "input height 33" + takes);
  check(seed, {.device = "cpu", .width = 16}, "input width 16" + takes);
  check(seed, {.device = "cpu", .width = 33}, "input width 33" + takes);
  check(seed, {.device = "cpu", .width = -1}, "input width -1" + takes);
  check(seed, {.device = "cpu", .batch = 0}, "batch 0: expected 1 to 65535");
  check(seed, {.device = "cpu", .batch = -1}, "batch -1: expected 1 to 65535");
  check(seed, {.device = "cpu", .batch = 65536}, "batch 65536: expected 1 to 65535");
  check(seed, {.device = "cpu", .threads = -1},
        "threads -1: expected 1 to 1024, or 0 for the default");
  CHECK(create_status(seed, {.device = "reference", .threads = 1024}).ok());
  check(seed, {.device = "cpu", .threads = 1025},
        "threads 1025: expected 1 to 1024, or 0 for the default");

  const std::string paper_bytes = xception_fixture().bytes();
  const auto paper = load(paper_bytes);
  check(paper, {.device = "cpu", .height = 70},
        "input height 70: network 'xception' takes 71 to 16384 pixels");
  check(paper, {.device = "cpu", .width = 70},
        "input width 70: network 'xception' takes 71 to 16384 pixels");
  check(paper, {.device = "cpu", .width = 16385},
        "input width 16385: network 'xception' takes 71 to 16384 pixels");
  check(nullptr, {}, "a session needs a model, got none");
}

TEST_CASE("more than the machine has is refused") {
  const std::string bytes = xception_fixture().bytes();
  const Status status = create_status(
      load(bytes), {.device = "cpu", .batch = 65535, .height = 16384, .width = 16384});
  CHECK(status.code() == Code::kOutOfMemory);
  CHECK_FALSE(status.message().empty());
}

TEST_CASE("devices and precisions that are not there are refused by name") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  const auto model = load(bytes);
  for (const char* device : {"", "gpu", "CPU", "cudax", "cpu:0"}) {
    check_refused(
        create_status(model, {.device = device}), Code::kInvalidArgument,
        "unknown device '" + std::string(device) + "'; expected auto, cpu, cuda or cuda:N");
  }
  for (const Precision precision : {Precision::kFp16, Precision::kTf32}) {
    const std::string name = precision_name(precision);
    check_refused(
        create_status(model, {.device = "cpu", .precision = precision}), Code::kUnsupported,
        "the CPU backend has no " + name + "; use precision fp32" + (has_bf16() ? " or bf16" : ""));
    check_refused(create_status(model, {.device = "reference", .precision = precision}),
                  Code::kUnsupported,
                  "the reference backend has no " + name + "; use fp32 or bf16");
  }
}

// With CUDA and a GPU, tests/cuda is where it is tested.
TEST_CASE("without a GPU, CUDA is refused and 'auto' is the CPU") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  const auto model = load(bytes);
  const DeviceList list = list_devices();
  REQUIRE(list.devices.size() >= 2);
  CHECK(list.devices[0].name == "cpu");
  CHECK(list.devices[1].name == "reference");
  if (list.no_cuda.empty()) {
    WARN("not tested on a machine with a GPU");
    return;
  }
  CHECK(list.devices.size() == 2);
  CHECK(create(model, {.device = "auto"}).info().device == "cpu");
  for (const std::string device : {"cuda", "cuda:0", "cudnn", "cudnn:0"}) {
#ifdef XCEPTION_HAVE_CUDA
    CHECK(list.no_cuda.starts_with("no CUDA device: "));
    check_refused(create_status(model, {.device = device}), Code::kDevice,
                  "device '" + device + "': " + list.no_cuda);
#else
    CHECK(list.no_cuda == "this build has no CUDA backend");
    check_refused(create_status(model, {.device = device}), Code::kDevice,
                  "device '" + device +
                      "' was asked for, but this build has no CUDA backend; use device cpu");
#endif
  }
}

TEST_CASE("a run may be submitted and collected by itself") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random, {.width = 0.01}).bytes();
  Session session = create(load(bytes), {.device = "cpu", .height = 17, .width = 17});
  const SessionInfo& info = session.info();
  const Values images = pictures(random, info.input);
  const Values expected = run(session, images);
  Values logits(expected.size());
  const TensorView<float> result = {logits.data(), info.logits};
  const TensorView<const float> view = {images.data(), info.input};
  check_refused(session.collect(result), Code::kInvalidArgument,
                "nothing was submitted whose logits could be collected");
  REQUIRE(session.submit(view).ok());
  check_refused(session.submit(view), Code::kInvalidArgument,
                "collect the logits of an earlier run before submitting more");
  check_refused(session.profile(1).status(), Code::kInvalidArgument,
                "collect the logits of an earlier run before a profile");
  check_refused(session.time_network(1).status(), Code::kInvalidArgument,
                "collect the logits of an earlier run before a measurement");
  check_refused(session.run(view, result), Code::kInvalidArgument,
                "collect the logits of an earlier run before another");
  REQUIRE(session.collect(result).ok());
  CHECK(same_bits(logits, expected));
}

TEST_CASE("bf16 runs where the CPU has it, and is refused elsewhere") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  const auto model = load(bytes);
  auto session = Session::create(model, {.device = "cpu", .precision = Precision::kBf16});
  REQUIRE(session.ok() == has_bf16());
  if (!session.ok()) {
    check_refused(session.status(), Code::kUnsupported,
                  "precision bf16 needs a CPU with AVX512_BF16, which this one has not; use "
                  "precision fp32");
    return;
  }
  Session wide = create(model, {.device = "cpu", .threads = 1});
  const Values images = pictures(random, wide.info().input);
  const Values expected = run(wide, images);
  const Values actual = run(*session, images);
  float largest = 0;
  float difference = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    difference = std::max(difference, std::abs(expected[i] - actual[i]));
  }
  CHECK(difference > 0);
  // Another network's logits would differ by as much as they are large. How exact bf16 is, is for
  // test_bfloat16.py.
  CHECK(difference < 0.5F * largest);
}

TEST_CASE("views of other shapes are refused, and nothing is written") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  Session session = create(load(bytes), {.device = "cpu", .batch = 2});
  const Shape images = session.info().input;
  const Shape logits = session.info().logits;
  const Values data(100'000);
  const std::vector<std::uint8_t> samples(100'000);
  Values result(1000, 7.0F);
  const auto check = [&](const Shape& in, const Shape& out, const std::string& message) {
    check_refused(session.run(TensorView<const float>{data.data(), in},
                              TensorView<float>{result.data(), out}),
                  Code::kInvalidArgument, message);
    check_refused(session.run(TensorView<const std::uint8_t>{samples.data(), in},
                              TensorView<float>{result.data(), out}),
                  Code::kInvalidArgument, message);
  };
  const std::string takes = ", this session takes 2x32x32x3";
  check({1, 32, 32, 3}, logits, "images have shape 1x32x32x3" + takes);
  check({2, 32, 32, 1}, logits, "images have shape 2x32x32x1" + takes);
  check({2, 31, 32, 3}, logits, "images have shape 2x31x32x3" + takes);
  check({}, logits, "images have shape 0x0x0x0" + takes);
  const std::string writes = ", this session writes 2x1x1x7";
  check(images, {1, 1, 1, 7}, "logits have shape 1x1x1x7" + writes);
  check(images, {2, 1, 1, 8}, "logits have shape 2x1x1x8" + writes);
  check(images, {2, 7, 1, 1}, "logits have shape 2x7x1x1" + writes);
  check_refused(session.run(TensorView<const std::uint8_t>{samples.data(), images, Layout::kNCHW},
                            TensorView<float>{result.data(), logits}),
                Code::kInvalidArgument, "8-bit images must be NHWC");
  check_refused(session.run(TensorView<const float>{nullptr, images}, {result.data(), logits}),
                Code::kInvalidArgument, "images have no memory: their pointer is null");
  check_refused(session.submit(TensorView<const std::uint8_t>{nullptr, images}),
                Code::kInvalidArgument, "images have no memory: their pointer is null");
  check_refused(session.run(TensorView<const float>{data.data(), images}, {nullptr, logits}),
                Code::kInvalidArgument, "logits have no memory: their pointer is null");
  CHECK(result == Values(1000, 7.0F));
}

TEST_CASE("a device of the host has no streams to put a run on") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  for (const std::string device : {"cpu", "reference"}) {
    Session session = create(load(bytes), {.device = device, .threads = 1});
    const Values images = pictures(random, session.info().input);
    Values logits(static_cast<std::size_t>(session.info().logits.elements()));
    check_refused(session.enqueue(TensorView<const float>{images.data(), session.info().input},
                                  {logits.data(), session.info().logits}, nullptr),
                  Code::kUnsupported,
                  "device '" + device + "' has no streams; use run(), or a session on cuda");
  }
}

}  // namespace xception
