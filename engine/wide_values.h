// What stays float32 where the CPU's backend and its oracle keep activations in bf16. There a dense
// convolution multiplies in the type of what it reads, a depthwise one in float32 always.
//
// bf16 is for large maps, which memory limits, and for large products. What later layers inherit
// need not be rounded where that costs little: a sum is read by every block behind it, and what the
// first convolutions make by the whole network. In `seed_depthwise`, which ends in a single pixel,
// they, the shortcuts and the depthwise weights would make three quarters of the logits' squared
// error. The network of the paper takes the mean of a map, and with it of the rounding.
#pragma once

#include <vector>

#include "engine/graph.h"

namespace xception {

// Whether each value of a graph is float32: the result; and of those of at most 256 KiB a picture
// that no product needs in bf16: sums, what is added in them, and what a dense convolution above
// 1x1 and of few channels reads or makes. The batch does not matter.
std::vector<bool> wide_values(const Graph& graph, const std::vector<Shape>& shapes);

}  // namespace xception
