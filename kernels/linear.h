// Fully connected layer: logits of vectors.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/gpu.h"
#include "xception/status.h"

namespace xception {

struct LinearProblem {
  int n = 0;  // vectors
  int c = 0;  // of each
  int k = 0;  // logits of each
};

// All on the device. `src` is an activation {n, 1, 1, c} of the numeric, `weights` what
// pack_linear() made, `bias` float32, channel_stride(k) long, zero behind k, or null. `dst` is {n,
// 1, 1, k} in float32, whatever the numeric, laid out as an activation.
struct LinearArgs {
  const void* src = nullptr;
  const void* weights = nullptr;
  const float* bias = nullptr;
  float* dst = nullptr;
};

// To the device's layout from PyTorch's, [k][c]: [k][channel_stride(c)] of the numeric, zero behind
// c.
std::vector<std::byte> pack_linear(const LinearProblem& problem, Numeric numeric,
                                   const float* weights);

// Enqueues dst = src x weights + bias, summed in float32 in an order that depends on c alone. Fails
// with kInvalidArgument where one launch cannot hold it, and with kDevice.
[[nodiscard]] Status linear(const LinearProblem& problem, Numeric numeric, const LinearArgs& args,
                            Stream stream);

}  // namespace xception
