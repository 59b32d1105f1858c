#include "step_fixture.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "shapes.h"
#include "testing.h"

namespace xception {
namespace {

StepCase draw_inputs(Random& random, Draw draw, TestGraph made, const Shape& second) {
  StepCase test{std::move(made), {}, {}};
  test.src = {test.made.input};
  if (test.node().inputs.size() == 2) {
    test.src.push_back(second);
  }
  for (const Shape& shape : test.src) {
    test.values.push_back(draw == Draw::kIntegers ? random.integers(shape.elements())
                                                  : random.normals(shape.elements()));
  }
  return test;
}

std::shared_ptr<const Affine> draw_norm(Random& random, Draw draw, int channels) {
  return draw == Draw::kIntegers ? integer_norm(random, channels) : random_norm(random, channels);
}

std::shared_ptr<const Affine> draw_bias(Random& random, Draw draw, int channels) {
  auto bias = std::make_shared<Affine>(*draw_norm(random, draw, channels));
  bias->scale.assign(bias->scale.size(), 1.0);
  return bias;
}

}  // namespace

bool can_be_node(const ConvProblem& problem) {
  const Padding& pad = problem.window.pad;
  return pad == Padding{pad.top, pad.top, pad.top, pad.top} && problem.dst().elements() > 0;
}

StepCase conv_case(Random& random, Draw draw, const ConvProblem& problem,
                   const Epilogues& epilogues) {
  Conv2d op;
  op.out_channels = problem.k;
  op.size = problem.window.size;
  op.stride = problem.window.stride;
  op.pad = problem.window.pad.top;
  op.depthwise = problem.depthwise;
  op.relu_on_load = epilogues.relu_on_load;
  if (epilogues.norm) {
    op.affine = draw_norm(random, draw, problem.k);
    op.folded = true;
  } else if (epilogues.bias) {
    op.affine = draw_bias(random, draw, problem.k);
  }
  op.relu = epilogues.relu;
  if (epilogues.second_norm) {
    op.second_affine = draw_norm(random, draw, problem.k);
  }
  op.add = epilogues.add;
  op.final_relu = epilogues.final_relu;
  const std::int64_t count = weight_elements(problem);
  const Values weights =
      draw == Draw::kIntegers ? random.integers(count, -2, 2) : random.normals(count, 0.3F);
  GraphMaker maker(problem.src);
  maker.conv("layer", op, weights,
             epilogues.add ? std::vector<ValueId>{0, 0} : std::vector<ValueId>{0});
  return draw_inputs(random, draw, maker.finish(), problem.dst());
}

StepCase op_case(Random& random, Draw draw, Op op, const Shape& src, bool adds,
                 const Shape& second) {
  GraphMaker maker(src);
  maker.append("layer", std::move(op), adds ? std::vector<ValueId>{0, 0} : std::vector<ValueId>{0});
  return draw_inputs(random, draw, maker.finish(), second);
}

StepCase absolute(const StepCase& test) {
  StepCase bound{absolute(test.made), test.src,         {},
                 test.second_is_free, test.dst_is_wide, test.wide_src};
  for (const Values& values : test.values) {
    bound.values.push_back(absolute(values));
  }
  return bound;
}

Values first_images(const Values& values, int n) {
  return {values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size()) / kBatch * n};
}

StepResult run_case(Backend& backend, const StepCase& test, int n, int runs) {
  StepRequest request{test.node(), {}, {}, test.dst_is_wide, test.second_is_free, test.wide_src};
  std::vector<Values> src;
  for (std::size_t i = 0; i < test.src.size(); ++i) {
    Shape shape = test.src[i];
    shape.n = n;
    request.src.push_back(shape);
    src.push_back(first_images(test.values[i], n));
  }
  // What is added is no value of this graph; the output's shape does not depend on it.
  Graph alone = test.made.graph;
  alone.nodes[1].inputs.resize(1);
  if (std::holds_alternative<Conv2d>(alone.nodes[1].op)) {
    std::get<Conv2d>(alone.nodes[1].op).add = false;
  }
  const auto shapes = infer_shapes(alone, request.src[0]);
  INFO(shapes.status().message());
  REQUIRE(shapes.ok());
  request.dst = shapes->back();
  WeightCache cache;
  return run_step(backend, request, *test.made.file, cache, src, runs);
}

int roundings(const StepCase& test) {
  const Op& op = test.node().op;
  const Shape& src = test.src[0];
  if (const auto* conv = std::get_if<Conv2d>(&op)) {
    // Shift, second scale and shift, add; the parameters of the first three; and the reference's
    // own output.
    constexpr int kEpilogue = 8;
    return conv->size * conv->size * (conv->depthwise ? 1 : src.c) + kEpilogue;
  }
  if (const auto* pool = std::get_if<AvgPool>(&op)) {
    return pool->size * pool->size + 2;  // the division, by way of a rounded reciprocal
  }
  if (std::holds_alternative<GlobalAvgPool>(op)) {
    return src.h * src.w + 2;
  }
  // Scale and shift, and what is done with them.
  return std::holds_alternative<BatchNorm>(op) ? 4 : 0;
}

float excess(const Values& a, const Values& b, const Values& magnitudes, int count,
             float relative) {
  REQUIRE(a.size() == b.size());
  REQUIRE(a.size() == magnitudes.size());
  float worst = 0.0F;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const float bound = static_cast<float>(count) * kRounding * magnitudes[i];
    worst = std::max(worst, std::abs(a[i] - b[i]) - bound - relative * std::abs(b[i]));
  }
  return worst;
}

}  // namespace xception
