// The kernel behind pointwise() and conv3x3(): a convolution as the product
//   dst[m][k] = epilogue(sum over taps and c of src[pixel(m, tap)][c] * weights[k][tap][c])
// of a matrix of pixels that is never written down and a matrix of weights. Taps outside the
// picture read as zero.
//
// Who computes what. A block has a tile of rows (output pixels) x columns (output channels), see
// kMatrixTiles; blocks run along the columns first, so that neighbours in time read the same
// pixels. A warp has warp_rows x warp_columns of it in registers.
//  - Tensor cores: lane 4 * g + t has rows g and g + 8 of every 16, and of every 32 columns (16 of
//  32
//    bits each) the neighbouring 16 bytes of channels from 16 / sizeof(T) * t on. The product's
//    columns may stand in any order as long as weights and results agree, so the rows of weights
//    are read in the order that gives a lane neighbours: the epilogue runs on the accumulators as
//    they are, its loads and stores are 16 bytes a lane and 64 bytes a row, whole sectors.
//  - Scalar: a lane has every 4th (32-bit) or 8th (16-bit) row, and 16 bytes of channels of
//  every 32.
//
// Shared memory: slots for tiles of operands, one after the other, each rows * 64 bytes of pixels
// and then columns * 64 bytes of weights: [row][32 elements of 16 bits, or 16 of 32]. A tap's
// channels are cut into such tiles, and a tap begins a new one. The chunks of 16 bytes are
// scrambled (chunk_offset() in implicit_gemm.h) so that cp.async, ldmatrix and the scalar loads
// touch every bank once a wavefront. Bytes, and those on sm_75: 128x128 49,152 (32,768); 128x64
// 49,152 (24,576); 64x64 49,152 (16,384); 64x32 49,152 (12,288); 32x32 49,152 (8,192).
//
// Pipeline: groups of tiles are fetched by cp.async, all but one of the groups ahead of the one
// that is multiplied, with one barrier a group; on sm_75 one tile ahead into registers. Order of
// summation: taps, then channels, 32 bytes of k at a time, one accumulator an output; nothing is
// split along k.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include "kernels/epilogue.cuh"
#include "kernels/implicit_gemm.h"
#include "kernels/launch.cuh"
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
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    first_row_ = warp / kWarpsAcross * kTile.warp_rows;
    first_column_ = warp % kWarpsAcross * kTile.warp_columns;
    // Matrices of pixels: rows 0-7 and 8-15 of the first chunk, then of the second.
    const int row = first_row_ + lane % 16;
    pixels_ = shared + chunk_offset(row, lane / 16, pixel_scramble(row));
    // Matrices of weights: both chunks of eight columns, then of the next eight.
    const int n = lane % 8;
    const int column = first_column_ + kWidth * (n / 2) + lane / 16 * 2 + n % 2;
    weights_ =
        shared + chunk_offset(column, lane / 8 % 2, weight_scramble(column, kWidth, kScalar));
    first_row_ += lane / 4;
    first_column_ += lane % 4 * kWidth;
  }

  // Adds the products of the tile of operands in slot kSlot; kFirst: the sums begin with them.
  template <int kSlot, bool kFirst>
  __device__ __forceinline__ void multiply_tile() {
    unrolled<kDepthBytes / 32>([&](auto step) {
      // The chunk's number is scrambled by xor, so two chunks on is xor too.
      constexpr int kFlipped = decltype(step)::value * 2 * kChunkBytes;
      constexpr bool kBegins = kFirst && kFlipped == 0;
      const std::uint32_t pixels = pixels_ ^ kFlipped;
      const std::uint32_t weights = weights_ ^ kFlipped;
      std::uint32_t b[kColumnTiles / 2][4];
      unrolled<kColumnTiles / 2>([&](auto pair) {
        // Eight columns are two rows of weights in each of four neighbourhoods of kWidth.
        constexpr int j = decltype(pair)::value * 2;
        constexpr int kRow = j / kTilesPerVector * (4 * kWidth) + j % kTilesPerVector * 2;
        load_matrices<kSlot * operand_bytes(kTile) + (kTile.rows + kRow) * kDepthBytes>(weights,
                                                                                        b[j / 2]);
        return true;
      });
      unrolled<kRowTiles>([&](auto row_tile) {
        constexpr int i = decltype(row_tile)::value;
        std::uint32_t a[4];
        load_matrices<kSlot * operand_bytes(kTile) + i * 16 * kDepthBytes>(pixels, a);
        if constexpr (std::is_same_v<Operand, Tf32>) {
#pragma unroll
          for (int word = 0; word < 4; ++word) {
            a[word] = round_to_tf32(a[word]);
          }
        }
#pragma unroll
        for (int j = 0; j < kColumnTiles; ++j) {
          multiply<kBegins>(a, b[j / 2] + j % 2 * 2, sum_[i][j], Operand{});
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
  static constexpr int kWarpsAcross = kTile.columns / kTile.warp_columns;
  static constexpr int kRowTiles = kTile.warp_rows / 16;
  static constexpr int kColumnTiles = kTile.warp_columns / 8;
  static constexpr int kTilesPerVector = kWidth / 2;
  static_assert(kTile.warp_rows % 16 == 0 && kTile.warp_columns % 32 == 0);

  int first_row_;
  int first_column_;
  std::uint32_t pixels_;   // where this lane's first load of pixels would be in the first slot
  std::uint32_t weights_;  // and of weights, less the rows of pixels
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
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
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

// Epilogue and store of what `product` holds, the first kWidth channels of each of its vectors.
template <int kWidth, class Product>
__device__ __forceinline__ void store_product(const ConvGeometry& geometry, const Product& product,
                                              int first_pixel, int first_channel,
                                              const DeviceEpilogue& epilogue,
                                              typename Product::Element* dst) {
  using T = typename Product::Element;
  const int pixel = first_pixel + product.first_row();
  const int rows = geometry.pixels - pixel;
  const std::int64_t row_step = std::int64_t{geometry.dst_stride} * Product::kRowStep;
#pragma unroll
  for (int vector = 0; vector < Product::kVectors; ++vector) {
    const int channel = first_channel + product.column(vector);
    if (channel >= geometry.dst_stride) {
      continue;
    }
    const ChannelEpilogue<T, kWidth> finish(epilogue, channel);
    // An infinity times the weights' padding would be NaN in the padding of the result.
    const auto mask = channel_mask<T, kWidth>(geometry.channels - channel);
    std::int64_t offset = result_offset(geometry, pixel, channel);
    T* to = dst + offset;
#pragma unroll
    for (int i = 0; i < Product::kRows; ++i) {
      if (i * Product::kRowStep < rows) {
        float y[kWidth];
#pragma unroll
        for (int e = 0; e < kWidth; ++e) {
          y[e] = product.sum(i, vector, e);
        }
        finish.apply(offset, y);
        store_channels<T, kWidth>(to, y, mask);
      }
      offset += row_step;
      to += row_step;
    }
  }
}

// One block a tile, tile_threads() threads, shared_bytes() of shared memory. kNarrow: the output
// has a channel stride of four.
template <class Product, int kSize, bool kNarrow>
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
    PixelLoader<T, Product::kIndex, kSize, kSlots> pixels(geometry, src, first_pixel, slots);
    WeightLoader<T, Product::kIndex, Product::kScalar, kSlots> filters(
        geometry, weights, kSize * kSize, first_channel, slots);
    int left = kSize * kSize * geometry.depth_tiles;
    unrolled<kAhead>([&](auto index) {
      constexpr int kSlot = decltype(index)::value;
      if (kSlot < left) {
        pixels.template fetch<kSlot>();
        filters.template fetch<kSlot>();
        pixels.template land<kSlot>();
        filters.template land<kSlot>();
      }
      if (kSlot % kGroup == kGroup - 1) {
        commit_copies();
      }
      return true;
    });

    Product product(slots);
    // Multiplies the group that begins in slot kComputed, and fetches the one that all but the last
    // are ahead of; false where it was the last.
    const auto multiply_group = [&]<int kComputed, bool kFirst>() {
      constexpr int kFetched = (kComputed + kAhead) % kSlots;
      // This group has landed for this thread, by the barrier for all; and all are done with the
      // group before it, whose place the next one takes.
      wait_for_copies<kGroups - 2>();
      __syncthreads();
      const bool fetches = left > kAhead;
      unrolled<kGroup>([&](auto index) {
        constexpr int i = decltype(index)::value;
        if (left <= kAhead + i) {
          return false;
        }
        pixels.template fetch<kFetched + i>();
        filters.template fetch<kFetched + i>();
        return true;
      });
      commit_copies();
      unrolled<kGroup>([&](auto index) {
        constexpr int i = decltype(index)::value;
        if (i > 0 && left <= i) {
          return false;
        }
        product.template multiply_tile<kComputed + i, kFirst && i == 0>();
        return true;
      });
      if (!kHasAsyncCopy && fetches) {
        pixels.template land<kFetched>();
        filters.template land<kFetched>();
      }
      left -= kGroup;
      return left > 0;
    };
    bool more = multiply_group.template operator()<0, true>();
    while (more) {
      more = unrolled<kGroups>([&](auto group) {
        constexpr int kComputed = (decltype(group)::value + 1) % kGroups * kGroup;
        return multiply_group.template operator()<kComputed, false>();
      });
    }
    store_product<kNarrow ? 4 : Product::kWidth>(geometry, product, first_pixel, first_channel,
                                                 epilogue, dst);
  }
}

template <int kSize, bool kNarrow, class Product>
[[nodiscard]] Status launch_product(const std::string& operation, const ConvProblem& problem,
                                    Numeric numeric, const MatrixChoice& choice, bool async_copy,
                                    const DenseArgs& args, Stream stream) {
  using T = typename Product::Element;
  ConvGeometry geometry = conv_geometry(problem, numeric);
  geometry.column_tiles = choice.column_tiles;
  const LaunchShape shape = {
      dim3(static_cast<unsigned>(choice.blocks())), dim3(tile_threads(Product::kTile)),
      static_cast<std::size_t>(shared_bytes(Product::kTile, async_copy, Product::kScalar))};
  return launch([&] { return dense_name(operation, problem, numeric); },
                implicit_gemm<Product, kSize, kNarrow>, shape, stream, geometry,
                static_cast<const T*>(args.src), static_cast<const T*>(args.weights),
                static_cast<T*>(args.dst), args.epilogue);
}

// The instance of `choice`, from tile kIndex on; ProductOf<i> is the product in tile i.
template <int kSize, int kIndex, template <int> class ProductOf>
[[nodiscard]] Status launch_tile(const std::string& operation, const ConvProblem& problem,
                                 Numeric numeric, const MatrixChoice& choice, bool async_copy,
                                 const DenseArgs& args, Stream stream) {
  if constexpr (kIndex < kMatrixTileCount) {
    if (choice.tile != kIndex) {
      return launch_tile<kSize, kIndex + 1, ProductOf>(operation, problem, numeric, choice,
                                                       async_copy, args, stream);
    }
    if constexpr (kIndex == kNarrowTile) {
      if (channel_stride(problem.k) % kVectorWidth<typename ProductOf<kIndex>::Element> != 0) {
        return launch_product<kSize, true, ProductOf<kIndex>>(operation, problem, numeric, choice,
                                                              async_copy, args, stream);
      }
    }
    return launch_product<kSize, false, ProductOf<kIndex>>(operation, problem, numeric, choice,
                                                           async_copy, args, stream);
  } else {
    return {Code::kInternal, dense_name(operation, problem, numeric) + ": no such tile"};
  }
}

template <int kTileIndex>
using TensorFp16 = TensorProduct<__half, __half, kTileIndex>;
template <int kTileIndex>
using TensorBf16 = TensorProduct<__nv_bfloat16, __nv_bfloat16, kTileIndex>;
template <int kTileIndex>
using TensorTf32 = TensorProduct<float, Tf32, kTileIndex>;
template <int kTileIndex>
using ScalarFp32 = ScalarProduct<float, kTileIndex>;
template <int kTileIndex>
using ScalarBf16 = ScalarProduct<__nv_bfloat16, kTileIndex>;

// After check_dense().
template <int kSize>
[[nodiscard]] Status launch_implicit_gemm(const std::string& operation, const ConvProblem& problem,
                                          Numeric numeric, const GpuInfo& gpu,
                                          const DenseArgs& args, Stream stream) {
  const MatrixChoice choice = pick_matrix_tile(problem, numeric, gpu);
  if (choice.blocks() > std::numeric_limits<int>::max()) {
    return {Code::kInvalidArgument,
            dense_name(operation, problem, numeric) + ": more than 2^31 blocks"};
  }
  const bool async_copy = has_async_copy(gpu.arch);
  const auto with = [&]<int kFirst, template <int> class ProductOf>() {
    return launch_tile<kSize, kFirst, ProductOf>(operation, problem, numeric, choice, async_copy,
                                                 args, stream);
  };
  switch (choice.math) {
    case MatrixMath::kTensorFp16:
      return with.template operator()<0, TensorFp16>();
    case MatrixMath::kTensorBf16:
      return with.template operator()<0, TensorBf16>();
    case MatrixMath::kTensorTf32:
      return with.template operator()<0, TensorTf32>();
    case MatrixMath::kScalarFp32:
      return with.template operator()<kFirstScalarTile, ScalarFp32>();
    case MatrixMath::kScalarBf16:
      return with.template operator()<kFirstScalarTile, ScalarBf16>();
  }
  return {Code::kInternal, dense_name(operation, problem, numeric) + ": no such arithmetic"};
}

}  // namespace xception
