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

// packed_place() of an element, by formulas that are checked against the layouts below. kEach: the
// elements that four neighbouring lanes have in one register.
template <std::size_t kEach>
constexpr std::size_t place_a(std::size_t row, std::size_t k) {
  return ((row / 8 + 2 * (k / kEach)) * 8 + row % 8) * kEach + k % kEach;
}
template <std::size_t kEach>
constexpr std::size_t place_b(std::size_t k, std::size_t column) {
  return (k / kEach * 8 + column) * kEach + k % kEach;
}
// Element `index` of a lane stands here in a row-major C.
constexpr std::size_t place_c(std::size_t lane, std::size_t index) {
  return 2 * lane + index % 2 + 64 * (index / 2);
}

template <int kBits, int kDepth>
constexpr bool places_are_positions() {
  constexpr std::size_t kEach = 128 / kBits;
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    for (int index = 0; index < kRows * kDepth / kWarpLanes; ++index) {
      const Position at = position_a(kBits, lane, index);
      if (place_a<kEach>(static_cast<std::size_t>(at.row), static_cast<std::size_t>(at.column)) !=
          static_cast<std::size_t>(packed_place(kBits, lane, index))) {
        return false;
      }
    }
    for (int index = 0; index < kDepth * kColumns / kWarpLanes; ++index) {
      const Position at = position_b(kBits, lane, index);
      if (place_b<kEach>(static_cast<std::size_t>(at.row), static_cast<std::size_t>(at.column)) !=
          static_cast<std::size_t>(packed_place(kBits, lane, index))) {
        return false;
      }
    }
    for (int index = 0; index < 4; ++index) {
      if (place_c(static_cast<std::size_t>(lane), static_cast<std::size_t>(index)) !=
          row_major(position_c(lane, index), kColumns)) {
        return false;
      }
    }
  }
  return true;
}
static_assert(places_are_positions<32, 8>() && places_are_positions<16, 16>() &&
              places_are_positions<8, 32>());

using Four [[gnu::vector_size(4 * sizeof(float))]] = float;

Four load_four(const void* from) {
  Four four;
  std::memcpy(&four, from, sizeof four);
  return four;
}
void store_four(Four four, void* to) { std::memcpy(to, &four, sizeof four); }

// x and y in turns, their first two or their last two; and back.
Four zip_first(Four x, Four y) { return Four{x[0], y[0], x[1], y[1]}; }
Four zip_last(Four x, Four y) { return Four{x[2], y[2], x[3], y[3]}; }
Four evens(Four x, Four y) { return Four{x[0], x[2], y[0], y[2]}; }
Four odds(Four x, Four y) { return Four{x[1], x[3], y[1], y[3]}; }

// Row-major C, from and to registers. Registers 2 * i and 2 * i + 1 of a lane are neighbours in it.
using Sums = std::array<float, kRows * kColumns>;

void interleave(std::span<const LaneWords> registers, Sums& sums) {
  for (std::size_t i = 0; i < 2; ++i) {
    for (std::size_t lane = 0; lane < kWarpLanes; lane += 4) {
      const Four even = load_four(&registers[2 * i][lane]);
      const Four odd = load_four(&registers[2 * i + 1][lane]);
      float* const row = &sums[place_c(lane, 2 * i)];
      store_four(zip_first(even, odd), row);
      store_four(zip_last(even, odd), row + 4);
    }
  }
}

void separate(const Sums& sums, std::span<LaneWords> registers) {
  for (std::size_t i = 0; i < 2; ++i) {
    for (std::size_t lane = 0; lane < kWarpLanes; lane += 4) {
      const float* const row = &sums[place_c(lane, 2 * i)];
      const Four first = load_four(row);
      const Four last = load_four(row + 4);
      store_four(evens(first, last), &registers[2 * i][lane]);
      store_four(odds(first, last), &registers[2 * i + 1][lane]);
    }
  }
}

// B as it lies in registers, to row-major: four rows at a time, half of each.
template <std::size_t kEach, std::size_t kDepth>
void transpose_b(const float* packed, float* rows) {
  for (std::size_t k = 0; k < kDepth; k += 4) {
    for (std::size_t column = 0; column < kColumns; column += 4) {
      const auto four = [&](std::size_t i) {
        return load_four(packed + place_b<kEach>(k, column + i));
      };
      const Four first02 = zip_first(four(0), four(2));
      const Four first13 = zip_first(four(1), four(3));
      const Four last02 = zip_last(four(0), four(2));
      const Four last13 = zip_last(four(1), four(3));
      float* const to = rows + k * kColumns + column;
      store_four(zip_first(first02, first13), to);
      store_four(zip_last(first02, first13), to + kColumns);
      store_four(zip_first(last02, last13), to + 2 * kColumns);
      store_four(zip_last(last02, last13), to + 3 * kColumns);
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
template <MatrixType kTypeA, MatrixType kTypeB, std::size_t kDepth>
void product(std::span<const LaneWords> a, std::span<const LaneWords> b, Sums& c) {
  constexpr std::size_t kEach = 128 / bits_of(kTypeA);
  constexpr std::size_t kRowsAtOnce =
      8;  // of one register, and with sums that do not wait for each other
  alignas(64) std::array<float, kRows * kDepth> left;
  alignas(64) std::array<float, kDepth * kColumns> packed;
  alignas(64) std::array<float, kDepth * kColumns> right;
  to_floats(kTypeA, std::as_bytes(a), left);
  to_floats(kTypeB, std::as_bytes(b), packed);
  transpose_b<kEach, kDepth>(packed.data(), right.data());
  for (std::size_t row = 0; row < kRows; row += kRowsAtOnce) {
    std::array<Row, kRowsAtOnce> sums;
    std::memcpy(sums.data(), &c[row * kColumns], sizeof sums);
    for (std::size_t first = 0; first < kDepth; first += kEach) {
      const float* const corner = &left[place_a<kEach>(row, first)];
      for (std::size_t k = 0; k < kEach; ++k) {
        Row factors;
        std::memcpy(&factors, &right[(first + k) * kColumns], sizeof factors);
        for (std::size_t i = 0; i < kRowsAtOnce; ++i) {
          sums[i] += corner[i * kEach + k] * factors;
        }
      }
    }
    std::memcpy(&c[row * kColumns], sums.data(), sizeof sums);
  }
}

template <MatrixType kTypeA, MatrixType kTypeB, int kShort, int kLong>
void product_of_depth(int k, std::span<const LaneWords> a, std::span<const LaneWords> b, Sums& c) {
  if (k == kShort) {
    product<kTypeA, kTypeB, kShort>(a, b, c);
  } else {
    product<kTypeA, kTypeB, kLong>(a, b, c);
  }
}

void product_of_shape(const MmaShape& shape, std::span<const LaneWords> a,
                      std::span<const LaneWords> b, Sums& c) {
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
  product_of_shape(shape, a, b, sums);
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
