// Every CUDA call and every allocation may fail: that is a clear error, nothing of the session
// stays behind, and the next one works. The emulator makes them fail; on a GPU there is nothing to
// test.
#include <cuda_runtime_api.h>

#include <cstring>
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

using emulator::Control;
using emulator::emulator_control;

XcEmulatorLive live(const Control& control) {
  static_cast<void>(cudaDeviceSynchronize());
  XcEmulatorLive now{};
  control.live(&now);
  return now;
}

bool operator==(const XcEmulatorLive& a, const XcEmulatorLive& b) {
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

// What a program does with a model: the first failure, and the logits as far as there are any.
// kAll runs a second time, on 8-bit pictures, profiles, times a layer, and runs between buffers of
// the device.
enum class Use { kRunOnce, kAll };

Status run_on_device(Session& session, const std::vector<std::uint8_t>& samples, float* logits) {
  const SessionInfo& info = session.info();
  const auto bytes = static_cast<std::size_t>(info.logits.elements()) * sizeof(float);
  auto there = cuda::allocate_device(bytes + samples.size(), "buffers of a test");
  XC_RETURN_IF_ERROR(there.status());
  auto* const result = static_cast<float*>(there->get());
  auto* const images = reinterpret_cast<std::uint8_t*>(result + info.logits.elements());
  const auto stream = cuda::make_stream();
  XC_RETURN_IF_ERROR(stream.status());
  XC_RETURN_IF_ERROR(cuda::to_status(cudaMemcpyAsync(images, samples.data(), samples.size(),
                                                     cudaMemcpyHostToDevice, stream->get()),
                                     "put the pictures there"));
  const Status status = session.enqueue(TensorView<const std::uint8_t>{images, info.input},
                                        {result, info.logits}, stream->get());
  const Status ended =
      cuda::to_status(cudaStreamSynchronize(stream->get()), "wait for the session");
  XC_RETURN_IF_ERROR(status);
  XC_RETURN_IF_ERROR(ended);
  return cuda::to_status(cudaMemcpy(logits, result, bytes, cudaMemcpyDeviceToHost),
                         "fetch the logits");
}

Status use_model(Use use, const std::string& bytes, const Values& images,
                 const std::vector<std::uint8_t>& samples, Values& logits) {
  const auto model = Model::load(std::as_bytes(std::span(bytes)));
  XC_RETURN_IF_ERROR(model.status());
  auto session = Session::create(*model, {.device = "cuda", .height = 17, .width = 17});
  XC_RETURN_IF_ERROR(session.status());
  const SessionInfo& info = session->info();
  const auto classes = static_cast<std::size_t>(info.logits.elements());
  logits.resize(3 * classes);
  XC_RETURN_IF_ERROR(session->run(TensorView<const float>{images.data(), info.input},
                                  {logits.data(), info.logits}));
  if (use == Use::kRunOnce) {
    return {};
  }
  XC_RETURN_IF_ERROR(session->run(TensorView<const std::uint8_t>{samples.data(), info.input},
                                  {logits.data() + classes, info.logits}));
  XC_RETURN_IF_ERROR(session->profile(1).status());
  XC_RETURN_IF_ERROR(session->time_layer(0, 2).status());
  return run_on_device(*session, samples, logits.data() + 2 * classes);
}

// One that fails must say so and name CUDA's error; one that only gave something back may not.
// Either way nothing is left, and the next run is as if there had been no failure.
class FailureTest {
 public:
  FailureTest(const Control& control, Random& random)
      : control_(control),
        bytes_(seed_fixture(random, {.width = 0.01}).bytes()),
        images_(pictures(random, {1, 17, 17, 3})),
        samples_(pixels(random, {1, 17, 17, 3})) {
    REQUIRE(use(Use::kAll, expected_).ok());
    before_ = live(control_);
  }

  // Calls, and allocations among them, of a run.
  std::uint64_t calls() { return count(control_.calls); }
  std::uint64_t allocations() { return count(control_.allocations); }

  // `order` asks the emulator for the n-th failure. Returns what became of the run.
  template <class Order>
  Status check(const Order& order, std::uint64_t n) {
    CAPTURE(n);
    Values logits;
    order(n);
    const Status status = use(Use::kAll, logits);
    order(0);
    INFO(status.message());
    if (status.ok()) {
      CHECK(same_bits(logits, expected_));
    } else {
      CHECK((status.code() == Code::kDevice || status.code() == Code::kOutOfMemory));
    }
    CHECK((live(control_) == before_));
    CHECK(cudaGetLastError() == cudaSuccess);
    Values again;
    CHECK(use(Use::kRunOnce, again).ok());
    again.resize(again.size() / 3);
    CHECK(same_bits(
        again, {expected_.begin(), expected_.begin() + static_cast<std::ptrdiff_t>(again.size())}));
    return status;
  }

 private:
  Status use(Use use, Values& logits) const {
    return use_model(use, bytes_, images_, samples_, logits);
  }

  template <class Counter>
  std::uint64_t count(const Counter& counter) {
    const std::uint64_t begin = counter();
    Values logits;
    REQUIRE(use(Use::kAll, logits).ok());
    return counter() - begin;
  }

  const Control& control_;
  std::string bytes_;
  Values images_;
  std::vector<std::uint8_t> samples_;
  Values expected_;
  XcEmulatorLive before_{};
};

// The n-th call fails, for n from 1 in random steps of at most `step`, and for each n at both ends.
void fail_calls(const Control& control, Random& random, int step) {
  FailureTest test(control, random);
  const std::uint64_t calls = test.calls();
  REQUIRE(calls > 200);
  constexpr std::uint64_t kEnds = 8;
  int failures = 0;
  int launches = 0;
  for (std::uint64_t n = 1; n <= calls;) {
    const Status status = test.check(control.fail_call, n);
    failures += status.ok() ? 0 : 1;
    for (const char* operation : {"conv3x3", "pointwise", "depthwise3x3", "max_pool"}) {
      const std::string words = std::string("': ") + operation;
      launches += status.message().find(words) == std::string::npos ? 0 : 1;
    }
    const bool inside = n >= kEnds && n + kEnds < calls;
    n += inside ? static_cast<std::uint64_t>(random.integer(1, step)) : 1;
  }
  CHECK(failures > 20);
  CHECK(launches > 0);  // a kernel that does not start is told with its layer
}

void fail_allocations(const Control& control, Random& random, int step) {
  FailureTest test(control, random);
  const std::uint64_t allocations = test.allocations();
  REQUIRE(allocations > 10);
  for (std::uint64_t n = 1; n <= allocations;) {
    const Status status = test.check(control.fail_allocation, n);
    CHECK(status.code() == Code::kOutOfMemory);
    check_says(status, {"cannot allocate ", " bytes "});
    n += n + 8 < allocations ? static_cast<std::uint64_t>(random.integer(1, step)) : 1;
  }
}

}  // namespace

TEST_CASE("a CUDA call that fails is an error, nothing is left, and the next run works") {
  const Control* control = needs_emulator();
  if (control == nullptr) {
    return;
  }
  XC_RANDOM(random);
  fail_calls(*control, random, 20);  // some tens of a thousand, others each time
}

TEST_CASE("an allocation that fails says how much was asked for and how much is free") {
  const Control* control = needs_emulator();
  if (control == nullptr) {
    return;
  }
  XC_RANDOM(random);
  fail_allocations(*control, random, 10);
}

// The same without steps; CTest runs it on one GPU.
TEST_CASE("every CUDA call and every allocation fails in turn", "[.][every]") {
  const Control* control = emulator_control();
  REQUIRE(control != nullptr);
  XC_RANDOM(random);
  fail_calls(*control, random, 1);
  fail_allocations(*control, random, 1);
}

TEST_CASE("more than the device has is refused with the numbers") {
  const std::string bytes = xception_fixture().bytes();
  std::size_t free = 0;
  std::size_t total = 0;
  REQUIRE(cudaMemGetInfo(&free, &total) == cudaSuccess);
  const auto session =
      Session::create(load(bytes), {.device = "cuda", .batch = 16384, .height = 512, .width = 512});
  CHECK(session.status().code() == Code::kOutOfMemory);
  check_says(session.status(),
             {"cannot allocate ", " bytes for activations",
              "of the device's " + std::to_string(total) + " bytes ", " are free"});
}

}  // namespace xception
