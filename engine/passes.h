// Passes: pure functions from a graph to one that computes the same with fewer steps.
//
// Each makes one node of a producer and the only node that reads it. It takes the consumer's name
// and place, since it computes the consumer's output.
#pragma once

#include <functional>
#include <vector>

#include "engine/graph.h"

namespace xception {

// conv -> batch norm: the norm is folded into the convolution's affine, in double.
Graph fold_batch_norm(const Graph& graph);

// conv -> ReLU, ahead of any second affine; and ReLU -> ReLU, of which one is enough.
Graph fuse_relu(const Graph& graph);

// conv + ReLU -> batch norm: it cannot be folded through the ReLU, so it becomes the second affine.
Graph fuse_second_batch_norm(const Graph& graph);

// conv -> add and max pool -> add: the other summand becomes the node's second input.
Graph fuse_add(const Graph& graph);

// conv with a second affine or an add -> ReLU.
Graph fuse_final_relu(const Graph& graph);

// ReLU -> depthwise conv, which clamps what it reads: such a ReLU stands where others read the
// value without it, so that no producer could take it.
Graph fuse_relu_on_load(const Graph& graph);

// All of the above, in that order.
Graph fuse(const Graph& graph);

// Chains, where a backend wants them in one step: `wanted` gets the chain and the shape that it
// reads. First depthwise conv -> 1x1 conv of stride 1; then chain -> chain, and chain -> max pool.
using WantsChain = std::function<bool(const SeparableChain& chain, const Shape& src)>;
Result<Graph> fuse_chains(const Graph& graph, const Shape& input, const WantsChain& wanted);

}  // namespace xception
