// normalize: y[pixel][c] = (x[pixel][c] / 255 - mean[c]) / std[c], of dense 8-bit samples, in rows
// of picture_row(w) elements with zeros behind the last pixel.
//
// A block takes 512 times four neighbouring elements of the result. What it needs of the samples is
// one piece, for rows are dense there: its threads copy that to shared memory word by word, each
// lane the next one from a sector's first on, and then make fours t, t + 128, ... of it: four bytes
// read, 8 or 16 bytes written, neighbouring lanes neighbouring fours. Shared memory: the samples,
// 2080 bytes. It is limited by DRAM, 9 bytes a pixel in 16 bits.
//
// copy_pictures: y[pixel][c] = x[pixel][c] of dense float32 samples, in such rows too. A block
// takes 128 fours of one row, a thread each of them: four reads of 4 bytes, which from NHWC lie
// side by side and from NCHW in three planes, so that a warp's four reads share their sectors in
// the L1.
#include "kernels/normalize.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "kernels/dispatch.cuh"
#include "kernels/launch.h"

namespace xception {
namespace {

constexpr int kThreads = 128;
constexpr int kFour = 4;
constexpr int kFours = 4 * kThreads;  // of a block
constexpr int kWordBytes = 4;
constexpr int kSectorBytes = 32;
constexpr int kBytes = kFours * kFour + kSectorBytes;  // begin anywhere in a sector

struct NormalizeParams {
  const std::uint8_t* src;
  void* dst;
  std::int64_t fours;
  int row_fours;
  int row_samples;
  float mean[kPictureColours];
  float std[kPictureColours];
};

// Samples before four `index`, counted from the beginning of a row; it may lie rows further down.
__device__ __forceinline__ int samples_before(const NormalizeParams& params, int index) {
  const int row = index / params.row_fours;
  const int element = (index - row * params.row_fours) * kFour;
  return row * params.row_samples + min(element, params.row_samples);
}

// One of a value a colour, without an array that would have to lie in memory.
__device__ __forceinline__ float of_colour(const float (&values)[kPictureColours], int c) {
  return c == 0 ? values[0] : (c == 1 ? values[1] : values[2]);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    normalize_kernel(const __grid_constant__ NormalizeParams params) {
  __shared__ union {
    std::uint32_t words[kBytes / kWordBytes];
    std::uint8_t bytes[kBytes];
  } samples;
  const auto thread = static_cast<int>(threadIdx.x);
  const std::int64_t first = std::int64_t{blockIdx.x} * kFours;
  const auto fours = static_cast<int>(min(std::int64_t{kFours}, params.fours - first));
  const std::int64_t row = first / params.row_fours;
  const auto begin = static_cast<int>(first - row * params.row_fours);  // a four of that row

  const int skipped = samples_before(params, begin);
  const std::int64_t from = row * params.row_samples + skipped;
  const auto shift = static_cast<int>(from % kSectorBytes);
  const int bytes = shift + samples_before(params, begin + fours) - skipped;
  const std::uint8_t* src = params.src + (from - shift);
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
  for (int i = thread; i < fours; i += kThreads) {
    const int index = begin + i;
    const int element = index % params.row_fours * kFour;
    const int sample = shift + samples_before(params, index) - skipped;
    float y[kFour] = {};
#pragma unroll
    for (int e = 0; e < kFour; ++e) {
      if (element + e < params.row_samples) {
        const int c = (element + e) % kPictureColours;
        const auto x = static_cast<float>(samples.bytes[sample + e]);
        y[e] = __fdiv_rn(__fsub_rn(__fdiv_rn(x, 255.0F), of_colour(params.mean, c)),
                         of_colour(params.std, c));
      }
    }
    store_channels<T, kFour>(static_cast<T*>(params.dst) + (first + i) * kFour, y);
  }
}

struct CopyPicturesParams {
  const float* src;
  void* dst;
  int height;
  int width;
  int row_fours;
  bool planes;  // NCHW
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    copy_pictures_kernel(const __grid_constant__ CopyPicturesParams params) {
  const auto row = static_cast<int>(blockIdx.x);  // of all pictures
  const int four = static_cast<int>(blockIdx.y * kThreads + threadIdx.x);
  if (four >= params.row_fours) {
    return;
  }
  const int picture = row / params.height;
  float y[kFour] = {};
#pragma unroll
  for (int e = 0; e < kFour; ++e) {
    const int element = four * kFour + e;
    const int x = element / kPictureColours;
    const int c = element % kPictureColours;
    if (x < params.width) {
      // A row of `picture` comes as many planes later as it has in front of it beside its own rows.
      const std::int64_t planes_before = std::int64_t{picture} * (kPictureColours - 1) + c;
      const std::int64_t at = params.planes
                                  ? (planes_before * params.height + row) * params.width + x
                                  : std::int64_t{row} * params.width * kPictureColours + element;
      y[e] = params.src[at];
    }
  }
  const std::int64_t first = (std::int64_t{row} * params.row_fours + four) * kFour;
  store_channels<T, kFour>(static_cast<T*>(params.dst) + first, y);
}

// What both demand of their pictures.
template <class What>
Status check_pictures(const What& what, const Shape& shape, const void* src) {
  if (shape.c != kPictureColours) {
    return {Code::kInvalidArgument, what() + ": pictures have three channels"};
  }
  if (reinterpret_cast<std::uintptr_t>(src) % kWordBytes != 0) {
    return {Code::kInvalidArgument, what() + ": the samples are not aligned to 4 bytes"};
  }
  return {};
}

}  // namespace

Status normalize(const Shape& shape, Numeric numeric, const NormalizeArgs& args, Stream stream) {
  const auto what = [&] { return "normalize of " + to_string(shape); };
  XC_RETURN_IF_ERROR(check_pictures(what, shape, args.src));
  if (shape.elements() == 0) {
    return {};
  }
  const std::int64_t fours = picture_elements(shape) / kFour;
  const std::int64_t blocks = ceil_div(fours, kFours);
  if (blocks > std::numeric_limits<int>::max()) {
    return too_large_for_launch(what());
  }
  NormalizeParams params = {
      args.src, args.dst, fours, picture_row(shape.w) / kFour, kPictureColours * shape.w, {}, {}};
  std::copy(args.mean.begin(), args.mean.end(), params.mean);
  std::copy(args.std.begin(), args.std.end(), params.std);
  return dispatch(numeric, [&](auto element) {
    return launch(what, normalize_kernel<decltype(element)>,
                  {static_cast<unsigned>(blocks), kThreads}, stream, params);
  });
}

Status copy_pictures(const Shape& shape, Numeric numeric, const CopyPicturesArgs& args,
                     Stream stream) {
  constexpr std::int64_t kMostBlocksDown = 65535;
  const auto what = [&] { return "copy of pictures " + to_string(shape); };
  XC_RETURN_IF_ERROR(check_pictures(what, shape, args.src));
  if (shape.elements() == 0) {
    return {};
  }
  const int row_fours = picture_row(shape.w) / kFour;
  const std::int64_t rows = std::int64_t{shape.n} * shape.h;
  const std::int64_t blocks = ceil_div(row_fours, kThreads);  // of a row
  if (rows > std::numeric_limits<int>::max() || blocks > kMostBlocksDown) {
    return too_large_for_launch(what());
  }
  const CopyPicturesParams params = {args.src, args.dst,  shape.h,
                                     shape.w,  row_fours, args.layout == Layout::kNCHW};
  return dispatch(numeric, [&](auto element) {
    return launch(what, copy_pictures_kernel<decltype(element)>,
                  {{static_cast<unsigned>(rows), static_cast<unsigned>(blocks)}, kThreads}, stream,
                  params);
  });
}

}  // namespace xception
