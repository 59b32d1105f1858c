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
// Shared memory: the tile's input, [rows][columns][32 channels] (depthwise_product_input.cuh). 8
// lanes read 128 neighbouring bytes: no bank conflicts, without a swizzle.
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
#include "kernels/depthwise_product_input.cuh"
#include "kernels/epilogue.cuh"
#include "kernels/gpu.h"
#include "kernels/mma.cuh"
#include "kernels/ptx.cuh"
#include "kernels/unrolled.cuh"
#include "kernels/vector.cuh"

namespace xception {

// What a thread does for its block.
template <class T, int kRows, bool kRelu, bool kEpilogue>
class DepthwiseProduct {
  static constexpr unsigned kWarp = 32;
  static constexpr int kSize = 3;
  static constexpr int kTaps = kSize * kSize;
  static constexpr int kPieceBytes = DepthwiseProductPlace::kPieceBytes;
  static constexpr int kPieceChannels = DepthwiseProductPlace::kPieceChannels;
  static constexpr int kProducts = kProductChannels / 8;
  using Sums = float[kProducts][4];
  using Values = float[kPieceChannels];

 public:
  __device__ __forceinline__ DepthwiseProduct(const DepthwiseProductParams& params,
                                              std::uint32_t tile)
      : params_(params), at_(params, tile, 2 * kRows) {}

  // Brings the block's input to shared memory, all threads together, and weights and shift
  // meanwhile. Ends with a barrier.
  __device__ __forceinline__ void begin() {
    const DepthwiseProductInput<T, kRows, kRelu> input(params_, at_);
    const auto read_constants = [this] {
      read_weights();
      own_shift_ = own_value(params_.epilogue.shift);
    };
    if constexpr (kHasDependentLaunch) {
      read_constants();
    }
    await_previous_kernel();
    input.fetch();
    commit_copies();
    if constexpr (!kHasDependentLaunch) {
      read_constants();
    }
    wait_for_copies<0>();
    input.rectify();
    __syncthreads();
  }

  __device__ __forceinline__ void compute() {
    const int q = at_.q + static_cast<int>(at_.column);
    const std::int64_t first =
        (std::int64_t{blockIdx.z} * params_.p + at_.p) * params_.dst_row_bytes +
        std::int64_t{q} * params_.pixel_bytes + at_.piece_start();
    // Rows of output from the first strip's on, of which this lane stores its pixel and channels.
    const bool stores = q < params_.q && at_.piece_start() < params_.pixel_bytes;
    const int rows = stores ? params_.p - at_.p : 0;
    const Finish finish(params_.epilogue, [this](const float* vector, Values& values) {
      spread(own_value(vector), values);
    });
    Values shift = {};
    if constexpr (kEpilogue) {
      spread(own_shift_, shift);
    }
    // Whether all that this lane stores is what it mostly is: whole pieces, after shift and ReLU.
    const bool whole = at_.channels_left >= kPieceChannels;
    const bool plain = kept(whole && (!kEpilogue || params_.plain_epilogue) ? 1U : 0U) != 0;
    std::byte* dst[2];  // in both strips
    dst[0] = params_.dst + first;
    dst[1] = dst[0] + kRows * params_.dst_row_bytes;
    std::uint32_t from = at_.own;
    const std::uint32_t strip_bytes = kRows * at_.row_bytes;
    unrolled<kRows + kSize - 1>([&](auto index) {
      constexpr int row = decltype(index)::value;
      Words<4> x[kSize][2];
      unrolled<kSize>([&](auto tap) {
        constexpr int s = decltype(tap)::value;
        x[s][0] = load_shared<s * kProductPixelBytes>(from);
        x[s][1] = load_shared<s * kProductPixelBytes>(from + strip_bytes);
        return true;
      });
      from += at_.row_bytes;
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
          if (out < rows) {
            store<kStrip>(sums_[done % kSize], finish, plain, first + out * params_.dst_row_bytes,
                          dst[kStrip]);
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

  // The piece's values of a vector of all channels, all lanes of a warp together: eight float32
  // are more than one access, and each access would take half of every sector. So lane 4 * g + t
  // reads that of channel g of piece t, zero where there is no vector or channel.
  __device__ __forceinline__ float own_value(const float* vector) const {
    const int channel = at_.channel + static_cast<int>(threadIdx.x % kWarp / kProductPieces);
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
    const std::uint32_t column = at_.column % kProductColumns;
    const std::uint32_t piece = column / 2;
    const std::uint32_t mask = at_.piece != piece ? 0U : column % 2 == 0 ? 0xFFFFU : 0xFFFF0000U;
    const std::uint64_t weights =
        global_address(params_.weights + std::uint64_t{at_.chunk} * (kTaps * kProductPixelBytes) +
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

  // Stores a strip's pixel to dst, `offset` bytes behind the tensor's first one.
  template <int kStrip>
  __device__ __forceinline__ void store(const Sums& sums, const Finish& finish, bool plain,
                                        std::int64_t offset, std::byte* dst) const {
    float pixel[1][kPieceChannels];
    Values& y = pixel[0];
#pragma unroll
    for (int i = 0; i < kProducts; ++i) {
      y[2 * i] = sums[i][2 * kStrip];
      y[2 * i + 1] = sums[i][2 * kStrip + 1];
    }
    if (plain) [[likely]] {
      store_words(reinterpret_cast<Words<4>*>(dst),
                  kEpilogue ? pack_relu<T, kPieceChannels>(y) : pack<T, kPieceChannels>(y));
      return;
    }
    bool final_relu = false;
    if constexpr (kEpilogue) {
      finish.apply_inner(offset / static_cast<int>(sizeof(T)), 0, 1, pixel);
      final_relu = finish.final_relu();
    }
#pragma unroll
    for (int i = 0; i < kPieceChannels; ++i) {  // behind the last, another's NaN would be one too
      y[i] = i < at_.channels_left ? y[i] : 0.0F;
    }
    store_words(reinterpret_cast<Words<4>*>(dst),
                final_relu ? pack_relu<T, kPieceChannels>(y) : pack<T, kPieceChannels>(y));
  }

  const DepthwiseProductParams& params_;
  const DepthwiseProductPlace at_;
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
