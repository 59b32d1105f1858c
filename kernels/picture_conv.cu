// Dense 3x3 convolution of pictures:
//   dst[n][p][q][k] = epilogue(sum over taps (r, s) and colours c of
//                              src[n][p * stride - top + r][q * stride - left + s][c] *
//                              w[k][c][r][s])
// Everything outside the picture is zero.
//
// Who computes what. A block has up to 256 pixels of one output row and all their channels. It
// copies the source rows that they need into shared memory, once, each row by whole sectors; its
// warps, four at most, then take units of neighbouring pixels in turn, 32 channels at a time. A row
// of a window is nine neighbouring elements of a row of the patch.
//  - Tensor cores: 16 pixels. k is eight elements of each row of the window and then the ninth of
//    each, 27 elements in two steps of 16. Lane 4 * g + t takes the word of elements 2t and 2t + 1
//    of a row, which begins in the middle of a word where the window does, so two are read and
//    shifted; and the ninth element of row t. The second operand is packed in the order of its
//    fragments and stays in registers.
//  - Scalar: 32 pixels; a lane has 16 bytes of channels of every 4th (32-bit) or 8th (16-bit)
//    pixel.
//
// Shared memory: three rows of patch_bytes. 299x299 to 149x149 in fp16: 3 x 1,952 bytes. Rows lie
// patch_bytes apart so that the words that a warp reads at once stand on different banks
// (patch_row_bytes() in picture_conv.cc).
//
// Bound by memory: the network's first layer reads 6 bytes and writes 16 a source pixel in fp16,
// for 216 multiplications; each source row is read by up to three blocks, from L2 but for the
// first.
#include "kernels/picture_conv.h"

#include <algorithm>

#include "kernels/dispatch.cuh"
#include "kernels/epilogue.cuh"
#include "kernels/launch.h"
#include "kernels/mma.cuh"
#include "kernels/ptx.cuh"
#include "kernels/unrolled.cuh"
#include "kernels/vector.cuh"

namespace xception {
namespace {

constexpr int kMostThreads = kPictureWarps * 32;

// Copies the source rows of the block at `position` to `patch` and waits for them.
template <class T>
__device__ __forceinline__ void load_patch(const PictureGeometry& geometry, const T* src,
                                           const PicturePosition& position, std::uint32_t patch) {
  constexpr int kWidth = kVectorWidth<T>;
  const int begin = picture_begin(geometry, position.q);
  await_previous_kernel();
#pragma unroll
  for (int r = 0; r < kPictureSize; ++r) {
    const int y = position.p * geometry.stride - geometry.pad_top + r;
    const bool row_inside = y >= 0 && y < geometry.src_h;
    const T* row = src + picture_source(geometry, position.n, y);
    for (int i = static_cast<int>(threadIdx.x) * kWidth; i < geometry.patch_elements;
         i += static_cast<int>(blockDim.x) * kWidth) {
      const int at = begin + i;
      const bool inside = row_inside && at >= 0 && at < geometry.src_row;
      const std::uint32_t to = patch + r * geometry.patch_bytes + i * static_cast<int>(sizeof(T));
      ChunkCopy copy;
      copy.fetch<0, 0>(to, inside ? row + at : src, inside ? kChunkBytes : 0);
      copy.land<0>(to);
    }
  }
  commit_copies();
  wait_for_copies<0>();
  __syncthreads();
}

// Pixels of the output row that are the block's.
__device__ __forceinline__ int pixels_of(const PictureGeometry& geometry,
                                         const PicturePosition& position) {
  return min(geometry.columns, geometry.dst_w - position.q);
}

// Where a lane stores its results: `channel` and those behind it, 16 bytes, of pixels of one output
// row.
template <class T>
class PictureStore {
 public:
  static constexpr int kWidth = kVectorWidth<T>;

  __device__ __forceinline__ PictureStore(const PictureGeometry& geometry,
                                          const PicturePosition& position, int channel,
                                          const DeviceEpilogue& epilogue, T* dst)
      : stored_(channel < geometry.dst_stride),
        pixels_(pixels_of(geometry, position)),
        dst_stride_(geometry.dst_stride),
        first_(picture_result(geometry, position) * geometry.dst_stride + channel),
        finish_(epilogue, stored_ ? channel : 0),
        mask_(channel_mask<T, kWidth>(geometry.channels - channel)),
        dst_(dst) {}

  // The sums of pixel `pixel`; nothing where there is no such pixel or channel.
  __device__ __forceinline__ void store(int pixel, float (&sums)[kWidth]) const {
    if (stored_ && pixel < pixels_) {
      const std::int64_t at = first_ + std::int64_t{pixel} * dst_stride_;
      finish_.apply(at, sums);
      store_channels<T, kWidth>(dst_ + at, sums, mask_);
    }
  }

 private:
  bool stored_;
  int pixels_;
  int dst_stride_;
  std::int64_t first_;
  ChannelEpilogue<T, kWidth> finish_;
  Words<kVectorWords<T, kWidth>> mask_;
  T* dst_;
};

// The second operand of 32 channels, all steps.
using PictureWeights = std::uint32_t[kPictureSteps][4][2];

__device__ __forceinline__ void load_weights(const Words<4>* fragments, int lane,
                                             PictureWeights& b) {
#pragma unroll
  for (int step = 0; step < kPictureSteps; ++step) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Words<4> words = load_words(fragments + (step * 2 + half) * 32 + lane);
      b[step][2 * half][0] = words.word[0];
      b[step][2 * half][1] = words.word[1];
      b[step][2 * half + 1][0] = words.word[2];
      b[step][2 * half + 1][1] = words.word[3];
    }
  }
}

// The window of one pixel in the patch, as lane 4 * g + t multiplies it.
class PictureWindow {
 public:
  // Of the window that begins at element `first` of the patch.
  __device__ __forceinline__ PictureWindow(const PictureGeometry& geometry, std::uint32_t patch,
                                           int first, int t)
      : shift_(first % 2 * 16), has_ninth_(t < kPictureSize) {
#pragma unroll
    for (int r = 0; r < kPictureSize; ++r) {
      row_[r] = patch + r * geometry.patch_bytes + 4 * (first / 2 + t);
    }
    ninth_ = patch + min(t, kPictureSize - 1) * geometry.patch_bytes + 2 * (first + 8);
  }

  // Elements 2t and 2t + 1 of row r.
  __device__ __forceinline__ std::uint32_t row(int r, std::uint32_t offset) const {
    std::uint32_t low;
    std::uint32_t high;
    load_shared_words(row_[r] + offset, low, high);
    return __funnelshift_r(low, high, shift_);
  }
  // The ninth of row t, and zero.
  __device__ __forceinline__ std::uint32_t ninth(std::uint32_t offset) const {
    const std::uint32_t element = load_shared_half(ninth_ + offset);
    return has_ninth_ ? element : 0;  // an infinity of another window would make NaN of a zero
  }

 private:
  std::uint32_t row_[kPictureSize];
  std::uint32_t ninth_;
  std::uint32_t shift_;
  bool has_ninth_;
};

// Sums of a lane's two pixels `offset` bytes behind `windows`, eight neighbouring channels of each.
template <class T>
__device__ __forceinline__ void multiply_pixels(const PictureWindow (&windows)[2],
                                                std::uint32_t offset, const PictureWeights& b,
                                                float (&sums)[2][8]) {
  const std::uint32_t a[kPictureSteps][4] = {{windows[0].row(0, offset), windows[1].row(0, offset),
                                              windows[0].row(1, offset), windows[1].row(1, offset)},
                                             {windows[0].row(2, offset), windows[1].row(2, offset),
                                              windows[0].ninth(offset), windows[1].ninth(offset)}};
  constexpr float kZeros[4] = {};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    float sum[4];
    multiply_first(a[0], b[0][j], kZeros, sum, T{});
    multiply(a[1], b[1][j], sum, T{});
    sums[0][2 * j] = sum[0];
    sums[0][2 * j + 1] = sum[1];
    sums[1][2 * j] = sum[2];
    sums[1][2 * j + 1] = sum[3];
  }
}

template <class T>
__global__ void __launch_bounds__(kMostThreads)
    picture_conv_mma(const PictureGeometry geometry, const T* __restrict__ src,
                     const Words<4>* __restrict__ fragments, T* dst,
                     const DeviceEpilogue epilogue) {
  if constexpr (kHasMma<T>) {
    extern __shared__ __align__(16) unsigned char shared[];
    const std::uint32_t patch = shared_address(shared);
    const PicturePosition position = picture_position(geometry, static_cast<int>(blockIdx.x));
    load_patch(geometry, src, position, patch);

    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int t = lane % 4;
    const int pixel = picture_pixel(geometry.stride, lane / 4);
    const int second = picture_second(geometry.stride);
    const int pixel_elements = geometry.stride * kPictureColours;
    const int first = geometry.origin + pixel * pixel_elements;
    const PictureWindow windows[2] = {
        PictureWindow(geometry, patch, first, t),
        PictureWindow(geometry, patch, first + second * pixel_elements, t)};
    const int pixels = pixels_of(geometry, position);
    const int step = static_cast<int>(blockDim.x) / 32 * kPicturePixels;
    for (int channel = 0; channel < geometry.dst_stride; channel += kPictureChannels) {
      PictureWeights b;
      load_weights(fragments, lane, b);
      fragments += kPictureSteps * 32 * 2;
      const PictureStore<T> store(geometry, position, channel + 8 * t, epilogue, dst);
      for (int unit = warp * kPicturePixels; unit < pixels; unit += step) {
        float sums[2][8];
        multiply_pixels<T>(windows, static_cast<std::uint32_t>(unit * pixel_elements * 2), b, sums);
        store.store(unit + pixel, sums[0]);
        store.store(unit + pixel + second, sums[1]);
      }
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kMostThreads)
    picture_conv_fma(const PictureGeometry geometry, const T* __restrict__ src,
                     const float* __restrict__ weights, T* dst, const DeviceEpilogue epilogue) {
  constexpr int kWidth = kVectorWidth<T>;
  constexpr int kLanesDown = kWidth;
  constexpr int kLanesAcross = 32 / kLanesDown;
  constexpr int kUnit = 2 * kPicturePixels;
  constexpr int kPixels = kUnit / kLanesDown;  // of a lane
  extern __shared__ __align__(16) unsigned char shared[];
  const PicturePosition position = picture_position(geometry, static_cast<int>(blockIdx.x));
  load_patch(geometry, src, position, shared_address(shared));

  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int pixels = pixels_of(geometry, position);
  const int row_elements = round_up(geometry.dst_stride, kPictureChannels);
  const int pixel_elements = geometry.stride * kPictureColours;
  const int step = static_cast<int>(blockDim.x) / 32 * kUnit;
  for (int first = 0; first < geometry.dst_stride; first += kPictureChannels) {
    const int channel = first + lane % kLanesAcross * kWidth;
    const PictureStore<T> store(geometry, position, channel, epilogue, dst);
    for (int unit = warp * kUnit; unit < pixels; unit += step) {
      const int pixel = unit + lane / kLanesAcross;
      const float* from = weights + first + lane % kLanesAcross * 4;
      float sums[kPixels][kWidth] = {};
      for (int r = 0; r < kPictureSize; ++r) {
        const T* row = reinterpret_cast<const T*>(shared + r * geometry.patch_bytes) +
                       geometry.origin + pixel * pixel_elements;
#pragma unroll 3
        for (int tap = 0; tap < kPictureTaps; ++tap) {
          float w[kWidth];
          load_floats(from, w, kLanesAcross * 4);
          from += row_elements;
#pragma unroll
          for (int i = 0; i < kPixels; ++i) {
            const auto x = static_cast<float>(row[tap + i * kLanesDown * pixel_elements]);
#pragma unroll
            for (int e = 0; e < kWidth; ++e) {
              sums[i][e] = __fmaf_rn(x, w[e], sums[i][e]);
            }
          }
        }
      }
#pragma unroll
      for (int i = 0; i < kPixels; ++i) {
        store.store(pixel + i * kLanesDown, sums[i]);
      }
    }
  }
}

// As many warps as leave none without a unit of pixels.
LaunchShape launch_shape(const PictureGeometry& geometry, bool dependent, int images, int unit) {
  const std::int64_t blocks = std::int64_t{images} * geometry.dst_h * geometry.column_tiles;
  const int warps = std::min(geometry.columns / unit, kPictureWarps);
  return {dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(32 * warps)),
          static_cast<std::size_t>(kPictureSize * geometry.patch_bytes), dependent};
}

}  // namespace

Status picture_conv(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu,
                    const DenseArgs& args, Stream stream) {
  XC_RETURN_IF_ERROR(check_dense("picture_conv", problem, kPictureSize, numeric, gpu, args));
  const auto name = [&] { return dense_name("picture_conv", problem, numeric); };
  if (problem.src.c != kPictureColours) {
    return {Code::kInvalidArgument, name() + ": pictures have three channels"};
  }
  const PictureGeometry geometry = picture_geometry(problem, numeric);
  const bool dependent = launches_dependent(gpu.arch, numeric);
  const auto* scalar = static_cast<const float*>(args.weights);
  const auto* fragments =
      reinterpret_cast<const Words<4>*>(scalar + picture_scalar_elements(problem));
  return dispatch(numeric, [&](auto element) {
    using T = decltype(element);
    const auto* src = static_cast<const T*>(args.src);
    auto* dst = static_cast<T*>(args.dst);
    if constexpr (sizeof(T) == 2) {
      if (picture_uses_mma(numeric, gpu.arch)) {
        return launch(name, picture_conv_mma<T>,
                      launch_shape(geometry, dependent, problem.src.n, kPicturePixels), stream,
                      geometry, src, fragments, dst, args.epilogue);
      }
    }
    return launch(name, picture_conv_fma<T>,
                  launch_shape(geometry, dependent, problem.src.n, 2 * kPicturePixels), stream,
                  geometry, src, scalar, dst, args.epilogue);
  });
}

}  // namespace xception
