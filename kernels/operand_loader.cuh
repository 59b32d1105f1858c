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

// This thread's chunks of the rows of pixels: chunk `threadIdx.x % 4` of every kStep-th row. Tiles
// come in runs, within which nothing changes but the address: a tap's tiles, or all but the last
// where that is not full. Where a chunk lies outside the picture or behind its channels, no byte is
// asked for, and what stands as its address is never read.
template <class T, int kTileIndex, bool kScalar, int kSize, int kSlots>
class PixelLoader {
 public:
  // `shared` is where the first slot begins.
  __device__ __forceinline__ PixelLoader(const ConvGeometry& geometry, const T* src,
                                         int first_pixel, std::uint32_t shared)
      : geometry_(geometry), remaining_(geometry.depth_tiles) {
    const int chunk = static_cast<int>(threadIdx.x % kChunksPerRow);
    const int row = static_cast<int>(threadIdx.x / kChunksPerRow);
    const int in_last_tile = geometry.src_stride - (geometry.depth_tiles - 1) * kDepth;
    partial_ = in_last_tile < kDepth ? 1 : 0;
    in_last_ = chunk * kVectorWidth<T> < in_last_tile;
    shared_ = shared + chunk_offset(row, chunk, kScalar);
    const int first = first_pixel + row;
    src += chunk * kVectorWidth<T>;
    if (kSize == 1 && geometry.stride == 1) {
      // The pixels of both sides follow each other alike.
      src += std::int64_t{first} * geometry.src_stride;
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        source_[i] = src;
        src += std::int64_t{kStep} * geometry.src_stride;
        inside_[i] = first + i * kStep < geometry.pixels ? kChunkBytes : 0;
      }
    } else {
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const int pixel = first + i * kStep;
        const WindowOrigin origin = window_origin(geometry, pixel);
        source_[i] = src + source_offset(geometry, origin);
        const unsigned taps = kSize == 1 ? 1U : inside_taps(geometry, origin, kSize);
        inside_[i] = pixel < geometry.pixels ? taps * kChunkBytes : 0;
      }
    }
    begin_tap();
    begin_run();
  }

  // Tiles that fetch() may fetch before turn() is due.
  __device__ __forceinline__ int run() const { return run_; }
  __device__ __forceinline__ bool done() const {
    return run_ + remaining_ == 0 && tap_ == kSize * kSize - 1;
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
    --run_;
  }

  // Leaves the next `slots` slots free.
  __device__ __forceinline__ void skip_slots(int slots) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      source_[i] -= slots * kDepth;
    }
  }

  // Goes to the next run, where this one is over and not the last.
  __device__ __forceinline__ void turn() {
    if (kSize > 1 && remaining_ == 0) {
      ++tap_;
      remaining_ = geometry_.depth_tiles;
      const std::int64_t step = tap_step(geometry_, kSize, tap_) - remaining_ * kDepth;
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        source_[i] += step;
        inside_[i] >>= 1;
      }
      begin_tap();
    }
    begin_run();
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

  __device__ __forceinline__ void begin_tap() {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      bytes_[i] = inside_[i] & kChunkBytes;
    }
  }

  __device__ __forceinline__ void begin_run() {
    const bool wanted = remaining_ > 1 || in_last_;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      bytes_[i] = wanted ? bytes_[i] : 0;
      if (bytes_[i] == 0) {
        copies_[i].clear();
      }
    }
    run_ = max(remaining_ - partial_, 1);
    remaining_ -= run_;
  }

  const ConvGeometry& geometry_;
  int run_;
  int remaining_;  // tiles of this tap behind the run
  int tap_ = 0;
  int partial_;   // tiles of a tap that are not full: none or one
  bool in_last_;  // whether the tap's last tile has this thread's chunk
  std::uint32_t shared_;
  const T* source_[kRows];  // of the next tile, less its slot's number of tiles
  unsigned inside_[kRows];  // from kChunkBytes on a bit for this tap and for each behind it
  unsigned bytes_[kRows];
  ChunkCopy copies_[kRows];
};

// This thread's chunks of the weights, whose blocks lie one after the other along k: what stands as
// a row here is as many bytes of a block. Blocks behind the last repeat it: their sums are not
// stored.
template <class T, int kTileIndex, bool kScalar, int kSlots>
class WeightLoader {
 public:
  __device__ __forceinline__ WeightLoader(const ConvGeometry& geometry, const T* weights, int taps,
                                          int first_channel, std::uint32_t shared) {
    const int chunk = static_cast<int>(threadIdx.x % kChunksPerRow);
    const int row = static_cast<int>(threadIdx.x / kChunksPerRow);
    const std::int64_t block = std::int64_t{taps} * geometry.depth_tiles * kBlock;
    const int last = (geometry.dst_stride - 1) / kBlockColumns;
    shared_ = shared + chunk_offset(row, chunk, kScalar);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int column = first_channel + row + i * kStep;
      source_[i] = weights + min(column / kBlockColumns, last) * block +
                   column % kBlockColumns * kDepth + chunk * kVectorWidth<T>;
    }
  }

  template <int kSlot>
  __device__ __forceinline__ void fetch() {
    unrolled<kRows>([&](auto index) {
      constexpr int i = decltype(index)::value;
      constexpr int kBlockBytes = kBlockColumns * kDepthBytes;
      copies_[i].template fetch<offset<kSlot>(i), kSlot * kBlockBytes>(shared_, source_[i]);
      source_[i] += kSlot + 1 == kSlots ? kSlots * kBlock : 0;
      return true;
    });
  }

  // Leaves the next `slots` slots free.
  __device__ __forceinline__ void skip_slots(int slots) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      source_[i] -= slots * kBlock;
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
  static constexpr int kBlock = kBlockColumns * kDepth;  // elements
  static constexpr int kStep = tile_threads(kTile) / kChunksPerRow;
  static constexpr int kRows = kTile.columns / kStep;
  static_assert(kTile.columns % kStep == 0 && kStep % 8 == 0, "the scramble repeats every 8 rows");

  template <int kSlot>
  __host__ __device__ static constexpr int offset(int i) {
    return kSlot * operand_bytes(kTile) + (kTile.rows + i * kStep) * kDepthBytes;
  }

  std::uint32_t shared_;
  const T* source_[kRows];
  ChunkCopy copies_[kRows];
};

// Both, a group of tiles at a time. The first group has what does not make a whole one, so that all
// others are whole.
template <class T, int kTileIndex, bool kScalar, int kSize, int kGroup, int kSlots>
class OperandLoader {
 public:
  __device__ __forceinline__ OperandLoader(const ConvGeometry& geometry, const T* src,
                                           const T* weights, int first_pixel, int first_channel,
                                           std::uint32_t shared)
      : pixels_(geometry, src, first_pixel, shared),
        weights_(geometry, weights, kSize * kSize, first_channel, shared) {}

  // Fetches the first group, of `tiles` tiles, 1 to kGroup.
  __device__ __forceinline__ void fetch_first(int tiles) {
    fetch_turning<0, true>(tiles);
    if constexpr (kGroup > 1) {
      pixels_.skip_slots(kGroup - tiles);
      weights_.skip_slots(kGroup - tiles);
    }
  }

  // Fetches the next group into the slots from kSlot on; false where none is left.
  template <int kSlot>
  __device__ __forceinline__ bool fetch_group() {
    if (pixels_.run() < kGroup) [[unlikely]] {
      if (pixels_.done()) {
        return false;
      }
      fetch_turning<kSlot, false>(kGroup);
      return true;
    }
    unrolled<kGroup>([&](auto index) {
      fetch<kSlot + decltype(index)::value>();
      return true;
    });
    return true;
  }

  // Stores what was fetched into slot kSlot, where no cp.async does it.
  template <int kSlot>
  __device__ __forceinline__ void land() const {
    pixels_.template land<kSlot>();
    weights_.template land<kSlot>();
  }

 private:
  template <int kSlot>
  __device__ __forceinline__ void fetch() {
    pixels_.template fetch<kSlot>();
    weights_.template fetch<kSlot>();
  }

  // kFirst: a run has just begun.
  template <int kSlot, bool kFirst>
  __device__ __forceinline__ void fetch_turning(int tiles) {
    unrolled<kGroup>([&](auto index) {
      constexpr int i = decltype(index)::value;
      if (i >= tiles) {
        return false;
      }
      if (!(kFirst && i == 0) && pixels_.run() == 0) {
        pixels_.turn();
      }
      fetch<kSlot + i>();
      return true;
    });
  }

  PixelLoader<T, kTileIndex, kScalar, kSize, kSlots> pixels_;
  WeightLoader<T, kTileIndex, kScalar, kSlots> weights_;
};

}  // namespace xception
