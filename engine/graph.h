// The network as a list of nodes in topological order. A node has one output, and the node's index
// is that value's name; so a graph is a vector and nothing else.
//
// A graph comes out of networks.cc exactly as the PyTorch module runs, one node a module, and goes
// through passes.cc, which move nodes into the epilogues of others.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/safetensors.h"
#include "kernels/problem.h"
#include "xception/status.h"

namespace xception {

using ValueId = int;

// y = scale[c] * x + shift[c]; what a batch norm is once its statistics are fixed.
struct Affine {
  std::vector<double> scale;
  std::vector<double> shift;
};

// How much a window pads; `kSame` is TensorFlow's rule and depends on the extent.
enum class PadMode { kExplicit, kSame };

// Convolution, dense or depthwise, and what passes have moved before and behind it, in the order of
// the fields: ReLU of what it reads; affine, ReLU, second affine, add of inputs[1], ReLU. A Linear
// is one too: 1x1 on a 1x1 picture.
struct Conv2d {
  const TensorEntry* weight = nullptr;  // [k][c][s][s], [c][1][s][s] if depthwise, or [k][c]
  int out_channels = 0;
  int size = 1;
  int stride = 1;
  int pad = 0;
  bool depthwise = false;
  bool relu_on_load = false;
  std::shared_ptr<const Affine> affine;  // from the start the bias (scale 1), if there is one
  bool folded = false;                   // affine holds a batch norm too
  bool relu = false;
  std::shared_ptr<const Affine> second_affine;
  bool add = false;
  bool final_relu = false;
};

struct Input {
  int channels = 3;
};
struct BatchNorm {
  std::shared_ptr<const Affine> affine;
};
struct Relu {};
struct Add {};
struct MaxPool {
  int size = 3;
  int stride = 2;
  int pad = 1;
  PadMode pad_mode = PadMode::kExplicit;
  bool add = false;  // of inputs[1], after pooling
};
struct AvgPool {
  int size = 2;
  int stride = 1;
};
struct GlobalAvgPool {};

// A depthwise convolution and the 1x1 one behind it.
struct SeparableConv {
  Conv2d depthwise;
  Conv2d pointwise;  // stride 1, no padding
};
// Separable convolutions and a max pool, each of which alone reads what the one before it makes:
// values that no other node sees, and so ones that need not stand in memory whole. The node's
// second input, if it has one, is what the last of them adds.
struct SeparableChain {
  std::vector<SeparableConv> convs;  // one at least
  std::optional<MaxPool> pool = {};
};

using Op = std::variant<Input, Conv2d, BatchNorm, Relu, Add, MaxPool, AvgPool, GlobalAvgPool,
                        SeparableChain>;

struct Node {
  std::string name;  // PyTorch's module path; "#k" behind it for a module's k-th repetition
  Op op;
  std::vector<ValueId> inputs;
};

struct Graph {
  std::vector<Node> nodes;  // nodes[0] is the Input, the last node makes the result
  // Weights of nodes that stand in no file; those of the others belong to a WeightFile.
  std::vector<std::shared_ptr<const TensorEntry>> constants;

  ValueId append(Node node) {
    nodes.push_back(std::move(node));
    return static_cast<ValueId>(nodes.size()) - 1;
  }
};

// The output shape of every node for input shape `input`. Fails with kInvalidArgument, naming the
// layer, where a window does not fit or channels do not match.
Result<std::vector<Shape>> infer_shapes(const Graph& graph, const Shape& input);

// Extents for the kernels.
ConvProblem conv_problem(const Conv2d& conv, const Shape& src);
ConvProblem pointwise_problem(const SeparableConv& conv, const Shape& src);
PoolProblem pool_problem(const MaxPool& pool, const Shape& src);
PoolProblem pool_problem(const AvgPool& pool, const Shape& src);

// What every convolution of a chain reads, and the pool, where there is one; then what the chain
// makes.
std::vector<Shape> chain_shapes(const SeparableChain& chain, const Shape& src);

// "conv3x3 s2 +relu", "depthwise3x3", "max_pool3x3 s2 +add", "separable: depthwise3x3, conv1x1 +bn,
// max_pool3x3 s2 +add".
std::string describe(const Op& op);

// Multiply-adds of a node; 0 for everything that is no convolution.
std::int64_t multiply_adds(const Op& op, const Shape& src);

// Number of nodes that read each value; the last value counts as read once more, by the caller.
std::vector<int> count_uses(const Graph& graph);

}  // namespace xception
