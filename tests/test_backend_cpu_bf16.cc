// The CPU backend in bf16, where the processor has it, against the reference backend that rounds
// alike.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <vector>

#include "graph_fixture.h"
#include "shapes.h"
#include "step_fixture.h"
#include "testing.h"

namespace xception {
namespace {

// One type of source, residual and output after another.
std::vector<StepCase> of_all_types(const StepCase& test) {
  std::vector<StepCase> cases;
  for (const unsigned bits : {0U, 1U, 2U, 3U, 4U, 5U, 6U, 7U}) {
    StepCase& typed = cases.emplace_back(test);
    typed.dst_is_wide = (bits & 1U) != 0;
    typed.wide_src = {(bits & 2U) != 0, (bits & 4U) != 0};
    if (typed.src.size() == 1 && typed.wide_src[1]) {
      cases.pop_back();
    }
  }
  return cases;
}

}  // namespace

TEST_CASE("bf16: whole numbers agree exactly, normal ones within a rounding of the output") {
  XC_RANDOM(random);
  const auto cpu = cpu_backend(2, Precision::kBf16);
  if (cpu == nullptr) {
    return;
  }
  const auto reference = reference_backend(Precision::kBf16);
  constexpr float kBf16Spacing = 0x1p-7F;  // of neighbours, relative
  const auto check = [&](const StepCase& test, bool exact) {
    CAPTURE(test.dst_is_wide, test.wide_src, test.second_is_free);
    INFO(describe(test.node().op) << " of " << to_string(test.src[0]));
    const Values expected = run_case(*reference, test, kBatch, 1).values;
    const Values actual = run_case(*cpu, test, kBatch).values;
    if (exact) {
      CHECK(actual == expected);
    } else {
      CHECK(excess(actual, expected, run_case(*reference, absolute(test), kBatch, 1).values,
                   roundings(test), test.dst_is_wide ? 0.0F : kBf16Spacing) <= 0.0F);
    }
    // A 1x1 convolution of a single pixel with an addition, which no network has, goes another way
    // in oneDNN.
    const bool single = test.src.size() == 2 && test.src[1].h * test.src[1].w == 1;
    for (int n = single ? kBatch : 1; n < kBatch; ++n) {
      CAPTURE(n);
      CHECK(same_bits(run_case(*cpu, test, n).values, first_images(actual, n)));
    }
  };
  const auto check_all = [&](const StepCase& test, bool exact) {
    for (const StepCase& typed : of_all_types(test)) {
      check(typed, exact);
    }
  };
  const auto check_one = [&](const StepCase& test, bool exact) {
    const std::vector<StepCase> cases = of_all_types(test);
    check(cases[static_cast<std::size_t>(random.integer(0, static_cast<int>(cases.size()) - 1))],
          exact);
  };
  for (const ConvProblem& problem : edge_convs(kBatch)) {
    if (can_be_node(problem)) {
      check_one(conv_case(random, Draw::kIntegers, problem, {.bias = true, .relu = true}), true);
      StepCase sum = conv_case(random, Draw::kNormals, problem, {.norm = true, .add = true});
      sum.second_is_free = random.integer(0, 1) == 1;
      check_one(sum, false);
      if (problem.depthwise) {
        const Epilogues epilogues = {.norm = true, .relu = true, .relu_on_load = true};
        check_one(conv_case(random, Draw::kIntegers, problem, epilogues), true);
        check_one(conv_case(random, Draw::kNormals, problem, epilogues), false);
      }
    }
  }
  const Shape src = {kBatch, 7, 5, 13};
  MaxPool sum;
  sum.add = true;
  for (const int channels : {13, 40}) {
    const Shape pooled = {kBatch, 7, 5, channels};
    check_all(op_case(random, Draw::kNormals, MaxPool{}, pooled), true);
    check_all(op_case(random, Draw::kNormals, sum, pooled, true, {kBatch, 4, 3, channels}), true);
  }
  const ConvProblem odd_sum = {{kBatch, 5, 6, 13}, 24, {1, 1, {}}, false};
  check_all(conv_case(random, Draw::kNormals, odd_sum, {.norm = true, .add = true}), false);
  check_all(op_case(random, Draw::kNormals, Relu{}, src), true);
  check(op_case(random, Draw::kNormals, Add{}, src, true, src), true);
  check(op_case(random, Draw::kNormals, AvgPool{2, 1}, src), false);
  check(op_case(random, Draw::kNormals, GlobalAvgPool{}, src), false);
  check(op_case(random, Draw::kNormals, BatchNorm{random_norm(random, 13)}, src), false);
}

TEST_CASE("bf16: what is rounded stays a NaN where it is one") {
  XC_RANDOM(random);
  const auto cpu = cpu_backend(2, Precision::kBf16);
  if (cpu == nullptr) {
    return;
  }
  GraphMaker maker({1, 6, 7, 3});
  Conv2d stem;  // of few channels: float32
  stem.out_channels = 40;
  stem.size = 3;
  stem.pad = 1;
  Conv2d depthwise = stem;
  depthwise.depthwise = true;
  const ValueId made = maker.conv("stem", stem, random.normals(40 * 3 * 9), {0});
  const ValueId rounded = maker.conv("depthwise", depthwise, random.normals(40 * 9), {made});
  maker.append("result", Add{}, {rounded, rounded});
  const TestGraph test = maker.finish();
  Values images = random.normals(test.input.elements());
  // All bits set, as a GPU has it: rounding by adding would carry into the sign.
  images[static_cast<std::size_t>(random.integer(0, static_cast<int>(images.size()) - 1))] =
      std::bit_cast<float>(random.integer(0, 1) == 0 ? 0x7FFFFFFFU : 0xFFFFFFFFU);
  const Values actual = run_in_arena(*cpu, test.graph, *test.file, test.input, images);
  const Values expected = run_in_arena(*reference_backend(Precision::kBf16), test.graph, *test.file,
                                       test.input, images);
  for (std::size_t i = 0; i < actual.size(); ++i) {
    CHECK(std::isnan(actual[i]) == std::isnan(expected[i]));
  }
  CHECK(std::any_of(actual.begin(), actual.end(), [](float x) { return std::isnan(x); }));
}

TEST_CASE("bf16: the result is float32, with no rounding of its own") {
  XC_RANDOM(random);
  const auto cpu = cpu_backend(2, Precision::kBf16);
  if (cpu == nullptr) {
    return;
  }
  const auto reference = reference_backend(Precision::kBf16);
  const Shape src = {kBatch, 7, 5, 13};
  const ConvProblem head = {{kBatch, 1, 1, 728}, 13, {}};
  for (StepCase test : {op_case(random, Draw::kNormals, AvgPool{2, 1}, src),
                        op_case(random, Draw::kNormals, GlobalAvgPool{}, src),
                        conv_case(random, Draw::kNormals, head, {.bias = true})}) {
    test.dst_is_wide = true;
    const Values expected = run_case(*reference, test, kBatch, 1).values;
    const Values actual = run_case(*cpu, test, kBatch).values;
    CHECK(excess(actual, expected, run_case(*reference, absolute(test), kBatch, 1).values,
                 roundings(test)) <= 0.0F);
  }
}

}  // namespace xception
