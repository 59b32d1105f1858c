// What a warp of implicit_gemm() computes from a tile of operands in shared memory, and where its
// results lie: by tensor cores or by fused multiply-adds, behind the same names.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/implicit_gemm.h"
#include "kernels/ptx.cuh"
#include "kernels/tiles.h"
#include "kernels/unrolled.cuh"
#include "kernels/vector.cuh"

namespace xception {

// A warp's part of the product, by tensor cores. `Operand` is what mma multiplies, T what is kept.
template <class T, class Operand, int kTileIndex>
class TensorProduct {
 public:
  static constexpr MatrixTile kTile = kMatrixTiles[kTileIndex];
  static constexpr int kWidth = kVectorWidth<T>;
  static constexpr bool kScalar = false;
  static constexpr bool kAvailable = kHasMma<Operand>;
  static constexpr int kRowStep = 8;
  static constexpr int kRows = kTile.warp_rows / kRowStep;            // of this lane
  static constexpr int kVectors = kTile.warp_columns / (4 * kWidth);  // in each
  static constexpr int kIndex = kTileIndex;
  using Element = T;

  // `shared` is where the first slot begins.
  __device__ __forceinline__ explicit TensorProduct(std::uint32_t shared) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int warp = tile_threads(kTile) == 32 ? 0 : static_cast<int>(threadIdx.x / 32);
    first_row_ = warp / kWarpsAcross * kTile.warp_rows;
    first_column_ = warp % kWarpsAcross * kTile.warp_columns;
    // Matrices of pixels: rows 0-7 and 8-15 of the first chunk, then of the second.
    const int row = first_row_ + lane % 16;
    const std::uint32_t pixels = shared + chunk_offset(row, lane / 16, pixel_scramble(row));
    // Matrices of weights: both chunks of eight columns, then of the next eight.
    const int n = lane % 8;
    const int column = first_column_ + kWidth * (n / 2) + lane / 16 * 2 + n % 2;
    const std::uint32_t weights =
        shared + chunk_offset(column, lane / 8 % 2, weight_scramble(column, kWidth, kScalar));
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      // The chunk's number is scrambled by xor, so two chunks on is xor too.
      pixels_[step] = kept(pixels ^ (step * 2 * kChunkBytes));
      weights_[step] = kept(weights ^ (step * 2 * kChunkBytes));
    }
    first_row_ += lane / 4;
    first_column_ += lane % 4 * kWidth;
  }

  // Adds the products of the tile of operands in slot kSlot; kFirst: the sums begin with them.
  template <int kSlot, bool kFirst>
  __device__ __forceinline__ void multiply_tile() {
    unrolled<kSteps>([&](auto index) {
      constexpr int kStep = decltype(index)::value;
      std::uint32_t b[kColumnTiles / 2][4];
      unrolled<kColumnTiles / 2>([&](auto pair) {
        // Eight columns are two rows of weights in each of four neighbourhoods of kWidth.
        constexpr int j = decltype(pair)::value * 2;
        constexpr int kRow = j / kTilesPerVector * (4 * kWidth) + j % kTilesPerVector * 2;
        load_matrices<kSlot * operand_bytes(kTile) + (kTile.rows + kRow) * kDepthBytes>(
            weights_[kStep], b[j / 2]);
        return true;
      });
      unrolled<kRowTiles>([&](auto row_tile) {
        constexpr int i = decltype(row_tile)::value;
        std::uint32_t a[4];
        load_matrices<kSlot * operand_bytes(kTile) + i * 16 * kDepthBytes>(pixels_[kStep], a);
        if constexpr (std::is_same_v<Operand, Tf32>) {
#pragma unroll
          for (int word = 0; word < 4; ++word) {
            a[word] = round_to_tf32(a[word]);
          }
        }
#pragma unroll
        for (int j = 0; j < kColumnTiles; ++j) {
          multiply<kFirst && kStep == 0>(a, b[j / 2] + j % 2 * 2, sum_[i][j], Operand{});
        }
        return true;
      });
      return true;
    });
  }

  // Within the block's tile: the first of this lane's rows, which lie kRowStep apart, and the first
  // column of each of its vectors.
  __device__ __forceinline__ int first_row() const { return first_row_; }
  __device__ __forceinline__ int column(int vector) const {
    return first_column_ + vector * (4 * kWidth);
  }

  __device__ __forceinline__ float sum(int i, int vector, int e) const {
    return sum_[i / 2][vector * kTilesPerVector + e / 2][i % 2 * 2 + e % 2];
  }

 private:
  static constexpr int kSteps = kDepthBytes / 32;  // of an mma's k in a tile of operands
  static constexpr int kWarpsAcross = kTile.columns / kTile.warp_columns;
  static constexpr int kRowTiles = kTile.warp_rows / 16;
  static constexpr int kColumnTiles = kTile.warp_columns / 8;
  static constexpr int kTilesPerVector = kWidth / 2;
  static_assert(kTile.warp_rows % 16 == 0 && kTile.warp_columns % 32 == 0);

  int first_row_;
  int first_column_;
  // Where this lane's first load of pixels would be in the first slot, for each step, and of
  // weights, less the rows of pixels.
  std::uint32_t pixels_[kSteps];
  std::uint32_t weights_[kSteps];
  float sum_[kRowTiles][kColumnTiles][4];
};

// The same by fused multiply-adds in float32.
template <class T, int kTileIndex>
class ScalarProduct {
 public:
  static constexpr MatrixTile kTile = kMatrixTiles[kTileIndex];
  static constexpr int kWidth = kVectorWidth<T>;
  static constexpr bool kScalar = true;
  static constexpr bool kAvailable = sizeof(T) == 4 || !kHasMma<T>;
  static constexpr int kRowStep = kWidth;
  static constexpr int kRows = kTile.warp_rows / kRowStep;
  static constexpr int kVectors = kTile.warp_columns / 32;
  static constexpr int kIndex = kTileIndex;
  using Element = T;

  __device__ __forceinline__ explicit ScalarProduct(std::uint32_t shared) : shared_(shared) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int warp = tile_threads(kTile) == 32 ? 0 : static_cast<int>(threadIdx.x / 32);
    first_row_ = warp / kWarpsAcross * kTile.warp_rows + lane / kColumnLanes;
    first_column_ = warp % kWarpsAcross * kTile.warp_columns + lane % kColumnLanes * kWidth;
  }

  template <int kSlot, bool kFirst>
  __device__ __forceinline__ void multiply_tile() {
    if constexpr (kFirst) {
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
#pragma unroll
        for (int j = 0; j < kVectors * kWidth; ++j) {
          sum_[i][j] = 0.0F;
        }
      }
    }
    const std::uint32_t pixels = shared_ + kSlot * operand_bytes(kTile);
    const std::uint32_t weights = pixels + kTile.rows * kDepthBytes;
#pragma unroll 1
    for (int chunk = 0; chunk < kChunksPerRow; ++chunk) {
      Words<4> b[kVectors * kWidth];
#pragma unroll
      for (int j = 0; j < kVectors * kWidth; ++j) {
        const int n = column(j / kWidth) + j % kWidth;
        b[j] = load_shared(weights + chunk_offset(n, chunk, weight_scramble(n, kWidth, kScalar)));
      }
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const int row = first_row_ + i * kRowStep;
        float x[kWidth];
        unpack<T, kWidth>(load_shared(pixels + chunk_offset(row, chunk, pixel_scramble(row))), x);
#pragma unroll
        for (int j = 0; j < kVectors * kWidth; ++j) {
          float w[kWidth];
          unpack<T, kWidth>(b[j], w);
#pragma unroll
          for (int c = 0; c < kWidth; ++c) {
            sum_[i][j] = __fmaf_rn(x[c], w[c], sum_[i][j]);
          }
        }
      }
    }
  }

  __device__ __forceinline__ int first_row() const { return first_row_; }
  __device__ __forceinline__ int column(int vector) const { return first_column_ + vector * 32; }

  __device__ __forceinline__ float sum(int i, int vector, int e) const {
    return sum_[i][vector * kWidth + e];
  }

 private:
  static constexpr int kColumnLanes = 32 / kRowStep;
  static constexpr int kWarpsAcross = kTile.columns / kTile.warp_columns;
  static_assert(kTile.warp_rows % kRowStep == 0 && kTile.warp_columns % 32 == 0);

  std::uint32_t shared_;
  int first_row_;
  int first_column_;
  float sum_[kRows][kVectors * kWidth];
};

}  // namespace xception
