// Shapes, names and costs of nodes.
#include "engine/graph.h"

#include <algorithm>

#include "graph_fixture.h"
#include "testing.h"

namespace xception {
namespace {

Conv2d conv_op(int out, int size, int stride = 1, int pad = 0) {
  Conv2d op;
  op.out_channels = out;
  op.size = size;
  op.stride = stride;
  op.pad = pad;
  return op;
}

Conv2d depthwise_op(int channels, int size, int stride = 1, int pad = 0) {
  Conv2d op = conv_op(channels, size, stride, pad);
  op.depthwise = true;
  return op;
}

Values zeros(int count) { return Values(static_cast<std::size_t>(count), 0.0F); }

MaxPool max_pool(PadMode mode) { return {3, 2, 1, mode, false}; }

// input (3 channels) -> conv3x3 s2 (8) -> batch norm -> max pool -> depthwise3x3 -> add -> average
// -> global average.
TestGraph every_operation(PadMode mode) {
  GraphMaker maker({2, 9, 11, 3});
  maker.conv("conv", conv_op(8, 3, 2, 1), zeros(8 * 3 * 9), {0});
  maker.append("bn", BatchNorm{std::make_shared<Affine>(Affine{{1, 1, 1, 1, 1, 1, 1, 1}, {}})},
               {1});
  const ValueId pool = maker.append("pool", max_pool(mode), {2});
  const ValueId depthwise = maker.conv("depthwise", depthwise_op(8, 3, 1, 1), zeros(8 * 9), {pool});
  maker.append("relu", Relu{}, {depthwise});
  maker.append("add", Add{}, {maker.last(), pool});
  maker.append("average", AvgPool{2, 1}, {maker.last()});
  maker.append("global", GlobalAvgPool{}, {maker.last()});
  return maker.finish();
}

void check_error(const TestGraph& made, const Shape& input, const std::string& message) {
  const auto shapes = infer_shapes(made.graph, input);
  REQUIRE_FALSE(shapes.ok());
  CHECK(shapes.status().code() == Code::kInvalidArgument);
  CHECK(shapes.status().message() == message);
}

}  // namespace

TEST_CASE("shapes of every operation") {
  const TestGraph made = every_operation(PadMode::kExplicit);
  const auto shapes = infer_shapes(made.graph, made.input);
  REQUIRE(shapes.ok());
  CHECK(*shapes == std::vector<Shape>{{2, 9, 11, 3},
                                      {2, 5, 6, 8},
                                      {2, 5, 6, 8},
                                      {2, 3, 3, 8},
                                      {2, 3, 3, 8},
                                      {2, 3, 3, 8},
                                      {2, 3, 3, 8},
                                      {2, 2, 2, 8},
                                      {2, 1, 1, 8}});
  // The same graph serves another batch and size.
  const auto others = infer_shapes(made.graph, {1, 16, 15, 3});
  REQUIRE(others.ok());
  CHECK((*others)[1] == Shape{1, 8, 8, 8});
  CHECK(others->back() == Shape{1, 1, 1, 8});
}

TEST_CASE("max pooling pads like PyTorch or like TensorFlow") {
  const Shape src = {1, 74, 37, 5};
  const PoolProblem torch = pool_problem(max_pool(PadMode::kExplicit), src);
  CHECK(torch.window == Window{3, 2, {1, 1, 1, 1}});
  CHECK(torch.dst() == Shape{1, 37, 19, 5});
  // 74 -> 37 needs one element, which stands behind; 37 -> 19 needs two, one on either side.
  const PoolProblem same = pool_problem(max_pool(PadMode::kSame), src);
  CHECK(same.window == Window{3, 2, {0, 1, 1, 1}});
  CHECK(same.dst() == Shape{1, 37, 19, 5});

  for (int extent = 1; extent <= 200; ++extent) {
    const PoolProblem problem = pool_problem(max_pool(PadMode::kSame), {1, extent, extent, 1});
    const Padding& pad = problem.window.pad;
    CAPTURE(extent);
    CHECK(problem.dst().h == (extent + 1) / 2);
    CHECK(pad.top + pad.bottom == same_padding_total(extent, 3, 2));
    CHECK((pad.bottom == pad.top || pad.bottom == pad.top + 1));
    CHECK((pad.left == pad.top && pad.right == pad.bottom));
  }
}

TEST_CASE("convolutions and average pools as the kernels see them") {
  const ConvProblem problem = conv_problem(conv_op(13, 3, 2, 1), {2, 7, 5, 4});
  CHECK(problem.src == Shape{2, 7, 5, 4});
  CHECK(problem.k == 13);
  CHECK(problem.window == Window{3, 2, {1, 1, 1, 1}});
  CHECK_FALSE(problem.depthwise);
  CHECK(problem.dst() == Shape{2, 4, 3, 13});
  CHECK(conv_problem(depthwise_op(4, 3), {2, 7, 5, 4}).depthwise);
  CHECK(pool_problem(AvgPool{2, 1}, {1, 3, 2, 6}).window == Window{2, 1, {}});
  CHECK(pool_problem(AvgPool{2, 1}, {1, 3, 2, 6}).dst() == Shape{1, 2, 1, 6});
}

TEST_CASE("a picture without pixels is refused") {
  const TestGraph made = every_operation(PadMode::kExplicit);
  check_error(made, {0, 9, 11, 3}, "layer 'input' (input): is empty: 0x9x11x3");
}

TEST_CASE("a window that does not fit is refused") {
  GraphMaker maker({1, 9, 9, 3});
  maker.conv("first", conv_op(4, 3, 2), zeros(4 * 3 * 9), {0});
  maker.append("average", AvgPool{2, 1}, {1});
  const TestGraph made = maker.finish();
  check_error(made, {1, 2, 9, 3},
              "layer 'first' (conv3x3 s2): its window does not fit into an input of 1x2x9x3; feed "
              "a larger picture");
  check_error(made, {1, 9, 4, 3},
              "layer 'average' (avg_pool2x2): its window does not fit into an input of 1x4x1x4; "
              "feed a larger picture");
  CHECK(infer_shapes(made.graph, {1, 5, 5, 3}).ok());
}

TEST_CASE("channels that do not match are refused") {
  SECTION("of a convolution") {
    GraphMaker maker({1, 4, 4, 3});
    maker.conv("pointwise", conv_op(2, 1), zeros(6), {0});
    check_error(maker.finish(), {1, 4, 4, 5},
                "layer 'pointwise' (conv1x1): expects 3 channels, its input is 1x4x4x5");
  }
  SECTION("of a depthwise convolution") {
    GraphMaker maker({1, 4, 4, 3});
    maker.conv("depthwise", depthwise_op(3, 3), zeros(27), {0});
    check_error(maker.finish(), {1, 4, 4, 5},
                "layer 'depthwise' (depthwise3x3): expects 3 channels, its input is 1x4x4x5");
  }
  SECTION("of a batch norm") {
    GraphMaker maker({1, 4, 4, 3});
    maker.append("bn", BatchNorm{std::make_shared<Affine>(Affine{{1, 1, 1}, {0, 0, 0}})}, {0});
    check_error(maker.finish(), {1, 4, 4, 5},
                "layer 'bn' (batch_norm): expects 3 channels, its input is 1x4x4x5");
  }
}

TEST_CASE("summands of different shapes are refused") {
  GraphMaker maker({1, 4, 4, 3});
  SECTION("as a node of its own") {
    maker.conv("conv", conv_op(3, 1, 2), zeros(9), {0});
    maker.append("add", Add{}, {1, 0});
    check_error(maker.finish(), {1, 4, 4, 3}, "layer 'add' (add): adds 1x4x4x3 to 1x2x2x3");
  }
  SECTION("behind a convolution") {
    Conv2d op = conv_op(3, 1, 2);
    op.add = true;
    maker.conv("conv", op, zeros(9), {0, 0});
    check_error(maker.finish(), {1, 4, 4, 3},
                "layer 'conv' (conv1x1 s2 +add): adds 1x4x4x3 to 1x2x2x3");
  }
  SECTION("behind a pool") {
    MaxPool pool = max_pool(PadMode::kExplicit);
    pool.add = true;
    maker.append("pool", pool, {0, 0});
    check_error(maker.finish(), {1, 4, 4, 3},
                "layer 'pool' (max_pool3x3 s2 +add): adds 1x4x4x3 to 1x2x2x3");
  }
}

TEST_CASE("operations are described in the order in which they compute") {
  Conv2d op = depthwise_op(2, 3, 2, 1);
  CHECK(describe(op) == "depthwise3x3 s2");
  op.affine = std::make_shared<Affine>(Affine{{1, 1}, {1, 2}});  // a bias is not mentioned
  CHECK(describe(op) == "depthwise3x3 s2");
  op.folded = op.relu = op.add = op.final_relu = true;
  op.second_affine = op.affine;
  CHECK(describe(op) == "depthwise3x3 s2 +bn +relu +bn +add +relu");
  CHECK(describe(conv_op(1, 1)) == "conv1x1");
  CHECK(describe(SeparableChain{{{op, conv_op(1, 1)}}}) ==
        "separable: depthwise3x3 s2 +bn +relu +bn +add +relu, conv1x1");
  CHECK(describe(SeparableChain{
            {{depthwise_op(2, 3, 1, 1), conv_op(1, 1)}, {depthwise_op(1, 3, 1, 1), conv_op(1, 1)}},
            MaxPool{}}) ==
        "separable: depthwise3x3, conv1x1, depthwise3x3, conv1x1, max_pool3x3 s2");
  CHECK(describe(Input{}) == "input");
  CHECK(describe(BatchNorm{}) == "batch_norm");
  CHECK(describe(Relu{}) == "relu");
  CHECK(describe(Add{}) == "add");
  CHECK(describe(max_pool(PadMode::kSame)) == "max_pool3x3 s2");
  CHECK(describe(MaxPool{2, 1, 0, PadMode::kExplicit, true}) == "max_pool2x2 +add");
  CHECK(describe(AvgPool{2, 1}) == "avg_pool2x2");
  CHECK(describe(GlobalAvgPool{}) == "global_avg_pool");
}

TEST_CASE("multiply-adds count padding, batch, every input channel, and all of a chain") {
  CHECK(multiply_adds(conv_op(13, 3, 1, 1), {2, 5, 7, 4}) == 2 * 5 * 7 * 13 * 9 * 4);
  CHECK(multiply_adds(conv_op(13, 3, 2, 1), {1, 5, 7, 4}) == 3 * 4 * 13 * 9 * 4);
  CHECK(multiply_adds(depthwise_op(4, 3, 1, 1), {2, 5, 7, 4}) == 2 * 5 * 7 * 4 * 9);
  CHECK(multiply_adds(conv_op(1000, 1), {1, 1, 1, 2048}) == 2048000);
  // More than 32 bits hold: one pointwise convolution of the paper's network on 300 pictures.
  CHECK(multiply_adds(conv_op(728, 1), {300, 19, 19, 728}) == INT64_C(57397267200));
  const SeparableChain chain = {
      {{depthwise_op(4, 3, 2, 1), conv_op(8, 1)}, {depthwise_op(8, 3, 1, 1), conv_op(5, 1)}},
      max_pool(PadMode::kExplicit)};
  CHECK(chain_shapes(chain, {2, 9, 7, 4}) ==
        std::vector<Shape>{{2, 9, 7, 4}, {2, 5, 4, 8}, {2, 5, 4, 5}, {2, 3, 2, 5}});
  CHECK(multiply_adds(chain, {2, 9, 7, 4}) == 2 * 5 * 4 * (4 * 9 + 4 * 8 + 8 * 9 + 8 * 5));
  CHECK(multiply_adds(BatchNorm{}, {1, 5, 5, 3}) == 0);
  CHECK(multiply_adds(AvgPool{}, {1, 5, 5, 3}) == 0);
}

TEST_CASE("uses count every reader, and the caller as reader of the last value") {
  GraphMaker maker({1, 4, 4, 3});
  maker.append("relu", Relu{}, {0});
  maker.append("twice", Add{}, {1, 1});
  maker.append("unread", Relu{}, {1});
  maker.append("last", Add{}, {2, 0});
  CHECK(count_uses(maker.finish().graph) == std::vector<int>{2, 3, 1, 0, 1});
}

TEST_CASE("append names a value by its place") {
  Graph graph;
  CHECK(graph.append({"input", Input{}, {}}) == 0);
  CHECK(graph.append({"relu", Relu{}, {0}}) == 1);
  CHECK(graph.nodes[1].name == "relu");
}

}  // namespace xception
