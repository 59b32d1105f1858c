// Depthwise 3x3 convolution of stride 1 in 16 bits on tensor cores.
//
// The idea. A tap of a depthwise convolution is a product of matrices: pixels by channels, times
// the tap's weights on the diagonal of channels by channels. 16 pixels and 8 channels are one
// mma.m16n8k8, and two taps one mma.m16n8k16, the one in the first half of k and the other in the
// second. 7 of 8 multiplications are by zero, and yet a warp that would issue 36 fused
// multiply-adds for these outputs issues 6 mma: two for each row of the window.
//
// Who computes what. A block has 32 channels of a tile of pixels, a warp 8 columns of it and two
// strips of kRows rows, the one below the other: 8 pixels of each are the 16 rows of its products.
// Lane 4 * g + t reads channels 8t to 8t + 7 of pixel g, 16 bytes, and word i of it goes to product
// i: the channels of product i are 8t + 2i and 8t + 2i + 1 of all t. By the layout of the
// accumulators the same lane then has the sums of these channels, 8 neighbouring ones of pixel g
// once more, and stores 16 bytes. What a lane has of the diagonal is at most one weight.
//
// Shared memory: the tile's input, [rows][columns][32 channels], zeros where it lies outside the
// picture. 8 lanes read 128 neighbouring bytes: no bank conflicts, without a swizzle.
//
// A row of input is read once by a warp, three times shifted by a pixel, and added to the three
// rows of output that it is part of; their sums are in registers, and the loop over rows is
// unrolled, so that it is known which. Order of summation: the shift, then rows of the window; in
// each its first two taps, then the third.
//
// What limits it: DRAM, 4 bytes an output. Nothing overlaps a block's loads but other blocks, of
// which registers (104 to 132 a thread without an epilogue, on all architectures) leave three of
// five warps to a multiprocessor, and the 64 KiB of shared memory of sm_75 two. Lane instructions
// of PTX an output element of 19x19x728, fp16: 8.5 at batch 8 and 13.6 at batch 1, whose blocks are
// lower; with ReLU on load 10.0 and 16.1.
//
// Tried and dropped: to ask once for both strips whether all channels exist, and to have a pixel's
// bytes and the picture's number as members. On sm_80 the first took registers for two blocks of
// three, the second spilled.
//
// A zero times an infinity is NaN: see depthwise().
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/depthwise.h"
#include "kernels/epilogue.cuh"
#include "kernels/gpu.h"
#include "kernels/mma.cuh"
#include "kernels/ptx.cuh"
#include "kernels/unrolled.cuh"
#include "kernels/vector.cuh"

namespace xception {

struct DepthwiseProductParams {
  const std::byte* src;
  const std::byte* weights;
  std::byte* dst;
  DeviceEpilogue epilogue;
  int channels;
  int h;
  int w;
  int p;
  int q;
  int pad_top;
  int pad_left;
  unsigned chunks;
  int pixel_bytes;
  bool plain_epilogue;  // is_shift_and_relu()
  std::int64_t src_row_bytes;
  std::int64_t dst_row_bytes;
};

inline constexpr int kProductPixelBytes = kProductChannels * 2;  // in shared memory
inline constexpr unsigned kProductPieces = kProductPixelBytes / 16;
static_assert(kProductColumns * kProductPieces == 32, "a warp reads a piece a lane");

// Of the input of a block.
XC_HOST_DEVICE constexpr int product_rows(int strip_rows) { return 2 * strip_rows + 2; }
XC_HOST_DEVICE constexpr unsigned product_columns(unsigned warps) {
  return kProductColumns * warps + 2;
}

// What a thread does for its block.
template <class T, int kRows, bool kRelu, bool kEpilogue>
class DepthwiseProduct {
  static constexpr unsigned kWarp = 32;
  static constexpr int kSize = 3;
  static constexpr int kTaps = kSize * kSize;
  static constexpr int kInputRows = product_rows(kRows);
  static constexpr int kPieceBytes = 16;
  static constexpr int kPieceChannels = kPieceBytes / static_cast<int>(sizeof(T));
  static constexpr int kProducts = kProductChannels / 8;
  static constexpr unsigned kEdgeColumns = 2;
  static constexpr unsigned kEdgePieces = kEdgeColumns * kProductPieces;  // of a row
  using Sums = float[kProducts][4];
  using Values = float[kPieceChannels];

 public:
  __device__ __forceinline__ DepthwiseProduct(const DepthwiseProductParams& params,
                                              std::uint32_t tile)
      : params_(params),
        tile_(tile),
        own_(kept(tile + threadIdx.x * kPieceBytes)),
        row_bytes_(kept(product_columns(blockDim.x / kWarp) * kProductPixelBytes)),
        column_(threadIdx.x / kProductPieces),
        piece_(threadIdx.x % kProductPieces),
        chunk_(blockIdx.x % params.chunks),
        channel_(static_cast<int>(chunk_ * kProductChannels + piece_ * kPieceChannels)),
        channels_left_(static_cast<int>(kept(static_cast<unsigned>(params.channels - channel_)))),
        p_(static_cast<int>(kept(blockIdx.y * 2 * kRows))),
        q_(static_cast<int>(blockIdx.x / params.chunks * (blockDim.x / kProductPieces))) {}

  // Brings the block's input to shared memory, all threads together, and weights and shift
  // meanwhile. Ends with a barrier.
  __device__ __forceinline__ void begin() {
    Share share;
    share.edge_row = threadIdx.x / kEdgePieces;
    share.edge_step = blockDim.x / kEdgePieces;
    share.edge_column = blockDim.x / kProductPieces + column_ % kEdgeColumns;
    share.edge = tile_ + share.edge_row * row_bytes_ + share.edge_column * kProductPixelBytes +
                 piece_ * kPieceBytes;
    const auto read_constants = [this] {
      read_weights();
      own_shift_ = own_value(params_.epilogue.shift);
    };
    if constexpr (kHasDependentLaunch) {
      read_constants();
    }
    await_previous_kernel();
    fetch(share);
    commit_copies();
    if constexpr (!kHasDependentLaunch) {
      read_constants();
    }
    wait_for_copies<0>();
    if constexpr (kRelu && !ChunkCopy::kInRegister) {
      rectify(share);
    }
    __syncthreads();
  }

  __device__ __forceinline__ void compute() {
    const int q = q_ + static_cast<int>(column_);
    const std::int64_t first = (std::int64_t{blockIdx.z} * params_.p + p_) * params_.dst_row_bytes +
                               std::int64_t{q} * params_.pixel_bytes + piece_start();
    // Rows of output from the first strip's on, of which this lane stores its pixel and channels.
    const bool stores = q < params_.q && piece_start() < params_.pixel_bytes;
    const int rows = stores ? params_.p - p_ : 0;
    const Finish finish(params_.epilogue, [this](const float* vector, Values& values) {
      spread(own_value(vector), values);
    });
    Values shift = {};
    if constexpr (kEpilogue) {
      spread(own_shift_, shift);
    }
    // Whether all that this lane stores is what it mostly is: whole pieces, after shift and ReLU.
    const bool whole = channels_left_ >= kPieceChannels;
    const bool plain = kept(whole && (!kEpilogue || params_.plain_epilogue) ? 1U : 0U) != 0;
    std::byte* dst[2];  // in both strips
    dst[0] = params_.dst + first;
    dst[1] = dst[0] + kRows * params_.dst_row_bytes;
    std::uint32_t from = own_;
    const std::uint32_t strip_bytes = kRows * row_bytes_;
    unrolled<kRows + kSize - 1>([&](auto index) {
      constexpr int row = decltype(index)::value;
      Words<4> x[kSize][2];
      unrolled<kSize>([&](auto tap) {
        constexpr int s = decltype(tap)::value;
        x[s][0] = load_shared<s * kProductPixelBytes>(from);
        x[s][1] = load_shared<s * kProductPixelBytes>(from + strip_bytes);
        return true;
      });
      from += row_bytes_;
      if constexpr (row < kRows) {
        add<0>(x, shift, sums_[row % kSize]);
      }
      if constexpr (row >= 1 && row - 1 < kRows) {
        add<1>(x, shift, sums_[(row - 1) % kSize]);
      }
      if constexpr (row >= 2) {
        constexpr int done = row - 2;
        add<2>(x, shift, sums_[done % kSize]);
        const auto store_row = [&]<int kStrip>() {
          constexpr int out = kStrip * kRows + done;
          const Sums& sums = sums_[done % kSize];
          if (out >= rows) {
            return;
          }
          if (plain) [[likely]] {
            store_plain<kStrip>(sums, dst[kStrip]);
          } else {
            store<kStrip>(sums, finish, first + out * params_.dst_row_bytes, dst[kStrip]);
          }
        };
        store_row.template operator()<0>();
        store_row.template operator()<1>();
        dst[0] += params_.dst_row_bytes;
        dst[1] += params_.dst_row_bytes;
      }
      return true;
    });
  }

 private:
  struct Nothing {
    template <class Load>
    __device__ __forceinline__ Nothing(const DeviceEpilogue&, const Load&) {}
  };
  using Finish = std::conditional_t<kEpilogue, ChannelEpilogue<T, kPieceChannels, true>, Nothing>;

  // What one thread brings besides its piece of its column, in all rows: of the last two columns a
  // piece in some. `edge` is where the first of them goes.
  struct Share {
    std::uint32_t edge;
    std::uint32_t edge_row;
    std::uint32_t edge_step;  // rows
    std::uint32_t edge_column;
  };

  __device__ __forceinline__ void fetch(const Share& share) const {
    const int x = q_ + static_cast<int>(column_) - params_.pad_left;
    const int y = p_ - params_.pad_top;
    const auto below = [](int row) { return (1U << min(max(row, 0), kInputRows)) - 1; };
    // 16 times bit i: whether row i is inside.
    const std::uint32_t rows = kPieceBytes * (below(params_.h - y) & ~below(-y));
    // Columns that are inside, and have these channels.
    const unsigned columns = piece_start() < params_.pixel_bytes ? params_.w : 0;
    const auto rows_inside = [&](int column) {
      return static_cast<unsigned>(column) < columns ? rows : 0;
    };
    // Where the column stands in the first row, were it inside.
    const std::byte* const first =
        params_.src + (std::int64_t{blockIdx.z} * params_.h + y) * params_.src_row_bytes +
        std::int64_t{x} * params_.pixel_bytes + piece_start();
    const int to_edge = static_cast<int>(share.edge_column - column_);
    std::uint32_t edge_inside = rows_inside(x + to_edge) >> share.edge_row;
    const std::byte* edge_from = first + std::int64_t{to_edge} * params_.pixel_bytes +
                                 share.edge_row * params_.src_row_bytes;
    const std::uint32_t own_inside = rows_inside(x);
    const std::byte* from = first;
    ChunkCopy copies[kInputRows];
    std::uint32_t to = own_;
    unrolled<kInputRows>([&](auto index) {
      constexpr int row = decltype(index)::value;
      copies[row].template fetch<0, 0>(to, from, own_inside >> row & kPieceBytes);
      to += row_bytes_;
      from += params_.src_row_bytes;
      return true;
    });
    to = own_;
    unrolled<kInputRows>([&](auto index) {
      land(copies[decltype(index)::value], to);
      to += row_bytes_;
      return true;
    });
    each_edge(share, [&](std::uint32_t edge) {
      ChunkCopy copy;
      copy.template fetch<0, 0>(edge, edge_from, edge_inside & kPieceBytes);
      land(copy, edge);
      edge_inside >>= share.edge_step;
      edge_from += share.edge_step * params_.src_row_bytes;
    });
  }

  __device__ __forceinline__ static void land(ChunkCopy& copy, std::uint32_t address) {
    if constexpr (kRelu) {
      copy.change([](Words<4>& words) { rectify(words); });
    }
    copy.template land<0>(address);
  }

  // body(address) for each piece of the last two columns that this thread brings.
  template <class Body>
  __device__ __forceinline__ void each_edge(const Share& share, const Body& body) const {
    const std::uint32_t end = tile_ + kInputRows * row_bytes_;
    const std::uint32_t step = kept(share.edge_step * row_bytes_);
    for (std::uint32_t at = share.edge; at < end; at += step) {
      body(at);
    }
  }

  // ReLU of what copies have landed of this thread: no barrier lies between.
  __device__ __forceinline__ void rectify(const Share& share) const {
    std::uint32_t at = own_;
    unrolled<kInputRows>([&](auto) {
      rectify_piece(at);
      at += row_bytes_;
      return true;
    });
    each_edge(share, [](std::uint32_t edge) { rectify_piece(edge); });
  }

  __device__ __forceinline__ static void rectify_piece(std::uint32_t address) {
    Words<4> words = load_shared<0>(address);
    rectify(words);
    store_shared(address, words);
  }

  __device__ __forceinline__ static void rectify(Words<4>& words) {
#pragma unroll
    for (std::uint32_t& word : words.word) {
      word = relu_pair(word, T{});
    }
  }

  // The piece's values of a vector of all channels, all lanes of a warp together: eight float32
  // are more than one access, and each access would take half of every sector. So lane 4 * g + t
  // reads that of channel g of piece t, zero where there is no vector or channel.
  __device__ __forceinline__ float own_value(const float* vector) const {
    const int channel = channel_ + static_cast<int>(threadIdx.x % kWarp / kProductPieces);
    const bool exists =
        vector != nullptr && channel * static_cast<int>(sizeof(T)) < params_.pixel_bytes;
    return exists ? vector[channel] : 0.0F;
  }
  __device__ __forceinline__ static void spread(float own, Values& values) {
    unrolled<kPieceChannels>([&](auto index) {
      constexpr int i = decltype(index)::value;
      values[i] = from_row<i>(own);
      return true;
    });
  }

  // Of the diagonals a lane has column lane / 4, in the rows of its piece: of two neighbouring
  // columns' weights in a word the one half, and of others' none.
  __device__ __forceinline__ void read_weights() {
    const std::uint32_t column = column_ % kProductColumns;
    const std::uint32_t piece = column / 2;
    const std::uint32_t mask = piece_ != piece ? 0U : column % 2 == 0 ? 0xFFFFU : 0xFFFF0000U;
    const std::uint64_t weights =
        global_address(params_.weights + std::uint64_t{chunk_} * (kTaps * kProductPixelBytes) +
                       piece * kPieceBytes);
    unrolled<kTaps>([&](auto index) {
      constexpr int tap = decltype(index)::value;
      const Words<4> words = load_global<tap * kProductPixelBytes>(weights);
#pragma unroll
      for (int i = 0; i < kProducts; ++i) {
        weights_[tap / kSize][i][tap % kSize] = words.word[i] & mask;
      }
      return true;
    });
  }

  // Adds row kRow of the window, the first one to `shift`.
  template <int kRow>
  __device__ __forceinline__ void add(const Words<4> (&x)[kSize][2], const Values& shift,
                                      Sums& sums) const {
#pragma unroll
    for (int i = 0; i < kProducts; ++i) {
      const std::uint32_t pair[4] = {x[0][0].word[i], x[0][1].word[i], x[1][0].word[i],
                                     x[1][1].word[i]};
      const std::uint32_t(&weights)[kSize] = weights_[kRow][i];
      const std::uint32_t taps[2] = {weights[0], weights[1]};
      if constexpr (kRow == 0) {
        const float start[4] = {shift[2 * i], shift[2 * i + 1], shift[2 * i], shift[2 * i + 1]};
        multiply_first(pair, taps, start, sums[i], T{});
      } else {
        multiply(pair, taps, sums[i], T{});
      }
      multiply(x[2][0].word[i], x[2][1].word[i], weights[2], sums[i], T{});
    }
  }

  // Of a pixel, in bytes; behind its end where the tensor has no such channels.
  __device__ __forceinline__ int piece_start() const {
    return channel_ * static_cast<int>(sizeof(T));
  }

  template <int kStrip>
  __device__ __forceinline__ static void take(const Sums& sums, Values& y) {
#pragma unroll
    for (int i = 0; i < kProducts; ++i) {
      y[2 * i] = sums[i][2 * kStrip];
      y[2 * i + 1] = sums[i][2 * kStrip + 1];
    }
  }

  // Stores a strip's pixel to dst, one that is plain.
  template <int kStrip>
  __device__ __forceinline__ static void store_plain(const Sums& sums, std::byte* dst) {
    Values y;
    take<kStrip>(sums, y);
    store_words(reinterpret_cast<Words<4>*>(dst),
                kEpilogue ? pack_relu<T, kPieceChannels>(y) : pack<T, kPieceChannels>(y));
  }

  // The same with all that there may be. dst lies `offset` bytes behind the tensor's first one.
  template <int kStrip>
  __device__ __forceinline__ void store(const Sums& sums, const Finish& finish, std::int64_t offset,
                                        std::byte* dst) const {
    float pixel[1][kPieceChannels];
    Values& y = pixel[0];
    take<kStrip>(sums, y);
    bool final_relu = false;
    if constexpr (kEpilogue) {
      finish.apply_inner(offset / static_cast<int>(sizeof(T)), 0, 1, pixel);
      final_relu = finish.final_relu();
    }
#pragma unroll
    for (int i = 0; i < kPieceChannels; ++i) {  // behind the last, another's NaN would be one too
      y[i] = i < channels_left_ ? y[i] : 0.0F;
    }
    store_words(reinterpret_cast<Words<4>*>(dst),
                final_relu ? pack_relu<T, kPieceChannels>(y) : pack<T, kPieceChannels>(y));
  }

  const DepthwiseProductParams& params_;
  const std::uint32_t tile_;  // the block's input in shared memory
  const std::uint32_t own_;   // this thread's first piece of it
  const std::uint32_t row_bytes_;
  const std::uint32_t column_;  // of the block
  const std::uint32_t piece_;   // of a pixel
  const std::uint32_t chunk_;
  const int channel_;        // the first of the piece
  const int channels_left_;  // from there on
  const int p_;              // the block's first pixel
  const int q_;
  float own_shift_;
  std::uint32_t weights_[kSize][kProducts][kSize];
  Sums sums_[kSize];
};

template <class T, int kRows, bool kRelu, bool kEpilogue>
__global__ void __launch_bounds__(kProductWarps * 32)
    depthwise_product(const __grid_constant__ DepthwiseProductParams params) {
  if constexpr (kHasMma<T>) {
    extern __shared__ uint4 tile[];
    DepthwiseProduct<T, kRows, kRelu, kEpilogue> product(params, shared_address(tile));
    product.begin();
    product.compute();
  }
}

}  // namespace xception
