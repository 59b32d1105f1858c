// Depthwise 3x3 convolution: each channel by itself, stride 1 or 2, any padding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
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

// Whether it is a product on tensor cores or, of the smallest maps, left to single threads with the
// same weights (pick_depthwise_maps()): stride 1 and 16 bits, where the GPU multiplies matrices of
// them. Elsewhere strips compute it, by float32 multiply-adds.
XC_HOST_DEVICE constexpr bool is_depthwise_product(int stride, std::size_t element_bytes,
                                                   bool has_mma) {
  return stride == 1 && element_bytes == 2 && has_mma;
}
bool is_depthwise_product(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu);

// The product: a warp computes two strips of rows, one below the other, of 8 pixels and 32
// channels.
inline constexpr int kProductColumns = 8;
inline constexpr int kProductChannels = 32;
inline constexpr int kProductWarps = 5;  // of a block, at most
inline constexpr int kTallStrip = 5;     // rows of a strip, where there are blocks enough,
inline constexpr int kLowStrip = 2;      // and elsewhere

// How a product's output is cut into blocks. What an output element is does not depend on it.
struct DepthwiseTile {
  int strip_rows = kTallStrip;
  int bands = 1;   // of two strips, over the output's height
  int warps = 1;   // of a block, side by side
  int groups = 1;  // of so many warps, over its width
  int chunks = 1;  // of channels
  std::int64_t blocks = 0;
};

// Tall and wide blocks load fewer pixels twice, low and narrow ones are more. For a problem with
// output.
DepthwiseTile pick_depthwise_tile(const ConvProblem& problem, const GpuInfo& gpu);

// In 16 bits, maps of up to 2x2 or 4x4 pixels are left to threads that compute one as a whole: in a
// product most pixels would be outside.
inline constexpr int kMapThreads = 64;  // of a block, at most
inline constexpr int kMapChannels = 4;  // of a thread

// How such maps are handed to threads. What an output element is does not depend on it.
struct DepthwiseMaps {
  int side = 4;     // of the square that they fit: 2 or 4
  int items = 0;    // threads that a picture needs
  int threads = 0;  // a block
  std::int64_t blocks = 0;
};

// Nothing where maps are larger, or padded otherwise than by a pixel on each side.
std::optional<DepthwiseMaps> pick_depthwise_maps(const ConvProblem& problem, const GpuInfo& gpu);

// Of the larger block of strips. With 200 registers a thread, ten warps fit a multiprocessor in
// blocks of two, eight in blocks of four.
inline constexpr int kStripThreads = 64;

inline constexpr int kStripChannels = 4;  // of one thread

// Output columns of one thread.
constexpr int strip_columns(int stride) { return stride == 1 ? 5 : 3; }

// How the output is cut into strips: a thread computes up to `rows` x strip_columns() pixels of
// four channels. What an output element is does not depend on it.
struct DepthwiseStrips {
  int rows = 1;
  int bands = 1;           // of `rows` rows, over the output's height
  int groups = 1;          // of columns, over its width, as equal as can be
  std::int64_t items = 0;  // threads that one band of one picture needs
  int threads = 0;         // a block
  std::int64_t blocks = 0;
};

// Bands as tall as give every multiprocessor enough to do: a taller one loads fewer rows twice. For
// a problem with output.
DepthwiseStrips pick_depthwise_strips(const ConvProblem& problem, const GpuInfo& gpu);

// "depthwise 10x24x32 mma fp16, 368 blocks": rows, columns and channels of a block, "depthwise map
// 4x4 fma fp16, 24 blocks of 64", or "depthwise 10x5 fma, 192 blocks of 64": rows and columns of a
// thread.
std::string describe_depthwise(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu);

// To the device's layout from PyTorch's, [c][1][3][3], with the affine's scale multiplied in. For
// products and small maps [chunks][3][3][32] of the numeric, for strips [3][3][channel_stride(c)]
// float32, zero behind c. It does not depend on the extents of the pictures.
std::vector<std::byte> pack_depthwise(const ConvProblem& problem, Numeric numeric,
                                      const GpuInfo& gpu, const float* weights);

// Enqueues ReLU where problem.relu_on_load, convolution and epilogue. Sums are made in float32, row
// after row of the window; in products and small maps they begin with the shift. In a product an
// infinity or a NaN of the input in channel c makes NaN of seven other channels of the outputs
// whose windows hold it, for it is a summand of theirs, times zero: of those of the same c / 32 and
// (c % 8) / 2. Fails with kInvalidArgument where `problem` is no depthwise 3x3 convolution of
// stride 1 or 2 or one launch cannot hold it, and with kDevice.
[[nodiscard]] Status depthwise(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu,
                               const DepthwiseArgs& args, Stream stream);

}  // namespace xception
