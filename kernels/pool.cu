// Pooling over windows of up to 3x3 and over whole pictures.
//
// Windows: a thread computes one pixel of the output for 16 bytes of channels, from up to nine
// loads of 16 bytes; neighbouring lanes take neighbouring channels, then the next pixel of the row.
// The maximum is taken of packed pairs as they are loaded. A block belongs to one row of the
// output.
//
// Whole pictures: a block takes eight vectors of channels of a picture, 128 bytes of each pixel.
// Its 32 groups of eight threads add every 32nd pixel, and the sums of the groups are added in
// order. Shared memory: sums of 32 groups x 8 vectors x 4 or 8 channels, float32, four channels of
// all vectors together, 6144 bytes a four.
//
// Both are limited by DRAM. Pixels that windows share are loaded again, from L1: 2.25 times for 3x3
// of stride 2.
#include "kernels/pool.h"

#include <algorithm>
#include <limits>
#include <string>

#include "kernels/dispatch.cuh"
#include "kernels/launch.h"
#include "kernels/ptx.cuh"

namespace xception {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxSize = 3;  // of a window

struct Params {
  const void* src;
  const void* residual;
  void* dst;
  int channels;
  int vectors;  // of a pixel
  int h;
  int w;
  int p;
  int q;
  Window window;
  int row_blocks;  // blocks of one row of output
};

__device__ __forceinline__ std::uint32_t max_pair(std::uint32_t a, std::uint32_t b, __half) {
  const __half2 larger =
      __hmax2_nan(reinterpret_cast<const __half2&>(a), reinterpret_cast<const __half2&>(b));
  return reinterpret_cast<const std::uint32_t&>(larger);
}
__device__ __forceinline__ std::uint32_t max_pair(std::uint32_t a, std::uint32_t b, __nv_bfloat16) {
  const __nv_bfloat162 larger = __hmax2_nan(reinterpret_cast<const __nv_bfloat162&>(a),
                                            reinterpret_cast<const __nv_bfloat162&>(b));
  return reinterpret_cast<const std::uint32_t&>(larger);
}
__device__ __forceinline__ std::uint32_t max_pair(std::uint32_t a, std::uint32_t b, float) {
  return __float_as_uint(max_or_nan(__uint_as_float(a), __uint_as_float(b)));
}

// What is made of the pixels of a window, one after another.
template <class T, int kWidth>
struct Maximum {
  static constexpr int kWords = kVectorWords<T, kWidth>;
  static constexpr std::uint32_t kLowest = std::is_same_v<T, __half>          ? 0xFC00FC00U
                                           : std::is_same_v<T, __nv_bfloat16> ? 0xFF80FF80U
                                                                              : 0xFF800000U;

  Words<kWords> best;

  __device__ __forceinline__ Maximum() {
#pragma unroll
    for (std::uint32_t& word : best.word) {
      word = kLowest;
    }
  }

  __device__ __forceinline__ void add(const Words<kWords>& pixel) {
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      best.word[i] = max_pair(best.word[i], pixel.word[i], T{});
    }
  }

  __device__ __forceinline__ void finish(float (&y)[kWidth]) const { unpack<T, kWidth>(best, y); }
};

template <class T, int kWidth>
struct Mean {
  float sum[kWidth] = {};
  int count = 0;

  __device__ __forceinline__ void add(const Words<kVectorWords<T, kWidth>>& pixel) {
    float x[kWidth];
    unpack<T, kWidth>(pixel, x);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      sum[i] += x[i];
    }
    ++count;
  }

  // A window that lies wholly in the padding has no pixels to average.
  __device__ __forceinline__ void finish(float (&y)[kWidth]) const {
    const auto divisor = static_cast<float>(max(count, 1));
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      y[i] = __fdiv_rn(sum[i], divisor);
    }
  }
};

template <class T, int kWidth, template <class, int> class Reduction>
__global__ void __launch_bounds__(kThreads) window_kernel(const __grid_constant__ Params params) {
  using Vector = Words<kVectorWords<T, kWidth>>;
  const int row = static_cast<int>(blockIdx.x) / params.row_blocks;
  const int item = (static_cast<int>(blockIdx.x) - row * params.row_blocks) * kThreads +
                   static_cast<int>(threadIdx.x);
  const int q = item / params.vectors;
  if (q >= params.q) {
    return;
  }
  const int vector = item - q * params.vectors;
  const int n = row / params.p;
  const int y = (row - n * params.p) * params.window.stride - params.window.pad.top;
  const int x = q * params.window.stride - params.window.pad.left;
  Reduction<T, kWidth> reduction;
#pragma unroll
  for (int r = 0; r < kMaxSize; ++r) {
    const bool row_inside =
        r < params.window.size && static_cast<unsigned>(y + r) < static_cast<unsigned>(params.h);
    const auto* pixels = static_cast<const Vector*>(params.src) + vector +
                         pixel_index(n, y + r, x, params.h, params.w) * params.vectors;
#pragma unroll
    for (int s = 0; s < kMaxSize; ++s) {
      if (row_inside && s < params.window.size &&
          static_cast<unsigned>(x + s) < static_cast<unsigned>(params.w)) {
        reduction.add(load_words(pixels));
      }
      pixels += params.vectors;
    }
  }
  float result[kWidth];
  reduction.finish(result);
  const std::int64_t offset =
      (pixel_index(0, row, q, 1, params.q) * params.vectors + vector) * kWidth;
  if (params.residual != nullptr) {
    float residual[kWidth];
    load_channels<T, kWidth>(static_cast<const T*>(params.residual) + offset, residual);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      result[i] += residual[i];
    }
  }
  // The maximum of a window outside the picture is no zero.
  const int valid = params.channels - vector * kWidth;
  if (valid < kWidth) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      result[i] = i < valid ? result[i] : 0.0F;
    }
  }
  store_channels<T, kWidth>(static_cast<T*>(params.dst) + offset, result);
}

std::string describe(const char* name, const PoolProblem& problem) {
  const std::string size = std::to_string(problem.window.size);
  return std::string(name) + size + "x" + size + " s" + std::to_string(problem.window.stride) +
         " of " + to_string(problem.src);
}

template <template <class, int> class Reduction>
Status pool(const char* name, const PoolProblem& problem, Numeric numeric, const PoolArgs& args,
            Stream stream) {
  if (problem.window.size < 1 || problem.window.size > kMaxSize || problem.window.stride < 1) {
    return {Code::kInvalidArgument,
            describe(name, problem) + ": windows of 1 to 3 pixels and strides from 1 are computed"};
  }
  const Shape out = problem.dst();
  if (out.elements() == 0) {
    return {};
  }
  return dispatch(numeric, [&](auto element) -> Status {
    using T = decltype(element);
    constexpr int kWidth = kVectorWidth<T>;
    Params params;
    params.src = args.src;
    params.residual = args.residual;
    params.dst = args.dst;
    params.channels = out.c;
    params.vectors = channel_stride(out.c) / kWidth;
    params.h = problem.src.h;
    params.w = problem.src.w;
    params.p = out.h;
    params.q = out.w;
    params.window = problem.window;
    const std::int64_t items = std::int64_t{params.vectors} * out.w;
    const std::int64_t row_blocks = ceil_div(items, kThreads);
    const std::int64_t blocks = row_blocks * out.h * out.n;
    if (std::max(blocks, items + kThreads) > std::numeric_limits<int>::max()) {
      return too_large_for_launch(describe(name, problem));
    }
    params.row_blocks = static_cast<int>(row_blocks);
    return launch([&] { return describe(name, problem); }, window_kernel<T, kWidth, Reduction>,
                  {static_cast<unsigned>(blocks), kThreads}, stream, params);
  });
}

struct GlobalParams {
  const void* src;
  void* dst;
  int pixels;
  int vectors;  // of a pixel
  int slices;   // of kSlice vectors
  bool dst_is_float;
};

constexpr int kSlice = 8;  // vectors of a block
constexpr int kGroups = kThreads / kSlice;

// Sums of a block. Four channels of the eight vectors are 128 bytes, which a quarter of a warp
// writes without a conflict; the 64 bytes behind them let a warp read both fours of a vector
// together.
template <int kWidth>
struct GlobalSums {
  static constexpr int kFours = kWidth / 4;
  static constexpr int kFourStride = kSlice * 4 + 16;

  alignas(16) float values[kGroups][kFours][kFourStride];

  __device__ __forceinline__ float* at(int group, int vector, int channel) {
    return &values[group][channel / 4][vector * 4 + channel % 4];
  }
};

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) global_kernel(const GlobalParams params) {
  __shared__ GlobalSums<kWidth> sums;
  const auto thread = static_cast<int>(threadIdx.x);
  const int n = static_cast<int>(blockIdx.x) / params.slices;
  const int first = static_cast<int>(blockIdx.x) % params.slices * kSlice;
  const int group = thread / kSlice;
  const int vector = thread % kSlice;
  float sum[kWidth] = {};
  if (first + vector < params.vectors) {
    const auto* src =
        static_cast<const T*>(params.src) +
        (static_cast<std::int64_t>(n) * params.pixels * params.vectors + first + vector) * kWidth;
    for (int pixel = group; pixel < params.pixels; pixel += kGroups) {
      float x[kWidth];
      load_channels<T, kWidth>(src + static_cast<std::int64_t>(pixel) * params.vectors * kWidth, x);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        sum[i] += x[i];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kWidth; i += 4) {
    *reinterpret_cast<float4*>(sums.at(group, vector, i)) = {sum[i], sum[i + 1], sum[i + 2],
                                                             sum[i + 3]};
  }
  __syncthreads();
  const int channel = first * kWidth + thread;
  if (thread < kSlice * kWidth && channel < params.vectors * kWidth) {
    float total = 0.0F;
#pragma unroll 8
    for (int i = 0; i < kGroups; ++i) {
      total += *sums.at(i, thread / kWidth, thread % kWidth);
    }
    const float mean = __fdiv_rn(total, static_cast<float>(params.pixels));
    const std::int64_t offset = static_cast<std::int64_t>(n) * params.vectors * kWidth + channel;
    if (params.dst_is_float) {
      static_cast<float*>(params.dst)[offset] = mean;
    } else {
      static_cast<T*>(params.dst)[offset] = static_cast<T>(mean);
    }
  }
}

}  // namespace

Status max_pool(const PoolProblem& problem, Numeric numeric, const PoolArgs& args, Stream stream) {
  return pool<Maximum>("max_pool", problem, numeric, args, stream);
}

Status avg_pool(const PoolProblem& problem, Numeric numeric, const PoolArgs& args, Stream stream) {
  return pool<Mean>("avg_pool", problem, numeric, args, stream);
}

Status global_avg_pool(const Shape& src, Numeric numeric, const GlobalAvgPoolArgs& args,
                       Stream stream) {
  const auto name = [&] { return "global_avg_pool of " + to_string(src); };
  if (src.elements() == 0) {
    return {};
  }
  return dispatch(numeric, [&](auto element) -> Status {
    using T = decltype(element);
    constexpr int kWidth = kVectorWidth<T>;
    const int vectors = channel_stride(src.c) / kWidth;
    const auto slices = static_cast<int>(ceil_div(vectors, kSlice));
    const std::int64_t pixels = std::int64_t{src.h} * src.w;
    const std::int64_t blocks = std::int64_t{slices} * src.n;
    if (std::max(pixels + kGroups, blocks) > std::numeric_limits<int>::max()) {
      return too_large_for_launch(name());
    }
    const GlobalParams params = {args.src, args.dst, static_cast<int>(pixels),
                                 vectors,  slices,   args.dst_is_float};
    return launch(name, global_kernel<T, kWidth>, {static_cast<unsigned>(blocks), kThreads}, stream,
                  params);
  });
}

}  // namespace xception
