// Depthwise 3x3 convolution, y[n][p][q][c] = sum over r, s of x[n][p * stride + r][q * stride +
// s][c] * w[r][s][c], and the epilogue of it.
//
// A thread computes `rows` x 5 pixels (stride 2: x 3) of four channels. It goes down the rows of
// its input: each row is loaded once, 7 pixels of it, converted once, and added to the three rows
// of output that it is part of, whose sums are in registers: 3 x 5 x 4 of them (stride 2: 2 x 3 x
// 4), with 9 x 4 weights and the row of input that is on its way. Neighbouring lanes take
// neighbouring channels, so a warp reads 256 bytes (float32: 512) at a time, in whole sectors.
// There is no shared memory: what neighbouring threads load twice, a column or a row at their
// borders, comes from L1.
//
// Threads of one band of rows of one picture are numbered through channels first and columns then;
// what is left over is less than a block a band.
//
// It is limited by memory: 4 bytes of DRAM an element in 16 bits, and 13 instructions. More rows of
// output a thread mean fewer loads and fewer threads: pick_depthwise() weighs that.
//
// Tried and dropped, by count of instructions and registers on 19x19x728 in fp16: eight channels a
// thread (the 72 weights leave room for 4 columns, in 230 registers: half the threads at work for
// as many instructions); a tile of input in shared memory (its copy costs an instruction an
// element, more than the loads that it saves); packed half arithmetic (sums must be float32).
#include "kernels/depthwise.h"

#include <algorithm>
#include <limits>
#include <string>

#include "kernels/epilogue.cuh"
#include "kernels/launch.cuh"

namespace xception {
namespace {

constexpr int kThreads = 128;  // of the largest block
constexpr int kChannels = 4;   // of one thread
constexpr int kSize = 3;       // of the window
using Channels = float[kChannels];

struct Params {
  const std::byte* src;
  const float* weights;
  std::byte* dst;
  DeviceEpilogue epilogue;
  int channels;
  int pixel;  // elements of a pixel: channel_stride(channels)
  int h;
  int w;
  int p;
  int q;
  int pad_top;
  int pad_left;
  int rows;
  int bands;
  int groups;
  int items;        // threads that a band of a picture needs
  int item_blocks;  // blocks of them
  bool relu_on_load;
  bool has_epilogue;
};

template <class T>
struct Vector {  // four channels as they are loaded
  using Type = ushort4;
};
template <>
struct Vector<float> {
  using Type = float4;
};

template <class T>
__device__ __forceinline__ float widen(unsigned short bits);
template <>
__device__ __forceinline__ float widen<__half>(unsigned short bits) {
  return __half2float(__ushort_as_half(bits));
}
template <>
__device__ __forceinline__ float widen<__nv_bfloat16>(unsigned short bits) {
  return __bfloat162float(__ushort_as_bfloat16(bits));
}
template <class T>
__device__ __forceinline__ float widen(float value) {
  return value;
}

// A strip of `rows` output rows, kColumns wide.
template <class T, int kStride>
class Strip {
 public:
  __device__ __forceinline__ explicit Strip(const Params& params) : params_(params) {}

  // `item` of band `band` of picture `n`.
  __device__ __forceinline__ void compute(int n, int band, int item) {
    const int vectors = params_.pixel / kChannels;
    const int group = item / vectors;
    channel_ = (item - group * vectors) * kChannels;
    // Groups of columns as equal as can be, none wider than kColumns.
    const int q = begin_of_group(group);
    columns_ = begin_of_group(group + 1) - q;
    const int p = band * params_.rows;
    const int y = p * kStride - params_.pad_top;
    const int x = q * kStride - params_.pad_left;
    const int pixels = (columns_ - 1) * kStride + kSize;
    inside_ = 0;
#pragma unroll
    for (int j = 0; j < kPixels; ++j) {
      const bool inside =
          j < pixels && static_cast<unsigned>(x + j) < static_cast<unsigned>(params_.w);
      inside_ |= inside ? 1U << j : 0U;
    }
    read_weights();
    const auto picture = static_cast<std::int64_t>(n);
    pixel_bytes_ = params_.pixel * static_cast<int>(sizeof(T));
    src_row_bytes_ = pixel_bytes_ * params_.w;
    const std::int64_t channel_bytes = channel_ * static_cast<int>(sizeof(T));
    src_ =
        params_.src + (picture * params_.h + y) * src_row_bytes_ + x * pixel_bytes_ + channel_bytes;
    dst_ = params_.dst + ((picture * params_.p + p) * params_.q + q) * pixel_bytes_ + channel_bytes;
    count_ = min(params_.rows, params_.p - p);
    if (inside_ == (1U << kPixels) - 1) {
      slide<true>(y);
    } else {
      slide<false>(y);
    }
  }

 private:
  static constexpr int kColumns = depthwise_columns(kStride);
  static constexpr int kPixels = (kColumns - 1) * kStride + kSize;  // of a row of its input
  // Output rows that one row of input adds to, and after how many rows of input their sums are in
  // the same registers again.
  static constexpr int kLive = kStride == 1 ? 3 : 2;
  static constexpr int kPeriod = kLive * kStride;

  __device__ __forceinline__ int begin_of_group(int group) const {
    return static_cast<int>(static_cast<std::int64_t>(group) * params_.q / params_.groups);
  }

  __device__ __forceinline__ void read_weights() {
    const float* weights = params_.weights + channel_;
#pragma unroll
    for (int tap = 0; tap < kSize * kSize; ++tap) {
      load_channels<float, kChannels>(weights, weights_[tap]);
      weights += params_.pixel;
    }
  }

  __device__ __forceinline__ bool inside(int y) const {
    return static_cast<unsigned>(y) < static_cast<unsigned>(params_.h);
  }

  // kFull: every pixel of the strip's input is in the picture, left to right.
  template <bool kFull>
  __device__ __forceinline__ void slide(int y) {
    const int rows = (count_ - 1) * kStride + kSize;
    if (inside(y)) {
      load<kFull>();
    }
    for (int i = 0; i < rows;) {
#pragma unroll
      for (int phase = 0; phase < kPeriod; ++phase) {
        if (i < rows) {
          step<kFull>(phase, i, rows, y);
        }
        ++i;
        ++y;
      }
    }
  }

  template <bool kFull>
  __device__ __forceinline__ void load() {
    const std::byte* src = src_;
#pragma unroll
    for (int j = 0; j < kPixels; ++j) {
      if (kFull || (inside_ >> j & 1U) != 0) {
        raw_[j] = *reinterpret_cast<const VectorType*>(src);
      }
      src += pixel_bytes_;
    }
  }

  template <bool kFull>
  __device__ __forceinline__ void convert(Channels (&x)[kPixels]) const {
#pragma unroll
    for (int j = 0; j < kPixels; ++j) {
      if (kFull || (inside_ >> j & 1U) != 0) {
        x[j][0] = widen<T>(raw_[j].x);
        x[j][1] = widen<T>(raw_[j].y);
        x[j][2] = widen<T>(raw_[j].z);
        x[j][3] = widen<T>(raw_[j].w);
      } else {
#pragma unroll
        for (int k = 0; k < kChannels; ++k) {
          x[j][k] = 0.0F;
        }
      }
    }
    if (params_.relu_on_load) {
#pragma unroll
      for (int j = 0; j < kPixels; ++j) {
#pragma unroll
        for (int k = 0; k < kChannels; ++k) {
          x[j][k] = max_or_nan(x[j][k], 0.0F);
        }
      }
    }
  }

  // Row i of `rows` of the strip's input, row y of the picture. `phase` is i modulo kPeriod, known
  // to the compiler, and with it which registers hold which sums.
  template <bool kFull>
  __device__ __forceinline__ void step(int phase, int i, int rows, int y) {
    Channels x[kPixels];
    const bool here = inside(y);
    if (here) {
      convert<kFull>(x);
    }
    src_ += src_row_bytes_;
    if (i + 1 < rows && inside(y + 1)) {
      load<kFull>();
    }
    // Row r of the window of output row (i - r) / kStride.
    constexpr auto slot = [](int at, int r) { return (at + kPeriod - r) / kStride % kLive; };
    if (phase % kStride == 0 && i < count_ * kStride) {
      add<kFull, 0>(here, x, sums_[slot(phase, 0)]);
    }
    if ((phase + kPeriod - 1) % kStride == 0 && i >= 1 && i < rows - 1) {
      add<kFull, 1>(here, x, sums_[slot(phase, 1)]);
    }
    if (phase % kStride == 0 && i >= 2) {
      add<kFull, 2>(here, x, sums_[slot(phase, 2)]);
      store<kFull>(sums_[slot(phase, 2)]);
    }
  }

  // Adds one row of the window, its first one to nothing.
  template <bool kFull, int kRow>
  __device__ __forceinline__ void add(bool here, const Channels (&x)[kPixels],
                                      Channels (&sums)[kColumns]) {
    if (here) {
#pragma unroll
      for (int column = 0; column < kColumns; ++column) {
        if (kFull || column < kColumns - 1 || columns_ == kColumns) {
#pragma unroll
          for (int s = 0; s < kSize; ++s) {
#pragma unroll
            for (int k = 0; k < kChannels; ++k) {
              const float value = x[column * kStride + s][k];
              const float weight = weights_[kRow * kSize + s][k];
              sums[column][k] = kRow == 0 && s == 0 ? __fmul_rn(value, weight)
                                                    : __fmaf_rn(value, weight, sums[column][k]);
            }
          }
        }
      }
    } else if (kRow == 0) {
#pragma unroll
      for (int column = 0; column < kColumns; ++column) {
#pragma unroll
        for (int k = 0; k < kChannels; ++k) {
          sums[column][k] = 0.0F;
        }
      }
    }
  }

  template <bool kFull>
  __device__ __forceinline__ void store(Channels (&sums)[kColumns]) {
    if (params_.has_epilogue) {
      const std::int64_t element = (dst_ - params_.dst) / static_cast<int>(sizeof(T));
      const ChannelEpilogue<T, kChannels> epilogue(params_.epilogue, channel_, params_.channels);
#pragma unroll
      for (int column = 0; column < kColumns; ++column) {
        if (kFull || column < columns_) {
          epilogue.apply(element + static_cast<std::int64_t>(column) * params_.pixel, sums[column]);
        }
      }
    }
    std::byte* dst = dst_;
#pragma unroll
    for (int column = 0; column < kColumns; ++column) {
      if (kFull || column < columns_) {
        store_channels<T, kChannels>(reinterpret_cast<T*>(dst), sums[column]);
      }
      dst += pixel_bytes_;
    }
    dst_ += params_.q * pixel_bytes_;
  }

  using VectorType = typename Vector<T>::Type;

  const Params& params_;
  const std::byte* src_;  // the strip's first pixel of the row to be loaded next
  std::byte* dst_;        // of the row to be stored next
  std::int64_t pixel_bytes_;
  std::int64_t src_row_bytes_;
  unsigned inside_;  // bit j: pixel j of a row of input is in the picture, and needed
  int columns_;
  int count_;  // of rows
  int channel_;
  Channels weights_[kSize * kSize];
  Channels sums_[kLive][kColumns];
  VectorType raw_[kPixels];
};

template <class T, int kStride>
__global__ void __launch_bounds__(kThreads)
    depthwise_kernel(const __grid_constant__ Params params) {
  const auto block = static_cast<int>(blockIdx.x);
  const int strip = block / params.item_blocks;
  const int item = (block - strip * params.item_blocks) * static_cast<int>(blockDim.x) +
                   static_cast<int>(threadIdx.x);
  if (item < params.items) {
    const int n = strip / params.bands;
    Strip<T, kStride>(params).compute(n, strip - n * params.bands, item);
  }
}

std::string describe(const ConvProblem& problem) {
  return "depthwise3x3 s" + std::to_string(problem.window.stride) + " of " + to_string(problem.src);
}

Status check(const ConvProblem& problem) {
  const Window& window = problem.window;
  if (!problem.depthwise || problem.k != problem.src.c || window.size != kSize ||
      (window.stride != 1 && window.stride != 2)) {
    return {Code::kInvalidArgument,
            "depthwise kernel for " + to_string(problem.src) + ": the window is " +
                std::to_string(window.size) + ", the stride " + std::to_string(window.stride) +
                ", outputs are " + std::to_string(problem.k) +
                "; it computes one output a channel, window 3, stride 1 or 2"};
  }
  return {};
}

template <class T>
Status launch_depthwise(const ConvProblem& problem, const LaunchShape& shape, const Params& params,
                        Stream stream) {
  return launch([&] { return describe(problem); },
                problem.window.stride == 1 ? depthwise_kernel<T, 1> : depthwise_kernel<T, 2>, shape,
                stream, params);
}

}  // namespace

Status depthwise(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu,
                 const DepthwiseArgs& args, Stream stream) {
  XC_RETURN_IF_ERROR(check(problem));
  const Shape out = problem.dst();
  if (out.elements() == 0) {
    return {};
  }
  const DepthwiseTile tile = pick_depthwise(problem, gpu);
  if (std::max(tile.blocks, tile.items) > std::numeric_limits<int>::max()) {
    return {Code::kUnsupported, describe(problem) + ": too large for one launch"};
  }
  const DeviceEpilogue& epilogue = args.epilogue;
  Params params;
  params.src = static_cast<const std::byte*>(args.src);
  params.weights = static_cast<const float*>(args.weights);
  params.dst = static_cast<std::byte*>(args.dst);
  params.epilogue = epilogue;
  params.channels = out.c;
  params.pixel = channel_stride(out.c);
  params.h = problem.src.h;
  params.w = problem.src.w;
  params.p = out.h;
  params.q = out.w;
  params.pad_top = problem.window.pad.top;
  params.pad_left = problem.window.pad.left;
  params.rows = tile.rows;
  params.bands = tile.bands;
  params.groups = tile.groups;
  params.items = static_cast<int>(tile.items);
  params.item_blocks = static_cast<int>(tile.blocks / tile.bands / out.n);
  params.relu_on_load = problem.relu_on_load;
  params.has_epilogue = epilogue.shift != nullptr || epilogue.relu ||
                        epilogue.second_scale != nullptr || epilogue.residual != nullptr ||
                        epilogue.final_relu;
  const LaunchShape shape = {static_cast<unsigned>(tile.blocks),
                             static_cast<unsigned>(tile.threads)};
  switch (numeric) {
    case Numeric::kFp16:
      return launch_depthwise<__half>(problem, shape, params, stream);
    case Numeric::kBf16:
      return launch_depthwise<__nv_bfloat16>(problem, shape, params, stream);
    default:
      return launch_depthwise<float>(problem, shape, params, stream);
  }
}

}  // namespace xception
