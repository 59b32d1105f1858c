// Pooling: the maximum or the mean of each channel over a window, or over the whole picture.
#pragma once

#include "kernels/gpu.h"
#include "kernels/problem.h"
#include "xception/status.h"

namespace xception {

// Activations on the device; `dst` must not overlap `src`.
struct PoolArgs {
  const void* src = nullptr;
  void* dst = nullptr;
  const void* residual = nullptr;  // max_pool: added behind it, of dst's shape; may be dst
};

// Enqueues max pooling. Padding is minus infinity, and a NaN in the window makes a NaN. Fails with
// kInvalidArgument where the window is larger than 3 or one launch cannot hold it, and with
// kDevice.
[[nodiscard]] Status max_pool(const PoolProblem& problem, Numeric numeric, const PoolArgs& args,
                              Stream stream);

// Enqueues average pooling over those pixels of a window that are in the picture. Summed in
// float32, row after row. Fails as max_pool does.
[[nodiscard]] Status avg_pool(const PoolProblem& problem, Numeric numeric, const PoolArgs& args,
                              Stream stream);

struct GlobalAvgPoolArgs {
  const void* src = nullptr;
  void* dst = nullptr;        // {n, 1, 1, c}
  bool dst_is_float = false;  // dst is float32 whatever the numeric, in the same layout
};

// Enqueues the mean over all pixels of each picture, summed in float32 in an order that depends on
// h and w alone. Fails with kInvalidArgument where one launch cannot hold it, and with kDevice.
[[nodiscard]] Status global_avg_pool(const Shape& src, Numeric numeric,
                                     const GlobalAvgPoolArgs& args, Stream stream);

}  // namespace xception
