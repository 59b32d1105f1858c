#include "tests/emulator/matrix.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <limits>

#include "tests/emulator/numeric.h"

namespace xception::emulator {
namespace {

constexpr int kRows = 16;    // of A, C and D
constexpr int kColumns = 8;  // of B, C and D

constexpr int bits_of(MatrixType type) {
  switch (type) {
    case MatrixType::kF16:
    case MatrixType::kBf16:
      return 16;
    case MatrixType::kTf32:
      return 32;
    case MatrixType::kS8:
    case MatrixType::kU8:
      return 8;
  }
  return 0;
}

bool is_integer(MatrixType type) { return type == MatrixType::kS8 || type == MatrixType::kU8; }

constexpr std::size_t row_major(const Position& at, int columns) {
  const int place = at.row * columns + at.column;
  return static_cast<std::size_t>(place);
}

// Where the elements of a row-major matrix stand among the fragments of a warp: element i is that
// of index source[i] / 32 in lane source[i] % 32.
template <int kBits, int kDepth>
struct Layout {
  using SourcesA = std::array<std::uint16_t, kRows * kDepth>;
  using SourcesB = std::array<std::uint16_t, kDepth * kColumns>;

  static constexpr SourcesA make_a() {
    SourcesA sources{};
    for (int source = 0; source < kRows * kDepth; ++source) {
      const Position at = position_a(kBits, source % kWarpLanes, source / kWarpLanes);
      sources[row_major(at, kDepth)] = static_cast<std::uint16_t>(source);
    }
    return sources;
  }
  static constexpr SourcesB make_b() {
    SourcesB sources{};
    for (int source = 0; source < kDepth * kColumns; ++source) {
      const Position at = position_b(kBits, source % kWarpLanes, source / kWarpLanes);
      sources[row_major(at, kColumns)] = static_cast<std::uint16_t>(source);
    }
    return sources;
  }
  static constexpr SourcesA kSourcesA = make_a();
  static constexpr SourcesB kSourcesB = make_b();
};

// Element `index` of a lane stands here in a row-major C: the formula, checked against the layout.
constexpr std::size_t place_c(std::size_t lane, std::size_t index) {
  return 2 * lane + index % 2 + 64 * (index / 2);
}
constexpr bool place_c_is_position_c() {
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    for (int index = 0; index < 4; ++index) {
      const Position at = position_c(lane, index);
      if (place_c(static_cast<std::size_t>(lane), static_cast<std::size_t>(index)) !=
          row_major(at, kColumns)) {
        return false;
      }
    }
  }
  return true;
}
static_assert(place_c_is_position_c());

// A row of B or C. The compiler splits it where the processor has shorter vectors.
using Row [[gnu::vector_size(kColumns * sizeof(float))]] = float;

// Inlined into a function for each instruction set, as the loops are most of an emulated kernel's
// time. Same operations in the same order, so the results are the same.
#define XC_INLINE [[gnu::always_inline]] inline

// Element `part` of a register.
template <MatrixType kType>
XC_INLINE float element(std::uint32_t word, std::size_t part) {
  switch (kType) {
    case MatrixType::kF16:
      return half_to_float(static_cast<std::uint16_t>(word >> (16 * part)));
    case MatrixType::kBf16:
      return bfloat_to_float(static_cast<std::uint16_t>(word >> (16 * part)));
    case MatrixType::kTf32:
      return tf32_operand(word);
    case MatrixType::kS8:
      return static_cast<float>(static_cast<std::int8_t>(word >> (8 * part)));
    case MatrixType::kU8:
      return static_cast<float>(static_cast<std::uint8_t>(word >> (8 * part)));
  }
  return 0;
}

// The elements of a warp's fragments as floats, index by index, lane by lane.
template <MatrixType kType, std::size_t kCount>
XC_INLINE void unpack(std::span<const LaneWords> registers, std::array<float, kCount>& elements) {
  constexpr std::size_t kEach = 32 / bits_of(kType);
  for (std::size_t index = 0; index < kCount / kWarpLanes; ++index) {
    const LaneWords& words = registers[index / kEach];
    for (std::size_t lane = 0; lane < kWarpLanes; ++lane) {
      elements[index * kWarpLanes + lane] = element<kType>(words[lane], index % kEach);
    }
  }
}

// C += A B, each element's products in the order of k.
template <MatrixType kTypeA, MatrixType kTypeB, int kDepth>
XC_INLINE void product_body(std::span<const LaneWords> a, std::span<const LaneWords> b, float* c) {
  using Fragments = Layout<bits_of(kTypeA), kDepth>;
  alignas(64) std::array<float, kRows * kDepth> left;
  alignas(64) std::array<float, kDepth * kColumns> elements;
  alignas(64) std::array<float, kDepth * kColumns> right;
  unpack<kTypeA>(a, left);
  unpack<kTypeB>(b, elements);
  for (std::size_t i = 0; i < right.size(); ++i) {
    right[i] = elements[Fragments::kSourcesB[i]];
  }
  for (std::size_t row = 0; row < kRows; ++row) {
    Row sum;
    std::memcpy(&sum, c + row * kColumns, sizeof sum);
    for (std::size_t k = 0; k < kDepth; ++k) {
      Row factors;
      std::memcpy(&factors, right.data() + k * kColumns, sizeof factors);
      sum += left[Fragments::kSourcesA[row * kDepth + k]] * factors;
    }
    std::memcpy(c + row * kColumns, &sum, sizeof sum);
  }
}

#if defined(__x86_64__)
template <MatrixType kTypeA, MatrixType kTypeB, int kDepth>
[[gnu::target("avx2")]] void product_avx2(std::span<const LaneWords> a,
                                          std::span<const LaneWords> b, float* c) {
  product_body<kTypeA, kTypeB, kDepth>(a, b, c);
}
#endif

template <MatrixType kTypeA, MatrixType kTypeB, int kDepth>
void product(std::span<const LaneWords> a, std::span<const LaneWords> b, float* c) {
#if defined(__x86_64__)
  static const bool has_avx2 = __builtin_cpu_supports("avx2") != 0;
  if (has_avx2) {
    return product_avx2<kTypeA, kTypeB, kDepth>(a, b, c);
  }
#endif
  product_body<kTypeA, kTypeB, kDepth>(a, b, c);
}

template <MatrixType kTypeA, MatrixType kTypeB, int kShort, int kLong>
void product_of_depth(int k, std::span<const LaneWords> a, std::span<const LaneWords> b, float* c) {
  if (k == kShort) {
    product<kTypeA, kTypeB, kShort>(a, b, c);
  } else {
    product<kTypeA, kTypeB, kLong>(a, b, c);
  }
}

void product_of_shape(const MmaShape& shape, std::span<const LaneWords> a,
                      std::span<const LaneWords> b, float* c) {
  using enum MatrixType;
  switch (shape.a) {
    case kF16:
      return product_of_depth<kF16, kF16, 8, 16>(shape.k, a, b, c);
    case kBf16:
      return product_of_depth<kBf16, kBf16, 8, 16>(shape.k, a, b, c);
    case kTf32:
      return product_of_depth<kTf32, kTf32, 4, 8>(shape.k, a, b, c);
    case kS8:
      return shape.b == kS8 ? product_of_depth<kS8, kS8, 16, 32>(shape.k, a, b, c)
                            : product_of_depth<kS8, kU8, 16, 32>(shape.k, a, b, c);
    case kU8:
      return shape.b == kS8 ? product_of_depth<kU8, kS8, 16, 32>(shape.k, a, b, c)
                            : product_of_depth<kU8, kU8, 16, 32>(shape.k, a, b, c);
  }
}

std::uint32_t add_integers(std::uint32_t c, float sum, bool saturating) {
  const std::int64_t exact =
      std::int64_t{static_cast<std::int32_t>(c)} + static_cast<std::int64_t>(sum);
  if (!saturating) {
    return static_cast<std::uint32_t>(exact);
  }
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(
      exact, std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()));
}

std::uint16_t element16(const std::byte* place) {
  std::uint16_t value = 0;
  std::memcpy(&value, place, sizeof value);
  return value;
}

constexpr std::size_t kMatrixBytes = 128;  // 8 rows of 16

// Where the two elements of a lane stand in an 8 x 8 matrix.
std::array<std::size_t, 2> element_places(int lane, bool transposed) {
  const auto major = static_cast<std::size_t>(lane / 4);
  const auto minor = static_cast<std::size_t>(lane % 4 * 2);
  return transposed ? std::array{16 * minor + 2 * major, 16 * (minor + 1) + 2 * major}
                    : std::array{16 * major + 2 * minor, 16 * major + 2 * (minor + 1)};
}

}  // namespace

int mma_registers_a(const MmaShape& shape) {
  return kRows * shape.k * bits_of(shape.a) / (32 * kWarpLanes);
}

int mma_registers_b(const MmaShape& shape) {
  return kColumns * shape.k * bits_of(shape.b) / (32 * kWarpLanes);
}

int mma_registers_c(const MmaShape& shape) { return shape.half_accumulator ? 2 : 4; }

bool mma_supported(const MmaShape& shape) {
  const bool integer = is_integer(shape.a);
  if (integer ? !is_integer(shape.b) : shape.a != shape.b) {
    return false;
  }
  if ((shape.half_accumulator && shape.a != MatrixType::kF16) || (shape.saturate && !integer)) {
    return false;
  }
  const int least = 128 / bits_of(shape.a);
  return shape.k == least || shape.k == 2 * least;
}

void mma(const MmaShape& shape, std::span<const LaneWords> a, std::span<const LaneWords> b,
         std::span<const LaneWords> c, std::span<LaneWords> d) {
  assert(mma_supported(shape));
  const bool integer = is_integer(shape.a);
  alignas(64) std::array<float, kRows * kColumns> sums{};
  for (std::size_t i = 0; !integer && i < 4; ++i) {
    for (std::size_t lane = 0; lane < kWarpLanes; ++lane) {
      sums[place_c(lane, i)] = shape.half_accumulator
                                   ? element<MatrixType::kF16>(c[i / 2][lane], i % 2)
                                   : float_from_bits(c[i][lane]);
    }
  }
  // Sums of products of 8-bit integers are below 2^24: floats hold them.
  product_of_shape(shape, a, b, sums.data());
  if (shape.half_accumulator) {
    for (std::size_t i = 0; i < 2; ++i) {
      for (std::size_t lane = 0; lane < kWarpLanes; ++lane) {
        d[i][lane] = half_from_float(sums[place_c(lane, 2 * i)]) |
                     static_cast<std::uint32_t>(half_from_float(sums[place_c(lane, 2 * i + 1)]))
                         << 16;
      }
    }
    return;
  }
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t lane = 0; lane < kWarpLanes; ++lane) {
      const float sum = sums[place_c(lane, i)];
      d[i][lane] = integer ? add_integers(c[i][lane], sum, shape.saturate) : float_bits(sum);
    }
  }
}

void ldmatrix(int count, bool transposed, std::span<const std::byte> rows,
              std::span<LaneWords> registers) {
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const auto places = element_places(lane, transposed);
    for (std::size_t matrix = 0; matrix < static_cast<std::size_t>(count); ++matrix) {
      const std::byte* from = rows.data() + matrix * kMatrixBytes;
      registers[matrix][static_cast<std::size_t>(lane)] =
          element16(from + places[0]) | static_cast<std::uint32_t>(element16(from + places[1]))
                                            << 16;
    }
  }
}

void stmatrix(int count, bool transposed, std::span<const LaneWords> registers,
              std::span<std::byte> rows) {
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const auto places = element_places(lane, transposed);
    for (std::size_t matrix = 0; matrix < static_cast<std::size_t>(count); ++matrix) {
      std::byte* to = rows.data() + matrix * kMatrixBytes;
      const std::uint32_t word = registers[matrix][static_cast<std::size_t>(lane)];
      for (std::size_t part = 0; part < 2; ++part) {
        const auto value = static_cast<std::uint16_t>(word >> (16 * part));
        std::memcpy(to + places[part], &value, sizeof value);
      }
    }
  }
}

LaneWords movmatrix(const LaneWords& source) {
  std::array<std::byte, kMatrixBytes> rows{};
  LaneWords result{};
  stmatrix(1, false, {&source, 1}, rows);
  ldmatrix(1, true, rows, {&result, 1});
  return result;
}

}  // namespace xception::emulator
