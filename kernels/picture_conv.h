// Dense convolution of pictures, tensors of at most four channels with a stride of four: the first
// layer of every network. Reached through pointwise() and conv3x3().
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "kernels/implicit_gemm.h"

namespace xception {

inline constexpr int kPictureStride = 4;  // elements from pixel to pixel

constexpr bool is_picture(const ConvProblem& problem) {
  return channel_stride(problem.src.c) == kPictureStride;
}

// A warp computes this many output channels at a time, of this many neighbouring pixels with tensor
// cores and of twice as many without.
inline constexpr int kPictureChannels = 32;
inline constexpr int kPicturePixels = 16;
inline constexpr int kPictureThreads = 128;

// A block computes at most this many pixels of one output row.
inline constexpr int kPictureSpan = 256;

// Steps of 16 elements of k in which tensor cores take the nine taps of four channels.
inline constexpr int kPictureSteps = 3;

struct PictureGeometry {
  int src_h = 0;
  int src_w = 0;
  int dst_h = 0;
  int dst_w = 0;
  int channels = 0;    // of the output
  int dst_stride = 0;  // elements from pixel to pixel
  int size = 3;        // of the window
  int stride = 1;
  int pad_top = 0;
  int pad_left = 0;
  int columns = 0;        // output pixels of a block, a multiple of 2 * kPicturePixels
  int column_tiles = 0;   // blocks along an output row
  int patch_columns = 0;  // source pixels that they need, a row
  int patch_bytes = 0;    // from row to row of those in shared memory
};

// Rows are split evenly, so that no block is left with the last few pixels.
PictureGeometry picture_geometry(const ConvProblem& problem, Numeric numeric);

// The output row and first column of block `block`, and its image.
struct PicturePosition {
  int n;
  int p;
  int q;
};
XC_HOST_DEVICE constexpr PicturePosition picture_position(const PictureGeometry& geometry,
                                                          int block) {
  const int row = block / geometry.column_tiles;
  const int n = row / geometry.dst_h;
  return {n, row - n * geometry.dst_h, (block - row * geometry.column_tiles) * geometry.columns};
}

// Pixels before source pixel (n, y, x) and before output pixel (n, p, q); the first may lie in the
// padding.
XC_HOST_DEVICE constexpr std::int64_t picture_source(const PictureGeometry& geometry, int n, int y,
                                                     int x) {
  return (std::int64_t{n} * geometry.src_h + y) * geometry.src_w + x;
}
XC_HOST_DEVICE constexpr std::int64_t picture_result(const PictureGeometry& geometry,
                                                     const PicturePosition& position) {
  return (std::int64_t{position.n} * geometry.dst_h + position.p) * geometry.dst_w + position.q;
}

// Tensor cores compute 3x3 in fp16, and in bf16 from sm_80 on. Everything else is float32
// arithmetic, tf32 included: the layer is bound by memory.
bool picture_uses_mma(const ConvProblem& problem, Numeric numeric, int arch);

// Elements of float32 before the fragments: see pack_picture().
std::size_t picture_scalar_elements(const ConvProblem& problem);

// Weights [k][c][size][size], rounded to `numeric`: float32 [tap][4][k up to a multiple of 32] for
// scalar code; behind it, where the elements have 16 bits and the window nine taps, the same as the
// second operand of mma, [k / 32][step][half][lane][16 bytes]. Both, so that the packing does not
// depend on the GPU.
std::vector<std::byte> pack_picture(const ConvProblem& problem, Numeric numeric,
                                    const float* weights);

std::string describe_picture(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu);

// After check_dense().
[[nodiscard]] Status picture_conv(const std::string& operation, const ConvProblem& problem,
                                  Numeric numeric, const GpuInfo& gpu, const DenseArgs& args,
                                  Stream stream);

}  // namespace xception
