#include "kernels/picture_conv.h"

#include "kernels/numeric.h"

namespace xception {
namespace {

int channels_packed(const ConvProblem& problem) { return round_up(problem.k, kPictureChannels); }

// The ninth elements of the rows of eight windows, three words apart, are read at once: the rows of
// the patch must put them on different banks.
int patch_row_bytes(int elements, Numeric numeric) {
  constexpr int kBanks = 32;
  constexpr int kChunkWords = 4;
  int words = elements * static_cast<int>(element_bytes(numeric)) / 4;
  if (element_bytes(numeric) == 2) {
    while (words % kBanks != kChunkWords && words % kBanks != 2 * kChunkWords) {
      words += kChunkWords;
    }
  }
  return 4 * words;
}

// The weight of element `element` of row r of a window: tap by tap, the colours of each.
float at(const ConvProblem& problem, const float* weights, int channel, int r, int element) {
  if (channel >= problem.k) {
    return 0.0F;
  }
  const int s = element / kPictureColours;
  const int c = element % kPictureColours;
  return weights[((std::int64_t{channel} * kPictureColours + c) * kPictureSize + r) * kPictureSize +
                 s];
}

// What mma multiplies at element `k`: three times eight elements of a row, then the ninth of each
// row with a zero behind it.
float at_k(const ConvProblem& problem, const float* weights, int channel, int k) {
  constexpr int kWide = 8;
  const int ninth = k - kPictureSize * kWide;
  if (ninth < 0) {
    return at(problem, weights, channel, k / kWide, k % kWide);
  }
  return ninth % 2 == 0 && ninth / 2 < kPictureSize
             ? at(problem, weights, channel, ninth / 2, kWide)
             : 0.0F;
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
              elements.push_back(at_k(problem, weights, channel, 16 * step + k));
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
  constexpr int kSector = 16;  // elements, as in picture_row()
  const Shape dst = problem.dst();
  const Window& window = problem.window;
  PictureGeometry geometry;
  geometry.src_h = problem.src.h;
  geometry.src_row = picture_row(problem.src.w);
  geometry.dst_h = dst.h;
  geometry.dst_w = dst.w;
  geometry.channels = problem.k;
  geometry.dst_stride = channel_stride(problem.k);
  geometry.stride = window.stride;
  geometry.pad_top = window.pad.top;
  geometry.column_tiles = static_cast<int>(ceil_div(dst.w, kPictureSpan));
  geometry.columns =
      round_up(static_cast<int>(ceil_div(dst.w, geometry.column_tiles)), 2 * kPicturePixels);
  geometry.lead = round_up(kPictureColours * window.pad.left, kSector);
  geometry.origin = geometry.lead - kPictureColours * window.pad.left;
  // Tensor cores read the word with the window's ninth element whole.
  geometry.patch_elements = round_up(
      geometry.origin + (geometry.columns - 1) * window.stride * kPictureColours + kPictureTaps + 1,
      kSector);
  geometry.patch_bytes = patch_row_bytes(geometry.patch_elements, numeric);
  return geometry;
}

bool picture_uses_mma(Numeric numeric, int arch) {
  const std::optional<MatrixMath> math = pick_matrix_math(numeric, arch);
  return math == MatrixMath::kTensorFp16 || math == MatrixMath::kTensorBf16;
}

std::size_t picture_scalar_elements(const ConvProblem& problem) {
  return static_cast<std::size_t>(kPictureSize * kPictureTaps) *
         static_cast<std::size_t>(channels_packed(problem));
}

std::vector<std::byte> pack_picture(const ConvProblem& problem, Numeric numeric,
                                    const float* weights) {
  const int width = kChunkBytes / static_cast<int>(element_bytes(numeric));
  std::vector<float> scalar(picture_scalar_elements(problem));
  float* row = scalar.data();
  for (int r = 0; r < kPictureSize; ++r) {
    for (int element = 0; element < kPictureTaps; ++element) {
      for (int channel = 0; channel < channels_packed(problem); ++channel) {
        row[picture_scalar_place(channel, width)] = at(problem, weights, channel, r, element);
      }
      row += channels_packed(problem);
    }
  }
  std::vector<std::byte> kept(scalar.size() * element_bytes(numeric));
  to_numeric(scalar, numeric, kept.data());
  from_numeric(kept.data(), numeric, scalar);

  const std::vector<float> matrices =
      element_bytes(numeric) == 2 ? fragments(problem, weights) : std::vector<float>();
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
         (picture_uses_mma(numeric, gpu.arch) ? " mma " : " fma ") + numeric_name(numeric) + ", " +
         std::to_string(blocks) + " blocks";
}

}  // namespace xception
