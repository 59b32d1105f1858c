// Depthwise 3x3 convolution: each channel by itself, stride 1 or 2, any padding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/gpu.h"
#include "kernels/problem.h"
#include "xception/status.h"

namespace xception {

// All on the device. `src` and `dst` are activations of the numeric that must not overlap,
// `weights` what pack_depthwise() made.
struct DepthwiseArgs {
  const void* src = nullptr;
  const void* weights = nullptr;
  void* dst = nullptr;
  DeviceEpilogue epilogue;  // its residual may be dst
};

// Of the larger block. With 200 registers a thread, ten warps fit a multiprocessor in blocks of
// two, eight in blocks of four.
inline constexpr int kDepthwiseThreads = 64;

// Output columns of one thread.
constexpr int depthwise_columns(int stride) { return stride == 1 ? 5 : 3; }

// How the output is cut: a thread computes up to `rows` x depthwise_columns() pixels of four
// channels. What an output element is does not depend on it.
struct DepthwiseTile {
  int rows = 1;
  int bands = 1;           // of `rows` rows, over the output's height
  int groups = 1;          // of columns, over its width, as equal as can be
  std::int64_t items = 0;  // threads that one band of one picture needs
  int threads = 0;         // a block
  std::int64_t blocks = 0;
};

// Bands as tall as give every multiprocessor enough to do: a taller one loads fewer rows twice. For
// a problem with output.
DepthwiseTile pick_depthwise(const ConvProblem& problem, const GpuInfo& gpu);

// "depthwise 10x5, 192 blocks of 64": rows and columns of a thread.
std::string to_string(const DepthwiseTile& tile, int stride);

// To the device's layout from PyTorch's, [c][1][3][3], with the affine's scale multiplied in:
// [3][3][channel_stride(c)] float32 whatever the numeric, zero behind c.
std::vector<std::byte> pack_depthwise(const ConvProblem& problem, const float* weights);

// Enqueues ReLU where problem.relu_on_load, convolution and epilogue. Sums are made in float32, row
// after row of the window. Fails with kInvalidArgument where `problem` is no depthwise 3x3
// convolution of stride 1 or 2, and with kDevice.
[[nodiscard]] Status depthwise(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu,
                               const DepthwiseArgs& args, Stream stream);

}  // namespace xception
