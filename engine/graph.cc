#include "engine/graph.h"

namespace xception {
namespace {

std::string window_name(const char* kind, int size, int stride) {
  std::string name = kind + std::to_string(size) + 'x' + std::to_string(size);
  return stride == 1 ? name : name + " s" + std::to_string(stride);
}

Window explicit_window(int size, int stride, int pad) {
  return {size, stride, {pad, pad, pad, pad}};
}

struct ShapeOf {
  const std::vector<Shape>& src;  // shapes of the node's inputs
  const Shape& input;

  Shape operator()(const Input&) const { return input; }
  Shape operator()(const Conv2d& conv) const { return conv_problem(conv, src[0]).dst(); }
  Shape operator()(const BatchNorm&) const { return src[0]; }
  Shape operator()(const Relu&) const { return src[0]; }
  Shape operator()(const Add&) const { return src[0]; }
  Shape operator()(const MaxPool& pool) const { return pool_problem(pool, src[0]).dst(); }
  Shape operator()(const AvgPool& pool) const { return pool_problem(pool, src[0]).dst(); }
  Shape operator()(const GlobalAvgPool&) const { return {src[0].n, 1, 1, src[0].c}; }
  Shape operator()(const SeparableChain& chain) const { return chain_shapes(chain, src[0]).back(); }
};

// Channels that a node expects of its first input, or -1 where any number will do.
int expected_channels(const Op& op) {
  if (const auto* chain = std::get_if<SeparableChain>(&op)) {
    return chain->convs.front().depthwise.out_channels;
  }
  if (const auto* conv = std::get_if<Conv2d>(&op)) {
    const std::vector<std::int64_t>& shape = conv->weight->shape;
    // The file may leave out 1s at the end of a shape.
    const int in_channels = shape.size() > 1 ? static_cast<int>(shape[1]) : 1;
    return conv->depthwise ? conv->out_channels : in_channels;
  }
  if (const auto* norm = std::get_if<BatchNorm>(&op)) {
    return static_cast<int>(norm->affine->scale.size());
  }
  return -1;
}

Status check_node(const Node& node, const std::vector<Shape>& src, const Shape& dst) {
  const auto fail = [&](const std::string& why) {
    return Status(Code::kInvalidArgument,
                  "layer '" + node.name + "' (" + describe(node.op) + "): " + why);
  };
  if (std::holds_alternative<Input>(node.op)) {
    return dst.elements() > 0 ? Status() : fail("is empty: " + to_string(dst));
  }
  if (dst.elements() <= 0) {
    return fail("its window does not fit into an input of " + to_string(src[0]) +
                "; feed a larger picture");
  }
  if (const int channels = expected_channels(node.op); channels >= 0 && channels != src[0].c) {
    return fail("expects " + std::to_string(channels) + " channels, its input is " +
                to_string(src[0]));
  }
  // A node with two inputs adds the second to what it makes of the first.
  if (src.size() == 2 && src[1] != dst) {
    return fail("adds " + to_string(src[1]) + " to " + to_string(dst));
  }
  return {};
}

}  // namespace

ConvProblem conv_problem(const Conv2d& conv, const Shape& src) {
  return {src, conv.out_channels, explicit_window(conv.size, conv.stride, conv.pad), conv.depthwise,
          conv.relu_on_load};
}

ConvProblem pointwise_problem(const SeparableConv& conv, const Shape& src) {
  return conv_problem(conv.pointwise, conv_problem(conv.depthwise, src).dst());
}

PoolProblem pool_problem(const MaxPool& pool, const Shape& src) {
  if (pool.pad_mode == PadMode::kExplicit) {
    return {src, explicit_window(pool.size, pool.stride, pool.pad)};
  }
  const int rows = same_padding_total(src.h, pool.size, pool.stride);
  const int columns = same_padding_total(src.w, pool.size, pool.stride);
  return {
      src,
      {pool.size, pool.stride, {rows / 2, columns / 2, rows - rows / 2, columns - columns / 2}}};
}

PoolProblem pool_problem(const AvgPool& pool, const Shape& src) {
  return {src, explicit_window(pool.size, pool.stride, 0)};
}

std::vector<Shape> chain_shapes(const SeparableChain& chain, const Shape& src) {
  std::vector<Shape> shapes = {src};
  for (const SeparableConv& conv : chain.convs) {
    shapes.push_back(pointwise_problem(conv, shapes.back()).dst());
  }
  if (chain.pool) {
    shapes.push_back(pool_problem(*chain.pool, shapes.back()).dst());
  }
  return shapes;
}

Result<std::vector<Shape>> infer_shapes(const Graph& graph, const Shape& input) {
  std::vector<Shape> shapes;
  shapes.reserve(graph.nodes.size());
  for (const Node& node : graph.nodes) {
    std::vector<Shape> src;
    for (const ValueId id : node.inputs) {
      src.push_back(shapes[static_cast<std::size_t>(id)]);
    }
    const Shape dst = std::visit(ShapeOf{src, input}, node.op);
    XC_RETURN_IF_ERROR(check_node(node, src, dst));
    shapes.push_back(dst);
  }
  return shapes;
}

std::string describe(const Op& op) {
  struct Describe {
    std::string operator()(const Input&) const { return "input"; }
    std::string operator()(const Conv2d& conv) const {
      const char* kind = conv.depthwise ? "depthwise" : "conv";
      std::string text = conv.relu_on_load ? "relu+ " : "";
      text += window_name(kind, conv.size, conv.stride);
      text += conv.folded ? " +bn" : "";
      text += conv.relu ? " +relu" : "";
      text += conv.second_affine ? " +bn" : "";
      text += conv.add ? " +add" : "";
      text += conv.final_relu ? " +relu" : "";
      return text;
    }
    std::string operator()(const BatchNorm&) const { return "batch_norm"; }
    std::string operator()(const Relu&) const { return "relu"; }
    std::string operator()(const Add&) const { return "add"; }
    std::string operator()(const MaxPool& pool) const {
      return window_name("max_pool", pool.size, pool.stride) + (pool.add ? " +add" : "");
    }
    std::string operator()(const AvgPool& pool) const {
      return window_name("avg_pool", pool.size, pool.stride);
    }
    std::string operator()(const GlobalAvgPool&) const { return "global_avg_pool"; }
    std::string operator()(const SeparableChain& chain) const {
      std::string text = "separable";
      const char* before = ": ";
      for (const SeparableConv& conv : chain.convs) {
        text += before + (*this)(conv.depthwise) + ", " + (*this)(conv.pointwise);
        before = ", ";
      }
      return text + (chain.pool ? before + (*this)(*chain.pool) : "");
    }
  };
  return std::visit(Describe{}, op);
}

std::int64_t multiply_adds(const Op& op, const Shape& src) {
  const auto of = [](const ConvProblem& problem) {
    const std::int64_t taps = std::int64_t{problem.window.size} * problem.window.size;
    return problem.dst().elements() * taps * (problem.depthwise ? 1 : problem.src.c);
  };
  if (const auto* chain = std::get_if<SeparableChain>(&op)) {
    const std::vector<Shape> shapes = chain_shapes(*chain, src);
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < chain->convs.size(); ++i) {
      const SeparableConv& conv = chain->convs[i];
      sum += of(conv_problem(conv.depthwise, shapes[i])) + of(pointwise_problem(conv, shapes[i]));
    }
    return sum;
  }
  const auto* conv = std::get_if<Conv2d>(&op);
  return conv == nullptr ? 0 : of(conv_problem(*conv, src));
}

std::vector<int> count_uses(const Graph& graph) {
  std::vector<int> uses(graph.nodes.size(), 0);
  for (const Node& node : graph.nodes) {
    for (const ValueId id : node.inputs) {
      ++uses[static_cast<std::size_t>(id)];
    }
  }
  ++uses.back();
  return uses;
}

}  // namespace xception
