// Which tile a matrix product is cut into, and on which arithmetic it runs: pure functions of the
// problem and the GPU. No CUDA header in here.
//
// Every tile adds the products of one output element in the same order, so that a choice may depend
// on the batch and a result does not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "kernels/gpu.h"
#include "kernels/problem.h"

namespace xception {

// Bytes of one row of a tile of operands: 32 elements of 16 bits or 16 of 32 bits at a time, four
// chunks of what one thread copies.
inline constexpr int kDepthBytes = 64;
inline constexpr int kChunkBytes = 16;
inline constexpr int kChunksPerRow = kDepthBytes / kChunkBytes;

// Elements of k that a tile of operands holds.
constexpr int tile_depth(Numeric numeric) {
  return kDepthBytes / static_cast<int>(element_bytes(numeric));
}

// A block computes rows (pixels) x columns (output channels); each of its warps warp_rows x
// warp_columns of them. `stages` tiles of operands lie in shared memory at once.
struct MatrixTile {
  int rows;
  int columns;
  int warp_rows;
  int warp_columns;
  int stages;
};

// Largest first. What each is for: layers with many pixels; those with 64 outputs, or too few
// pixels to give every multiprocessor a larger one; and single pictures of 19x19 and 10x10. The
// largest keeps to three stages, so that two blocks fit the 100 KiB of a multiprocessor of sm_86.
inline constexpr MatrixTile kMatrixTiles[] = {{128, 128, 64, 64, 3},
                                              {128, 64, 32, 64, 4},
                                              {64, 64, 32, 32, 4},
                                              {64, 32, 16, 32, 6},
                                              {32, 32, 16, 32, 8}};
inline constexpr int kMatrixTileCount = 5;
inline constexpr int kFirstScalarTile = 1;
inline constexpr int kNarrowTile = kMatrixTileCount - 1;

// A block's threads; shared memory of `stages` tiles of operands.
XC_HOST_DEVICE constexpr int tile_threads(const MatrixTile& tile) {
  return tile.rows / tile.warp_rows * (tile.columns / tile.warp_columns) * 32;
}
XC_HOST_DEVICE constexpr int stage_bytes(const MatrixTile& tile) {
  return (tile.rows + tile.columns) * kDepthBytes;
}
// Without cp.async a register holds what is on its way, and two tiles do.
XC_HOST_DEVICE constexpr int tile_stages(const MatrixTile& tile, bool async_copy) {
  return async_copy ? tile.stages : 2;
}

constexpr bool has_async_copy(int arch) { return arch >= 80; }

// What multiplies: tensor cores, or float32 fused multiply-adds of single elements.
enum class MatrixMath { kTensorFp16, kTensorBf16, kTensorTf32, kScalarFp32, kScalarBf16 };

// sm_75 has tensor cores for fp16 only: bf16 is multiplied there one by one, and tf32 is nothing.
std::optional<MatrixMath> pick_matrix_math(Numeric numeric, int arch);

struct MatrixChoice {
  MatrixMath math = MatrixMath::kScalarFp32;
  int tile = 0;  // index into kMatrixTiles
  std::int64_t row_tiles = 0;
  int column_tiles = 0;

  std::int64_t blocks() const { return row_tiles * column_tiles; }
};

// The largest tile that gives at least 0.8 of the multiprocessors a block and computes no more than
// a third of its columns in vain; where none does, the one with the most blocks. The numeric must
// be one that pick_matrix_math() knows on this GPU.
MatrixChoice pick_matrix_tile(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu);

// "128x128x32 mma.m16n8k16 fp16, 23 x 6 blocks": rows, columns and depth of the tile.
std::string to_string(const MatrixChoice& choice, int arch);

}  // namespace xception
