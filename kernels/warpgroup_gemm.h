// The 1x1 convolution of Hopper GPUs on the host: when it is taken, and how its weights lie. The
// kernel stands in warpgroup_gemm.cuh.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/gpu.h"
#include "kernels/problem.h"
#include "kernels/tiles.h"

namespace xception {

// Elements of k in a tile of operands: a row of 128 bytes.
inline constexpr int kWarpgroupDepth = 64;

// Channel of a block of kBlockColumns that stands in column `column` of the product. A thread has
// columns 8 * j + 2 * t and the one behind it of every j; so they are eight neighbours.
XC_HOST_DEVICE constexpr int warpgroup_channel(int column) {
  return column % 8 / 2 * 8 + column / 8 * 2 + column % 2;
}

// Tiles of k.
constexpr int warpgroup_tiles(const ConvProblem& problem) {
  return static_cast<int>(ceil_div(channel_stride(problem.src.c), kWarpgroupDepth));
}

// Rows of packed weights: the columns of all blocks of kBlockColumns.
constexpr int warpgroup_weight_rows(const ConvProblem& problem) {
  return round_up(problem.k, kBlockColumns);
}

inline constexpr int kWarpgroupRowBytes = 128;  // of a row of either operand, in one slot
inline constexpr int kWarpgroupRows = 64;       // of a product
static_assert(kWarpgroupRowBytes == 2 * kWarpgroupDepth, "elements of 16 bits");

// The warps that multiply, and the one that fetches.
XC_HOST_DEVICE constexpr int multiplying_warps(const WarpgroupTile& tile) {
  return (tile.rows < kWarpgroupRows ? kWarpgroupRows : tile.rows) / 16;
}
XC_HOST_DEVICE constexpr int warpgroup_threads(const WarpgroupTile& tile) {
  return (multiplying_warps(tile) + 1) * 32;
}
XC_HOST_DEVICE constexpr int warpgroup_slot_bytes(const WarpgroupTile& tile) {
  return (tile.rows + tile.columns) * kWarpgroupRowBytes;
}
// Shared memory starts where the system likes, and slots at a multiple of this.
inline constexpr int kWarpgroupAlignment = 1024;
XC_HOST_DEVICE constexpr int warpgroup_shared_bytes(const WarpgroupTile& tile) {
  return kWarpgroupAlignment + tile.stages * (warpgroup_slot_bytes(tile) + 2 * 8);
}

// Weights [k][c], float32 with the scale multiplied in, as the kernel's tensor map has them:
// [k in blocks of 32][column, see warpgroup_channel()][channel_stride(c)], of `numeric` (16 bits),
// zero behind the last channel of either side.
std::vector<std::byte> pack_warpgroup(const ConvProblem& problem, Numeric numeric,
                                      const float* weights);

}  // namespace xception
