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
// `weights` as pack_pointwise() or pack_conv3x3() made them for the same problem, numeric and GPU.
// src and dst must not overlap; the residual may be dst itself.
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
// 128 bytes of all banks, a line. Tensor cores read whole lines at once. Scalar code reads a chunk
// of four or eight neighbouring rows, or of every second one of eight: there it is scrambled by the
// line's number.
XC_HOST_DEVICE constexpr int chunk_offset(int row, int chunk, bool scalar) {
  const int line = row >> 1;
  const int place = (row & 1) * kChunksPerRow + chunk;
  return (line * 2 * kChunksPerRow + (scalar ? place ^ (line & 3) : place)) * kChunkBytes;
}

// Weights lie in blocks of kBlockColumns output channels by one tile of k, each the fragments that
// a warp's lanes take for its mma one after the other. 16 channels by half of each chunk are one
// fragment: mma's rows g and g + 8 are neighbouring channels, and its lane 4 * g + t has of
// both the words 2 * step and 2 * step + 1 of chunk t. What is word `index` of a block:
struct WeightWord {
  int channel;  // of kBlockColumns
  int word;     // of kDepthBytes / 4
};
XC_HOST_DEVICE constexpr WeightWord weight_word(int index) {
  const int fragment = index / (kFragmentBytes / 4);
  const int lane = index / 4 % 32;
  const int word = index % 4;
  return {lane / 4 * 4 + fragment % 2 * 2 + word % 2, lane % 4 * 4 + fragment / 2 * 2 + word / 2};
}

// Fails where the kernels cannot run `problem` or `args`; `operation` begins the message.
Status check_dense(const std::string& operation, const ConvProblem& problem, int size,
                   Numeric numeric, const GpuInfo& gpu, const DenseArgs& args);

// "pointwise 1x19x19x728 -> 728, stride 1, fp16".
std::string dense_name(const std::string& operation, const ConvProblem& problem, Numeric numeric);

// Weights [k][c][size][size], float32 in PyTorch's order and with the scale multiplied in, as the
// kernels read them: [k in blocks][tap][tile of k][weight_word()], rounded to `numeric`, zero
// behind the last channel of either side.
std::vector<std::byte> pack_dense(const ConvProblem& problem, Numeric numeric,
                                  const float* weights);

}  // namespace xception
