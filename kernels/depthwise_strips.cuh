// Depthwise 3x3 convolution of stride 1 or 2 by float32 multiply-adds.
//
// A thread computes a strip of `rows` x 5 pixels (stride 2: x 3) of four channels. It goes down the
// rows of its input: each is loaded once, 7 pixels of it, converted once, and added to the three
// rows of output that it is part of. In registers are their sums, 3 x 5 x 4 (stride 2: 2 x 3 x 4),
// 9 x 4 weights, the row of input that is added and the next one, on its way. Neighbouring lanes
// take neighbouring channels, so that a warp reads 256 bytes (float32: 512) at a time, in whole
// sectors. There is no shared memory: columns and rows that neighbouring threads load too come from
// L1.
//
// Grid: x and the threads of a block number channels first, then groups of columns; y is the band
// of rows, z the picture.
//
// It is limited by DRAM: 8 bytes an element in float32. Lane instructions of PTX an output element,
// float32, on 19x19x728: 12.9 at batch 8 and 15.2 at batch 1, whose strips are lower and load more
// rows twice; with ReLU on load 13.9 and 16.1. More rows a thread are fewer threads:
// pick_depthwise_strips() weighs that. 225 to 250 registers a thread leave room for 8 warps a
// multiprocessor.
//
// Whether the input is read through a ReLU is asked once, by the instance; the first rows of a
// strip and its border columns have code of their own: together 0.6 less than asking row by row,
// which stride 2 does: no network has it, and that is most of the code to compile.
//
// Tried and dropped, before that, in fp16 on the same layer: strips of 7 columns (no fewer
// instructions, a quarter fewer threads, and float32 spills); rows that ask whether each step is
// theirs throughout, without the loop over steady rows (a fifteenth more); pixels at the borders
// behind branches instead of predicated loads (an eighth more). Dropped by arithmetic: eight
// channels a thread, whose 72 weights leave room for 4 columns: as many instructions by half the
// threads.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/depthwise.h"
#include "kernels/epilogue.cuh"
#include "kernels/gpu.h"
#include "kernels/ptx.cuh"
#include "kernels/vector.cuh"

namespace xception {

struct DepthwiseStripParams {
  const std::byte* src;
  const float* weights;
  std::byte* dst;
  DeviceEpilogue epilogue;
  int pixel;  // elements of a pixel: channel_stride(channels)
  int h;
  int w;
  int p;
  int pad_top;
  int pad_left;
  int rows;         // of a band
  int columns;      // of a group of columns,
  int wide_groups;  // of which the first so many have one more
  int vectors;      // of kStripChannels, of a pixel
  int items;        // threads that a band of a picture needs
  std::int64_t pixel_bytes;
  std::int64_t src_row_bytes;
  std::int64_t dst_row_bytes;
  bool has_epilogue;
};

template <class T>
struct StripVector {  // four channels as they are loaded
  using Type = ushort4;
};
template <>
struct StripVector<float> {
  using Type = float4;
};

// A strip of `rows` output rows, kColumns wide, of an input that is read through a ReLU or is not.
template <class T, int kStride, bool kRelu>
class Strip {
  static constexpr int kSize = 3;  // of the window
  using Channels = float[kStripChannels];

 public:
  __device__ __forceinline__ explicit Strip(const DepthwiseStripParams& params)
      : params_(params), dst_base_(params.dst), h_(params.h), has_epilogue_(params.has_epilogue) {}

  // `item` of band `band` of picture `n`.
  __device__ __forceinline__ void compute(int n, int band, int item) {
    const int group = item / params_.vectors;
    channel_ = (item - group * params_.vectors) * kStripChannels;
    columns_ = params_.columns + (group < params_.wide_groups ? 1 : 0);
    const int q = group * params_.columns + min(group, params_.wide_groups);
    const int p = band * params_.rows;
    const int y = p * kStride - params_.pad_top;
    const int x = q * kStride - params_.pad_left;
    const int pixels = (columns_ - 1) * kStride + kSize;
    inside_ = below(min(pixels, params_.w - x)) & ~below(-x);
    constexpr unsigned kMiddle = below(kPixels - kStride - 1) & ~below(1);
    regular_ = (inside_ & kMiddle) == kMiddle && columns_ >= kColumns - 1;
    read_weights();
    pixel_bytes_ = params_.pixel_bytes;
    src_row_bytes_ = params_.src_row_bytes;
    dst_row_bytes_ = params_.dst_row_bytes;
    const int channel_bytes = channel_ * static_cast<int>(sizeof(T));
    src_ = params_.src + (std::int64_t{n} * params_.h + y) * src_row_bytes_ + x * pixel_bytes_ +
           channel_bytes;
    dst_ = (std::int64_t{n} * params_.p + p) * dst_row_bytes_ + q * pixel_bytes_ + channel_bytes;
    count_ = min(params_.rows, params_.p - p);
    if (kOwnCode && inside_ == below(kPixels)) {
      slide<kOwnCode>(y);  // and not <true>, which would be compiled where it is never called
    } else {
      slide<false>(y);
    }
  }

 private:
  static constexpr int kColumns = strip_columns(kStride);
  static constexpr int kPixels = (kColumns - 1) * kStride + kSize;  // of a row of its input
  // Output rows that one row of input adds to, and after how many rows of input their sums are in
  // the same registers again.
  static constexpr int kLive = kStride == 1 ? 3 : 2;
  static constexpr int kPeriod = kLive * kStride;

  // Whether rows and strips of which something is known have code of their own. In float32 the
  // compiler of CUDA 12.4 spills registers then.
  static constexpr bool kOwnCode = kStride == 1 && (sizeof(T) == 2 || __CUDACC_VER_MAJOR__ >= 13);

  // What is known of the rows of a period. kFirst: they are the strip's first ones, only the very
  // first may lie outside the picture. kSteady: each starts or goes on with every output row that
  // it may. In both the next row is loaded, and nothing needs to be asked.
  enum class Rows { kFirst, kSteady, kAny };

  // Bits 0 to j - 1.
  __device__ __forceinline__ static constexpr unsigned below(int j) {
    return (1U << (j < 0 ? 0 : j < kPixels ? j : kPixels)) - 1;
  }

  __device__ __forceinline__ void read_weights() {
    const float* weights = params_.weights + channel_;
#pragma unroll
    for (int tap = 0; tap < kSize * kSize; ++tap) {
      load_channels<float, kStripChannels>(weights, weights_[tap]);
      weights += params_.pixel;
    }
  }

  __device__ __forceinline__ bool inside(int y) const {
    return static_cast<unsigned>(y) < static_cast<unsigned>(h_);
  }

  // kFull: every pixel of the strip's input is in the picture, left to right. Others stay the zeros
  // that they are made here.
  template <bool kFull>
  __device__ __forceinline__ void slide(int first) {
    if (!kFull) {
#pragma unroll
      for (VectorType& pixel : raw_) {
        pixel = VectorType{};
      }
    }
    if (inside(first)) {
      load<kFull>();
    }
    const int end = first + (count_ - 1) * kStride + kSize;
    load_end_ = max(min(end, h_), 0);
    // Rows of which each starts or goes on with every output row that it may, and the next one is
    // loaded: nothing needs to be asked.
    const int steady = max(first + kSize - 1, 0);
    const int steady_end = min(end - 1, h_) - kPeriod;
    int y = first;
    // The first period of most strips: none but its first row may lie outside.
    if (kOwnCode && first >= -1 && count_ >= kPeriod && first < steady_end) {
      period<kFull, Rows::kFirst>(y, first, end);
      y += kPeriod;
    }
    for (; y < end; y += kPeriod) {
      if (kOwnCode && y >= steady && y < steady_end) {
        period<kFull, Rows::kSteady>(y, first, end);
      } else {
        period<kFull, Rows::kAny>(y, first, end);
      }
    }
  }

  template <bool kFull, Rows kRows>
  __device__ __forceinline__ void period(int y, int first, int end) {
#pragma unroll
    for (int phase = 0; phase < kPeriod; ++phase) {
      if (kRows != Rows::kAny || y + phase < end) {
        step<kFull, kRows>(phase, y + phase, first, end);
      }
    }
  }

  template <bool kFull>
  __device__ __forceinline__ void load() {
    if (kFull || regular_) {
      load_pixels<kFull, true>();
    } else {
      load_pixels<kFull, false>();
    }
  }

  template <bool kFull, bool kRegular>
  __device__ __forceinline__ void load_pixels() {
    const std::byte* src = src_;
#pragma unroll
    for (int j = 0; j < kPixels; ++j) {
      if (kFull || (kRegular && j > 0 && j < kPixels - kStride - 1)) {
        raw_[j] = *reinterpret_cast<const VectorType*>(src);
      } else {
        load_where(inside_ & 1U << j, src, raw_[j]);
      }
      src += pixel_bytes_;
    }
  }

  __device__ __forceinline__ void convert(Channels (&x)[kPixels]) const {
#pragma unroll
    for (int j = 0; j < kPixels; ++j) {
      widen<T>(raw_[j], x[j]);
    }
    if (kRelu) {
#pragma unroll
      for (int j = 0; j < kPixels; ++j) {
#pragma unroll
        for (int k = 0; k < kStripChannels; ++k) {
          x[j][k] = max_or_nan(x[j][k], 0.0F);
        }
      }
    }
  }

  // Row y of the picture; the strip's input is rows [first, end). `phase` is y - first modulo
  // kPeriod, known to the compiler, and with it which registers hold which sums.
  template <bool kFull, Rows kRows>
  __device__ __forceinline__ void step(int phase, int y, int first, int end) {
    // Row r of the window of output row (y - first - r) / kStride.
    constexpr auto slot = [](int at, int r) { return (at + kPeriod - r) / kStride % kLive; };
    constexpr bool kKnown = kRows != Rows::kAny;
    constexpr bool kFirst = kRows == Rows::kFirst;
    const bool starts = phase % kStride == 0 && (kKnown || y < end - (kSize - 1));
    const bool goes_on =
        (phase + kPeriod - 1) % kStride == 0 &&
        (kFirst   ? phase > 0
         : kKnown ? true
                  : static_cast<unsigned>(y - first - 1) < static_cast<unsigned>(end - first - 2));
    const bool ends = phase % kStride == 0 && (kFirst ? phase > 1 : kKnown || y > first + 1);
    const bool here = (kKnown && !(kFirst && phase == 0)) || inside(y);
    Channels x[kPixels];
    if (here) {
      convert(x);
    }
    src_ += src_row_bytes_;
    if (kKnown || static_cast<unsigned>(y + 1) < static_cast<unsigned>(load_end_)) {
      load<kFull>();
    }
    const auto add_to = [&]<int kBegin, int kEnd>(std::integer_sequence<int, kBegin, kEnd>) {
      if (starts) {
        add<0, kBegin, kEnd>(x, sums_[slot(phase, 0)]);
      }
      if (goes_on) {
        add<1, kBegin, kEnd>(x, sums_[slot(phase, 1)]);
      }
      if (ends) {
        add<2, kBegin, kEnd>(x, sums_[slot(phase, 2)]);
      }
    };
    if (here) {
      add_to(std::integer_sequence < int, 0, kFull ? kColumns : kColumns - 1 > ());
      if (!kFull && columns_ == kColumns) {
        add_to(std::integer_sequence<int, kColumns - 1, kColumns>());
      }
    } else if (starts) {
#pragma unroll
      for (Channels& column : sums_[slot(phase, 0)]) {
#pragma unroll
        for (float& sum : column) {
          sum = zero_here();
        }
      }
    }
    if (ends) {
      store<kFull>(sums_[slot(phase, 2)]);
    }
  }

  // Adds one row of the window to columns [kBegin, kEnd), its first one to nothing.
  template <int kRow, int kBegin, int kEnd>
  __device__ __forceinline__ void add(const Channels (&x)[kPixels], Channels (&sums)[kColumns]) {
#pragma unroll
    for (int column = kBegin; column < kEnd; ++column) {
#pragma unroll
      for (int s = 0; s < kSize; ++s) {
#pragma unroll
        for (int k = 0; k < kStripChannels; ++k) {
          const float value = x[column * kStride + s][k];
          const float weight = weights_[kRow * kSize + s][k];
          sums[column][k] = kRow == 0 && s == 0 ? __fmul_rn(value, weight)
                                                : __fmaf_rn(value, weight, sums[column][k]);
        }
      }
    }
  }

  template <bool kFull>
  __device__ __forceinline__ void store(Channels (&sums)[kColumns]) {
    if (has_epilogue_) {
      const std::int64_t element = dst_ / static_cast<int>(sizeof(T));
      const ChannelEpilogue<T, kStripChannels> epilogue(params_.epilogue, channel_);
#pragma unroll
      for (int column = 0; column < kColumns; ++column) {
        if (kFull || column < columns_) {
          epilogue.apply(element + static_cast<std::int64_t>(column) * params_.pixel, sums[column]);
        }
      }
    }
    if (kFull || regular_) {
      store_pixels<kFull, true>(sums);
    } else {
      store_pixels<kFull, false>(sums);
    }
    dst_ += dst_row_bytes_;
  }

  template <bool kFull, bool kRegular>
  __device__ __forceinline__ void store_pixels(const Channels (&sums)[kColumns]) const {
    std::byte* dst = dst_base_ + dst_;
#pragma unroll
    for (int column = 0; column < kColumns; ++column) {
      if (kFull || (kRegular && column < kColumns - 1) || column < columns_) {
        store_channels<T, kStripChannels>(reinterpret_cast<T*>(dst), sums[column]);
      }
      dst += pixel_bytes_;
    }
  }

  using VectorType = typename StripVector<T>::Type;

  const DepthwiseStripParams& params_;
  std::byte* const dst_base_;
  const int h_;
  const bool has_epilogue_;
  const std::byte* src_;  // the strip's first pixel of the row to be loaded next
  std::int64_t dst_;      // of the row to be stored next, in bytes
  std::int64_t pixel_bytes_;
  std::int64_t src_row_bytes_;
  std::int64_t dst_row_bytes_;
  unsigned inside_;  // bit j: pixel j of a row of input is in the picture, and needed
  bool regular_;     // so are all but the first and the last two or three of them
  int columns_;
  int count_;     // of rows
  int load_end_;  // the first row that is not loaded
  int channel_;
  Channels weights_[kSize * kSize];
  Channels sums_[kLive][kColumns];
  VectorType raw_[kPixels];
};

template <class T, int kStride, bool kRelu>
__global__ void __launch_bounds__(kStripThreads)
    depthwise_strips(const __grid_constant__ DepthwiseStripParams params) {
  if constexpr (!is_depthwise_product(kStride, sizeof(T), kHasMma<T>)) {
    const int item = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    await_previous_kernel();
    if (item < params.items) {
      Strip<T, kStride, kRelu>(params).compute(static_cast<int>(blockIdx.z),
                                               static_cast<int>(blockIdx.y), item);
    }
  }
}

}  // namespace xception
