// Dense 3x3 convolution, stride 1 or 2, any padding below 3, with the whole epilogue in the same
// kernel.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "kernels/implicit_gemm.h"

namespace xception {

// Enqueues the convolution. Fails with kInvalidArgument where problem or arguments make no sense,
// kUnsupported where this GPU has no such arithmetic (tf32 before sm_80), kDevice where the launch
// fails. `gpu` is the current device.
[[nodiscard]] Status conv3x3(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu,
                             const DenseArgs& args, Stream stream);

// Weights [k][c][3][3], float32, scale multiplied in, as conv3x3() reads them on the device.
std::vector<std::byte> pack_conv3x3(const ConvProblem& problem, Numeric numeric,
                                    const float* weights);

// The tile that conv3x3() chooses, in words.
std::string describe_conv3x3(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu);

}  // namespace xception
