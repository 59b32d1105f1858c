#include "engine/passes.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace xception {
namespace {

// The producer's operation with the consumer's done too, or nothing where that cannot be.
using Rule = std::function<std::optional<Op>(const Node& producer, const Node& consumer)>;

// Drops the nodes that have been absorbed and renumbers the rest.
Graph compact(const std::vector<Node>& nodes, const std::vector<bool>& absorbed) {
  Graph graph;
  std::vector<ValueId> renamed(nodes.size(), -1);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (absorbed[i]) {
      continue;
    }
    Node node = nodes[i];
    for (ValueId& id : node.inputs) {
      id = renamed[static_cast<std::size_t>(id)];
    }
    renamed[i] = graph.append(std::move(node));
  }
  return graph;
}

// Applies `rule` wherever it fits, first node to last. The merged node stands where the consumer
// stood, so that its other input has been computed by then.
Graph absorb(const Graph& graph, const Rule& rule) {
  std::vector<Node> nodes = graph.nodes;
  const std::vector<int> uses = count_uses(graph);
  std::vector<bool> absorbed(nodes.size(), false);
  for (Node& consumer : nodes) {
    // An Add names its main branch first: that is where the sum is to be computed. Elsewhere a
    // second input is what is added at the end, and none of the rules is about that.
    const std::size_t candidates = std::holds_alternative<Add>(consumer.op)
                                       ? consumer.inputs.size()
                                       : std::min<std::size_t>(consumer.inputs.size(), 1);
    for (std::size_t i = 0; i < candidates; ++i) {
      const auto id = static_cast<std::size_t>(consumer.inputs[i]);
      if (uses[id] != 1) {
        continue;
      }
      if (std::optional<Op> merged = rule(nodes[id], consumer)) {
        std::vector<ValueId> inputs = nodes[id].inputs;
        for (std::size_t other = 0; other < consumer.inputs.size(); ++other) {
          if (other != i) {
            inputs.push_back(consumer.inputs[other]);
          }
        }
        consumer.op = *std::move(merged);
        consumer.inputs = std::move(inputs);
        absorbed[id] = true;
        break;
      }
    }
  }
  Graph merged = compact(nodes, absorbed);
  merged.constants = graph.constants;
  return merged;
}

// A rule that goes by the operations alone.
template <std::optional<Op> (*kRule)(const Op& producer, const Op& consumer)>
Graph absorb(const Graph& graph) {
  return absorb(graph, [](const Node& producer, const Node& consumer) {
    return kRule(producer.op, consumer.op);
  });
}

// second(first(x))
std::shared_ptr<const Affine> compose(const Affine* first, const Affine& second) {
  if (first == nullptr) {
    return std::make_shared<Affine>(second);
  }
  auto both = std::make_shared<Affine>(second);
  for (std::size_t c = 0; c < second.scale.size(); ++c) {
    both->scale[c] = second.scale[c] * first->scale[c];
    both->shift[c] = second.scale[c] * first->shift[c] + second.shift[c];
  }
  return both;
}

std::optional<Op> fold_batch_norm_rule(const Op& producer, const Op& consumer) {
  const auto* conv = std::get_if<Conv2d>(&producer);
  const auto* norm = std::get_if<BatchNorm>(&consumer);
  if (conv == nullptr || norm == nullptr || conv->relu || conv->add) {
    return std::nullopt;
  }
  Conv2d merged = *conv;
  merged.affine = compose(conv->affine.get(), *norm->affine);
  merged.folded = true;
  return merged;
}

std::optional<Op> relu_rule(const Op& producer, const Op& consumer) {
  if (!std::holds_alternative<Relu>(consumer)) {
    return std::nullopt;
  }
  if (std::holds_alternative<Relu>(producer)) {
    return producer;
  }
  const auto* conv = std::get_if<Conv2d>(&producer);
  if (conv == nullptr || conv->second_affine || conv->add) {
    return std::nullopt;
  }
  Conv2d merged = *conv;
  merged.relu = true;
  return merged;
}

std::optional<Op> relu_on_load_rule(const Op& producer, const Op& consumer) {
  const auto* conv = std::get_if<Conv2d>(&consumer);
  if (conv == nullptr || !conv->depthwise || !std::holds_alternative<Relu>(producer)) {
    return std::nullopt;
  }
  Conv2d merged = *conv;
  merged.relu_on_load = true;
  return merged;
}

std::optional<Op> second_batch_norm_rule(const Op& producer, const Op& consumer) {
  const auto* conv = std::get_if<Conv2d>(&producer);
  const auto* norm = std::get_if<BatchNorm>(&consumer);
  if (conv == nullptr || norm == nullptr || !conv->relu || conv->second_affine || conv->add) {
    return std::nullopt;
  }
  Conv2d merged = *conv;
  merged.second_affine = norm->affine;
  return merged;
}

std::optional<Op> add_rule(const Op& producer, const Op& consumer) {
  if (!std::holds_alternative<Add>(consumer)) {
    return std::nullopt;
  }
  if (const auto* conv = std::get_if<Conv2d>(&producer);
      conv != nullptr && !conv->add && !conv->final_relu) {
    Conv2d merged = *conv;
    merged.add = true;
    return merged;
  }
  if (const auto* pool = std::get_if<MaxPool>(&producer); pool != nullptr && !pool->add) {
    MaxPool merged = *pool;
    merged.add = true;
    return merged;
  }
  return std::nullopt;
}

std::optional<Op> final_relu_rule(const Op& producer, const Op& consumer) {
  const auto* conv = std::get_if<Conv2d>(&producer);
  if (conv == nullptr || !std::holds_alternative<Relu>(consumer) ||
      (!conv->second_affine && !conv->add)) {
    return std::nullopt;
  }
  Conv2d merged = *conv;
  merged.final_relu = true;
  return merged;
}

// The two as one operation, where they are a depthwise convolution and a 1x1 one of stride 1.
std::optional<SeparableChain> separable(const Op& producer, const Op& consumer) {
  const auto* depthwise = std::get_if<Conv2d>(&producer);
  const auto* pointwise = std::get_if<Conv2d>(&consumer);
  if (depthwise == nullptr || pointwise == nullptr || !depthwise->depthwise || depthwise->add ||
      pointwise->depthwise || pointwise->size != 1 || pointwise->stride != 1 ||
      pointwise->pad != 0) {
    return std::nullopt;
  }
  return SeparableChain{{{*depthwise, *pointwise}}};
}

// The two as one, where the first is a chain that adds nothing and the other one too, or a max
// pool.
std::optional<SeparableChain> longer(const Op& producer, const Op& consumer) {
  const auto* chain = std::get_if<SeparableChain>(&producer);
  if (chain == nullptr || chain->pool || chain->convs.back().pointwise.add) {
    return std::nullopt;
  }
  SeparableChain merged = *chain;
  if (const auto* behind = std::get_if<SeparableChain>(&consumer)) {
    merged.convs.insert(merged.convs.end(), behind->convs.begin(), behind->convs.end());
    merged.pool = behind->pool;
  } else if (const auto* pool = std::get_if<MaxPool>(&consumer)) {
    merged.pool = *pool;
  } else {
    return std::nullopt;
  }
  return merged;
}

}  // namespace

Graph fold_batch_norm(const Graph& graph) { return absorb<fold_batch_norm_rule>(graph); }
Graph fuse_relu(const Graph& graph) { return absorb<relu_rule>(graph); }
Graph fuse_second_batch_norm(const Graph& graph) { return absorb<second_batch_norm_rule>(graph); }
Graph fuse_add(const Graph& graph) { return absorb<add_rule>(graph); }
Graph fuse_final_relu(const Graph& graph) { return absorb<final_relu_rule>(graph); }
Graph fuse_relu_on_load(const Graph& graph) { return absorb<relu_on_load_rule>(graph); }

Graph fuse(const Graph& graph) {
  return fuse_relu_on_load(
      fuse_final_relu(fuse_add(fuse_second_batch_norm(fuse_relu(fold_batch_norm(graph))))));
}

Result<Graph> fuse_chains(const Graph& graph, const Shape& input, const WantsChain& wanted) {
  Graph fused = graph;
  for (const auto& joined : {separable, longer}) {
    const Result<std::vector<Shape>> shapes = infer_shapes(fused, input);
    XC_RETURN_IF_ERROR(shapes.status());
    fused = absorb(fused, [&](const Node& producer, const Node& consumer) -> std::optional<Op> {
      std::optional<SeparableChain> chain = joined(producer.op, consumer.op);
      const bool fits =
          chain && wanted(*chain, (*shapes)[static_cast<std::size_t>(producer.inputs[0])]);
      return fits ? std::optional<Op>(*std::move(chain)) : std::nullopt;
    });
  }
  return fused;
}

}  // namespace xception
