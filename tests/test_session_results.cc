// What comes out of sessions: results that may not depend on batch, thread or layout, and what the
// sessions of a model share.
#include <dlfcn.h>
#include <malloc.h>

#include <algorithm>
#include <cmath>
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

#ifdef XC_SANITIZED
// From sanitizer/allocator_interface.h, which comes with clang only; gcc's runtime has it all the
// same.
extern "C" std::size_t
__sanitizer_get_current_allocated_bytes();  // NOLINT(clang-diagnostic-reserved-identifier)
#endif

namespace xception {

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
#ifdef XC_SANITIZED
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
