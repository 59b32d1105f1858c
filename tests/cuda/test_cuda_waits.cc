// What a session waits for. The linker turns the engine's calls of some functions of the runtime
// into calls of those here (see CMakeLists.txt).
#include <cuda_runtime_api.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "emulator/control.h"
#include "engine/cuda_raii.h"
#include "model_fixture.h"
#include "needs_emulator.h"
#include "session_fixture.h"
#include "testing.h"
#include "xception/engine.h"

namespace xception {
namespace {

// What had run when memory was given back for the first time since this was emptied.
std::optional<std::string> run_before_free;

std::vector<unsigned> event_flags;  // of the events made since this was emptied

}  // namespace
}  // namespace xception

extern "C" {

cudaError_t __real_cudaFree(void* memory);  // NOLINT(clang-diagnostic-reserved-identifier)

cudaError_t __wrap_cudaFree(void* memory) {  // NOLINT(clang-diagnostic-reserved-identifier)
  const auto* control = xception::emulator::emulator_control();
  if (control != nullptr && !xception::run_before_free) {
    xception::run_before_free = control->counters();
  }
  return __real_cudaFree(memory);
}

// NOLINTNEXTLINE(clang-diagnostic-reserved-identifier)
cudaError_t __real_cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);

// NOLINTNEXTLINE(clang-diagnostic-reserved-identifier)
cudaError_t __wrap_cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  xception::event_flags.push_back(flags);
  return __real_cudaEventCreateWithFlags(event, flags);
}
}

namespace xception {

namespace {

// Lets go of a session whose runs are under way.
void check_waits_before_free(const emulator::Control& control, std::optional<Session>& session) {
  REQUIRE(std::string(control.counters()).empty());
  run_before_free.reset();
  session.reset();
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  REQUIRE(run_before_free);
  CHECK_FALSE(run_before_free->empty());
  CHECK(*run_before_free == control.counters());
}

}  // namespace

// cudaFree waits too, but not so that it could be relied upon: a stream-ordered one does not.
TEST_CASE("a session that goes with runs under way waits for them before it frees anything") {
  const emulator::Control* control = needs_emulator();
  if (control == nullptr) {
    return;
  }
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random, {.width = 0.01}).bytes();
  const auto model = load(bytes);
  for (const bool graph : {true, false}) {
    CAPTURE(graph);
    std::optional<Session> session =
        create(model, {.device = "cuda", .height = 17, .width = 17, .cuda_graph = graph});
    const Values images = pictures(random, session->info().input);
    control->seed(0);  // work runs when somebody waits for it
    control->reset_counters();
    for (int i = 0; i < session->info().runs_in_flight; ++i) {
      REQUIRE(session->submit(TensorView<const float>{images.data(), session->info().input}).ok());
    }
    check_waits_before_free(*control, session);
  }
}

TEST_CASE("a session that goes waits for the run that it put on a caller's stream") {
  const emulator::Control* control = needs_emulator();
  if (control == nullptr) {
    return;
  }
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random, {.width = 0.01}).bytes();
  std::optional<Session> session =
      create(load(bytes), {.device = "cuda", .height = 17, .width = 17});
  const SessionInfo info = session->info();
  const auto elements = static_cast<std::size_t>(info.input.elements() + info.logits.elements());
  const auto memory = cuda::allocate_device(elements * sizeof(float), "a buffer of a test");
  REQUIRE(memory.ok());
  auto* const images = static_cast<float*>(memory->get());
  REQUIRE(cudaMemset(images, 0, elements * sizeof(float)) == cudaSuccess);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  const auto stream = cuda::make_stream();
  REQUIRE(stream.ok());
  control->seed(0);  // work runs when somebody waits for it
  control->reset_counters();
  REQUIRE(session
              ->enqueue(TensorView<const float>{images, info.input},
                        {images + info.input.elements(), info.logits}, stream->get())
              .ok());
  check_waits_before_free(*control, session);
}

// It would be overwritten where the next pictures are staged.
TEST_CASE("nothing of a run that failed is under way afterwards") {
  const emulator::Control* control = needs_emulator();
  if (control == nullptr) {
    return;
  }
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random, {.width = 0.01}).bytes();
  Session session =
      create(load(bytes), {.device = "cuda", .height = 17, .width = 17, .cuda_graph = false});
  const Values images = pictures(random, session.info().input);
  const Values expected = run(session, images);
  control->seed(0);  // work runs when somebody waits for it
  control->reset_counters();
  control->fail_call(30);
  const Status status =
      session.submit(TensorView<const float>{images.data(), session.info().input});
  control->fail_call(0);
  CHECK(status.code() == Code::kDevice);
  CHECK_FALSE(std::string(control->counters()).empty());  // what had been launched before has run
  CHECK(same_bits(run(session, images), expected));
}

TEST_CASE("a thread sleeps until its result is there, unless it is to spin") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random, {.width = 0.01}).bytes();
  const auto model = load(bytes);
  for (const bool spin : {false, true}) {
    CAPTURE(spin);
    event_flags.clear();
    const Session session =
        create(model, {.device = "cuda", .height = 17, .width = 17, .spin_wait = spin});
    const auto sleeping = std::count_if(event_flags.begin(), event_flags.end(), [](unsigned flags) {
      return (flags & cudaEventBlockingSync) != 0;
    });
    CHECK(sleeping == (spin ? 0 : session.info().runs_in_flight));
    CHECK(std::all_of(event_flags.begin(), event_flags.end(),
                      [](unsigned flags) { return (flags & cudaEventDisableTiming) != 0; }));
  }
}

}  // namespace xception
