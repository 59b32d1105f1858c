// What a run allocates, which is nothing, and what becomes of a session where memory is not to be
// had.
#include <string>
#include <vector>

#include "allocations.h"
#include "model_fixture.h"
#include "session_fixture.h"
#include "testing.h"
#include "xception/engine.h"

namespace xception {

namespace {

// While it lives, what oneDNN allocates for itself is none of our business.
struct WithoutOneDnn {
  WithoutOneDnn() { allocations::leave_out("libdnnl"); }
  ~WithoutOneDnn() { allocations::leave_out(nullptr); }
  WithoutOneDnn(const WithoutOneDnn&) = delete;
  WithoutOneDnn& operator=(const WithoutOneDnn&) = delete;
};

// The first run included.
void check_allocates_nothing(Session& session, Random& random) {
  const Values images = pictures(random, session.info().input);
  Values logits(static_cast<std::size_t>(session.info().logits.elements()));
  const TensorView<const float> view = {images.data(), session.info().input};
  const TensorView<float> result = {logits.data(), session.info().logits};
  for (const char* which : {"first", "second"}) {
    INFO(which << " run");
    const std::uint64_t before = allocations::total_bytes();
    const Status status = session.run(view, result);
    const Status probabilities = softmax({logits.data(), session.info().logits}, result);
    const std::uint64_t after = allocations::total_bytes();
    REQUIRE(status.ok());
    REQUIRE(probabilities.ok());
    CHECK(after - before == 0);
  }
}

}  // namespace

// oneDNN makes a small map for each primitive that it executes.
TEST_CASE("a run allocates nothing") {
  const WithoutOneDnn without;
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  for (const char* device : {"cpu", "reference"}) {
    for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
      INFO(device << ", " << precision_name(precision));
      if (device == std::string("cpu") && precision == Precision::kBf16 && !has_bf16()) {
        continue;
      }
      Session session =
          create(load(bytes), {.device = device, .precision = precision, .batch = 2, .threads = 1});
      check_allocates_nothing(session, random);
    }
  }
  const std::string paper = xception_fixture().bytes();
  for (const int threads : {1, 2}) {
    INFO("convolutions joined, threads " << threads);
    Session joined = create(load(bytes), joining(threads));
    check_joins(joined, "conv1x1");
    check_allocates_nothing(joined, random);
    Session chained = create(load(paper), chaining(threads));
    check_joins(chained, "max_pool");
    check_allocates_nothing(chained, random);
  }
}

namespace {

// Every `every`-th of the first hundred allocations.
void check_survives(Session& session, Random& random, int every) {
  const Values images = pictures(random, session.info().input);
  const Values expected = run(session, images);
  int failures = 0;
  for (int ahead = 0; ahead < 100; ahead += every) {
    INFO("allocation " << ahead);
    Values logits(expected.size());
    const TensorView<float> result = {logits.data(), session.info().logits};
    allocations::fail_after(ahead);
    const Status status =
        session.run(TensorView<const float>{images.data(), session.info().input}, result);
    allocations::cancel_failure();
    if (!status.ok()) {
      ++failures;
      CHECK(status.code() == Code::kOutOfMemory);
    }
    CHECK(same_bits(run(session, images), expected));
  }
  CHECK(failures > 10 / every);
}

}  // namespace

TEST_CASE("memory that oneDNN lacks on any thread is an error, and the next run works") {
  XC_RANDOM(random);
  Session joined = create(load(seed_fixture(random).bytes()), joining(2));
  check_joins(joined, "conv1x1");
  check_survives(joined, random, 1);
  Session chained = create(load(xception_fixture().bytes()), chaining(2));
  check_joins(chained, "max_pool");
  check_survives(chained, random, 30);
}

// What copies a layer's output out is called for each of them, so that memory is lacking in its
// middle.
TEST_CASE("memory that is lacking while layers are reported is an error") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random, {.width = 0.01}).bytes();
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    INFO(precision_name(precision));
    if (precision == Precision::kBf16 && !has_bf16()) {
      continue;
    }
    Session session = create(load(bytes), {.device = "cpu", .precision = precision, .threads = 1});
    const Values images = pictures(random, session.info().input);
    const Values expected = run(session, images);
    std::size_t reports = 0;
    session.set_layer_callback([&](const LayerOutput&) {
      ++reports;
      return Status();
    });
    int failures = -1;
    for (bool done = false; !done; ++failures) {
      INFO("allocation " << failures + 1);
      Values logits(expected.size());
      allocations::fail_after(failures + 1);
      const Status status =
          session.run(TensorView<const float>{images.data(), session.info().input},
                      {logits.data(), session.info().logits});
      done = allocations::cancel_failure();
      if (done || status.ok()) {  // oneDNN does without some
        CHECK(status.ok());
        CHECK(same_bits(logits, expected));
      } else {
        CHECK(status.code() == Code::kOutOfMemory);
      }
    }
    CHECK(failures > 20);
    CHECK(reports > session.info().layers.size());
    session.set_layer_callback({});
    CHECK(same_bits(run(session, images), expected));
  }
}

namespace {

// Loads, creates and runs; the first failure.
Status all_of_it(const std::string& bytes, const SessionOptions& options, const Values& images,
                 Values& logits) {
  const auto model = Model::load(std::as_bytes(std::span(bytes)));
  XC_RETURN_IF_ERROR(model.status());
  auto session = Session::create(*model, options);
  XC_RETURN_IF_ERROR(session.status());
  return session->run(TensorView<const float>{images.data(), session->info().input},
                      TensorView<float>{logits.data(), session->info().logits});
}

}  // namespace

// Thousands of allocations: a random hundred of them are made to fail, others each time. Those
// within oneDNN are left out: it does not free what it holds when one fails.
TEST_CASE("every allocation that fails is an error, and the next run works") {
  const WithoutOneDnn without;
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random, {.width = 0.01});
  fixture.metadata["xception.labels"] = R"(["a label that is longer than most, and the others",
                                            "b", "c", "d", "e", "f", "g"])";
  const std::string bytes = fixture.bytes();
  const Values images = pictures(random, {1, 17, 17, 3});
  for (const char* device : {"reference", "cpu"}) {
    const SessionOptions options = {.device = device, .height = 17, .width = 17, .threads = 1};
    Values expected(7);
    REQUIRE(all_of_it(bytes, options, images, expected).ok());
    int failures = 0;
    std::int64_t ahead = 0;
    for (bool done = false; !done; ahead += random.integer(1, 200)) {
      INFO(device << ", allocation " << ahead);
      Values logits(7);
      allocations::fail_after(ahead);
      const Status status = all_of_it(bytes, options, images, logits);
      done = allocations::cancel_failure();  // it lay beyond the last allocation
      if (done || status.ok()) {
        CHECK(status.ok());
        CHECK(same_bits(logits, expected));
      } else {
        ++failures;
        CHECK(status.code() == Code::kOutOfMemory);
      }
    }
    CHECK(failures > 20);
    Values logits(7);
    REQUIRE(all_of_it(bytes, options, images, logits).ok());
    CHECK(same_bits(logits, expected));
  }
}

}  // namespace xception
