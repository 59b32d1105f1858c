// What a warp of implicit_gemm() computes from a tile of operands in shared memory, and where its
// results lie: by tensor cores or by fused multiply-adds, behind the same names.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/column_vectors.cuh"
#include "kernels/implicit_gemm.h"
#include "kernels/mma.cuh"
#include "kernels/ptx.cuh"
#include "kernels/tiles.h"
#include "kernels/unrolled.cuh"
#include "kernels/vector.cuh"

namespace xception {

// A warp's part of the product, added up by tensor cores from operands in registers. `Operand` is
// what mma multiplies, T what is kept.
//
// mma's rows are output channels and its columns pixels. Lane 4 * g + t brings chunk t of k, 16
// neighbouring bytes of 64, of each of its pixels. mma would have other places of k from it, but k
// may stand in any order that pixels and weights agree on: it takes the chunk's words two by two,
// as they lie in the registers of one load, and the weights are packed to match. Every tile adds in
// this order.
//
// Which pixel is which column is as free, and so a lane's results are neighbours: four channels,
// from 4 * g on, of every 32, of kRows pixels from kRows * t on.
template <class T, class Operand, int kTileIndex>
class TensorSums {
 public:
  static constexpr MatrixTile kTile = kMatrixTiles[kTileIndex];
  static constexpr bool kScalar = false;
  static constexpr bool kAvailable = kHasMma<Operand>;
  static constexpr int kWidth = 4;
  static constexpr int kRowStep = 1;
  static constexpr int kRows = kTile.warp_rows / 4;         // of this lane
  static constexpr int kVectors = kTile.warp_columns / 32;  // in each
  static constexpr int kPixels = kTile.warp_rows / 8;       // of those that this lane brings
  static constexpr int kFragments = kTile.warp_columns / 16 * kSteps;  // of weights, the same
  static constexpr int kIndex = kTileIndex;
  using Element = T;

  // Within the tile, which in direct_gemm() is a warp's: the first of this lane's rows of results,
  // and the first column of each of its vectors of them.
  __device__ __forceinline__ static int first_row() { return warp_row() + chunk() * kRows; }
  __device__ __forceinline__ static int column(int vector) {
    return warp_column() + vector * 32 + lane() / 4 * kWidth;
  }

  // The chunk of k that this lane brings, and the first of the rows that it brings it of; the
  // others follow kPixelStep apart.
  static constexpr int kPixelStep = 2;
  __device__ __forceinline__ static int chunk() { return lane() % 4; }
  __device__ __forceinline__ static int first_pixel() {
    return warp_row() + lane() / 8 * kRows + lane() / 4 % 2;
  }

  // The sums begin with the shift of their channels, `channel` being that of column 0; null: zero.
  __device__ __forceinline__ void begin(const float* shift, int channel, int channels) {
    float start[kVectors * kWidth];
    load_shift(*this, shift, channel, channels, start);
#pragma unroll
    for (int i = 0; i < kVectors * kWidth; ++i) {
      start_[i / 2][i % 2] = start[i];
    }
  }

  // Adds the products of the warp's chunks of pixels, kCount of this lane's kPixels from `first`
  // on, and of fragment `fragment` of its weights, this lane's 16 bytes; kFirst: the sums begin
  // with those of step 0, behind what begin() was told.
  template <bool kFirst, int kCount>
  __device__ __forceinline__ void add(const Words<4> (&pixels)[kCount], int first, int fragment,
                                      const Words<4>& weights) {
    const int i = fragment / 4 * 2 + fragment % 2;  // of 16 channels each
    const int step = fragment / 2 % kSteps;
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      std::uint32_t b[2] = {pixels[j].word[2 * step], pixels[j].word[2 * step + 1]};
      if constexpr (std::is_same_v<Operand, Tf32>) {  // weights were rounded when they were packed
        b[0] = round_to_tf32(b[0]);
        b[1] = round_to_tf32(b[1]);
      }
      float(&sum)[4] = sum_[i][first + j];
      if (kFirst && step == 0) {
        const float start[4] = {start_[i][0], start_[i][0], start_[i][1], start_[i][1]};
        multiply_first(weights.word, b, start, sum, Operand{});
      } else {
        multiply(weights.word, b, sum, Operand{});
      }
    }
  }

  __device__ __forceinline__ float sum(int i, int vector, int e) const {
    return sum_[vector * 2 + e / 2][i / 2][e % 2 * 2 + i % 2];
  }

 private:
  static constexpr int kWarpsAcross = kTile.columns / kTile.warp_columns;
  static constexpr int kRowTiles = kTile.warp_columns / 16;
  static_assert(kTile.warp_rows % 8 == 0 && kTile.warp_columns % kBlockColumns == 0);

  // Made anew where they are asked for, rather than kept beside the sums.
  __device__ __forceinline__ static int lane() { return static_cast<int>(threadIdx.x % 32); }
  __device__ __forceinline__ static int warp() {
    return tile_threads(kTile) == 32 ? 0 : static_cast<int>(threadIdx.x / 32);
  }
  __device__ __forceinline__ static int warp_row() {
    return warp() / kWarpsAcross * kTile.warp_rows;
  }
  __device__ __forceinline__ static int warp_column() {
    return warp() % kWarpsAcross * kTile.warp_columns;
  }

  float start_[kRowTiles][2];
  float sum_[kRowTiles][kPixels][4];
};

// The same from tiles of operands in shared memory.
template <class T, class Operand, int kTileIndex>
class TensorProduct : public TensorSums<T, Operand, kTileIndex> {
 public:
  using Sums = TensorSums<T, Operand, kTileIndex>;
  using DirectSums = TensorSums<T, Operand, kMatrixTileCount - 1>;  // what direct_gemm() takes

  // `shared` is where the first slot begins.
  __device__ __forceinline__ explicit TensorProduct(std::uint32_t shared)
      : pixels_(kept(shared + chunk_offset(this->first_pixel(), this->chunk(), false))),
        weights_(kept(shared + (this->column(0) / kBlockColumns) * (kBlockColumns * kDepthBytes) +
                      static_cast<int>(threadIdx.x % 32) * kChunkBytes)) {}

  // Adds the products of the tile of operands in slot kSlot; kFirst: the sums begin with them.
  template <int kSlot, bool kFirst>
  __device__ __forceinline__ void multiply_tile() {
    constexpr int kPixels = kSlot * operand_bytes(Sums::kTile);
    constexpr int kWeights = kPixels + Sums::kTile.rows * kDepthBytes;
    // On sm_75 registers hold what is on its way as well, and a warp's pixels are too many at once.
    constexpr int kAtOnce = kHasAsyncCopy ? Sums::kPixels : Sums::kPixels / 2;
    unrolled<Sums::kPixels / kAtOnce>([&](auto part) {
      constexpr int kFirstPixel = decltype(part)::value * kAtOnce;
      Words<4> pixels[kAtOnce];
      unrolled<kAtOnce>([&](auto index) {
        constexpr int kRow = (kFirstPixel + decltype(index)::value) * Sums::kPixelStep;
        pixels[decltype(index)::value] = load_shared<kPixels + kRow * kDepthBytes>(pixels_);
        return true;
      });
      unrolled<Sums::kFragments>([&](auto index) {
        constexpr int i = decltype(index)::value;
        const Words<4> weights = load_shared<kWeights + i * kFragmentBytes>(weights_);
        this->template add<kFirst>(pixels, kFirstPixel, i, weights);
        return true;
      });
      return true;
    });
  }

 private:
  // Where this lane's first load of pixels would be in the first slot, and of weights, less the
  // rows of pixels.
  std::uint32_t pixels_;
  std::uint32_t weights_;
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

  __device__ __forceinline__ void begin(const float* shift, int channel, int channels) {
    load_shift(*this, shift, channel, channels, sum_[0]);
#pragma unroll
    for (int i = 1; i < kRows; ++i) {
#pragma unroll
      for (int j = 0; j < kChannels; ++j) {
        sum_[i][j] = sum_[0][j];
      }
    }
  }

  template <int kSlot, bool>
  __device__ __forceinline__ void multiply_tile() {
    constexpr int kPixels = kSlot * operand_bytes(kTile);
    constexpr int kWeights = kPixels + kTile.rows * kDepthBytes;
    const int row =
        first_column_ / kBlockColumns * kBlockColumns + first_column_ % kBlockColumns / 4;
#pragma unroll 1
    for (int chunk = 0; chunk < kChunksPerRow; ++chunk) {
      Words<4> b[kChannels];
      load_weights<kWeights>(shared_ + chunk_offset(row, chunk, kScalar), b);
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const int pixel = first_row_ + i * kRowStep;
        const int offset = chunk_offset(pixel, chunk, kScalar);
        float x[kWidth];
        unpack<T, kWidth>(load_shared<kPixels>(shared_ + offset), x);
#pragma unroll
        for (int j = 0; j < kChannels; ++j) {
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
  static constexpr int kChannels = kVectors * kWidth;  // of this lane
  static_assert(kTile.warp_rows % kRowStep == 0 && kTile.warp_columns % 32 == 0);

  // A chunk of each of this lane's channels. Their words begin at `first` + kWeights, and each
  // fragment has words of two channels, see weight_word().
  template <int kWeights>
  __device__ __forceinline__ static void load_weights(std::uint32_t first,
                                                      Words<4> (&channels)[kChannels]) {
    unrolled<kChannels / 4 * 2 * kSteps>([&](auto index) {
      constexpr int kFragment = decltype(index)::value % (2 * kSteps);
      constexpr int kFirst = decltype(index)::value / (2 * kSteps) * 4;  // of four channels
      constexpr int kRow = kFirst / kWidth * kBlockColumns + kFirst % kWidth / 4;
      const Words<4> bits =
          load_shared<kWeights + kRow * kDepthBytes + kFragment * kFragmentBytes>(first);
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        constexpr int kStep = kFragment / 2;
        channels[kFirst + kFragment % 2 * 2 + word % 2].word[kStep * 2 + word / 2] =
            bits.word[word];
      }
      return true;
    });
  }

  std::uint32_t shared_;
  int first_row_;
  int first_column_;
  float sum_[kRows][kChannels];
};

}  // namespace xception
