// The CPU backend against the reference backend, on small shapes: every operation, epilogue and
// edge case, batches of 1 to 3, one thread and two. Whole numbers must agree exactly; of normal
// ones the difference is bounded by the roundings that a float32 sum may make.
#include <cmath>
#include <cstddef>
#include <memory>
#include <string>

#include "graph_fixture.h"
#include "shapes.h"
#include "step_fixture.h"
#include "testing.h"

namespace xception {
namespace {

class CpuTest {
 public:
  // `exact`: the values allow no rounding. What adds does so in place too.
  void check(StepCase test, bool exact) {
    check_as_is(test, exact);
    if (test.src.size() == 2) {
      test.second_is_free = true;
      check_as_is(test, exact);
    }
  }

 private:
  void check_as_is(const StepCase& test, bool exact) {
    const Values expected = run_case(*reference_, test, kBatch, 1).values;
    const StepResult whole = run_case(*two_, test, kBatch);
    INFO(describe(test.node().op) << " of " << to_string(test.src[0]) << " by "
                                  << whole.implementation);
    const int count = exact ? 0 : roundings(test);
    if (count == 0) {
      CHECK(whole.values == expected);
    } else {
      CHECK(excess(whole.values, expected, run_case(*reference_, absolute(test), kBatch, 1).values,
                   count) <= 0.0F);
    }
    CHECK(same_bits(run_case(*one_, test, kBatch).values, whole.values));
    for (int n = 1; n < kBatch; ++n) {
      CAPTURE(n);
      CHECK(same_bits(run_case(*two_, test, n).values, first_images(whole.values, n)));
    }
  }

  std::unique_ptr<Backend> reference_ = reference_backend();
  std::unique_ptr<Backend> one_ = cpu_backend(1);
  std::unique_ptr<Backend> two_ = cpu_backend(2);
};

}  // namespace

namespace {

void check_edge_convs(bool depthwise) {
  XC_RANDOM(random);
  CpuTest cpu;
  for (const ConvProblem& problem : edge_convs(kBatch)) {
    if (problem.depthwise == depthwise && can_be_node(problem)) {
      cpu.check(conv_case(random, Draw::kIntegers, problem, {.bias = true}), true);
      cpu.check(conv_case(random, Draw::kNormals, problem, {.norm = true}), false);
    }
  }
}

void check_epilogues(const std::vector<ConvProblem>& problems) {
  XC_RANDOM(random);
  CpuTest cpu;
  for (const ConvProblem& problem : problems) {
    const unsigned count = problem.depthwise ? 7 : 6;  // a dense convolution takes no ReLU on load
    for (unsigned bits = 0; bits < 1U << count; ++bits) {
      const auto bit = [bits](unsigned i) { return (bits >> i & 1U) != 0; };
      const Epilogues epilogues = {bit(0), bit(1), bit(2), bit(3), bit(4), bit(5), bit(6)};
      if (!(epilogues.bias && epilogues.norm)) {
        cpu.check(conv_case(random, Draw::kIntegers, problem, epilogues), true);
        cpu.check(conv_case(random, Draw::kNormals, problem, epilogues), false);
      }
    }
  }
}

constexpr Window kThree = {3, 1, {1, 1, 1, 1}};

}  // namespace

// Tag [loops]: what runs on our own loops; these are tested for every instruction set.
TEST_CASE("convolutions of edge shapes") { check_edge_convs(/*depthwise=*/false); }
TEST_CASE("depthwise convolutions of edge shapes", "[loops]") { check_edge_convs(true); }

TEST_CASE("a strided 1x1 convolution that pads") {
  XC_RANDOM(random);
  CpuTest cpu;
  const ConvProblem problem = {{kBatch, 5, 6, 13}, 8, {1, 2, {1, 1, 1, 1}}, false};
  cpu.check(conv_case(random, Draw::kIntegers, problem, {.bias = true}), true);
}

TEST_CASE("convolutions with every epilogue") {
  check_epilogues({{{kBatch, 5, 7, 13}, 11, {1, 1, {}}, false},
                   {{kBatch, 5, 7, 16}, 32, {1, 1, {}}, false},
                   {{kBatch, 5, 7, 8}, 24, {1, 2, {}}, false},
                   {{kBatch, 5, 7, 3}, 9, kThree, false},
                   {{kBatch, 5, 7, 16}, 16, kThree, false}});
}

TEST_CASE("depthwise convolutions with every epilogue", "[loops]") {
  check_epilogues({{{kBatch, 5, 7, 13}, 13, kThree, true}, {{kBatch, 5, 7, 92}, 92, kThree, true}});
}

TEST_CASE("max pools, with and without an add", "[loops]") {
  XC_RANDOM(random);
  CpuTest cpu;
  for (const PoolProblem& problem : edge_pools(kBatch)) {
    for (const PadMode mode : {PadMode::kExplicit, PadMode::kSame}) {
      for (const bool add : {false, true}) {
        const MaxPool op = {problem.window.size, problem.window.stride, problem.window.pad.top,
                            mode, add};
        const Shape dst = pool_problem(op, problem.src).dst();
        if (dst.elements() > 0) {
          cpu.check(op_case(random, Draw::kNormals, op, problem.src, add, dst), true);
        }
      }
    }
  }
}

TEST_CASE("a max pool of values that are all negative ignores its padding", "[loops]") {
  XC_RANDOM(random);
  CpuTest cpu;
  StepCase test = op_case(random, Draw::kNormals, MaxPool{}, {kBatch, 5, 6, 13});
  for (float& value : test.values[0]) {
    value = -1.0F - std::abs(value);
  }
  cpu.check(test, true);
  const Values pooled = run_case(*cpu_backend(1), test, kBatch).values;
  CHECK(*std::max_element(pooled.begin(), pooled.end()) <= -1.0F);
}

TEST_CASE("average pools") {
  XC_RANDOM(random);
  CpuTest cpu;
  for (const int c : {1, 3, 8, 13, 728}) {
    for (const auto& [h, w] : std::vector<std::pair<int, int>>{{2, 2}, {3, 2}, {7, 5}, {11, 13}}) {
      const Shape src = {kBatch, h, w, c};
      for (const int size : {1, 2}) {
        // Division by 4 is exact.
        cpu.check(op_case(random, Draw::kIntegers, AvgPool{size, 1}, src), true);
        cpu.check(op_case(random, Draw::kNormals, AvgPool{size, 1}, src), false);
      }
      cpu.check(op_case(random, Draw::kNormals, GlobalAvgPool{}, src), false);
    }
    cpu.check(op_case(random, Draw::kIntegers, GlobalAvgPool{}, {kBatch, 1, 1, c}), true);
    cpu.check(op_case(random, Draw::kIntegers, GlobalAvgPool{}, {kBatch, 4, 8, c}), true);
  }
}

TEST_CASE("batch norms, ReLUs and adds that stand alone") {
  XC_RANDOM(random);
  CpuTest cpu;
  for (const int c : {1, 3, 8, 13, 728}) {
    for (const auto& [h, w] : std::vector<std::pair<int, int>>{{1, 1}, {2, 3}, {7, 5}}) {
      const Shape src = {kBatch, h, w, c};
      for (const Draw draw : {Draw::kIntegers, Draw::kNormals}) {
        const bool integers = draw == Draw::kIntegers;
        const BatchNorm norm = {integers ? integer_norm(random, c) : random_norm(random, c)};
        cpu.check(op_case(random, draw, norm, src), integers);
        cpu.check(op_case(random, draw, Relu{}, src), true);
        cpu.check(op_case(random, draw, Add{}, src, true, src), true);
      }
    }
  }
}

TEST_CASE("an add of a value to itself") {
  XC_RANDOM(random);
  const auto cpu = cpu_backend(2);
  GraphMaker maker({2, 3, 5, 13});
  maker.append("add", Add{}, {0, 0});
  const TestGraph made = maker.finish();
  const Values images = random.normals(made.input.elements());
  const Values sum = run_in_arena(*cpu, made.graph, *made.file, made.input, images);
  for (std::size_t i = 0; i < sum.size(); ++i) {
    CHECK(sum[i] == 2 * images[i]);
  }
}

TEST_CASE("sessions of one model share packed weights, and repeated modules do") {
  XC_RANDOM(random);
  const auto cpu = cpu_backend(1);
  for (const ConvProblem& problem :
       {ConvProblem{{kBatch, 5, 7, 16}, 32, {1, 1, {}}, false},
        ConvProblem{{kBatch, 5, 7, 32}, 32, {3, 1, {1, 1, 1, 1}}, true}}) {
    const StepCase test = conv_case(random, Draw::kNormals, problem, {.norm = true});
    WeightCache cache;
    const auto prepare = [&](const Node& node) {
      const StepRequest request{node, {test.src[0]}, {kBatch, 5, 7, 32}, false};
      auto step = cpu->prepare(request, *test.made.file, cache);
      REQUIRE(step.ok());
      return *std::move(step);
    };
    const auto first = prepare(test.node());
    const auto second = prepare(test.node());
    CHECK(first->parameters() != nullptr);
    CHECK(first->parameters() == second->parameters());
    CHECK(first->parameter_bytes() >= (32 * (problem.depthwise ? 9 : 16) + 32) * sizeof(float));
    Node plain = test.node();
    std::get<Conv2d>(plain.op).affine = nullptr;
    std::get<Conv2d>(plain.op).folded = false;
    CHECK(prepare(plain)->parameters() != first->parameters());
  }
}

}  // namespace xception
