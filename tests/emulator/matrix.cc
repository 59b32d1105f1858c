#include "tests/emulator/matrix.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <limits>

#include "tests/emulator/numeric.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

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

// Where the elements of a row-major matrix stand among the fragments of a warp: see packed_place().
template <int kBits, int kDepth>
struct Layout {
  using SourcesA = std::array<std::uint16_t, kRows * kDepth>;
  using SourcesB = std::array<std::uint16_t, kDepth * kColumns>;

  static constexpr SourcesA make_a() {
    SourcesA sources{};
    for (int i = 0; i < kRows * kDepth; ++i) {
      const int lane = i % kWarpLanes;
      const Position at = position_a(kBits, lane, i / kWarpLanes);
      sources[row_major(at, kDepth)] =
          static_cast<std::uint16_t>(packed_place(kBits, lane, i / kWarpLanes));
    }
    return sources;
  }
  static constexpr SourcesB make_b() {
    SourcesB sources{};
    for (int i = 0; i < kDepth * kColumns; ++i) {
      const int lane = i % kWarpLanes;
      const Position at = position_b(kBits, lane, i / kWarpLanes);
      sources[row_major(at, kColumns)] =
          static_cast<std::uint16_t>(packed_place(kBits, lane, i / kWarpLanes));
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

// So registers 2 * i and 2 * i + 1 of a lane are neighbours in C: a float each, and as halves the
// two of one register.
using Sums = std::array<float, kRows * kColumns>;
using Pairs = std::array<std::uint64_t, kRows * kColumns / 2>;

void interleave(std::span<const LaneWords> registers, Sums& sums) {
  Pairs pairs;
  for (std::size_t i = 0; i < 2; ++i) {
    for (std::size_t lane = 0; lane < kWarpLanes; ++lane) {
      pairs[i * kWarpLanes + lane] =
          registers[2 * i][lane] | std::uint64_t{registers[2 * i + 1][lane]} << 32;
    }
  }
  std::memcpy(sums.data(), pairs.data(), sizeof pairs);
}

void separate(const Sums& sums, std::span<LaneWords> registers) {
  Pairs pairs;
  std::memcpy(pairs.data(), sums.data(), sizeof pairs);
  for (std::size_t i = 0; i < 2; ++i) {
    for (std::size_t lane = 0; lane < kWarpLanes; ++lane) {
      registers[2 * i][lane] = static_cast<std::uint32_t>(pairs[i * kWarpLanes + lane]);
      registers[2 * i + 1][lane] = static_cast<std::uint32_t>(pairs[i * kWarpLanes + lane] >> 32);
    }
  }
}

// A row of B or C. The compiler splits it where the processor has shorter vectors.
using Row [[gnu::vector_size(kColumns * sizeof(float))]] = float;

template <class Bits, class Convert>
void convert_each(std::span<const std::byte> packed, std::span<float> values,
                  const Convert& convert) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    Bits bits;
    std::memcpy(&bits, packed.data() + i * sizeof bits, sizeof bits);
    values[i] = convert(bits);
  }
}

// C += A B, each element's products in the order of k.
template <MatrixType kTypeA, MatrixType kTypeB, int kDepth>
void product(std::span<const LaneWords> a, std::span<const LaneWords> b, float* c) {
  using Fragments = Layout<bits_of(kTypeA), kDepth>;
  alignas(64) std::array<float, kRows * kDepth> left;
  alignas(64) std::array<float, kDepth * kColumns> elements;
  alignas(64) std::array<float, kDepth * kColumns> right;
  to_floats(kTypeA, std::as_bytes(a), left);
  to_floats(kTypeB, std::as_bytes(b), elements);
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

void to_floats(MatrixType type, std::span<const std::byte> packed, std::span<float> values) {
  switch (type) {
    case MatrixType::kF16: {
      std::size_t done = 0;
#if defined(__F16C__)
      for (; done + 8 <= values.size(); done += 8) {
        const void* const halves = packed.data() + done * sizeof(std::uint16_t);
        _mm256_storeu_ps(&values[done],
                         _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(halves))));
      }
#endif
      return convert_each<std::uint16_t>(packed.subspan(done * sizeof(std::uint16_t)),
                                         values.subspan(done), half_to_float);
    }
    case MatrixType::kBf16:
      return convert_each<std::uint16_t>(packed, values, bfloat_to_float);
    case MatrixType::kTf32:
      return convert_each<std::uint32_t>(packed, values, tf32_operand);
    case MatrixType::kS8:
      return convert_each<std::int8_t>(packed, values,
                                       [](std::int8_t value) { return static_cast<float>(value); });
    case MatrixType::kU8:
      return convert_each<std::uint8_t>(
          packed, values, [](std::uint8_t value) { return static_cast<float>(value); });
  }
}

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
  alignas(64) Sums sums{};
  if (shape.half_accumulator) {
    to_floats(MatrixType::kF16, std::as_bytes(c), sums);
  } else if (!integer) {
    interleave(c, sums);
  }
  // Sums of products of 8-bit integers are below 2^24: floats hold them.
  product_of_shape(shape, a, b, sums.data());
  if (shape.half_accumulator) {
    std::array<std::uint16_t, kRows * kColumns> halves;
    std::ranges::transform(sums, halves.begin(), [](float sum) { return half_from_float(sum); });
    std::memcpy(d.data(), halves.data(), sizeof halves);
  } else if (!integer) {
    separate(sums, d);
  } else {
    for (std::size_t i = 0; i < 4; ++i) {
      for (std::size_t lane = 0; lane < kWarpLanes; ++lane) {
        d[i][lane] = add_integers(c[i][lane], sums[place_c(lane, i)], shape.saturate);
      }
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
