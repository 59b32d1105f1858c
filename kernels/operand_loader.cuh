// How a block of implicit_gemm() brings its operands to shared memory: each thread copies the same
// chunk of 16 bytes of every few rows. A loader counts the tiles it has fetched by itself; the slot
// that the next one goes to is a constant of the call, and so are the offsets in the instructions.
#pragma once

#include <cstdint>

#include "kernels/implicit_gemm.h"
#include "kernels/ptx.cuh"
#include "kernels/tiles.h"
#include "kernels/unrolled.cuh"
#include "kernels/vector.cuh"

namespace xception {

// This thread's chunks of the rows of pixels: chunk `threadIdx.x % 4` of every kStep-th row.
template <class T, int kTileIndex, int kSize, int kSlots>
class PixelLoader {
 public:
  // `shared` is where the first slot begins.
  __device__ __forceinline__ PixelLoader(const ConvGeometry& geometry, const T* src,
                                         int first_pixel, std::uint32_t shared)
      : geometry_(geometry), src_(src), remaining_(geometry.depth_tiles) {
    const int chunk = static_cast<int>(threadIdx.x) % kChunksPerRow;
    const int row = static_cast<int>(threadIdx.x) / kChunksPerRow;
    const int in_last_tile = geometry.src_stride - (geometry.depth_tiles - 1) * kDepth;
    in_last_ = chunk * kVectorWidth<T> < in_last_tile;
    shared_ = shared + chunk_offset(row, chunk, pixel_scramble(row));
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int pixel = first_pixel + row + i * kStep;
      inside_[i] = 0;
      offset_[i] = 0;
      if (pixel < geometry.pixels) {
        // Without a stride the pixels of both sides follow each other alike.
        const WindowOrigin origin = kSize == 1 && geometry.stride == 1
                                        ? WindowOrigin{0, 0, pixel}
                                        : window_origin(geometry, pixel);
        inside_[i] = kSize == 1 ? 1U : inside_taps(geometry, origin, kSize);
        offset_[i] = source_offset(geometry, origin) + chunk * kVectorWidth<T>;
      }
    }
    begin_tap<0>();
  }

  // Fetches the next tile of operands into slot kSlot.
  template <int kSlot>
  __device__ __forceinline__ void fetch() {
    unrolled<kRows>([&](auto index) {
      constexpr int i = decltype(index)::value;
      copies_[i].template fetch<offset<kSlot>(i), kSlot * kDepthBytes>(shared_, source_[i],
                                                                       bytes_[i]);
      source_[i] += kSlot + 1 == kSlots ? kSlots * kDepth : 0;
      return true;
    });
    --remaining_;
    // Once a tap; twice where its last tile is not full.
    if (remaining_ <= 1) {
      if (remaining_ == 0 && kSize > 1) {
        ++tap_;
        remaining_ = geometry_.depth_tiles;
        begin_tap<(kSlot + 1) % kSlots>();
      } else {
        drop_missing_channels();
      }
    }
  }

  template <int kSlot>
  __device__ __forceinline__ void land() const {
    unrolled<kRows>([&](auto index) {
      constexpr int i = decltype(index)::value;
      copies_[i].template land<offset<kSlot>(i)>(shared_);
      return true;
    });
  }

 private:
  static constexpr MatrixTile kTile = kMatrixTiles[kTileIndex];
  static constexpr int kDepth = kDepthBytes / static_cast<int>(sizeof(T));
  static constexpr int kStep = tile_threads(kTile) / kChunksPerRow;
  static constexpr int kRows = kTile.rows / kStep;
  static_assert(kTile.rows % kStep == 0 && kStep % 8 == 0, "the scramble repeats every 8 rows");

  template <int kSlot>
  __host__ __device__ static constexpr int offset(int i) {
    return kSlot * operand_bytes(kTile) + i * kStep * kDepthBytes;
  }

  // The tap's first tile goes to slot kSlot.
  template <int kSlot>
  __device__ __forceinline__ void begin_tap() {
    const std::int64_t tap = tap_offset(geometry_, tap_ / kSize, tap_ % kSize);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const bool inside = (inside_[i] >> tap_ & 1U) != 0;
      // Nothing is read where the tap lies outside, but the address must be one.
      source_[i] = src_ + (inside ? offset_[i] + tap : 0) - kSlot * kDepth;
      bytes_[i] = inside ? kChunkBytes : 0;
    }
    if (remaining_ == 1) {
      drop_missing_channels();
    }
  }

  __device__ __forceinline__ void drop_missing_channels() {
    if (!in_last_) {
      rarely();
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        bytes_[i] = 0;
      }
    }
  }

  const ConvGeometry& geometry_;
  const T* src_;
  int remaining_;  // tiles of this tap
  int tap_ = 0;
  bool in_last_;  // whether the tap's last tile has this thread's chunk
  std::uint32_t shared_;
  unsigned inside_[kRows];
  std::int64_t offset_[kRows];
  const T* source_[kRows];  // of the next tile, less its slot's number of tiles
  int bytes_[kRows];
  ChunkCopy copies_[kRows];
};

// This thread's chunks of the rows of weights, which lie one after the other along k.
template <class T, int kTileIndex, bool kScalar, int kSlots>
class WeightLoader {
 public:
  __device__ __forceinline__ WeightLoader(const ConvGeometry& geometry, const T* weights, int taps,
                                          int first_channel, std::uint32_t shared) {
    const int chunk = static_cast<int>(threadIdx.x) % kChunksPerRow;
    const int row = static_cast<int>(threadIdx.x) / kChunksPerRow;
    const std::int64_t row_elements = std::int64_t{taps} * geometry.depth_tiles * kDepth;
    shared_ = shared + chunk_offset(row, chunk, weight_scramble(row, kWidth, kScalar));
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int channel = first_channel + row + i * kStep;
      const bool inside = channel < geometry.dst_stride;
      bytes_[i] = inside ? kChunkBytes : 0;
      source_[i] = weights + (inside ? channel * row_elements + chunk * kWidth : 0);
    }
  }

  template <int kSlot>
  __device__ __forceinline__ void fetch() {
    unrolled<kRows>([&](auto index) {
      constexpr int i = decltype(index)::value;
      copies_[i].template fetch<offset<kSlot>(i), kSlot * kDepthBytes>(scrambled<i>(), source_[i],
                                                                       bytes_[i]);
      source_[i] += kSlot + 1 == kSlots ? kSlots * kDepth : 0;
      return true;
    });
  }

  template <int kSlot>
  __device__ __forceinline__ void land() const {
    unrolled<kRows>([&](auto index) {
      constexpr int i = decltype(index)::value;
      copies_[i].template land<offset<kSlot>(i)>(scrambled<i>());
      return true;
    });
  }

 private:
  static constexpr MatrixTile kTile = kMatrixTiles[kTileIndex];
  static constexpr int kDepth = kDepthBytes / static_cast<int>(sizeof(T));
  static constexpr int kStep = tile_threads(kTile) / kChunksPerRow;
  static constexpr int kRows = kTile.columns / kStep;
  static constexpr int kWidth = kVectorWidth<T>;
  static_assert(kTile.columns % kStep == 0 && kStep % kWidth == 0);

  template <int kSlot>
  __host__ __device__ static constexpr int offset(int i) {
    return kSlot * operand_bytes(kTile) + (kTile.rows + i * kStep) * kDepthBytes;
  }

  // Row i * kStep + row: i's part of the scramble has no bit in common with row's, and shared
  // memory begins at a multiple of what the scramble changes.
  template <int i>
  __device__ __forceinline__ std::uint32_t scrambled() const {
    constexpr int kScramble = weight_scramble(i * kStep, kWidth, kScalar);
    return shared_ ^ (kScramble * kChunkBytes);
  }

  std::uint32_t shared_;
  const T* source_[kRows];
  int bytes_[kRows];
  ChunkCopy copies_[kRows];
};

}  // namespace xception
