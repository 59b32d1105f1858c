// Dense 3x3 or 1x1 convolution of pictures:
//   dst[n][p][q][k] = epilogue(sum over taps (r, s) and c < 4 of
//                              src[n][p * stride - top + r][q * stride - left + s][c] *
//                              w[k][r][s][c])
// The fourth channel of a picture is zero, and so is everything outside it.
//
// Who computes what. A block has up to 256 pixels of one output row and all their channels. It
// copies the source rows that they need into shared memory, once, each row by whole sectors; its
// four warps then take units of neighbouring pixels in turn, 32 channels at a time.
//  - Tensor cores: 16 pixels. k is (tap, c), nine taps of four in three steps of 16. A lane's words
//  of
//    the first operand are two channels of a pixel of the patch, so they are read from there as
//    they are; the second operand is packed in the order of its fragments and stays in registers.
//  - Scalar: 32 pixels; a lane has 16 bytes of channels of every 4th (32-bit) or 8th (16-bit)
//  pixel.
//
// Shared memory: `size` rows of patch_bytes; a pixel takes 8 bytes in 16-bit types and 16 in
// float32. 299x299 to 149x149 in fp16: 3 x 2,584 bytes. Rows lie patch_bytes apart so that the
// words that a warp reads at once stand on different banks (patch_row_bytes() in picture_conv.cc).
//
// Bound by memory: the network's first layer reads 8 bytes and writes 16 a source pixel in fp16,
// for 216 multiplications; each source row is read by up to three blocks, from L2 but for the
// first.
#include "kernels/picture_conv.h"

#include "kernels/epilogue.cuh"
#include "kernels/launch.cuh"
#include "kernels/ptx.cuh"
#include "kernels/unrolled.cuh"
#include "kernels/vector.cuh"

namespace xception {
namespace {

constexpr int kWarps = kPictureThreads / 32;

// Copies the source pixels of the block at `position` to `patch` and waits for them.
template <class T>
__device__ __forceinline__ void load_patch(const PictureGeometry& geometry, const T* src,
                                           const PicturePosition& position, std::uint32_t patch) {
  constexpr int kPixelBytes = kPictureStride * static_cast<int>(sizeof(T));
  constexpr int kPixelsPerSector = 32 / kPixelBytes;
  const int x_begin = position.q * geometry.stride - geometry.pad_left;
  for (int r = 0; r < geometry.size; ++r) {
    const int y = position.p * geometry.stride - geometry.pad_top + r;
    const bool row_inside = y >= 0 && y < geometry.src_h;
    const std::int64_t first = picture_source(geometry, position.n, y, x_begin);
    // Lanes begin at a sector's first pixel, before the row's own.
    const int skipped = static_cast<int>(first & (kPixelsPerSector - 1));
    for (int i = static_cast<int>(threadIdx.x) - skipped; i < geometry.patch_columns;
         i += kPictureThreads) {
      if (i >= 0) {
        const int x = x_begin + i;
        const bool inside = row_inside && x >= 0 && x < geometry.src_w;
        copy_pixel<kPixelBytes>(patch + r * geometry.patch_bytes + i * kPixelBytes,
                                src + (inside ? (first + i) * kPictureStride : 0), inside);
      }
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

// Where a lane stores its results: `channel` and those behind it of pixels of one output row.
template <class T, int kWidth>
class PictureStore {
 public:
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

  // The first kWidth sums of pixel `pixel`; nothing where there is no such pixel or channel.
  template <int kSums>
  __device__ __forceinline__ void store(int pixel, const float (&sums)[kSums]) const {
    if (stored_ && pixel < pixels_) {
      float y[kWidth];
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        y[e] = sums[e];
      }
      const std::int64_t at = first_ + std::int64_t{pixel} * dst_stride_;
      finish_.apply(at, y);
      store_channels<T, kWidth>(dst_ + at, y, mask_);
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

// Calls body(PictureStore) for a lane's channels: 16 bytes of them, or four where the output has a
// stride of four.
template <class T, class Body>
__device__ __forceinline__ void with_store(const PictureGeometry& geometry,
                                           const PicturePosition& position, int channel,
                                           const DeviceEpilogue& epilogue, T* dst,
                                           const Body& body) {
  constexpr int kWidth = kVectorWidth<T>;
  if (kWidth > kPictureStride && geometry.dst_stride == kPictureStride) {
    body(PictureStore<T, kPictureStride>(geometry, position, channel, epilogue, dst));
  } else {
    body(PictureStore<T, kWidth>(geometry, position, channel, epilogue, dst));
  }
}

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

// Sums of 16 pixels: pixels g and g + 8, eight neighbouring channels of each. tap_address[i] is the
// word of the patch at tap 2 * i + t / 2 of pixel g; `eighth` leads to pixel g + 8.
template <class T>
__device__ __forceinline__ void multiply_pixels(const std::uint32_t (&tap_address)[5],
                                                std::uint32_t offset, std::uint32_t eighth,
                                                bool tenth_tap, const PictureWeights& b,
                                                float (&sums)[2][8]) {
  float sum[4][4];
  unrolled<kPictureSteps>([&](auto index) {
    constexpr int step = decltype(index)::value;
    std::uint32_t a[4] = {};
    a[0] = load_shared_word(tap_address[2 * step] + offset);
    a[1] = load_shared_word(tap_address[2 * step] + offset + eighth);
    if (step + 1 < kPictureSteps) {
      a[2] = load_shared_word(tap_address[2 * step + 1] + offset);
      a[3] = load_shared_word(tap_address[2 * step + 1] + offset + eighth);
    } else if (tenth_tap) {  // an infinity of the ninth would make NaN of the tenth's zeros
      a[0] = 0;
      a[1] = 0;
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      multiply<step == 0>(a, b[step][j], sum[j], T{});
    }
    return true;
  });
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    sums[0][e] = sum[e / 2][e % 2];
    sums[1][e] = sum[e / 2][2 + e % 2];
  }
}

template <class T>
__global__ void __launch_bounds__(kPictureThreads)
    picture_conv_mma(const PictureGeometry geometry, const T* __restrict__ src,
                     const Words<4>* __restrict__ fragments, T* dst,
                     const DeviceEpilogue epilogue) {
  if constexpr (kHasMma<T>) {
    constexpr int kPixelBytes = 2 * kPictureStride;
    extern __shared__ __align__(16) unsigned char shared[];
    const std::uint32_t patch = shared_address(shared);
    const PicturePosition position = picture_position(geometry, static_cast<int>(blockIdx.x));
    load_patch(geometry, src, position, patch);

    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int g = lane / 4;
    const int t = lane % 4;
    std::uint32_t tap_address[5];
#pragma unroll
    for (int i = 0; i < 5; ++i) {
      const int tap = min(2 * i + t / 2, 8);  // channels 2 * (t % 2) and the next
      tap_address[i] = patch + tap / 3 * geometry.patch_bytes + tap % 3 * kPixelBytes + t % 2 * 4;
    }
    const int pixel_bytes = geometry.stride * kPixelBytes;
    const int pixels = pixels_of(geometry, position);
    for (int first = 0; first < geometry.dst_stride; first += kPictureChannels) {
      PictureWeights b;
      load_weights(fragments, lane, b);
      fragments += kPictureSteps * 32 * 2;
      with_store(geometry, position, first + 8 * t, epilogue, dst, [&](const auto& store) {
        for (int unit = warp * kPicturePixels; unit < pixels; unit += kWarps * kPicturePixels) {
          float sums[2][8];
          multiply_pixels<T>(tap_address, static_cast<std::uint32_t>((unit + g) * pixel_bytes),
                             static_cast<std::uint32_t>(8 * pixel_bytes), t >= 2, b, sums);
          store.store(unit + g, sums[0]);
          store.store(unit + g + 8, sums[1]);
        }
      });
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kPictureThreads)
    picture_conv_fma(const PictureGeometry geometry, const T* __restrict__ src,
                     const float* __restrict__ weights, T* dst, const DeviceEpilogue epilogue) {
  constexpr int kWidth = kVectorWidth<T>;
  constexpr int kPixelBytes = kPictureStride * static_cast<int>(sizeof(T));
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
  const int row_elements =
      (geometry.dst_stride + kPictureChannels - 1) / kPictureChannels * kPictureChannels;
  const int pixel_bytes = geometry.stride * kPixelBytes;
  for (int first = 0; first < geometry.dst_stride; first += kPictureChannels) {
    const int channel = first + lane % kLanesAcross * kWidth;
    with_store(geometry, position, channel, epilogue, dst, [&](const auto& store) {
      for (int unit = warp * kUnit; unit < pixels; unit += kWarps * kUnit) {
        const int pixel = unit + lane / kLanesAcross;
        const float* row = weights + channel;
        float sums[kPixels][kWidth] = {};
        for (int tap = 0; tap < geometry.size * geometry.size; ++tap) {
          const int r = tap / geometry.size;
          const int s = tap - r * geometry.size;
          float w[kPictureStride][kWidth];
#pragma unroll
          for (int c = 0; c < kPictureStride; ++c) {
            load_floats(row, w[c]);
            row += row_elements;
          }
          const unsigned char* from =
              shared + r * geometry.patch_bytes + s * kPixelBytes + pixel * pixel_bytes;
#pragma unroll
          for (int i = 0; i < kPixels; ++i) {
            float x[kPictureStride];
            load_channels<T, kPictureStride>(
                reinterpret_cast<const T*>(from + i * kLanesDown * pixel_bytes), x);
#pragma unroll
            for (int c = 0; c < kPictureStride; ++c) {
#pragma unroll
              for (int e = 0; e < kWidth; ++e) {
                sums[i][e] = __fmaf_rn(x[c], w[c][e], sums[i][e]);
              }
            }
          }
        }
#pragma unroll
        for (int i = 0; i < kPixels; ++i) {
          store.store(pixel + i * kLanesDown, sums[i]);
        }
      }
    });
  }
}

}  // namespace

Status picture_conv(const std::string& operation, const ConvProblem& problem, Numeric numeric,
                    const GpuInfo& gpu, const DenseArgs& args, Stream stream) {
  const PictureGeometry geometry = picture_geometry(problem, numeric);
  const std::int64_t blocks = std::int64_t{problem.src.n} * geometry.dst_h * geometry.column_tiles;
  const auto name = [&] { return dense_name(operation, problem, numeric); };
  const LaunchShape shape = {dim3(static_cast<unsigned>(blocks)), dim3(kPictureThreads),
                             static_cast<std::size_t>(geometry.size * geometry.patch_bytes)};
  const auto* scalar = static_cast<const float*>(args.weights);
  const auto* fragments =
      reinterpret_cast<const Words<4>*>(scalar + picture_scalar_elements(problem));
  const auto run = [&](auto element) {
    using T = decltype(element);
    const auto* src = static_cast<const T*>(args.src);
    auto* dst = static_cast<T*>(args.dst);
    if constexpr (sizeof(T) == 2) {
      if (picture_uses_mma(problem, numeric, gpu.arch)) {
        return launch(name, picture_conv_mma<T>, shape, stream, geometry, src, fragments, dst,
                      args.epilogue);
      }
    }
    return launch(name, picture_conv_fma<T>, shape, stream, geometry, src, scalar, dst,
                  args.epilogue);
  };
  switch (numeric) {
    case Numeric::kFp16:
      return run(__half());
    case Numeric::kBf16:
      return run(__nv_bfloat16());
    case Numeric::kFp32:
    case Numeric::kTf32:
      return run(float());
  }
  return {Code::kInternal, name() + ": no such arithmetic"};
}

}  // namespace xception
