#include "engine/wide_values.h"

#include <cstddef>
#include <cstdint>
#include <variant>

namespace xception {
namespace {

enum class Wants { kEither, kFloat32, kBf16 };

// Operations that read and make both types. The others stand where a graph is not fused, or are
// averages.
bool knows_both(const Op& op) {
  return std::holds_alternative<Input>(op) || std::holds_alternative<Conv2d>(op) ||
         std::holds_alternative<SeparableChain>(op) || std::holds_alternative<Relu>(op) ||
         std::holds_alternative<MaxPool>(op);
}

// A strided 1x1 convolution is what a sum passes on the way to the next one.
bool is_shortcut(const Conv2d& conv) { return conv.size == 1 && conv.stride > 1; }

// What a node wants its k-th input to be. The second is what it adds.
Wants wanted_input(const Op& op, std::size_t k, const Shape& src) {
  constexpr int kFewChannels = 64;  // those of the stems have 3 and 32 at width 1
  if (!knows_both(op)) {
    return Wants::kBf16;
  }
  if (k == 1) {
    return Wants::kFloat32;
  }
  const auto* conv = std::get_if<Conv2d>(&op);
  if (conv == nullptr || conv->depthwise || is_shortcut(*conv)) {
    return Wants::kEither;
  }
  return conv->size > 1 && src.c < kFewChannels ? Wants::kFloat32 : Wants::kBf16;
}

bool is_small(const Shape& shape) {
  constexpr std::int64_t kBytes = std::int64_t{256} << 10U;
  return std::int64_t{shape.h} * shape.w * shape.c * std::int64_t{sizeof(float)} <= kBytes;
}

}  // namespace

std::vector<bool> wide_values(const Graph& graph, const std::vector<Shape>& shapes) {
  const std::size_t count = graph.nodes.size();
  std::vector<bool> wanted(count);
  std::vector<bool> possible(count);
  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = graph.nodes[i];
    possible[i] = is_small(shapes[i]) && knows_both(node.op);
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      const auto src = static_cast<std::size_t>(node.inputs[k]);
      const Wants wants = wanted_input(node.op, k, shapes[src]);
      possible[src] = possible[src] && wants != Wants::kBf16;
      wanted[src] = wanted[src] || wants == Wants::kFloat32;
      wanted[i] = wanted[i] || wants == Wants::kFloat32;
    }
  }
  std::vector<bool> wide(count);
  for (std::size_t i = 0; i < count; ++i) {
    wide[i] = wanted[i] && possible[i];
  }
  wide.back() = true;
  return wide;
}

}  // namespace xception
