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

// Tensor cores multiply 32 bytes of k in a step, and read weights in fragments, 16 bytes a lane: 16
// output channels by one step. Weights are packed in blocks of kBlockColumns channels.
inline constexpr int kSteps = kDepthBytes / 32;
inline constexpr int kFragmentBytes = 32 * kChunkBytes;
inline constexpr int kBlockColumns = 32;

// Elements of k that a tile of operands holds.
constexpr int tile_depth(Numeric numeric) {
  return kDepthBytes / static_cast<int>(element_bytes(numeric));
}

// A block computes rows (pixels) x columns (output channels); each of its warps warp_rows x
// warp_columns of them. Tiles of operands are fetched and waited for in groups of `group`, and
// `groups` groups lie in shared memory at once.
struct MatrixTile {
  int rows;
  int columns;
  int warp_rows;
  int warp_columns;
  int group;
  int groups;
};

// Largest first. What each is for: layers with many pixels; those with 64 outputs, or too few
// pixels to give every multiprocessor a larger one; and single pictures. All keep to 48 KiB, so
// that two blocks fit the 100 KiB of a multiprocessor of sm_86.
inline constexpr MatrixTile kMatrixTiles[] = {{128, 128, 64, 64, 1, 3},
                                              {128, 64, 32, 64, 1, 4},
                                              {64, 64, 32, 32, 2, 3},
                                              {64, 32, 32, 32, 2, 4},
                                              {32, 32, 32, 32, 3, 3}};
inline constexpr int kMatrixTileCount = 5;
inline constexpr int kFirstScalarTile = 1;

// A block's threads.
XC_HOST_DEVICE constexpr int tile_threads(const MatrixTile& tile) {
  return tile.rows / tile.warp_rows * (tile.columns / tile.warp_columns) * 32;
}
// Bytes of one tile of operands: rows of pixels, then rows of weights.
XC_HOST_DEVICE constexpr int operand_bytes(const MatrixTile& tile) {
  return (tile.rows + tile.columns) * kDepthBytes;
}
// Without cp.async a register holds what is on its way: one tile at a time, and two in memory.
// Scalar code spends so long on a tile that two ahead are enough.
XC_HOST_DEVICE constexpr int tile_group(const MatrixTile& tile, bool async_copy, bool scalar) {
  return async_copy && !scalar ? tile.group : 1;
}
XC_HOST_DEVICE constexpr int tile_groups(const MatrixTile& tile, bool async_copy, bool scalar) {
  return !async_copy ? 2 : (scalar ? 3 : tile.groups);
}
XC_HOST_DEVICE constexpr int shared_bytes(const MatrixTile& tile, bool async_copy, bool scalar) {
  return tile_group(tile, async_copy, scalar) * tile_groups(tile, async_copy, scalar) *
         operand_bytes(tile);
}

// From here on a warp has 32 x 32: one block of weights.
inline constexpr int kDirectTile = 2;

// Whether a window of `size` x `size` reads its operands without shared memory: where its warps are
// small, and no tap lies outside the picture.
constexpr bool is_direct(int tile, int size, bool scalar) {
  return size == 1 && !scalar && tile >= kDirectTile;
}

constexpr bool has_async_copy(int arch) { return arch >= 80; }

// What multiplies: tensor cores, or float32 fused multiply-adds of single elements.
enum class MatrixMath { kTensorFp16, kTensorBf16, kTensorTf32, kScalarFp32, kScalarBf16 };

// sm_75 has tensor cores for fp16 only: bf16 is multiplied there one by one, and tf32 is nothing.
std::optional<MatrixMath> pick_matrix_math(Numeric numeric, int arch);

// Tiles of warpgroup_gemm(), largest first: a warpgroup, four warps, multiplies 64 rows, and throws
// half of them away where a tile has 32. `stages` tiles of operands of 128 bytes of k lie in shared
// memory at once, and so that one block's beginning and end go on beside another's middle, a
// multiprocessor holds `blocks` of them.
struct WarpgroupTile {
  int rows;
  int columns;
  int stages;
  int blocks;
};
inline constexpr WarpgroupTile kWarpgroupTiles[] = {
    {128, 128, 3, 2}, {128, 64, 4, 2}, {64, 64, 4, 3}, {64, 32, 6, 3}, {32, 32, 8, 3}};
inline constexpr int kWarpgroupTileCount = 5;

// Whether warpgroups compute it: a 1x1 convolution without a stride in 16 bits.
bool is_warpgroup_product(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu);

struct MatrixChoice {
  MatrixMath math = MatrixMath::kScalarFp32;
  bool warpgroups = false;
  int tile = 0;  // index into kMatrixTiles, or kWarpgroupTiles
  std::int64_t row_tiles = 0;
  int column_tiles = 0;

  std::int64_t blocks() const { return row_tiles * column_tiles; }
  int rows() const { return warpgroups ? kWarpgroupTiles[tile].rows : kMatrixTiles[tile].rows; }
  int columns() const {
    return warpgroups ? kWarpgroupTiles[tile].columns : kMatrixTiles[tile].columns;
  }
};

// The largest tile that gives at least 0.8 of the multiprocessors a block and computes no more than
// a third of its columns in vain; where none does, the one with the most blocks. The numeric must
// be one that pick_matrix_math() knows on this GPU.
MatrixChoice pick_matrix_tile(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu);

// "128x128x32 mma.m16n8k16 fp16, 23 x 6 blocks": rows, columns and depth of the tile.
std::string to_string(const MatrixChoice& choice, int arch);

}  // namespace xception
