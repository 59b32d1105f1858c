// The kernel behind pointwise() and conv3x3(): a convolution as the product
//   dst[m][k] = epilogue(sum over taps and c of src[pixel(m, tap)][c] * weights[k][tap][c])
// of a matrix of pixels that is never written down and a matrix of weights. Taps outside the
// picture read as zero.
//
// Who computes what. A block has a tile of rows (output pixels) x columns (output channels), see
// kMatrixTiles; blocks run along the columns first, so that neighbours in time read the same
// pixels. A warp has warp_rows x warp_columns of it in registers.
//  - Tensor cores: lane 4 * g + t has rows g and g + 8 of every 16. Of every 32 columns (16 where
//    elements have 32 bits) it has 16 bytes of neighbouring channels, from 16 / sizeof(T) * t on.
//    The product's columns may stand in any order as long as weights and results agree, so the
//    rows of weights are read in the order that gives a lane neighbours: the epilogue runs on the
//    accumulators as they are, its loads and stores are 16 bytes a lane and 64 bytes a row, whole
//    sectors.
//  - Scalar: a lane has every 4th (32-bit) or 8th (16-bit) row, and 16 bytes of channels of every
//    32 columns.
//
// Shared memory: slots for tiles of operands, one after the other, each rows * 64 bytes of pixels
// and then columns * 64 bytes of weights: [row][32 elements of 16 bits, or 16 of 32]. A tap's
// channels are cut into such tiles, and a tap begins a new one. The chunks of 16 bytes are
// scrambled (chunk_offset() in implicit_gemm.h) so that cp.async, ldmatrix and the scalar loads
// touch every bank once a wavefront. A slot has 16,384 bytes in 128x128, 12,288 in 128x64, 8,192
// in 64x64, 6,144 in 64x32 and 4,096 in 32x32; there are 3, 4, 6, 8 and 9 of them (49,152 bytes,
// in the last 36,864), 3 for scalar code, and 2 on sm_75.
//
// Pipeline: groups of tiles are fetched by cp.async, all but one of the groups ahead of the one
// that is multiplied, with one barrier a group; on sm_75 one tile ahead into registers. Order of
// summation: taps, then channels, 32 bytes of k at a time, one accumulator an output; nothing is
// split along k.
//
// Between two barriers a warp has little to do but mma, ldmatrix and cp.async: addresses are
// constants of the slot, and a count of the tiles until the tap ends (operand_loader.cuh) is all
// that decides whether something else is due, the end of the sum included. It costs six
// instructions a group, and one an address when the slots begin anew.
//
// What limits it. Few pixels: the latency of a step, for a block's steps follow each other and k
// is not split. Many pixels and channels up to 256: memory. Many of both: tensor cores; on
// 8x19x19x728 to 728 channels in fp16 mma is 53 % of the warp instructions of the PTX, and 46 %
// with a residual. Loads use 96 % of their sectors at least, stores all of them, and shared memory
// has no bank conflicts. (Counters of the emulator, no times: docs/kernels.md.)
//
// Tried and dropped, by mma's share of that layer's warp instructions when it stood at 45.7 %:
// slots at computed addresses, 30 %; sums that begin as zeros in registers, 43.9 %. For the dense
// 4x4x728 layer at batch 8, when it stood at 31.6 %, warps of 16x32 and a barrier for each tile of
// operands: 22.4 %; its 128 pixels in 128x128 tiles would have made 56 %, on six multiprocessors.
#pragma once

#include <cstdint>

#include "kernels/epilogue.cuh"
#include "kernels/implicit_gemm.h"
#include "kernels/matrix_product.cuh"
#include "kernels/operand_loader.cuh"
#include "kernels/ptx.cuh"
#include "kernels/tiles.h"
#include "kernels/unrolled.cuh"
#include "kernels/vector.cuh"

namespace xception {

// Epilogue and store of what `product` holds.
template <class Product>
__device__ __forceinline__ void store_product(const ConvGeometry& geometry, const Product& product,
                                              int first_pixel, int first_channel,
                                              const DeviceEpilogue& epilogue,
                                              typename Product::Element* dst) {
  using T = typename Product::Element;
  constexpr int kWidth = Product::kWidth;
  using Vector = Words<kVectorWords<T, kWidth>>;
  const int pixel = first_pixel + product.first_row();
  const std::int64_t row_step = std::int64_t{geometry.dst_stride} * Product::kRowStep;
  bool inside[Product::kRows];
#pragma unroll
  for (int i = 0; i < Product::kRows; ++i) {
    inside[i] = i * Product::kRowStep < geometry.pixels - pixel;
  }
#pragma unroll
  for (int vector = 0; vector < Product::kVectors; ++vector) {
    const int channel = first_channel + product.column(vector);
    if (channel >= geometry.dst_stride) {
      continue;
    }
    float y[Product::kRows][kWidth];
    const auto set = [&](const auto& value) {
#pragma unroll
      for (int i = 0; i < Product::kRows; ++i) {
#pragma unroll
        for (int e = 0; e < kWidth; ++e) {
          y[i][e] = value(i, e);
        }
      }
    };
    set([&](int i, int e) { return product.sum(i, vector, e); });
    const ChannelEpilogue<T, kWidth> finish(epilogue, channel);
    const std::int64_t offset = result_offset(geometry, pixel, channel);
    finish.apply_inner(offset, row_step, inside, y);
    // An infinity times the weights' padding would be NaN in the padding of the result.
    const int channels = geometry.channels - channel;
    if (channels < kWidth) {
      set([&](int i, int e) { return e < channels ? y[i][e] : 0.0F; });
    }
    const auto store = [&](const auto& packed) {
      T* to = dst + offset;
#pragma unroll
      for (int i = 0; i < Product::kRows; ++i) {
        if (inside[i]) {
          store_words(reinterpret_cast<Vector*>(to), packed(y[i]));
        }
        to += row_step;
      }
    };
    if (finish.last_relu()) {
      store([](const float(&row)[kWidth]) { return pack_relu<T, kWidth>(row); });
    } else {
      store([](const float(&row)[kWidth]) { return pack<T, kWidth>(row); });
    }
  }
}

// One block a tile, tile_threads() threads, shared_bytes() of shared memory.
template <class Product, int kSize>
__global__ void __launch_bounds__(tile_threads(Product::kTile))
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
