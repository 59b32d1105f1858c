// Dense 3x3 convolution of pictures, as gpu.h has them on the device: the first layer of every
// network.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "kernels/implicit_gemm.h"

namespace xception {

inline constexpr int kPictureSize = 3;  // of the window
// A row of a window: neighbours in memory, since pixels lie as far apart as they have colours.
inline constexpr int kPictureTaps = kPictureSize * kPictureColours;

// A warp computes this many output channels at a time, of this many pixels with tensor cores and of
// twice as many without.
inline constexpr int kPictureChannels = 32;
inline constexpr int kPicturePixels = 16;
inline constexpr int kPictureWarps = 4;  // of a block, at most

// A block computes at most this many pixels of one output row.
inline constexpr int kPictureSpan = 256;

// Steps of 16 elements of k in which tensor cores take the 27 of a window: the first eight of each
// of its rows, and then the ninth of each.
inline constexpr int kPictureSteps = 2;

struct PictureGeometry {
  int src_h = 0;
  int src_row = 0;  // elements from row to row
  int dst_h = 0;
  int dst_w = 0;
  int channels = 0;    // of the output
  int dst_stride = 0;  // elements from pixel to pixel
  int stride = 1;
  int pad_top = 0;
  int columns = 0;         // output pixels of a block, a multiple of 2 * kPicturePixels
  int column_tiles = 0;    // blocks along an output row
  int lead = 0;            // elements of the left padding, up to whole sectors
  int origin = 0;          // elements of the patch before the first window: what that rounding adds
  int patch_elements = 0;  // of a row of the patch, whole sectors
  int patch_bytes = 0;     // from row to row of the patch
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

// Elements before row y of image n, which may lie in the padding.
XC_HOST_DEVICE constexpr std::int64_t picture_source(const PictureGeometry& geometry, int n,
                                                     int y) {
  return (std::int64_t{n} * geometry.src_h + y) * geometry.src_row;
}
// The element of its row with which the patch of a block begins, which may lie in the padding: a
// whole number of sectors, as every block begins a multiple of 32 pixels to the right.
XC_HOST_DEVICE constexpr int picture_begin(const PictureGeometry& geometry, int q) {
  return q * geometry.stride * kPictureColours - geometry.lead;
}
// Pixels before output pixel (n, p, q).
XC_HOST_DEVICE constexpr std::int64_t picture_result(const PictureGeometry& geometry,
                                                     const PicturePosition& position) {
  return (std::int64_t{position.n} * geometry.dst_h + position.p) * geometry.dst_w + position.q;
}

// Which of a warp's 16 pixels lane 4 * g + t multiplies: this one and the one picture_second()
// behind it. Windows of neighbouring g are six elements apart, three words, whatever the stride.
XC_HOST_DEVICE constexpr int picture_pixel(int stride, int g) { return stride == 1 ? 2 * g : g; }
XC_HOST_DEVICE constexpr int picture_second(int stride) { return stride == 1 ? 1 : 8; }

// Tensor cores compute fp16, and bf16 from sm_80 on. Everything else is float32 arithmetic, tf32
// included: the layer is bound by memory.
bool picture_uses_mma(Numeric numeric, int arch);

// Elements of float32 before the fragments: see pack_picture().
std::size_t picture_scalar_elements(const ConvProblem& problem);

// Where scalar code has channel `channel` among those of a tap: a lane computes `width` neighbours,
// and reads four at a time, for which neighbouring lanes read neighbouring 16 bytes.
constexpr int picture_scalar_place(int channel, int width) {
  const int in_block = channel % kPictureChannels;
  const int lanes = kPictureChannels / width;
  return channel - in_block + in_block % width / 4 * (4 * lanes) + in_block / width * 4 +
         channel % 4;
}

// Weights [k][3][3][3], rounded to `numeric`: float32 [tap][colour][k up to a multiple of 32], in
// the order of picture_scalar_place(), for scalar code; behind it, where the elements have 16 bits,
// the same as the second operand of mma, [k / 32][step][half][lane][16 bytes]. Both, so that the
// packing does not depend on the GPU.
std::vector<std::byte> pack_picture(const ConvProblem& problem, Numeric numeric,
                                    const float* weights);

std::string describe_picture(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu);

// Enqueues the convolution, stride 1 or 2, any padding below 3, with the whole epilogue in the same
// kernel. `args.src` is a picture. Fails with kInvalidArgument where problem or arguments make no
// sense, kUnsupported where this GPU has no such arithmetic (tf32 before sm_80), kDevice where the
// launch fails. `gpu` is the current device.
[[nodiscard]] Status picture_conv(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu,
                                  const DenseArgs& args, Stream stream);

}  // namespace xception
