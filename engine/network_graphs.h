// The networks layer by layer, under the names of PyTorch's modules.
//
// Source of each: `xception` is F. Chollet, "Xception: Deep Learning with Depthwise Separable
// Convolutions", CVPR 2017, with parameter names as in timm's legacy_xception; `seed` and
// `seed_depthwise` are the CIFAR-sized variants of weights/reference.py.
#pragma once

#include "engine/builder.h"
#include "engine/networks.h"

namespace xception {

// Channel counts of the seed networks at a width: multiples of 8, at least 8.
int scaled_channels(int channels, double width);

// From the builder's input to the features that the head reads. What is missing or of another shape
// the builder notes.
ValueId append_seed(GraphBuilder& builder, const NetworkConfig& config);
ValueId append_xception(GraphBuilder& builder, const NetworkConfig& config);

}  // namespace xception
