// The kernel behind pointwise() on Hopper GPUs (code of sm_90a), in 16 bits and without a stride:
//   dst[m][k] = epilogue(sum over c of src[m][c] * weights[k][c])
//
// Who computes what. A block has a tile of rows (pixels) x columns (output channels), see
// kWarpgroupTiles; blocks run along the columns first. Its warpgroups, four warps each, lie one
// below the other and have 64 rows of all columns: wgmma multiplies them by what stands in shared
// memory and adds to sums in registers. One more warp fetches. In the tile of 32 rows, which gives
// small layers twice as many blocks, the lower half of a warpgroup's rows are no pixels but the
// slot's weights, which lie behind them: there is nothing to fill in, and nobody keeps the sums.
//
// Shared memory: `stages` slots, each rows * 128 bytes of pixels and then columns * 128 bytes of
// weights, 64 elements of k, in the 128-byte swizzle; behind them two barriers a slot. 96 KiB in
// 128x128 and 128x64, 64 to 72 in the others.
//
// Pipeline: the fetching warp's first lane waits until a slot is empty and asks for its pixels and
// its weights, a box of a tensor map each, whose hardware swizzles and fills in zeros behind the
// last row and the last channel. The slot is full when all bytes have landed. Warpgroups keep one
// slot's products under way while they start on the next, and give back the slot before. Weights of
// the first slots are on their way before the kernel waits for the one before it. Nobody waits for
// all of the block but once, at the start: a multiprocessor holds two or three blocks, so that
// one's epilogue goes on beside another's products. Order of summation: the shift, then channels,
// 16 at a time.
//
// The sums' columns may mean any channels that the weights are packed for. So a thread has eight
// neighbouring channels of each 32, and the epilogue runs on the sums as they are, 16 bytes a row,
// 64 neighbouring ones by four lanes: whole sectors.
//
// What limits it. Few pixels: the latency of a step. Many pixels and few channels: memory. Many of
// both: tensor cores, and the ends of blocks.
//
// Tried and dropped, on an H100: copies by all threads (cp.async) and a barrier a step in the place
// of bulk copies, which was no faster than mma.sync, for they pass through the load and store
// units; clusters of two blocks that share weights, which was slower.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/column_vectors.cuh"
#include "kernels/epilogue.cuh"
#include "kernels/gpu.h"
#include "kernels/implicit_gemm.h"
#include "kernels/ptx.cuh"
#include "kernels/store_product.cuh"
#include "kernels/unrolled.cuh"
#include "kernels/warpgroup_gemm.h"
#include "kernels/wgmma.cuh"

namespace xception {

// A thread's sums of a warpgroup's rows: eight neighbouring channels of each 32, of two rows.
template <class T, int kTileIndex>
class WarpgroupSums {
 public:
  static constexpr WarpgroupTile kTile = kWarpgroupTiles[kTileIndex];
  static_assert(kTile.columns % kBlockColumns == 0 && kTile.rows <= kMatrixTiles[0].rows &&
                kTile.stages >= 2);
  static_assert(kTile.rows % kWarpgroupRows == 0 || kTile.rows + kTile.columns == kWarpgroupRows,
                "a product reads no further than its slot");
  static constexpr int kWidth = 8;
  static constexpr int kRows = 2;
  static constexpr int kVectors = kTile.columns / 32;

  __device__ __forceinline__ static int row(int i) {
    return static_cast<int>(threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4) + i * 8;
  }
  __device__ __forceinline__ static int column(int vector) {
    return vector * 32 + static_cast<int>(threadIdx.x % 4) * kWidth;
  }

  // The sums begin with the shift of their channels, `channel` being that of column 0; null: zero.
  __device__ __forceinline__ void begin(const float* shift, int channel, int channels) {
    float start[kVectors * kWidth];
    load_shift(*this, shift, channel, channels, start);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int vector = 0; vector < kVectors; ++vector) {
#pragma unroll
        for (int e = 0; e < kWidth; ++e) {
          sum_[index(i, vector, e)] = start[vector * kWidth + e];
        }
      }
    }
  }

  // Adds the products of kSteps times 16 elements of k of one slot, by their descriptors.
  template <int kSteps>
  __device__ __forceinline__ void add(std::uint64_t pixels, std::uint64_t weights) {
    constexpr int kStepBytes = 32;
    begin_products();
    unrolled<kSteps>([&](auto step) {
      constexpr int kOffset = decltype(step)::value * (kStepBytes >> 4);
      multiply_async(pixels + kOffset, weights + kOffset, sum_, T{});
      return true;
    });
    commit_products();
  }

  __device__ __forceinline__ void finish() {
    wait_for_products<0>();
    pin(sum_);
  }

  __device__ __forceinline__ float sum(int i, int vector, int e) const {
    return sum_[index(i, vector, e)];
  }

 private:
  __device__ __forceinline__ static constexpr int index(int row, int vector, int e) {
    return (vector * 4 + e / 2) * 4 + row * 2 + e % 2;
  }

  float sum_[kTile.columns / 2];
};

// One of the rows, as store_product() takes it: two at once would not fit the registers.
template <class T, int kTileIndex, int kRow>
struct WarpgroupRow {
  using Sums = WarpgroupSums<T, kTileIndex>;
  using Element = T;
  static constexpr int kWidth = Sums::kWidth;
  static constexpr int kRows = 1;
  static constexpr int kRowStep = 1;
  static constexpr int kVectors = Sums::kVectors;

  __device__ __forceinline__ static int first_row() { return Sums::row(kRow); }
  __device__ __forceinline__ static int column(int vector) { return Sums::column(vector); }
  __device__ __forceinline__ float sum(int, int vector, int e) const {
    return sums.sum(kRow, vector, e);
  }

  const Sums& sums;
};

// Slots of operands and their barriers, as both sides of the pipeline see them.
template <int kTileIndex>
class WarpgroupSlots {
 public:
  static constexpr WarpgroupTile kTile = kWarpgroupTiles[kTileIndex];

  __device__ __forceinline__ explicit WarpgroupSlots(std::uint32_t shared)
      : first_((shared + kWarpgroupAlignment - 1) / kWarpgroupAlignment * kWarpgroupAlignment) {}

  __device__ __forceinline__ void init() const {
    for (int slot = 0; slot < kTile.stages; ++slot) {
      init_barrier(full(slot), 1);
      init_barrier(empty(slot), multiplying_warps(kTile));
    }
    publish_barriers();
  }

  __device__ __forceinline__ std::uint32_t pixels(int slot) const {
    return first_ + slot * warpgroup_slot_bytes(kTile);
  }
  __device__ __forceinline__ std::uint32_t weights(int slot) const {
    return pixels(slot) + kTile.rows * kWarpgroupRowBytes;
  }
  // All bytes have landed.
  __device__ __forceinline__ std::uint32_t full(int slot) const {
    return pixels(kTile.stages) + slot * 16;
  }
  // All warps that multiply are done with it.
  __device__ __forceinline__ std::uint32_t empty(int slot) const { return full(slot) + 8; }

 private:
  std::uint32_t first_;
};

// A place in the ring of slots: tile after tile of k.
template <int kStages>
struct WarpgroupPlace {
  int slot = 0;
  std::uint32_t parity = 0;  // of the slot's phase
  __device__ __forceinline__ void advance() {
    if (++slot == kStages) {
      slot = 0;
      parity ^= 1;
    }
  }
};

// What the fetching warp does.
template <int kTileIndex>
__device__ __forceinline__ void fetch_operands(const WarpgroupSlots<kTileIndex>& slots, int tiles,
                                               const CUtensorMap& pixels, int first_pixel,
                                               const CUtensorMap& weights, int first_channel) {
  constexpr WarpgroupTile kTile = kWarpgroupTiles[kTileIndex];
  const bool fetches = threadIdx.x % 32 == 0;
  const auto fetch_weights = [&](int slot, int tile) {
    arrive_expecting(slots.full(slot), warpgroup_slot_bytes(kTile));
    copy_box(slots.weights(slot), weights, tile * kWarpgroupDepth, first_channel, slots.full(slot));
  };
  const auto fetch_pixels = [&](int slot, int tile) {
    copy_box(slots.pixels(slot), pixels, tile * kWarpgroupDepth, first_pixel, slots.full(slot));
  };
  const int ahead = min(tiles, kTile.stages);
  for (int tile = 0; fetches && tile < ahead; ++tile) {
    fetch_weights(tile, tile);
  }
  await_previous_kernel();
  for (int tile = 0; fetches && tile < ahead; ++tile) {
    fetch_pixels(tile, tile);
  }
  WarpgroupPlace<kTile.stages> place;
  for (int tile = kTile.stages; fetches && tile < tiles; ++tile) {
    wait_for_phase(slots.empty(place.slot), place.parity);
    fetch_weights(place.slot, tile);
    fetch_pixels(place.slot, tile);
    place.advance();
  }
}

// Has the residual of a thread's results in the second-level cache when the epilogue asks for it.
template <class T, int kTileIndex>
__device__ __forceinline__ void prefetch_residual(const WarpgroupSums<T, kTileIndex>& sums,
                                                  const ConvGeometry& geometry, const T* residual,
                                                  int first_pixel, int first_channel) {
  using Sums = WarpgroupSums<T, kTileIndex>;
#pragma unroll
  for (int i = 0; i < Sums::kRows; ++i) {
    const int pixel = first_pixel + sums.row(i);
#pragma unroll
    for (int vector = 0; vector < Sums::kVectors; ++vector) {
      const int channel = first_channel + sums.column(vector);
      if (pixel < geometry.pixels && channel < geometry.dst_stride) {
        prefetch(residual + result_offset(geometry, pixel, channel));
      }
    }
  }
}

// What the others do: all tiles of k.
template <class T, int kTileIndex>
__device__ __forceinline__ void multiply_operands(const WarpgroupSlots<kTileIndex>& slots,
                                                  const ConvGeometry& geometry,
                                                  WarpgroupSums<T, kTileIndex>& sums) {
  constexpr WarpgroupTile kTile = kWarpgroupTiles[kTileIndex];
  constexpr int kSteps = kWarpgroupDepth / 16;
  const int group = static_cast<int>(threadIdx.x) / 128;
  const bool releases = threadIdx.x % 32 == 0;
  WarpgroupPlace<kTile.stages> place;
  const auto add = [&]<int kCount>() {
    wait_for_phase(slots.full(place.slot), place.parity);
    sums.template add<kCount>(
        matrix_descriptor(slots.pixels(place.slot) + group * kWarpgroupRows * kWarpgroupRowBytes),
        matrix_descriptor(slots.weights(place.slot)));
  };
  int before = 0;
  for (int tile = 0; tile + 1 < geometry.depth_tiles; ++tile) {
    add.template operator()<kSteps>();
    wait_for_products<1>();
    __syncwarp();  // one lane speaks for all
    if (releases && tile > 0) {
      arrive(slots.empty(before));
    }
    before = place.slot;
    place.advance();
  }
  // Channels behind the last are not multiplied. Nobody waits for the last slots to be empty.
  const int steps = geometry.src_stride / 16 - (geometry.depth_tiles - 1) * kSteps;
  if (steps == kSteps) {
    add.template operator()<kSteps>();
  } else if (steps == 3) {
    add.template operator()<3>();
  } else if (steps == 2) {
    add.template operator()<2>();
  } else {
    add.template operator()<1>();
  }
  sums.finish();
}

// One block a tile, warpgroup_threads() threads, warpgroup_shared_bytes() of shared memory. The
// maps have boxes of 64 channels x the tile's rows, of the source's pixels, and x the tile's
// columns, of what pack_warpgroup() made.
template <class T, int kTileIndex>
__global__ void __launch_bounds__(warpgroup_threads(kWarpgroupTiles[kTileIndex]),
                                  kWarpgroupTiles[kTileIndex].blocks)
    warpgroup_gemm(const __grid_constant__ ConvGeometry geometry,
                   const __grid_constant__ CUtensorMap pixels,
                   const __grid_constant__ CUtensorMap weights, T* dst,
                   const __grid_constant__ DeviceEpilogue epilogue) {
  if constexpr (kHasWgmma) {
    constexpr WarpgroupTile kTile = kWarpgroupTiles[kTileIndex];
    extern __shared__ __align__(2 * kDepthBytes) unsigned char shared[];
    const WarpgroupSlots<kTileIndex> slots(shared_address(shared));
    const int tile = static_cast<int>(blockIdx.x);
    const int first_pixel = tile / geometry.column_tiles * kTile.rows;
    const int first_channel = tile % geometry.column_tiles * kTile.columns;
    if (threadIdx.x == 0) {
      slots.init();
    }
    __syncthreads();
    if (threadIdx.x / 32 == multiplying_warps(kTile)) {
      fetch_operands(slots, geometry.depth_tiles, pixels, first_pixel, weights, first_channel);
      return;
    }
    WarpgroupSums<T, kTileIndex> sums;
    const bool keeps = sums.row(0) < kTile.rows;  // what it multiplies; the same in all of a warp
    sums.begin(epilogue.shift, first_channel, geometry.dst_stride);
    await_previous_kernel();
    if (keeps && epilogue.residual != nullptr) {
      prefetch_residual(sums, geometry, static_cast<const T*>(epilogue.residual), first_pixel,
                        first_channel);
    }
    multiply_operands(slots, geometry, sums);
    if (!keeps) {
      return;
    }
    unrolled<decltype(sums)::kRows>([&](auto row) {
      store_product(geometry, WarpgroupRow<T, kTileIndex, decltype(row)::value>{sums}, first_pixel,
                    first_channel, epilogue, dst);
      return true;
    });
  }
}

}  // namespace xception
