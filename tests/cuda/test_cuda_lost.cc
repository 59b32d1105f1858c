// A kernel that faults takes the device from the whole process. What a session says then, and
// later. Nothing else can be tested in the same process.
#include <vector>

#include "engine/backend.h"
#include "session_fixture.h"
#include "testing.h"

namespace xception {

TEST_CASE("after a kernel's fault every later call says that the device is lost") {
  auto made = make_cuda_backend({.device = "cuda"});
  INFO(made.status().message());
  REQUIRE(made.ok());
  Backend& backend = **made;
  const Shape shape = {1, 4, 4, 16};
  GraphMaker maker(shape);
  maker.append("relu", Relu{}, {0});
  const TestGraph graph = maker.finish();
  WeightCache cache;
  auto step = backend.prepare({graph.graph.nodes[1], {shape}, shape}, *graph.file, cache);
  INFO(step.status().message());
  REQUIRE(step.ok());
  auto memory = backend.allocate(backend.value_bytes(shape, false));
  REQUIRE(memory.ok());
  std::vector<std::unique_ptr<Step>> steps;
  steps.push_back(*std::move(step));
  // Far behind the end of everything.
  std::byte* const nowhere = memory->get() + (std::ptrdiff_t{1} << 44);
  REQUIRE(steps[0]->bind({{nowhere}, memory->get(), nullptr}).ok());
  const Status first = backend.run(steps, [](std::size_t) { return Status(); });
  INFO(first.message());
  CHECK(first.code() == Code::kDevice);
  check_says(first, {"cudaError"});

  REQUIRE(steps[0]->bind({{memory->get()}, memory->get(), nullptr}).ok());
  for (const Status& later : {backend.run(steps, {}), backend.allocate(64).status()}) {
    CHECK(later.code() == Code::kDevice);
    check_says(later, {"cuda:0 does not answer any more", first.message()});
  }
}

}  // namespace xception
