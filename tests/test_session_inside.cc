// What a session shows of its runs: layers, times, and the probabilities of its logits.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "model_fixture.h"
#include "session_fixture.h"
#include "testing.h"
#include "xception/engine.h"

namespace xception {

TEST_CASE("the layer callback sees every layer in order") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  for (const char* device : {"cpu", "reference"}) {
    for (const bool fuse : {true, false}) {
      INFO(device << ", fuse " << fuse);
      Session session = create(
          load(bytes), {.device = device, .height = 17, .width = 17, .threads = 1, .fuse = fuse});
      const Values images = pictures(random, session.info().input);
      const Values expected = run(session, images);
      std::vector<std::string> seen;
      Values last;
      session.set_layer_callback([&](const LayerOutput& output) {
        REQUIRE(output.layer == &session.info().layers.at(seen.size()));
        REQUIRE(output.values.size() == static_cast<std::size_t>(output.layer->output.elements()));
        seen.push_back(output.layer->name);
        last.assign(output.values.begin(), output.values.end());
        return Status();
      });
      CHECK(same_bits(run(session, images), expected));
      CHECK(seen.size() == session.info().layers.size());
      CHECK(same_bits(last, expected));

      // Its error ends the run, and the next one is whole again.
      std::size_t left = 10;
      session.set_layer_callback([&](const LayerOutput&) {
        return --left == 0 ? Status(Code::kIo, "the disk is full") : Status();
      });
      Values logits;
      check_refused(run(session, images, logits), Code::kIo, "the disk is full");
      CHECK(left == 0);
      session.set_layer_callback({});
      CHECK(same_bits(run(session, images), expected));
    }
  }
}

TEST_CASE("a layer callback may not run its session, and may set another callback") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  Session session = create(load(bytes), {.device = "cpu", .threads = 1});
  const SessionInfo& info = session.info();
  const Values images = pictures(random, info.input);
  const Values expected = run(session, images);
  const std::string refusal = "the session is in a call already; a layer callback may not run it";
  std::size_t calls = 0;
  session.set_layer_callback([&](const LayerOutput&) {
    ++calls;
    const TensorView<const float> view = {images.data(), info.input};
    Values logits(expected.size());
    check_refused(session.run(view, {logits.data(), info.logits}), Code::kInvalidArgument, refusal);
    check_refused(session.submit(view), Code::kInvalidArgument, refusal);
    check_refused(session.collect({logits.data(), info.logits}), Code::kInvalidArgument, refusal);
    check_refused(session.profile(1).status(), Code::kInvalidArgument, refusal);
    check_refused(session.time_network(1).status(), Code::kInvalidArgument, refusal);
    check_refused(session.time_layer(0, 1).status(), Code::kInvalidArgument, refusal);
    return Status();
  });
  CHECK(same_bits(run(session, images), expected));
  CHECK(calls == info.layers.size());

  // The run goes on with the one that it began with, which may have gone from the session.
  std::size_t first = 0;
  session.set_layer_callback([&, big = std::array<double, 16>{}](const LayerOutput&) {
    session.set_layer_callback({});
    ++first;
    return big[0] == 0 ? Status() : Status(Code::kInternal, "overwritten");
  });
  CHECK(same_bits(run(session, images), expected));
  CHECK(first == info.layers.size());
  CHECK(same_bits(run(session, images), expected));
  CHECK(first == info.layers.size());

  // It keeps what it knows.
  std::size_t seen = 0;
  session.set_layer_callback([&seen, before = std::size_t{0}](const LayerOutput&) mutable {
    seen = ++before;
    return Status();
  });
  CHECK(same_bits(run(session, images), expected));
  CHECK(same_bits(run(session, images), expected));
  CHECK(seen == 2 * info.layers.size());

  // What it throws is the caller's, and leaves the session as it was.
  session.set_layer_callback([](const LayerOutput&) -> Status { throw std::logic_error("mine"); });
  Values logits;
  CHECK_THROWS_AS(static_cast<void>(run(session, images, logits)), std::logic_error);
  session.set_layer_callback({});
  CHECK(same_bits(run(session, images), expected));
}

TEST_CASE("a profile has a row for each run and a time for each layer") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  Session session = create(load(bytes), {.device = "cpu", .threads = 1});
  const Values images = pictures(random, session.info().input);
  const Values expected = run(session, images);
  for (const int runs : {0, 1, 3}) {
    const auto start = std::chrono::steady_clock::now();
    const Result<Profile> profile = session.profile(runs);
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
    REQUIRE(profile.ok());
    double sum = 0;
    CHECK(profile->size() == static_cast<std::size_t>(runs));
    for (const std::vector<double>& row : *profile) {
      CHECK(row.size() == session.info().layers.size());
      CHECK(*std::min_element(row.begin(), row.end()) >= 0);
      CHECK(*std::max_element(row.begin(), row.end()) > 0);
      sum = std::accumulate(row.begin(), row.end(), sum);
    }
    CHECK(sum <= wall.count());  // no time is counted twice
  }
  CHECK(same_bits(run(session, images), expected));
}

TEST_CASE("the network is timed as often as asked, and gives what it gave") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  for (const char* device : {"cpu", "reference"}) {
    Session session = create(load(bytes), {.device = device, .threads = 1});
    const Values images = pictures(random, session.info().input);
    const Values expected = run(session, images);
    for (const int runs : {0, 1, 3}) {
      const Result<std::vector<double>> times = session.time_network(runs);
      REQUIRE(times.ok());
      CHECK(times->size() == static_cast<std::size_t>(runs));
      CHECK(std::all_of(times->begin(), times->end(), [](double time) { return time > 0; }));
    }
    CHECK(same_bits(run(session, images), expected));
  }
}

TEST_CASE("a layer is timed by itself, and the next run gives what it gave") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  for (const char* device : {"cpu", "reference"}) {
    Session session = create(load(bytes), {.device = device, .batch = 2, .threads = 1});
    const Values images = pictures(random, session.info().input);
    const Values expected = run(session, images);
    const std::size_t layers = session.info().layers.size();
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const Result<double> seconds = session.time_layer(layer, 2);
      REQUIRE(seconds.ok());
      CHECK(*seconds > 0);
    }
    CHECK(same_bits(run(session, images), expected));
    check_refused(session.time_layer(layers, 1).status(), Code::kInvalidArgument,
                  "there is no layer " + std::to_string(layers) + "; the last is " +
                      std::to_string(layers - 1));
    REQUIRE(session.submit(TensorView<const float>{images.data(), session.info().input}).ok());
    check_refused(session.time_layer(0, 1).status(), Code::kInvalidArgument,
                  "collect the logits of an earlier run before a measurement");
  }
}

TEST_CASE("the layer that is timed is the one that was asked for, and as often") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random, {.width = 0.25}).bytes();
  Session session = create(load(bytes), {.device = "reference", .threads = 1});
  run(session, pictures(random, session.info().input));
  const std::vector<LayerInfo>& layers = session.info().layers;
  const auto costs = [](const LayerInfo& a, const LayerInfo& b) { return a.macs < b.macs; };
  const auto [least, most] = std::minmax_element(layers.begin(), layers.end(), costs);
  REQUIRE(most->macs > 50 * least->macs);
  // Whatever else the machine does, it lets one of ten go undisturbed.
  const auto quickest = [&](const LayerInfo& layer, int runs) {
    double seconds = 1e9;
    for (int i = 0; i < 10; ++i) {
      seconds = std::min(
          seconds, *session.time_layer(static_cast<std::size_t>(&layer - layers.data()), runs));
    }
    return seconds;
  };
  const double once = quickest(*most, 1);
  CHECK(once > quickest(*least, 1));
  CHECK(once > quickest(*most, 0));
  CHECK(quickest(*most, 20) > 5 * once);
}

TEST_CASE("fewer runs than none are refused") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  Session session = create(load(bytes), {.device = "cpu", .threads = 1});
  check_refused(session.profile(-1).status(), Code::kInvalidArgument,
                "-1 runs: expected 0 or more");
  check_refused(session.time_network(-2).status(), Code::kInvalidArgument,
                "-2 runs: expected 0 or more");
  check_refused(session.time_layer(0, -3).status(), Code::kInvalidArgument,
                "-3 runs: expected 0 or more");
}

TEST_CASE("probabilities are those of the logits") {
  const Values logits = {0, std::log(2.0F), std::log(5.0F), 1000, 1000, -1000};
  Values probabilities(6);
  REQUIRE(softmax({logits.data(), {2, 1, 1, 3}}, {probabilities.data(), {2, 1, 1, 3}}).ok());
  const Values expected = {0.125F, 0.25F, 0.625F, 0.5F, 0.5F, 0.0F};
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(std::abs(probabilities[i] - expected[i]) < 1e-7F);
  }
  Values in_place = logits;
  REQUIRE(softmax({in_place.data(), {2, 1, 1, 3}}, {in_place.data(), {2, 1, 1, 3}}).ok());
  CHECK(same_bits(in_place, probabilities));

  const std::string refusal =
      "no probabilities 1x1x1x3 of logits 2x1x1x3: both need memory, and one shape";
  check_refused(softmax({logits.data(), {2, 1, 1, 3}}, {in_place.data(), {1, 1, 1, 3}}),
                Code::kInvalidArgument, refusal);
  CHECK(softmax({nullptr, {2, 1, 1, 3}}, {in_place.data(), {2, 1, 1, 3}}).code() ==
        Code::kInvalidArgument);
  CHECK(softmax({logits.data(), {2, 1, 1, 3}}, {nullptr, {2, 1, 1, 3}}).code() ==
        Code::kInvalidArgument);
  CHECK(softmax({logits.data(), {}}, {in_place.data(), {}}).ok());
  CHECK(same_bits(in_place, probabilities));
  Values strange = {0, std::numeric_limits<float>::infinity(), 0, 1, 2, 3};
  REQUIRE(softmax({strange.data(), {2, 1, 1, 3}}, {strange.data(), {2, 1, 1, 3}}).ok());
  CHECK(std::all_of(strange.begin(), strange.begin() + 3, [](float x) { return std::isnan(x); }));
  CHECK(std::abs(strange[3] + strange[4] + strange[5] - 1) < 1e-6F);
  Values impossible = {-std::numeric_limits<float>::infinity(), 0, 0};
  REQUIRE(softmax({impossible.data(), {1, 1, 1, 3}}, {impossible.data(), {1, 1, 1, 3}}).ok());
  CHECK(impossible == Values{0, 0.5F, 0.5F});
  CHECK(softmax({impossible.data(), {-1, 1, 1, -1}}, {impossible.data(), {-1, 1, 1, -1}}).code() ==
        Code::kInvalidArgument);
}

}  // namespace xception
