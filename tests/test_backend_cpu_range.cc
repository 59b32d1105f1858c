// What keeps sums that leave the range of float32 from becoming answers of the CPU backend: how far
// it takes a step to go, which values it looks at, and what a run makes of those that go too far.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend_cpu_range.h"
#include "engine/passes.h"
#include "graph_fixture.h"
#include "kernels/numeric.h"
#include "testing.h"

namespace xception::cpu {
namespace {

// The largest magnitude of every value of `graph`, for pictures of at most `input`, by what the
// backend's steps say.
std::vector<double> reaches(const TestGraph& made, const Graph& graph, double input) {
  const auto backend = cpu_backend(2);
  WeightCache cache;
  const auto shapes = infer_shapes(graph, made.input);
  REQUIRE(shapes.ok());
  const auto at = [](ValueId id) { return static_cast<std::size_t>(id); };
  std::vector<double> values = {input};
  for (std::size_t i = 1; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    StepRequest request{node, {}, (*shapes)[i], i + 1 == graph.nodes.size()};
    for (const ValueId id : node.inputs) {
      request.src.push_back((*shapes)[at(id)]);
    }
    auto step = backend->prepare(request, *made.file, cache);
    REQUIRE(step.ok());
    values.push_back(static_cast<const RangedStep&>(**step).reach(
        values[at(node.inputs[0])], node.inputs.size() > 1 ? values[at(node.inputs[1])] : 0.0));
  }
  return values;
}

// Multiplies what it reads; adds its second input.
class FakeStep : public RangedStep {
 public:
  FakeStep(double gain, double offset) : reach_{gain, offset} {}
  std::string implementation() const override { return "fake"; }
  std::size_t workspace_bytes() const override { return 0; }
  std::size_t parameter_bytes() const override { return 0; }
  const void* parameters() const override { return nullptr; }
  Status bind(const StepBuffers& /*buffers*/) override { return {}; }
  Status run() override { return {}; }
  double reach(double first, double added) const override { return reach_.of(first) + added; }

 private:
  Reach reach_;
};

using Reaches = std::vector<Reach>;

constexpr Shape kShape = {3, 2, 5, 7};  // of every value
constexpr std::int64_t kPicture = 2 * 5 * 7;

// A plan of steps one behind another, whose values a test fills in. But for the result they may be
// bf16.
class Chain {
 public:
  explicit Chain(const Reaches& reaches, bool bf16 = false) {
    graph_.append({"input", Input{kShape.c}, {}});
    for (const Reach& reach : reaches) {
      graph_.append({"step", Relu{}, {static_cast<ValueId>(steps_.size())}});
      steps_.push_back(std::make_unique<FakeStep>(reach.gain, reach.offset));
    }
    BoundPlan plan{&graph_, steps_, {}};
    floats_.assign(graph_.nodes.size(), std::vector<float>(3 * kPicture));
    halves_.assign(graph_.nodes.size(), std::vector<std::uint16_t>(3 * kPicture));
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const bool is_wide = !bf16 || i + 1 == graph_.nodes.size();  // as the result always is
      plan.values.push_back({kShape, is_wide,
                             is_wide ? reinterpret_cast<std::byte*>(floats_[i].data())
                                     : reinterpret_cast<std::byte*>(halves_[i].data())});
    }
    guard_.set_plan(plan, bf16);
  }

  // Whether the guard finds `number` as the last element of picture 1 of `value`, and takes it for
  // no other picture's.
  bool finds(std::size_t value, float number) {
    const std::size_t at = 2 * kPicture - 1;
    floats_[value][at] = number;
    halves_[value][at] = to_bf16(number);
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      guard_.look(i);
    }
    floats_[value][at] = 0;
    halves_[value][at] = 0;
    guard_.mark_result();
    const std::vector<float>& result = floats_.back();
    const bool found = std::isnan(result[kPicture]);
    for (std::int64_t i = 0; i < 3 * kPicture; ++i) {
      const bool in_picture = i >= kPicture && i < 2 * kPicture;
      CHECK(std::isnan(result[static_cast<std::size_t>(i)]) == (found && in_picture));
    }
    std::fill(floats_.back().begin(), floats_.back().end(), 0.0F);
    return found;
  }

  // The same where nothing is in any value.
  bool finds_zeros() {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      guard_.look(i);
    }
    guard_.mark_result();
    const std::vector<float>& result = floats_.back();
    return std::all_of(result.begin(), result.end(), [](float x) { return std::isnan(x); });
  }

 private:
  Graph graph_;
  std::vector<std::unique_ptr<Step>> steps_;
  std::vector<std::vector<float>> floats_;
  std::vector<std::vector<std::uint16_t>> halves_;
  RangeGuard guard_;
};

}  // namespace

TEST_CASE("no value of a network goes beyond the reach of its steps") {
  XC_RANDOM(random);
  const auto reference = reference_backend();
  for (int round = 0; round < 30; ++round) {
    TestGraph made = random_graph(random, 12);
    const Values ones(static_cast<std::size_t>(made.input.elements()), 1.0F);
    // Fused, factors are other ones: two shifts that become one may cancel out.
    for (const Graph& graph : {made.graph, fuse(made.graph)}) {
      made.graph = graph;
      const TestGraph worst = absolute(made);
      const auto values = run_guarded(*reference, worst.graph, *worst.file, worst.input, ones);
      const std::vector<double> reached = reaches(made, graph, 1);
      for (std::size_t i = 0; i < values.size(); ++i) {
        INFO("node " << i << ": " << describe(graph.nodes[i].op));
        CHECK(largest_magnitude(values[i]) <= reached[i] * (1 + 1e-5));
      }
    }
  }
}

TEST_CASE("a step of several operations goes as far as they do") {
  XC_RANDOM(random);
  // Pointwise weights so small that what lies before them goes furthest, too.
  for (const auto& [pools, scale] :
       {std::pair(false, 1.0F), std::pair(true, 1.0F), std::pair(false, 1e-6F)}) {
    GraphMaker maker({1, 7, 9, 8});
    Conv2d depthwise;
    depthwise.size = 3;
    depthwise.pad = 1;
    depthwise.depthwise = true;
    Conv2d pointwise;
    ValueId made = 0;
    int in = 8;
    for (const int out : {16, 4}) {
      depthwise.out_channels = in;
      pointwise.out_channels = out;
      pointwise.second_affine = scale < 1 ? nullptr : random_norm(random, out);
      const std::string name = std::to_string(in);
      made = maker.conv("depthwise" + name, depthwise, random.normals(in * 9), {made});
      made = maker.conv("pointwise" + name, pointwise, random.normals(in * out, scale), {made});
      in = out;
    }
    if (pools) {
      maker.append("pool", MaxPool{}, {made});
    }
    const TestGraph graph = maker.finish();
    auto joined = fuse_chains(graph.graph, graph.input,
                              [](const SeparableChain&, const Shape&) { return true; });
    REQUIRE(joined.ok());
    REQUIRE(joined->nodes.size() == 2);
    const std::vector<double> apart = reaches(graph, graph.graph, 1);
    CHECK(
        std::abs(reaches(graph, *joined, 1).back() / *std::max_element(apart.begin(), apart.end()) -
                 1) < 1e-12);
  }
}

TEST_CASE("a convolution's reach is what the worst picture makes of it") {
  for (const bool depthwise : {false, true}) {
    GraphMaker maker({1, 1, 1, 2});
    Conv2d op;
    op.out_channels = 2;
    op.depthwise = depthwise;
    op.affine = std::make_shared<Affine>(Affine{{1, 1}, {0.25, -0.5}});
    op.relu = true;
    maker.conv("conv", op, depthwise ? Values{3, -4} : Values{1, -2, -3, 4}, {0});
    const TestGraph made = maker.finish();
    CHECK(reaches(made, made.graph, 10).back() == (depthwise ? 40.5 : 70.5));
  }
}

TEST_CASE("a sum that a second norm makes small again counts as it was") {
  GraphMaker maker({1, 1, 1, 2});
  Conv2d op;
  op.out_channels = 1;
  op.second_affine = std::make_shared<Affine>(Affine{{1e-3}, {2}});
  maker.conv("conv", op, {30, 40}, {0});
  const TestGraph made = maker.finish();
  CHECK(reaches(made, made.graph, 1).back() == 70);
  CHECK(reaches(made, made.graph, 0).back() == 2);
}

TEST_CASE("an input is looked at, and of other values those whose readers might overflow") {
  // 1e12, 1e22, 1e32: the third step may make 1e42 of it.
  Chain chain(Reaches{{1e10}, {1e10}, {1e10}, {1}});
  for (const float beyond : {1.1e12F, -1.1e12F, INFINITY, -INFINITY, NAN, -NAN}) {
    INFO(beyond);
    CHECK(chain.finds(0, beyond));
    CHECK_FALSE(chain.finds(1, beyond));
    CHECK(chain.finds(2, beyond));
    CHECK_FALSE(chain.finds(3, beyond));
    CHECK_FALSE(chain.finds(4, beyond));
  }
  for (const float within : {1e12F, -1e12F, 0.0F, 1e-45F}) {
    CHECK_FALSE(chain.finds(0, within));
    CHECK_FALSE(chain.finds(2, within));
  }
  CHECK_FALSE(chain.finds_zeros());
}

TEST_CASE("a step that multiplies by more gets less") {
  Chain chain(Reaches{{1}, {1e30}});
  CHECK(chain.finds(1, 1.1e7F));
  CHECK_FALSE(chain.finds(1, 0.9e6F));
  Chain endless(Reaches{{1}, {std::numeric_limits<double>::infinity()}});
  CHECK(endless.finds_zeros());
  Chain hopeless(Reaches{{1, 1e38}});
  CHECK(hopeless.finds_zeros());
  // 0 times a scale that is infinite as float32 is no 0.
  Chain unbounded(Reaches{{1}, reach_of(Affine{{1, 1e39}, {0, 0}})});
  CHECK(unbounded.finds_zeros());
  CHECK(Reach{1e39, 0}.of(0) > 1e38);
}

TEST_CASE("values in bf16") {
  Chain chain(Reaches{{1e20}, {1e20}}, true);
  for (const float beyond : {1.1e12F, -1.1e12F, INFINITY, NAN}) {
    CHECK(chain.finds(0, beyond));
    CHECK(chain.finds(1, beyond));
    CHECK_FALSE(chain.finds(2, beyond));
  }
  CHECK_FALSE(chain.finds(1, -0.9e12F));
}

}  // namespace xception::cpu
