// A session from creation to its last run: arguments, results that may not depend on batch, thread
// or layout, and what sessions share. What they show is in test_session_inside.cc.
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "engine/processors.h"
#include "model_fixture.h"
#include "planes.h"
#include "session_fixture.h"
#include "testing.h"
#include "xception/engine.h"

#if defined(__SANITIZE_ADDRESS__)
#define XC_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define XC_ADDRESS_SANITIZER
#endif
#endif
#ifdef XC_ADDRESS_SANITIZER
// From sanitizer/allocator_interface.h, which comes with clang only; gcc's runtime has it all the
// same.
extern "C" std::size_t
__sanitizer_get_current_allocated_bytes();  // NOLINT(clang-diagnostic-reserved-identifier)
// A test asks for more memory than there is, and wants malloc's answer.
extern "C" const char* __asan_default_options() {  // NOLINT(clang-diagnostic-reserved-identifier)
  return "allocator_may_return_null=1";
}
#else
#include <malloc.h>
#endif

namespace xception {

// --- arguments ---------------------------------------------------------------------------------

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

// --- results -----------------------------------------------------------------------------------

TEST_CASE("8-bit pictures are normalised as the model says") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  fixture.metadata["xception.preprocess"] =
      R"({"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]})";
  const std::string bytes = fixture.bytes();
  const auto model = load(bytes);
  Session session =
      create(model, {.device = "cpu", .batch = 2, .height = 20, .width = 27, .threads = 1});
  const std::vector<std::uint8_t> samples = pixels(random, session.info().input);
  const auto check = [&](const Preprocess& preprocess) {
    Values images(samples.size());
    for (std::size_t i = 0; i < samples.size(); ++i) {
      images[i] = normalised(samples[i], i % 3, preprocess);
    }
    Values logits = run(session, samples);
    CHECK(same_bits(logits, run(session, images)));
    return logits;
  };
  const Values first = check(model->info().preprocess);
  Preprocess other;
  other.mean = {0.1F, 0.2F, 0.3F};
  other.std = {1.0F, 0.5F, 0.25F};
  REQUIRE(session.set_normalisation(other).ok());
  const Values second = check(other);
  CHECK(second != first);
  for (const float bad : {0.0F, -1.0F, std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity()}) {
    Preprocess refused = other;
    refused.std[1] = bad;
    CHECK(session.set_normalisation(refused).code() == Code::kInvalidArgument);
  }
  Preprocess refused = other;
  refused.mean[2] = std::numeric_limits<float>::quiet_NaN();
  check_says(session.set_normalisation(refused), {"cannot be normalised", "mean nan", "std 0.25"});
  CHECK(same_bits(check(other), second));
}

TEST_CASE("planes and interleaved pictures give the same bits") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  Session session =
      create(load(bytes), {.device = "cpu", .batch = 3, .height = 17, .width = 29, .threads = 1});
  const Shape& shape = session.info().input;
  const Values interleaved = pictures(random, shape);
  const Values planes = to_planes(interleaved, shape);
  CHECK(same_bits(run(session, interleaved), run(session, planes, Layout::kNCHW)));
  CHECK_FALSE(same_bits(run(session, interleaved), run(session, planes)));
}

TEST_CASE("a run repeats to the bit, and other pictures give other logits") {
  XC_RANDOM(random);
  for (const bool depthwise : {true, false}) {
    const std::string bytes = seed_fixture(random, {.depthwise = depthwise}).bytes();
    for (const char* device : {"cpu", "reference"}) {
      for (const bool fuse : {true, false}) {
        INFO(device << ", fuse " << fuse << ", depthwise " << depthwise);
        Session session = create(
            load(bytes),
            {.device = device, .batch = 2, .height = 17, .width = 18, .threads = 1, .fuse = fuse});
        const Values images = pictures(random, session.info().input);
        const Values others = pictures(random, session.info().input);
        const Values first = run(session, images);
        const Values second = run(session, others);
        CHECK(same_bits(run(session, images), first));
        CHECK(same_bits(run(session, others), second));
        float difference = 0;
        for (std::size_t i = 0; i < first.size(); ++i) {
          REQUIRE(std::isfinite(first[i]));
          difference = std::max(difference, std::abs(first[i] - second[i]));
        }
        CHECK(difference > 1e-3F);
        for (std::size_t i = 0; i < 7; ++i) {
          CHECK(first[i] != first[i + 7]);
        }
      }
    }
  }
}

namespace {

// The logits of the first `count` pictures, run `batch` at a time.
Values run_in_batches(const std::shared_ptr<const Model>& model, SessionOptions options, int batch,
                      const Values& images, int count) {
  options.batch = batch;
  Session session = create(model, options);
  const auto chunk = static_cast<std::ptrdiff_t>(session.info().input.elements());
  Values all;
  for (int i = 0; i < count / batch; ++i) {
    const Values logits =
        run(session, Values(images.begin() + i * chunk, images.begin() + (i + 1) * chunk));
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

void check_batches(const std::shared_ptr<const Model>& model, Random& random, int side, int threads,
                   Precision precision = Precision::kFp32) {
  const Values images = pictures(random, {8, side, side, 3});
  for (const bool fuse : {true, false}) {
    INFO("side " << side << ", threads " << threads << ", fuse " << fuse);
    const SessionOptions options = {.device = "cpu",
                                    .precision = precision,
                                    .height = side,
                                    .width = side,
                                    .threads = threads,
                                    .fuse = fuse};
    Values expected = run_in_batches(model, options, 1, images, 8);
    CHECK(same_bits(run_in_batches(model, options, 8, images, 8), expected));
    expected.resize(3 * expected.size() / 8);
    CHECK(same_bits(run_in_batches(model, options, 3, images, 3), expected));
  }
}

}  // namespace

TEST_CASE("a picture's logits do not depend on the batch that it is in") {
  XC_RANDOM(random);
  for (const bool depthwise : {true, false}) {
    INFO("depthwise " << depthwise);
    const std::string bytes = seed_fixture(random, {.depthwise = depthwise}).bytes();
    const auto model = load(bytes);
    check_batches(model, random, 17, 1);
    check_batches(model, random, 32, 1);
    check_batches(model, random, 32, 2);
    if (has_bf16()) {
      check_batches(model, random, 32, 2, Precision::kBf16);
    }
  }
}

TEST_CASE("a picture's logits do not depend on whether convolutions are joined") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  const auto model = load(bytes);
  const Values images = pictures(random, {kJoiningBatch, kJoiningSide, kJoiningSide, 3});
  const Values expected = run_in_batches(model, joining(1), 1, images, kJoiningBatch);
  for (const int threads : {1, 2, 3, 7}) {
    INFO("threads " << threads);
    const SessionOptions options = joining(threads);
    check_joins(create(model, options), "conv1x1");
    CHECK(
        same_bits(run_in_batches(model, options, kJoiningBatch, images, kJoiningBatch), expected));
  }
}

// --- sharing -----------------------------------------------------------------------------------

namespace {

// Bytes that malloc has given out and not got back.
std::size_t allocated_bytes() {
#ifdef XC_ADDRESS_SANITIZER
  return __sanitizer_get_current_allocated_bytes();
#else
  const auto info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
#endif
}

}  // namespace

TEST_CASE("the sessions of a model share its packed weights") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random, {.width = 1.0}).bytes();
  const auto model = load(bytes);
  const auto stranger = load(bytes);
  const SessionOptions options = {.device = "cpu", .height = 17, .width = 17, .threads = 1};
  const Session first = create(model, options);
  const std::size_t parameters = first.info().parameter_bytes;
  REQUIRE(parameters > 36'000'000);
  const std::size_t before = allocated_bytes();
  const Session second = create(model, options);
  const std::size_t between = allocated_bytes();
  const Session other = create(stranger, options);
  const std::size_t after = allocated_bytes();
  CHECK(second.info().parameter_bytes == parameters);
  CHECK(between - before < parameters / 4);
  CHECK(after - between > parameters);
}

TEST_CASE("two sessions on two threads give what one gives") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  const auto model = load(bytes);
  const SessionOptions options = {.device = "cpu", .batch = 2, .threads = 1};
  Session alone = create(model, options);
  const Values images = pictures(random, alone.info().input);
  const Values expected = run(alone, images);
  std::vector<int> equal(2);
  const auto work = [&](int& count) {
    for (int i = 0; i < 5; ++i) {
      auto session = Session::create(model, options);
      for (int k = 0; session.ok() && k < 5; ++k) {
        Values logits;
        count += run(*session, images, logits).ok() && same_bits(logits, expected) ? 1 : 0;
      }
    }
  };
  std::thread other(work, std::ref(equal[0]));
  work(equal[1]);
  other.join();
  CHECK(equal == std::vector<int>{25, 25});
}

TEST_CASE("a model keeps the bytes that it is given") {
  XC_RANDOM(random);
  const std::string text = seed_fixture(random).bytes();
  const auto view = std::as_bytes(std::span(text));
  const auto owned = [&] { return std::vector<std::byte>(view.begin(), view.end()); };
  auto model = Model::load(owned());  // a temporary
  REQUIRE(model.ok());
  Session session = create(*std::move(model), {.device = "cpu", .threads = 1});
  const Values images = pictures(random, session.info().input);
  Session other = create(load(text), {.device = "cpu", .threads = 1});
  CHECK(same_bits(run(session, images), run(other, images)));

  std::vector<std::byte> cut = owned();
  cut.resize(cut.size() / 2);
  CHECK(Model::load(std::move(cut)).status().code() == Code::kBadModel);
}

TEST_CASE("a session keeps its model, and can be moved") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  auto model = load(bytes);
  const std::weak_ptr<const Model> watch = model;
  {
    Session session = create(std::move(model), {.device = "cpu", .threads = 1});
    CHECK_FALSE(watch.expired());
    const Values images = pictures(random, session.info().input);
    const Values expected = run(session, images);
    Session moved = std::move(session);
    CHECK(same_bits(run(moved, images), expected));
    moved = create(load(bytes), {.device = "cpu", .threads = 1});
    CHECK(watch.expired());
    CHECK(same_bits(run(moved, images), expected));
  }
}

namespace {

using GetThreads = int (*)();
using SetThreads = void (*)(int);

}  // namespace

TEST_CASE("a run leaves the caller's OpenMP settings alone") {
  // The runtime that the engine's library brought along, whichever it is.
  const auto get = reinterpret_cast<GetThreads>(::dlsym(RTLD_DEFAULT, "omp_get_max_threads"));
  const auto set = reinterpret_cast<SetThreads>(::dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
  REQUIRE((get != nullptr && set != nullptr));
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  const int before = get();
  for (const int mine : {1, 3}) {
    set(mine);
    for (const int threads : {0, 1, 2}) {
      Session session = create(load(bytes), {.device = "cpu", .threads = threads});
      CHECK(session.info().threads ==
            (threads == 0 ? std::min(mine, usable_processors()) : threads));
      CHECK(get() == mine);
      run(session, pictures(random, session.info().input));
      CHECK(get() == mine);
      REQUIRE(session.profile(1).ok());
      CHECK(get() == mine);
    }
  }
  set(before);
}

}  // namespace xception
