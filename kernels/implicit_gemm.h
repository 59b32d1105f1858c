// What the dense convolutions (pointwise, conv3x3) share on the host and on the device: the product
// of a matrix of pixels and a matrix of weights, where the first is never written down. Index
// arithmetic stands here so that it is tested without a GPU and without tensors of its size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/gpu.h"
#include "kernels/problem.h"
#include "kernels/tiles.h"
#include "xception/status.h"

namespace xception {

// Device memory of one dense convolution; none of it may be null but what DeviceEpilogue allows.
// `weights` as pack_pointwise() or pack_conv3x3() made them for the same problem and numeric. src
// and dst must not overlap; the residual may be dst itself.
struct DenseArgs {
  const void* src = nullptr;
  const void* weights = nullptr;
  void* dst = nullptr;
  DeviceEpilogue epilogue;
};

// The product: row m is output pixel m of all images, column k an output channel, and the sum runs
// over taps (row-major) and over the source channels of each.
struct ConvGeometry {
  int src_h = 0;
  int src_w = 0;
  int src_stride = 0;  // elements from pixel to pixel
  int dst_h = 0;
  int dst_w = 0;
  int channels = 0;    // of the output
  int dst_stride = 0;  // elements from pixel to pixel
  int pixels = 0;      // n * dst_h * dst_w
  int stride = 1;
  int pad_top = 0;
  int pad_left = 0;
  int depth_tiles = 0;   // tiles of k that one tap takes
  int column_tiles = 0;  // blocks side by side over the output channels
};

ConvGeometry conv_geometry(const ConvProblem& problem, Numeric numeric);

// Where the window of output pixel `pixel` begins; y and x may lie in the padding.
struct WindowOrigin {
  int n;
  int y;
  int x;
};
XC_HOST_DEVICE constexpr WindowOrigin window_origin(const ConvGeometry& geometry, int pixel) {
  const int row = pixel / geometry.dst_w;
  const int n = row / geometry.dst_h;
  return {n, (row - n * geometry.dst_h) * geometry.stride - geometry.pad_top,
          (pixel - row * geometry.dst_w) * geometry.stride - geometry.pad_left};
}

// Offset in elements of the pixel at the origin, negative where that lies before the first image.
XC_HOST_DEVICE constexpr std::int64_t source_offset(const ConvGeometry& geometry,
                                                    const WindowOrigin& origin) {
  const std::int64_t row = std::int64_t{origin.n} * geometry.src_h + origin.y;
  return (row * geometry.src_w + origin.x) * geometry.src_stride;
}

// In elements, from the pixel of tap `tap` - 1 of a window to that of `tap`.
XC_HOST_DEVICE constexpr std::int64_t tap_step(const ConvGeometry& geometry, int size, int tap) {
  const int pixels = tap % size == 0 ? geometry.src_w - (size - 1) : 1;
  return std::int64_t{pixels} * geometry.src_stride;
}

XC_HOST_DEVICE constexpr std::int64_t result_offset(const ConvGeometry& geometry, int pixel,
                                                    int channel) {
  return std::int64_t{pixel} * geometry.dst_stride + channel;
}

// Bit r * size + s is set where tap (r, s) lies inside the picture.
XC_HOST_DEVICE constexpr unsigned inside_taps(const ConvGeometry& geometry,
                                              const WindowOrigin& origin, int size) {
  // A negative coordinate is a large unsigned one.
  unsigned columns = 0;
  for (int s = 0; s < size; ++s) {
    const bool inside = static_cast<unsigned>(origin.x + s) < static_cast<unsigned>(geometry.src_w);
    columns |= inside ? 1U << s : 0U;
  }
  unsigned mask = 0;
  for (int r = 0; r < size; ++r) {
    const bool inside = static_cast<unsigned>(origin.y + r) < static_cast<unsigned>(geometry.src_h);
    mask |= inside ? columns << (r * size) : 0U;
  }
  return mask;
}

// Where chunk `chunk` of row `row` of a tile of operands lies in shared memory: two rows share the
// 128 bytes of all banks, and `scramble`, a function of the row, spreads over the banks what is
// read at once. A bijection for any scramble below 8 that is the same in both rows.
XC_HOST_DEVICE constexpr int chunk_offset(int row, int chunk, int scramble) {
  return (row >> 1) * (2 * kDepthBytes) +
         ((((row & 1) * kChunksPerRow + chunk) ^ scramble) * kChunkBytes);
}

// Rows of pixels are read eight neighbours at a time.
XC_HOST_DEVICE constexpr int pixel_scramble(int row) { return (row >> 1) & 3; }

// Rows of weights are read so that a lane comes to hold `width` neighbouring channels, 16 bytes of
// the result: rows width * i and width * i + 1 at once (tensor cores, i below 4), or width * i
// (scalar code, i below 32 / width).
XC_HOST_DEVICE constexpr int weight_scramble(int row, int width, bool scalar) {
  return (row / width) & (scalar ? 32 / width - 1 : 3);
}

// Fails where the kernels cannot run `problem` or `args`; `operation` begins the message.
Status check_dense(const std::string& operation, const ConvProblem& problem, int size,
                   Numeric numeric, const GpuInfo& gpu, const DenseArgs& args);

// "pointwise 1x19x19x728 -> 728, stride 1, fp16".
std::string dense_name(const std::string& operation, const ConvProblem& problem, Numeric numeric);

// Weights [k][c][size][size], float32 in PyTorch's order and with the scale multiplied in, as the
// kernels read them: [channel_stride(k)][tap][c up to a whole tile_depth()], rounded to `numeric`,
// zero in between.
std::vector<std::byte> pack_dense(const ConvProblem& problem, Numeric numeric,
                                  const float* weights);

}  // namespace xception
