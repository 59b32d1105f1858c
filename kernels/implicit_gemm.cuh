// The kernel behind pointwise() and conv3x3(): a convolution as the product
//   dst[m][k] = epilogue(sum over taps and c of src[pixel(m, tap)][c] * weights[k][tap][c])
// of a matrix of pixels that is never written down and a matrix of weights. Taps outside the
// picture read as zero.
//
// Who computes what. A block has a tile of rows (output pixels) x columns (output channels), see
// kMatrixTiles; blocks run along the columns first, so that neighbours in time read the same
// pixels. A warp has warp_rows x warp_columns of it in registers.
//  - Tensor cores (TensorSums in matrix_product.cuh): output channels are mma's rows and pixels its
//    columns. Both may stand in any order that weights and results agree on, and so may k: a lane's
//    operands are 16 bytes as they lie in memory, pixels in the layout of the tensor and weights
//    packed as fragments, and no register is moved. Lane 4 * g + t has results for a quarter of the
//    warp's rows, neighbours from t quarters on, and of every 32 columns four neighbours from 4 * g
//    on: the epilogue runs on the sums as they are, its loads and stores are 64 bytes a row (128
//    where elements have 32 bits), whole sectors.
//  - Scalar: a lane has every 4th (32-bit) or 8th (16-bit) row, and 16 bytes of channels of every
//    32 columns.
//
// Shared memory: slots for tiles of operands, one after the other, each rows * 64 bytes of pixels,
// [row][32 elements of 16 bits, or 16 of 32], and then columns * 64 bytes of weights, 2,048 for
// each block of 32 columns. A tap's channels are cut into such tiles, and a tap begins a new one.
// Copies and tensor cores touch 128 neighbouring bytes at once, all banks; for the scalar loads the
// chunks of 16 bytes are scrambled (chunk_offset() in implicit_gemm.h) so that they do as well. A
// slot has 16,384 bytes in 128x128, 12,288 in 128x64, 8,192 in 64x64, 6,144 in 64x32 and 4,096 in
// 32x32; there are 3, 4, 6, 8 and 9 of them (49,152 bytes, in the last 36,864), 3 for scalar code,
// and 2 on sm_75.
//
// Pipeline: groups of tiles are fetched by cp.async, all but one of the groups ahead of the one
// that is multiplied, with one barrier a group; on sm_75 one tile ahead into registers. Order of
// summation: the shift, then taps, then channels, 32 bytes of k at a time, one accumulator an
// output; nothing is split along k.
//
// Between two barriers a warp has little to do but mma, its loads and cp.async: addresses are
// constants of the slot, and a count of the tiles until the tap ends (operand_loader.cuh) is all
// that decides whether something else is due, the end of the sum included. It costs six
// instructions a group, and one an address when the slots begin anew.
//
// What limits it. Few pixels: the latency of a step, for a block's steps follow each other and k
// is not split; on tensor cores 1x1 convolutions in tiles up to 64x64 are direct_gemm()'s. Many
// pixels and channels up to 256: memory. Many of both: tensor cores; on 8x19x19x728 to 728 channels
// in fp16 mma is 55 % of the warp instructions of the PTX, and 49 % with a residual. Loads and
// stores use whole sectors, and shared memory has no bank conflicts. (Counters of the emulator, no
// times: docs/kernels.md.)
//
// Tried and dropped. By mma's share of that layer's warp instructions when it stood at 45.7 %:
// slots at computed addresses, 30 %; sums that begin as zeros in registers, 43.9 %. For the dense
// 4x4x728 layer at batch 8, when it stood at 31.6 %, warps of 16x32 and a barrier for each tile of
// operands: 22.4 %; its 128 pixels in 128x128 tiles would have made 56 %, on six multiprocessors.
// Pixels as mma's rows, with the same plain loads: two register moves for each mma in the machine
// code of sm_90, for its first operand is four registers of two rows.
#pragma once

#include <cstdint>

#include "kernels/gpu.h"
#include "kernels/implicit_gemm.h"
#include "kernels/matrix_product.cuh"
#include "kernels/operand_loader.cuh"
#include "kernels/ptx.cuh"
#include "kernels/store_product.cuh"
#include "kernels/tiles.h"
#include "kernels/unrolled.cuh"

namespace xception {

// One block a tile, tile_threads() threads, shared_bytes() of shared memory. Without the 1 the
// compiler spills where it could fit more blocks.
template <class Product, int kSize>
__global__ void __launch_bounds__(tile_threads(Product::kTile), 1)
    implicit_gemm(const ConvGeometry geometry, const typename Product::Element* __restrict__ src,
                  const typename Product::Element* __restrict__ weights,
                  typename Product::Element* dst, const DeviceEpilogue epilogue) {
  if constexpr (Product::kAvailable) {
    using T = typename Product::Element;
    constexpr MatrixTile kTile = Product::kTile;
    constexpr int kGroup = tile_group(kTile, kHasAsyncCopy, Product::kScalar);
    constexpr int kGroups = tile_groups(kTile, kHasAsyncCopy, Product::kScalar);
    constexpr int kSlots = kGroup * kGroups;
    constexpr int kAhead = (kGroups - 1) * kGroup;
    extern __shared__ __align__(2 * kDepthBytes) unsigned char shared[];
    const std::uint32_t slots = shared_address(shared);

    const int tile = static_cast<int>(blockIdx.x);
    const int first_pixel = tile / geometry.column_tiles * kTile.rows;
    const int first_channel = tile % geometry.column_tiles * kTile.columns;
    OperandLoader<T, Product::kIndex, Product::kScalar, kSize, kGroup, kSlots> operands(
        geometry, src, weights, first_pixel, first_channel, slots);
    await_previous_kernel();
    const int first_tiles = (kSize * kSize * geometry.depth_tiles - 1) % kGroup + 1;
    int ended = 0;  // groups that could not be fetched, for there were none
    unrolled<kGroups - 1>([&](auto index) {
      constexpr int kSlot = decltype(index)::value * kGroup;
      bool fetched = true;
      if constexpr (kSlot == 0) {
        operands.fetch_first(first_tiles);
      } else {
        fetched = operands.template fetch_group<kSlot>();
      }
      if (!fetched) {
        ++ended;
      } else if (!kHasAsyncCopy) {
        operands.template land<kSlot>();
      }
      commit_copies();
      return true;
    });

    Product product(slots);
    product.begin(epilogue.shift, first_channel, geometry.dst_stride);
    // Multiplies the group that begins in slot kComputed, and fetches the one that all but the last
    // are ahead of; false where none was left to multiply.
    const auto multiply_group = [&]<int kComputed, bool kFirst>() {
      constexpr int kFetched = (kComputed + kAhead) % kSlots;
      // This group has landed for this thread, by the barrier for all; and all are done with the
      // group before it, whose place the next one takes.
      wait_for_copies<kGroups - 2>();
      __syncthreads();
      const bool fetched = operands.template fetch_group<kFetched>();
      if (!fetched && ++ended == kGroups) {
        return false;
      }
      commit_copies();
      unrolled<kGroup>([&](auto index) {
        constexpr int i = decltype(index)::value;
        if (kFirst && i >= first_tiles) {
          return false;
        }
        product.template multiply_tile<kComputed + i, kFirst && i == 0>();
        return true;
      });
      if (!kHasAsyncCopy && fetched) {
        operands.template land<kFetched>();
      }
      return true;
    };
    multiply_group.template operator()<0, true>();
    // The condition is the body: a flag between the two would cost instructions.
    while (unrolled<kGroups>([&](auto group) {
      constexpr int kComputed = (decltype(group)::value + 1) % kGroups * kGroup;
      return multiply_group.template operator()<kComputed, false>();
    })) {
    }
    store_product(geometry, product, first_pixel, first_channel, epilogue, dst);
  }
}

}  // namespace xception
