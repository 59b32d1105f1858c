// 1x1 convolution, stride 1 or 2, no padding, with the whole epilogue in the same kernel.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "kernels/implicit_gemm.h"

namespace xception {

// Enqueues the convolution. Fails with kInvalidArgument where problem or arguments make no sense,
// kUnsupported where this GPU has no such arithmetic (tf32 before sm_80), kDevice where the launch
// fails. `gpu` is the current device.
[[nodiscard]] Status pointwise(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu,
                               const DenseArgs& args, Stream stream);

// Weights [k][c], float32, scale multiplied in, as pointwise() reads them on a GPU like `gpu`.
std::vector<std::byte> pack_pointwise(const ConvProblem& problem, Numeric numeric,
                                      const GpuInfo& gpu, const float* weights);

// The tile that pointwise() chooses, in words.
std::string describe_pointwise(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu);

}  // namespace xception
