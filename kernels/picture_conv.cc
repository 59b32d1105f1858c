#include "kernels/picture_conv.h"

#include <algorithm>

#include "kernels/numeric.h"

namespace xception {
namespace {

int divide_up(int a, int b) { return (a + b - 1) / b; }
int round_up(int value, int step) { return divide_up(value, step) * step; }

int channels_packed(const ConvProblem& problem) {
  return round_up(channel_stride(problem.k), kPictureChannels);
}

// A lane of mma reads a word of the patch at stride * g pixels, for two neighbouring taps at once;
// where the second of them is the first of the next row, that row must lie on the other banks.
int patch_row_bytes(int pixels, int stride, Numeric numeric) {
  constexpr int kBanks = 32;
  if (element_bytes(numeric) == 4) {
    return pixels * 4 * kPictureStride;
  }
  int words = pixels * kPictureStride / 2;
  while (stride == 1 ? words % kBanks != 20 : words % 4 != 2) {
    words += 2;
  }
  return 4 * words;
}

bool has_fragments(const ConvProblem& problem, Numeric numeric) {
  return problem.window.size == 3 && element_bytes(numeric) == 2;
}

// What mma multiplies at element `k` of the nine taps of four channels: zero beyond them.
float at(const ConvProblem& problem, const float* weights, int channel, int k) {
  const int taps = problem.window.size * problem.window.size;
  const int tap = k / kPictureStride;
  const int c = k % kPictureStride;
  if (channel >= problem.k || tap >= taps || c >= problem.src.c) {
    return 0.0F;
  }
  return weights[(static_cast<std::int64_t>(channel) * problem.src.c + c) * taps + tap];
}

// In the order of "Matrix Fragments for mma.m16n8k16": lane 4 * g + t holds of column g the
// elements 2t, 2t + 1 and 2t + 8, 2t + 9 of each step. Column g of tile j is channel 8 * (g / 2) +
// 2 * j + g % 2, so that a lane's results are eight neighbours.
std::vector<float> fragments(const ConvProblem& problem, const float* weights) {
  std::vector<float> elements;
  for (int first = 0; first < channels_packed(problem); first += kPictureChannels) {
    for (int step = 0; step < kPictureSteps; ++step) {
      for (int half = 0; half < 2; ++half) {
        for (int lane = 0; lane < 32; ++lane) {
          const int g = lane / 4;
          const int t = lane % 4;
          for (int j = 2 * half; j < 2 * half + 2; ++j) {
            const int channel = first + 8 * (g / 2) + 2 * j + g % 2;
            for (const int k : {2 * t, 2 * t + 1, 2 * t + 8, 2 * t + 9}) {
              elements.push_back(at(problem, weights, channel, 16 * step + k));
            }
          }
        }
      }
    }
  }
  return elements;
}

}  // namespace

PictureGeometry picture_geometry(const ConvProblem& problem, Numeric numeric) {
  const Shape dst = problem.dst();
  const Window& window = problem.window;
  PictureGeometry geometry;
  geometry.src_h = problem.src.h;
  geometry.src_w = problem.src.w;
  geometry.dst_h = dst.h;
  geometry.dst_w = dst.w;
  geometry.channels = problem.k;
  geometry.dst_stride = channel_stride(problem.k);
  geometry.size = window.size;
  geometry.stride = window.stride;
  geometry.pad_top = window.pad.top;
  geometry.pad_left = window.pad.left;
  geometry.column_tiles = divide_up(dst.w, kPictureSpan);
  geometry.columns = round_up(divide_up(dst.w, geometry.column_tiles), 2 * kPicturePixels);
  geometry.patch_columns = (geometry.columns - 1) * window.stride + window.size;
  geometry.patch_bytes = patch_row_bytes(geometry.patch_columns, window.stride, numeric);
  return geometry;
}

bool picture_uses_mma(const ConvProblem& problem, Numeric numeric, int arch) {
  const std::optional<MatrixMath> math = pick_matrix_math(numeric, arch);
  return problem.window.size == 3 &&
         (math == MatrixMath::kTensorFp16 || math == MatrixMath::kTensorBf16);
}

std::size_t picture_scalar_elements(const ConvProblem& problem) {
  return static_cast<std::size_t>(problem.window.size * problem.window.size * kPictureStride) *
         static_cast<std::size_t>(channels_packed(problem));
}

std::vector<std::byte> pack_picture(const ConvProblem& problem, Numeric numeric,
                                    const float* weights) {
  std::vector<float> scalar;
  scalar.reserve(picture_scalar_elements(problem));
  for (int k = 0; k < problem.window.size * problem.window.size * kPictureStride; ++k) {
    for (int channel = 0; channel < channels_packed(problem); ++channel) {
      scalar.push_back(at(problem, weights, channel, k));
    }
  }
  std::vector<std::byte> kept(scalar.size() * element_bytes(numeric));
  to_numeric(scalar, numeric, kept.data());
  from_numeric(kept.data(), numeric, scalar);

  const std::vector<float> matrices =
      has_fragments(problem, numeric) ? fragments(problem, weights) : std::vector<float>();
  const std::size_t scalar_bytes = scalar.size() * sizeof(float);
  std::vector<std::byte> packed(scalar_bytes + matrices.size() * element_bytes(numeric));
  to_numeric(scalar, Numeric::kFp32, packed.data());
  to_numeric(matrices, numeric, packed.data() + scalar_bytes);
  return packed;
}

std::string describe_picture(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu) {
  const PictureGeometry geometry = picture_geometry(problem, numeric);
  const std::int64_t blocks = std::int64_t{problem.src.n} * geometry.dst_h * geometry.column_tiles;
  return "picture 1x" + std::to_string(geometry.columns) +
         (picture_uses_mma(problem, numeric, gpu.arch) ? " mma " : " fma ") +
         numeric_name(numeric) + ", " + std::to_string(blocks) + " blocks";
}

}  // namespace xception
