// The layers of the named networks at full size on the CPU backend, and what oneDNN chose for them.
#include <algorithm>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "engine/passes.h"
#include "kernels/reference.h"
#include "shapes.h"
#include "step_fixture.h"
#include "testing.h"
#include "zero_model.h"

namespace xception {
namespace {

// An output row of one picture.
struct Row {
  int n = 0;
  int p = 0;
};

// The input rows that `row` is made of, as the problem of a picture of their own: what the window
// has above and below it becomes padding.
struct Band {
  Shape src;  // n is 1
  Window window;
  std::int64_t first = 0;  // element of the whole input
};

Band band_of(const Shape& src, const Window& window, const Row& row) {
  const int top = row.p * window.stride - window.pad.top;
  const int begin = std::max(top, 0);
  const int end = std::min(top + window.size, src.h);
  Band band;
  band.src = {1, end - begin, src.w, src.c};
  band.window = window;
  band.window.pad.top = begin - top;
  band.window.pad.bottom = top + window.size - end;
  band.first = (static_cast<std::int64_t>(row.n) * src.h + begin) * src.w * src.c;
  return band;
}

// The reference's result for one output row of a convolution: its loops are too slow for all rows.
Values conv_row(const StepCase& test, const Row& row) {
  const auto& op = std::get<Conv2d>(test.node().op);
  const ConvProblem whole = conv_problem(op, test.src[0]);
  const Band band = band_of(whole.src, whole.window, row);
  const auto weights = read_scaled_weights(op, *test.made.file);
  REQUIRE(weights.ok());
  const Values shift(op.affine->shift.begin(), op.affine->shift.end());
  Epilogue epilogue;
  epilogue.shift = shift.data();
  epilogue.relu = op.relu;
  const ConvProblem problem = {band.src, whole.k, band.window, whole.depthwise};
  REQUIRE(problem.dst().h == 1);
  Values result(static_cast<std::size_t>(problem.dst().elements()));
  reference::conv(problem, test.values[0].data() + band.first, weights->data(), epilogue,
                  result.data());
  return result;
}

Values max_pool_row(const StepCase& test, const Row& row) {
  const PoolProblem whole = pool_problem(std::get<MaxPool>(test.node().op), test.src[0]);
  const Band band = band_of(whole.src, whole.window, row);
  const PoolProblem problem = {band.src, band.window};
  const Shape dst = whole.dst();
  REQUIRE(problem.dst() == Shape{1, 1, dst.w, dst.c});
  Values result(static_cast<std::size_t>(problem.dst().elements()));
  const std::int64_t residual = (static_cast<std::int64_t>(row.n) * dst.h + row.p) * dst.w * dst.c;
  reference::max_pool(problem, test.values[0].data() + band.first, test.values[1].data() + residual,
                      result.data());
  return result;
}

Values row_of(const Values& values, const Shape& shape, const Row& row) {
  const std::int64_t length = static_cast<std::int64_t>(shape.w) * shape.c;
  const auto first = values.begin() + (static_cast<std::int64_t>(row.n) * shape.h + row.p) * length;
  return {first, first + length};
}

class LayerTest {
 public:
  explicit LayerTest(Random& random) : random_(random) {}

  void check(const std::string& name, const StepCase& test, const Shape& dst, bool exact,
             Values (*reference_row)(const StepCase&, const Row&)) {
    const StepResult whole = run_case(*two_, test, kBatch);
    INFO("layer '" << name << "' by " << whole.implementation);
    CHECK(whole.implementation.rfind("ref", 0) == std::string::npos);
    const int count = exact ? 0 : roundings(test);
    const StepCase bound = count == 0 ? StepCase{} : absolute(test);
    for (const Row& row : rows(dst.h)) {
      INFO("picture " << row.n << ", row " << row.p);
      const Values actual = row_of(whole.values, dst, row);
      const Values expected = reference_row(test, row);
      if (count == 0) {
        CHECK((actual == expected));
      } else {
        CHECK(excess(actual, expected, reference_row(bound, row), count) <= 0.0F);
      }
    }
    CHECK(same_bits(run_case(*one_, test, kBatch).values, whole.values));
    for (int n = 1; n < kBatch; ++n) {
      CAPTURE(n);
      CHECK(same_bits(run_case(*two_, test, n).values, first_images(whole.values, n)));
    }
  }

 private:
  // The first row, the last, and two between, so that every picture has its turn.
  std::vector<Row> rows(int height) {
    return {{0, 0},
            {1, random_.integer(0, height - 1)},
            {random_.integer(0, kBatch - 1), random_.integer(0, height - 1)},
            {kBatch - 1, height - 1}};
  }

  Random& random_;
  std::unique_ptr<Backend> one_ = cpu_backend(1);
  std::unique_ptr<Backend> two_ = cpu_backend(2);
};

NamedShapes shapes_of(const std::string& network) {
  return network == "xception" ? xception_shapes(kBatch)
                               : seed_shapes(kBatch, network == "seed_depthwise");
}

void check_layers(const std::string& network) {
  XC_RANDOM(random);
  LayerTest layers(random);
  const NamedShapes shapes = shapes_of(network);
  for (const NamedConv& conv : shapes.convs) {
    const Shape dst = conv.problem.dst();
    const Epilogues epilogues = {.norm = true, .relu = true};
    layers.check(conv.name, conv_case(random, Draw::kIntegers, conv.problem, epilogues), dst, true,
                 conv_row);
    layers.check(conv.name, conv_case(random, Draw::kNormals, conv.problem, epilogues), dst, false,
                 conv_row);
  }
  for (const NamedPool& pool : shapes.pools) {
    if (!pool.average) {
      const Shape dst = pool.problem.dst();
      const MaxPool op = {3, 2, 1, PadMode::kExplicit, true};
      layers.check(pool.name, op_case(random, Draw::kNormals, op, pool.problem.src, true, dst), dst,
                   true, max_pool_row);
    }
  }
}

bool has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") != 0;
#else
  return false;
#endif
}

// oneDNN's reference code is a hundred times slower than its kernels.
void check_implementations(const std::string& network, int side) {
  if (!has_avx2()) {
    WARN("not tested on this machine: oneDNN has kernels for AVX2 and later");
    return;
  }
  const ZeroModel model(network);
  const auto cpu = cpu_backend(2);
  for (const bool fused : {true, false}) {
    const Graph graph = fused ? fuse(model.graph()) : model.graph();
    const auto shapes = infer_shapes(graph, {1, side, side, 3});
    REQUIRE(shapes.ok());
    std::set<std::tuple<std::string, std::vector<int>>> seen;
    for (std::size_t i = 1; i < graph.nodes.size(); ++i) {
      const Node& node = graph.nodes[i];
      StepRequest request{node, {}, (*shapes)[i], i + 1 == graph.nodes.size()};
      for (const ValueId id : node.inputs) {
        request.src.push_back((*shapes)[static_cast<std::size_t>(id)]);
      }
      const Shape& src = request.src[0];
      const Shape& dst = request.dst;
      if (!seen.insert({describe(node.op), {src.h, src.w, src.c, dst.h, dst.w, dst.c}}).second) {
        continue;
      }
      WeightCache cache;
      const auto step = cpu->prepare(request, model.file(), cache);
      REQUIRE(step.ok());
      INFO("layer '" << node.name << "', " << describe(node.op) << ", " << to_string(src) << " -> "
                     << to_string(dst) << " by " << (*step)->implementation());
      CHECK((*step)->implementation().rfind("ref", 0) == std::string::npos);
    }
    CHECK(seen.size() > 20);
  }
}

}  // namespace

TEST_CASE("layers of seed") { check_layers("seed"); }
TEST_CASE("layers of seed_depthwise") { check_layers("seed_depthwise"); }
TEST_CASE("layers of xception") { check_layers("xception"); }

TEST_CASE("no step of seed is oneDNN's reference code") { check_implementations("seed", 32); }
TEST_CASE("no step of seed_depthwise is oneDNN's reference code") {
  check_implementations("seed_depthwise", 32);
}
TEST_CASE("no step of xception is oneDNN's reference code") {
  check_implementations("xception", 299);
}

}  // namespace xception
