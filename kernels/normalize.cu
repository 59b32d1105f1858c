// normalize: y[pixel][c] = (x[pixel][c] / 255 - mean[c]) / std[c], of dense 8-bit samples; the
// fourth channel is zero. import_activation and export_activation: dense float32 to and from rows
// of channel_stride(c).
//
// normalize: a block takes 512 pixels. Its threads copy their 1536 bytes to shared memory as 384
// words, each lane the next one, and then make pixels t, t + 128, ... of them: three bytes read, 8
// or 16 bytes written, neighbouring lanes neighbouring pixels. Reading the bytes of a pixel from
// global memory itself would use 3 of 4 bytes of each request twice over. Shared memory: the
// samples, 1536 bytes. It is limited by DRAM, 11 bytes a pixel in 16 bits.
//
// import, export: a block takes about 2048 elements of whole pixels, neighbouring lanes
// neighbouring channels. No shared memory. Limited by DRAM.
#include "kernels/normalize.h"

#include <cstdint>
#include <limits>
#include <string>

#include "kernels/dispatch.cuh"
#include "kernels/launch.cuh"

namespace xception {
namespace {

constexpr int kThreads = 128;
constexpr int kPixelsPerThread = 4;
constexpr int kPixels = kThreads * kPixelsPerThread;  // of a block
constexpr int kColours = 3;
constexpr int kBytes = kPixels * kColours;
constexpr int kWordBytes = 4;
constexpr int kWords = kBytes / kWordBytes;

struct NormalizeParams {
  const std::uint8_t* src;
  void* dst;
  std::int64_t pixels;
  float mean[kColours];
  float std[kColours];
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    normalize_kernel(const __grid_constant__ NormalizeParams params) {
  __shared__ union {
    std::uint32_t words[kWords];
    std::uint8_t bytes[kBytes];
  } samples;
  const auto thread = static_cast<int>(threadIdx.x);
  const std::int64_t first = std::int64_t{blockIdx.x} * kPixels;
  const auto pixels = static_cast<int>(min(std::int64_t{kPixels}, params.pixels - first));
  const int bytes = pixels * kColours;
  const std::uint8_t* src = params.src + first * kColours;
  for (int word = thread; word * kWordBytes < bytes; word += kThreads) {
    const int at = word * kWordBytes;
    if (at + kWordBytes <= bytes) {
      samples.words[word] = *reinterpret_cast<const std::uint32_t*>(src + at);
    } else {
      for (int i = at; i < bytes; ++i) {
        samples.bytes[i] = src[i];
      }
    }
  }
  __syncthreads();
  for (int pixel = thread; pixel < pixels; pixel += kThreads) {
    float y[kColours + 1];
#pragma unroll
    for (int c = 0; c < kColours; ++c) {
      const auto sample = static_cast<float>(samples.bytes[pixel * kColours + c]);
      y[c] = __fdiv_rn(__fsub_rn(__fdiv_rn(sample, 255.0F), params.mean[c]), params.std[c]);
    }
    y[kColours] = 0.0F;
    store_channels<T, kColours + 1>(static_cast<T*>(params.dst) + (first + pixel) * (kColours + 1),
                                    y);
  }
}

constexpr int kCopyThreads = 256;
constexpr int kCopyElements = 2048;  // of a block, about

struct CopyParams {
  const void* src;
  void* dst;
  std::int64_t pixels;
  int pixels_per_block;
  int channels;
  int stride;
};

// Calls visit(dense offset, padded offset, channel) for this thread's share of a block's pixels,
// each of `width` channels.
template <class Visit>
__device__ __forceinline__ void for_each_channel(const CopyParams& params, int width, Visit visit) {
  const std::int64_t first = std::int64_t{blockIdx.x} * params.pixels_per_block;
  const auto pixels =
      static_cast<int>(min(std::int64_t{params.pixels_per_block}, params.pixels - first));
  for (auto element = static_cast<int>(threadIdx.x); element < pixels * width;
       element += kCopyThreads) {
    const int pixel = element / width;
    const int channel = element - pixel * width;
    visit((first + pixel) * params.channels + channel, (first + pixel) * params.stride + channel,
          channel);
  }
}

template <class T>
__global__ void __launch_bounds__(kCopyThreads)
    import_kernel(const __grid_constant__ CopyParams params) {
  for_each_channel(
      params, params.stride, [&](std::int64_t dense, std::int64_t padded, int channel) {
        const float value =
            channel < params.channels ? static_cast<const float*>(params.src)[dense] : 0.0F;
        static_cast<T*>(params.dst)[padded] = static_cast<T>(value);
      });
}

template <class T>
__global__ void __launch_bounds__(kCopyThreads)
    export_kernel(const __grid_constant__ CopyParams params) {
  for_each_channel(params, params.channels, [&](std::int64_t dense, std::int64_t padded, int) {
    static_cast<float*>(params.dst)[dense] =
        static_cast<float>(static_cast<const T*>(params.src)[padded]);
  });
}

Status too_large(const std::string& what) {
  return {Code::kUnsupported, what + ": too large for one launch; use a smaller batch"};
}

template <class Kernel>
Status copy(const char* name, const Shape& shape, const void* src, void* dst, Kernel kernel,
            Stream stream) {
  const auto what = [&] { return std::string(name) + " of " + to_string(shape); };
  const std::int64_t pixels = std::int64_t{shape.n} * shape.h * shape.w;
  const int stride = channel_stride(shape.c);
  const auto each = static_cast<int>(ceil_div(kCopyElements, stride));
  const std::int64_t blocks = ceil_div(pixels, each);
  if (blocks > std::numeric_limits<int>::max()) {
    return too_large(what());
  }
  const CopyParams params = {src, dst, pixels, each, shape.c, stride};
  return launch(what, kernel, {static_cast<unsigned>(blocks), kCopyThreads}, stream, params);
}

}  // namespace

Status normalize(const Shape& shape, Numeric numeric, const NormalizeArgs& args, Stream stream) {
  const auto what = [&] { return "normalize of " + to_string(shape); };
  if (shape.c != kColours) {
    return {Code::kInvalidArgument, what() + ": pictures have three channels"};
  }
  if (reinterpret_cast<std::uintptr_t>(args.src) % kWordBytes != 0) {
    return {Code::kInvalidArgument, what() + ": the samples are not aligned to 4 bytes"};
  }
  if (shape.elements() == 0) {
    return {};
  }
  const std::int64_t pixels = std::int64_t{shape.n} * shape.h * shape.w;
  const std::int64_t blocks = ceil_div(pixels, kPixels);
  if (blocks > std::numeric_limits<int>::max()) {
    return too_large(what());
  }
  NormalizeParams params = {args.src, args.dst, pixels, {}, {}};
  for (int c = 0; c < kColours; ++c) {
    params.mean[c] = args.mean[static_cast<std::size_t>(c)];
    params.std[c] = args.std[static_cast<std::size_t>(c)];
  }
  return dispatch(numeric, [&](auto element) {
    return launch(what, normalize_kernel<decltype(element)>,
                  {static_cast<unsigned>(blocks), kThreads}, stream, params);
  });
}

Status import_activation(const Shape& shape, Numeric numeric, const float* src, void* dst,
                         Stream stream) {
  if (shape.elements() == 0) {
    return {};
  }
  return dispatch(numeric, [&](auto element) {
    return copy("import", shape, src, dst, import_kernel<decltype(element)>, stream);
  });
}

Status export_activation(const Shape& shape, Numeric numeric, const void* src, float* dst,
                         Stream stream) {
  if (shape.elements() == 0) {
    return {};
  }
  return dispatch(numeric, [&](auto element) {
    return copy("export", shape, src, dst, export_kernel<decltype(element)>, stream);
  });
}

}  // namespace xception
