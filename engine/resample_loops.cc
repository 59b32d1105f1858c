#include "resample_loops.h"

#include <algorithm>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace xception {
namespace {

void write_pixel(std::uint32_t r, std::uint32_t g, std::uint32_t b, std::uint8_t* out) {
  out[0] = to_byte(r);
  out[1] = to_byte(g);
  out[2] = to_byte(b);
}

void resample_row_baseline(const RowKernels& kernels, const std::uint8_t* row, std::uint8_t* out) {
  const std::int32_t* weight = kernels.weights.data();
  for (std::size_t i = 0; i < kernels.ends.size(); ++i, out += 3) {
    const std::uint8_t* p = row + kernels.firsts[i] * 3;
    const std::int32_t* end = kernels.weights.data() + kernels.ends[i];
    std::uint32_t r = kHalf, g = kHalf, b = kHalf;
    for (; weight != end; ++weight, p += 3) {
      const auto w = static_cast<std::uint32_t>(*weight);
      r += w * p[0];
      g += w * p[1];
      b += w * p[2];
    }
    write_pixel(r, g, b, out);
  }
}

void add_row_baseline(std::uint32_t weight, const std::uint8_t* row, std::size_t count,
                      std::uint32_t* sums) {
  for (std::size_t i = 0; i < count; ++i) {
    sums[i] += weight * row[i];
  }
}

#ifdef __x86_64__

constexpr int kAvx2Taps = 8;

[[gnu::target("avx2")]] inline __m256i load_eight(const std::uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}

// Eight pixels are 24 bytes, three vectors; each colour lies in every third lane of the three, and
// is put together behind the kernel's last weight.
[[gnu::target("avx2")]] void resample_row_avx2(const RowKernels& kernels, const std::uint8_t* row,
                                               std::uint8_t* out) {
  const __m256i pixels[3] = {_mm256_setr_epi32(0, 0, 0, 1, 1, 1, 2, 2),
                             _mm256_setr_epi32(2, 3, 3, 3, 4, 4, 4, 5),
                             _mm256_setr_epi32(5, 5, 6, 6, 6, 7, 7, 7)};
  const std::int32_t* weight = kernels.weights.data();
  for (std::size_t i = 0; i < kernels.ends.size(); ++i, out += 3) {
    const std::uint8_t* p = row + kernels.firsts[i] * 3;
    const std::int32_t* end = kernels.weights.data() + kernels.ends[i];
    __m256i sums[3] = {};
    for (; weight != end; weight += kAvx2Taps, p += 3 * kAvx2Taps) {
      const __m256i weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weight));
      for (int part = 0; part < 3; ++part) {
        const __m256i w = _mm256_permutevar8x32_epi32(weights, pixels[part]);
        sums[part] = _mm256_add_epi32(sums[part], _mm256_mullo_epi32(w, load_eight(p + 8 * part)));
      }
    }
    std::uint32_t lanes[24];
    for (int part = 0; part < 3; ++part) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes + 8 * part), sums[part]);
    }
    std::uint32_t colours[3] = {kHalf, kHalf, kHalf};
    for (int lane = 0; lane < 24; ++lane) {
      colours[lane % 3] += lanes[lane];
    }
    write_pixel(colours[0], colours[1], colours[2], out);
  }
}

[[gnu::target("avx2")]] void add_row_avx2(std::uint32_t weight, const std::uint8_t* row,
                                          std::size_t count, std::uint32_t* sums) {
  const __m256i weights = _mm256_set1_epi32(static_cast<int>(weight));
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    auto* const at = reinterpret_cast<__m256i*>(sums + i);
    const __m256i products = _mm256_mullo_epi32(weights, load_eight(row + i));
    _mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at), products));
  }
  add_row_baseline(weight, row + i, count - i, sums + i);
}

const ResampleLoops kAvx2ResampleLoops = {kAvx2Taps, resample_row_avx2, add_row_avx2};

#endif

}  // namespace

const ResampleLoops kBaselineResampleLoops = {1, resample_row_baseline, add_row_baseline};

const ResampleLoops& select_resample_loops() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx2")) {
    return kAvx2ResampleLoops;
  }
#endif
  return kBaselineResampleLoops;
}

std::uint8_t to_byte(std::uint32_t sum) {
  const std::int32_t value = static_cast<std::int32_t>(sum) >> kWeightBits;
  return static_cast<std::uint8_t>(std::clamp(value, 0, 255));
}

}  // namespace xception
