// Depthwise 3x3 convolution of stride 1 of small maps, up to 4x4 pixels padded by one on each side,
// in 16 bits: by float32 multiply-adds, because most pixels of a product's tile would lie outside
// the map.
//
// A thread computes all pixels of four channels of a picture. It asks for all it needs at once,
// each element once: 9 weights a channel, then the map. Each pixel is added to the outputs that it
// is part of; which those are the compiler knows, so that nothing is multiplied by the zeros around
// the map. Smaller maps are computed as one of 2x2 or 4x4 with zeros behind them. Neighbouring
// lanes take neighbouring channels: a warp reads 256 bytes at a time. There is no shared memory and
// no barrier. Order of summation: the shift, then the rows of the window.
//
// Grid: x and the threads of a block number groups of four channels, z is the picture.
//
// Whole maps with shift and ReLU, which is what networks have, are code of their own, without the
// questions that the others ask.
//
// What limits it has not been measured. Lane instructions of PTX an output element, fp16: 10.4 at
// 4x4 and 12.5 at 2x2; with ReLU on load 11.3 and 13.4. Up to 168 registers a thread at 4x4, and
// half of that at 2x2.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise.h"
#include "kernels/epilogue.cuh"
#include "kernels/gpu.h"
#include "kernels/ptx.cuh"
#include "kernels/unrolled.cuh"
#include "kernels/vector.cuh"

namespace xception {

struct DepthwiseMapParams {
  const std::byte* src;
  const std::byte* weights;  // as those of a product
  std::byte* dst;
  DeviceEpilogue epilogue;
  int h;
  int w;
  int items;  // threads that a picture needs
  int pixel_bytes;
  bool relu_on_load;
  bool plain;  // all pixels of the side are in the map, and the epilogue is_shift_and_relu()
};

// What a thread does for channels `channel` to `channel` + kMapChannels - 1.
template <class T, int kSide>
class DepthwiseMap {
  static constexpr int kSize = 3;
  static constexpr int kTaps = kSize * kSize;
  using Channels = float[kMapChannels];

 public:
  __device__ __forceinline__ DepthwiseMap(const DepthwiseMapParams& params, unsigned channel)
      : params_(params),
        h_(params.h),
        w_(params.w),
        pixel_(params.pixel_bytes),
        channel_(kept(channel)) {
    const T* weights =
        reinterpret_cast<const T*>(params.weights + std::uint64_t{channel_ / kProductChannels} *
                                                        (kTaps * kProductChannels * sizeof(T))) +
        channel_ % kProductChannels;
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap) {
      load_channels<T, kMapChannels>(weights + tap * kProductChannels, weights_[tap]);
    }
  }

  // Of picture `n`. kPlain: params.plain, which is mostly so.
  template <bool kPlain>
  __device__ __forceinline__ void compute(int n) {
    const std::int64_t first = std::int64_t{n} * h_ * w_ * pixel_ +
                               channel_ * static_cast<unsigned>(sizeof(T));  // in src as in dst
    ushort4 map[kSide][kSide];
    load<kPlain>(params_.src + first, map);
    Channels shift = {};
    if (kPlain || params_.epilogue.shift != nullptr) {
      load_floats(params_.epilogue.shift + channel_, shift);
    }
    const bool relu = params_.relu_on_load;
#pragma unroll
    for (int y = 0; y < kSide; ++y) {
      Channels row[kSide];
      widen_row(map[y], relu, row);
#pragma unroll
      for (int x = 0; x < kSide; ++x) {
        add(y, x, row[x], shift);
      }
    }
    if constexpr (!kPlain) {
      apply(first / static_cast<int>(sizeof(T)));
    }
    if (kPlain || params_.epilogue.final_relu) {
      store<kPlain>(params_.dst + first,
                    [](const Channels& y) { return pack_relu<T, kMapChannels>(y); });
    } else {
      store<kPlain>(params_.dst + first,
                    [](const Channels& y) { return pack<T, kMapChannels>(y); });
    }
  }

 private:
  __device__ __forceinline__ static ushort4 load_pixel(const std::byte* src) {
    return *reinterpret_cast<const ushort4*>(src);
  }

  // Pixels behind the map are zero.
  template <bool kWhole>
  __device__ __forceinline__ void load(const std::byte* src, ushort4 (&map)[kSide][kSide]) const {
#pragma unroll
    for (int y = 0; y < kSide; ++y) {
#pragma unroll
      for (int x = 0; x < kSide; ++x) {
        map[y][x] = ushort4{};
        if (kWhole || (y < h_ && x < w_)) {
          map[y][x] = load_pixel(src);
          src += pixel_;
        }
      }
    }
  }

  __device__ __forceinline__ static void widen_row(const ushort4 (&bits)[kSide], bool relu,
                                                   Channels (&row)[kSide]) {
#pragma unroll
    for (int x = 0; x < kSide; ++x) {
      widen<T>(bits[x], row[x]);
    }
    if (relu) {
#pragma unroll
      for (Channels& pixel : row) {
#pragma unroll
        for (float& value : pixel) {
          value = relu_or_nan(value);
        }
      }
    }
  }

  // Adds a pixel to the outputs whose windows hold it; those that it is the first of begin with
  // `shift`.
  __device__ __forceinline__ void add(int y, int x, const Channels& pixel, const Channels& shift) {
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap) {
      const int r = tap / kSize;
      const int s = tap % kSize;
      const int p = y + 1 - r;
      const int q = x + 1 - s;
      const bool first = (r == 0 || (r == 1 && y == 0)) && (s == 0 || (s == 1 && x == 0));
      if (p >= 0 && p < kSide && q >= 0 && q < kSide) {
#pragma unroll
        for (int k = 0; k < kMapChannels; ++k) {
          sums_[p][q][k] = __fmaf_rn(pixel[k], weights_[tap][k], first ? shift[k] : sums_[p][q][k]);
        }
      }
    }
  }

  // `first`: of the thread's channels, in elements.
  __device__ __forceinline__ void apply(std::int64_t first) {
    const ChannelEpilogue<T, kMapChannels, true> finish(params_.epilogue,
                                                        static_cast<int>(channel_));
    const int pixel = pixel_ / static_cast<int>(sizeof(T));
#pragma unroll
    for (int p = 0; p < kSide; ++p) {
      finish.apply_inner(first, pixel, p < h_ ? w_ : 0, sums_[p]);
      first += std::int64_t{w_} * pixel;
    }
  }

  template <bool kWhole, class Pack>
  __device__ __forceinline__ void store(std::byte* dst, const Pack& pack_channels) const {
#pragma unroll
    for (int p = 0; p < kSide; ++p) {
      if (kWhole || p < h_) {
        each_inside<kSide>(kWhole ? kSide : w_, [&](auto index) {
          constexpr int q = decltype(index)::value;
          store_words(reinterpret_cast<Words<2>*>(dst), pack_channels(sums_[p][q]));
          dst += pixel_;
        });
      }
    }
  }

  const DepthwiseMapParams& params_;
  const int h_;
  const int w_;
  const int pixel_;  // in bytes
  const unsigned channel_;
  Channels weights_[kTaps];
  Channels sums_[kSide][kSide];
};

// Six blocks fit a multiprocessor at 4x4. To make room for more of 2x2, ptxas would spill.
template <class T, int kSide>
__global__ void __launch_bounds__(kMapThreads, 6)
    depthwise_map(const __grid_constant__ DepthwiseMapParams params) {
  if constexpr (kHasMma<T>) {
    const int item = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (item >= params.items) {
      await_previous_kernel();
      return;
    }
    DepthwiseMap<T, kSide> map(params, static_cast<unsigned>(item) * kMapChannels);
    await_previous_kernel();
    const int n = static_cast<int>(blockIdx.z);
    if (params.plain) {
      map.template compute<true>(n);
    } else {
      map.template compute<false>(n);
    }
  }
}

}  // namespace xception
