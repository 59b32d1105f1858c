// The kernel behind pointwise() in small tiles: the same product as implicit_gemm(), from global
// memory into the registers of those who multiply.
//
// Who computes what. Lanes as there, in warps of 32 x 32. Of a block's warps those beside each
// other share pixels and those below each other weights, which all but the first find in the
// first-level cache. So one instance serves all tiles that consist of such warps.
//
// Shared memory: none, and no barrier.
//
// Pipeline: kStages tiles of operands, 64 bytes of k each, are on their way into registers, and
// each is asked for as soon as the one that was there before it has been multiplied. Pixels are 16
// bytes a lane, 64 neighbouring ones of each of eight rows, and weights 512 neighbouring ones:
// whole sectors. Rows behind the last pixel repeat it, so that nothing in the loop depends on where
// the tile lies; their sums are not stored. Order of summation: that of implicit_gemm().
//
// What limits it. A warp alone on its scheduler: the latency of memory, against which the stages
// stand, and then its own instructions. On 8x4x4x728 to 728 channels in fp16 mma is 44 % of them,
// and 40 % with a residual; through shared memory, which takes a copy and a load where this takes a
// load, it is 30 and 28 %. On 8x8x8x728, in tiles of 64x64, it is 44 % for 34 %. (Counters of the
// emulator, no times: docs/kernels.md.)
//
// Tried and dropped: four stages, which spill on sm_100 in 16 bits.
#pragma once

#include <cstdint>

#include "kernels/gpu.h"
#include "kernels/implicit_gemm.h"
#include "kernels/ptx.cuh"
#include "kernels/store_product.cuh"
#include "kernels/tiles.h"
#include "kernels/unrolled.cuh"
#include "kernels/vector.cuh"

namespace xception {

// This lane's chunks of one tile of k.
template <class Sums>
struct DirectOperands {
  Words<4> pixels[Sums::kPixels];
  Words<4> weights[Sums::kFragments];
};

// Where a lane's chunks are, from tile to tile of k, of block `block` of the weights.
template <class Sums, bool kStrided>
class DirectLoader {
 public:
  using T = typename Sums::Element;

  __device__ __forceinline__ DirectLoader(const ConvGeometry& geometry, const T* src,
                                          const T* weights, int first_pixel, int block) {
    const std::uint64_t chunk = global_address(src) + Sums::chunk() * kChunkBytes;
    const int stride_bytes = geometry.src_stride * static_cast<int>(sizeof(T));
#pragma unroll
    for (int i = 0; i < Sums::kPixels; ++i) {
      const int row = first_pixel + Sums::first_pixel() + i * Sums::kPixelStep;
      const int pixel = min(row, geometry.pixels - 1);
      // Without a stride the pixels of both sides follow each other alike.
      const std::int64_t offset =
          kStrided ? source_offset(geometry, window_origin(geometry, pixel)) * sizeof(T)
                   : std::int64_t{pixel} * stride_bytes;
      pixels_[i] = kept(chunk + offset);
    }
    const int lane = static_cast<int>(threadIdx.x % 32);
    weights_ = kept(global_address(weights) + lane * kChunkBytes +
                    std::int64_t{block} * geometry.depth_tiles * kBlockBytes);
  }

  // Loads the tile that lies kTile ahead. `wanted`: whether the pixels have this lane's chunk of
  // it; zeros where not.
  template <int kTile>
  __device__ __forceinline__ void load(DirectOperands<Sums>& to, bool wanted = true) const {
    load_pixels<kTile>(to, wanted);
    load_weights<kTile>(to);
  }
  template <int kTile>
  __device__ __forceinline__ void load_pixels(DirectOperands<Sums>& to, bool wanted = true) const {
    unrolled<Sums::kPixels>([&](auto index) {
      constexpr int i = decltype(index)::value;
      to.pixels[i] = wanted ? load_activation<kTile * kDepthBytes>(pixels_[i]) : Words<4>{};
      return true;
    });
  }
  template <int kTile>
  __device__ __forceinline__ void load_weights(DirectOperands<Sums>& to) const {
    unrolled<Sums::kFragments>([&](auto index) {
      constexpr int i = decltype(index)::value;
      to.weights[i] = load_global<kTile * kBlockBytes + i * kFragmentBytes>(weights_);
      return true;
    });
  }

  __device__ __forceinline__ void advance(int tiles) {
#pragma unroll
    for (int i = 0; i < Sums::kPixels; ++i) {
      pixels_[i] += tiles * kDepthBytes;
    }
    weights_ += tiles * kBlockBytes;
  }

 private:
  static constexpr int kBlockBytes = kBlockColumns * kDepthBytes;

  std::uint64_t pixels_[Sums::kPixels];
  std::uint64_t weights_;
};

template <bool kFirst, class Sums>
__device__ __forceinline__ void add_tile(const DirectOperands<Sums>& operands, Sums& sums) {
#pragma unroll
  for (int i = 0; i < Sums::kFragments; ++i) {
    sums.template add<kFirst>(operands.pixels, 0, i, operands.weights[i]);
  }
}

// Adds the products of all tiles of k that are whole, one at least. How many tiles from the place
// where the loader is left the next one would be, or backwards.
template <class Sums, bool kStrided>
__device__ __forceinline__ int add_whole_tiles(int whole, DirectLoader<Sums, kStrided>& loader,
                                               Sums& sums) {
  constexpr int kStages = 3;
  constexpr int kUnrolled = 2 * kStages;
  DirectOperands<Sums> stages[kStages];
  each_inside<kStages>(whole, [&](auto index) {
    constexpr int i = decltype(index)::value;
    loader.template load_weights<i>(stages[i]);
  });
  await_previous_kernel();
  each_inside<kStages>(whole, [&](auto index) {
    constexpr int i = decltype(index)::value;
    loader.template load_pixels<i>(stages[i]);
  });
  add_tile<true>(stages[0], sums);
  if (kStages < whole) {
    loader.template load<kStages>(stages[0]);
  }
  // From here on stage (i + 1) % kStages has the tile i of those that are left.
  loader.advance(kStages + 1);
  int left = whole - 1;
  for (; left >= kUnrolled + kStages; left -= kUnrolled) {
    unrolled<kUnrolled>([&](auto index) {
      constexpr int i = decltype(index)::value;
      DirectOperands<Sums>& stage = stages[(i + 1) % kStages];
      add_tile<false>(stage, sums);
      loader.template load<i>(stage);
      return true;
    });
    loader.advance(kUnrolled);
  }
  unrolled<kUnrolled + kStages - 1>([&](auto index) {
    constexpr int i = decltype(index)::value;
    DirectOperands<Sums>& stage = stages[(i + 1) % kStages];
    if (i >= left) {
      return false;
    }
    add_tile<false>(stage, sums);
    if (i < kUnrolled - 1 && i + kStages < left) {
      loader.template load<i>(stage);
    }
    return true;
  });
  return left - kStages;
}

// x of a block's threads counts the rows of its tile, y the warps beside each other; no shared
// memory. Without the 1 the compiler spills where it could fit more blocks.
template <class Sums, bool kStrided>
__global__ void __launch_bounds__(tile_threads(kMatrixTiles[kDirectTile]), 1)
    direct_gemm(const ConvGeometry geometry, const typename Sums::Element* __restrict__ src,
                const typename Sums::Element* __restrict__ weights, typename Sums::Element* dst,
                const DeviceEpilogue epilogue) {
  static_assert(Sums::kTile.rows == 32 && Sums::kTile.columns == kBlockColumns);
  if constexpr (Sums::kAvailable) {
    constexpr unsigned kDepth = kDepthBytes / sizeof(typename Sums::Element);
    constexpr bool kHalves = kDepth > channel_stride(1);  // the last tile of k may be half a one
    const auto across = static_cast<unsigned>(geometry.column_tiles);
    const auto first_pixel =
        static_cast<int>(kept(blockIdx.x / across * blockDim.x + threadIdx.x / 32 * 32));
    const auto block = static_cast<int>(blockIdx.x % across * blockDim.y + threadIdx.y);
    const int first_channel = block * kBlockColumns;
    if (first_channel >= geometry.dst_stride) {
      await_previous_kernel();
      return;
    }
    DirectLoader<Sums, kStrided> loader(geometry, src, weights, first_pixel, block);
    Sums sums;
    sums.begin(epilogue.shift, first_channel, geometry.dst_stride);
    const auto depth = static_cast<unsigned>(geometry.src_stride);  // unsigned: a shift divides it
    const int whole = static_cast<int>(kept(depth / kDepth));
    const int rest = static_cast<int>(depth % kDepth);
    const auto add_rest = [&]<bool kFirst>() {
      DirectOperands<Sums> operands;
      loader.template load<0>(operands, Sums::chunk() * (int{kDepth} / kChunksPerRow) < rest);
      add_tile<kFirst>(operands, sums);
    };
    if (kHalves && whole == 0) {
      await_previous_kernel();
      add_rest.template operator()<true>();
    } else {
      const int ahead = add_whole_tiles(whole, loader, sums);
      if (kHalves && rest > 0) {
        loader.advance(ahead);
        add_rest.template operator()<false>();
      }
    }
    store_product(geometry, sums, first_pixel, first_channel, epilogue, dst);
  }
}

}  // namespace xception
