// Several sessions of a model at once: what they share, and what they must not; and the devices
// that they are on.
#include <cuda_runtime_api.h>

#include <array>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "emulator/control.h"
#include "engine/backend.h"
#include "model_fixture.h"
#include "needs_emulator.h"
#include "session_fixture.h"
#include "testing.h"
#include "xception/engine.h"

namespace xception {

// What is packed for one is of no use to another where it differs in more than its batch.
TEST_CASE("sessions of a model that differ give what each gives alone") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random, {.width = 0.03}).bytes();
  int count = 0;
  REQUIRE(cudaGetDeviceCount(&count) == cudaSuccess);
  std::vector<SessionOptions> all;
  for (int device = 0; device < count; ++device) {
    for (const Precision precision : {Precision::kFp32, Precision::kFp16, Precision::kBf16}) {
      for (const bool fuse : {true, false}) {
        all.push_back({.device = "cuda:" + std::to_string(device),
                       .precision = precision,
                       .height = 17,
                       .width = 17,
                       .fuse = fuse});
      }
    }
  }
  const Values images = pictures(random, {1, 17, 17, 3});
  std::vector<Values> alone;
  for (const SessionOptions& options : all) {
    Session session = create(load(bytes), options);
    alone.push_back(run(session, images));
  }
  const auto model = load(bytes);
  std::vector<Session> together;
  for (const SessionOptions& options : all) {
    together.push_back(create(model, options));
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(all[i].device, precision_name(all[i].precision), all[i].fuse);
    CHECK(same_bits(run(together[i], images), alone[i]));
  }
}

TEST_CASE("weights are there when another session multiplies by them") {
  const emulator::Control* control = needs_emulator();
  if (control == nullptr) {
    return;
  }
  XC_RANDOM(random);
  const Shape shape = {1, 4, 4, 16};
  GraphMaker maker(shape);
  Conv2d op;
  op.out_channels = shape.c;
  maker.conv("conv", op, random.normals(std::int64_t{shape.c} * shape.c), {0});
  const TestGraph made = maker.finish();
  const StepRequest request = {made.graph.nodes[1], {shape}, shape};

  const auto first = make_cuda_backend({.device = "cuda"});
  const auto second = make_cuda_backend({.device = "cuda"});
  REQUIRE((first.ok() && second.ok()));
  Backend& runs = **second;
  const std::size_t bytes = runs.value_bytes(shape, false);
  const auto memory = runs.allocate(2 * bytes);
  REQUIRE(memory.ok());
  std::byte* const src = memory->get();
  std::byte* const dst = src + bytes;
  Values values = random.normals(shape.elements());
  REQUIRE(runs.copy_in(values.data(), shape, false, src).ok());
  control->seed(0);  // work runs when somebody waits for it
  WeightCache cache;
  const auto packs = (*first)->prepare(request, *made.file, cache);  // and holds the weights
  REQUIRE(packs.ok());
  auto step = runs.prepare(request, *made.file, cache);
  REQUIRE(step.ok());
  REQUIRE((*step)->bind({{src}, dst, nullptr}).ok());
  const std::array<std::unique_ptr<Step>, 1> steps = {*std::move(step)};
  REQUIRE(runs.run(steps, {}).ok());
  const Status status = runs.copy_out(dst, shape, false, values.data());
  INFO(status.message());
  CHECK(status.ok());
}

TEST_CASE("sessions of a model share its packed weights") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  const auto model = load(bytes);
  const auto used = [] {
    std::size_t free = 0;
    std::size_t total = 0;
    REQUIRE(cudaMemGetInfo(&free, &total) == cudaSuccess);
    return total - free;
  };
  const std::size_t before = used();
  {
    const Session first = create(model, {.device = "cuda"});
    const std::size_t one = used() - before;
    const Session second = create(model, {.device = "cuda"});
    const std::size_t two = used() - before;
    CHECK(one > first.info().parameter_bytes + first.info().arena_bytes);
    CHECK(two - one < one - first.info().parameter_bytes + (1 << 16));
  }
  CHECK(used() == before);
}

// One allocates, packs and copies while the other records its graph.
TEST_CASE("sessions of a model on threads of their own give what one gives") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random, {.width = 0.03}).bytes();
  const auto model = load(bytes);
  const SessionOptions options = {.device = "cuda", .height = 17, .width = 17};
  Values images;
  Values expected;
  {
    Session session = create(model, options);
    images = pictures(random, session.info().input);
    expected = run(session, images);
  }
  constexpr std::size_t kThreads = 3;
  std::array<Values, kThreads> logits;
  std::array<Status, kThreads> statuses;
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {  // Catch's checks belong to the main thread
        for (int round = 0; round < 3 && statuses[i].ok(); ++round) {
          auto session = Session::create(model, options);
          statuses[i] = session.status();
          if (session.ok()) {
            logits[i].assign(expected.size(), 0.0F);
            statuses[i] =
                session->run(TensorView<const float>{images.data(), session->info().input},
                             {logits[i].data(), session->info().logits});
          }
        }
      });
    }
  }
  for (std::size_t i = 0; i < kThreads; ++i) {
    INFO(statuses[i].message());
    CHECK(statuses[i].ok());
    CHECK(same_bits(logits[i], expected));
  }
}

TEST_CASE("what a session does leaves the caller's device as it was") {
  XC_RANDOM(random);
  int count = 0;
  REQUIRE(cudaGetDeviceCount(&count) == cudaSuccess);
  const std::string bytes = seed_fixture(random, {.width = 0.03}).bytes();
  const auto model = load(bytes);
  Values expected;
  for (int index = 0; index < count; ++index) {
    INFO("cuda:" << index << " of " << count);
    {
      Session session = create(model, {.device = "cuda:" + std::to_string(index)});
      CHECK(session.info().device == "cuda:" + std::to_string(index));
      if (expected.empty()) {
        expected = pictures(random, session.info().input);
      }
      run(session, expected);
    }
    int current = -1;
    REQUIRE(cudaGetDevice(&current) == cudaSuccess);
    CHECK(current == 0);
  }
}

}  // namespace xception
