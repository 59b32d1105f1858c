// mma, ldmatrix and stmatrix against loops over matrices that the ISA's tables deal out to lanes.
#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "tests/emulator/matrix.h"
#include "tests/emulator/numeric.h"
#include "tests/emulator/test_matrix_layouts.h"
#include "tests/random.h"
#include "tests/testing.h"

namespace xception::emulator {
namespace {

struct Holder {
  int lane = 0;
  int index = 0;
};
using Table = std::vector<std::vector<Holder>>;  // [row][column]

Table read_table(std::span<const char* const> rows) {
  Table table;
  for (const char* row : rows) {
    std::istringstream text(row);
    table.emplace_back();
    Holder holder;
    char colon = 0;
    while (text >> holder.lane >> colon >> holder.index) {
      table.back().push_back(holder);
    }
  }
  return table;
}

struct Layouts {
  MatrixType type;
  int k;
  Table a;
  Table b;
};

std::vector<Layouts> all_layouts() {
  using namespace isa;  // NOLINT(google-build-using-namespace)
  const auto make = [](MatrixType type, int k, std::span<const char* const> a,
                       std::span<const char* const> b) {
    return Layouts{type, k, read_table(a), read_table(b)};
  };
  return {make(MatrixType::kF16, 8, kHalfA8, kHalfB8),
          make(MatrixType::kF16, 16, kHalfA16, kHalfB16),
          make(MatrixType::kBf16, 8, kHalfA8, kHalfB8),
          make(MatrixType::kBf16, 16, kHalfA16, kHalfB16),
          make(MatrixType::kTf32, 4, kTf32A4, kTf32B4),
          make(MatrixType::kTf32, 8, kTf32A8, kTf32B8),
          make(MatrixType::kS8, 16, kByteA16, kByteB16),
          make(MatrixType::kS8, 32, kByteA32, kByteB32),
          make(MatrixType::kU8, 16, kByteA16, kByteB16),
          make(MatrixType::kU8, 32, kByteA32, kByteB32)};
}

int bits_of(MatrixType type) {
  return type == MatrixType::kTf32                               ? 32
         : type == MatrixType::kF16 || type == MatrixType::kBf16 ? 16
                                                                 : 8;
}

std::uint32_t encode_as(MatrixType type, double value) {
  switch (type) {
    case MatrixType::kF16:
      return half_from_double(value);
    case MatrixType::kBf16:
      return bfloat_from_double(value);
    case MatrixType::kTf32:
      return float_bits(static_cast<float>(value));
    default:
      return static_cast<std::uint8_t>(static_cast<int>(value));
  }
}

double decode_as(MatrixType type, std::uint32_t bits) {
  switch (type) {
    case MatrixType::kF16:
      return half_to_float(static_cast<std::uint16_t>(bits));
    case MatrixType::kBf16:
      return bfloat_to_float(static_cast<std::uint16_t>(bits));
    case MatrixType::kTf32:
      return float_from_bits(bits & 0xffffe000U);
    case MatrixType::kS8:
      return static_cast<std::int8_t>(bits);
    case MatrixType::kU8:
      return static_cast<std::uint8_t>(bits);
  }
  return 0;
}

using Matrix = std::vector<std::vector<double>>;

// Deals a matrix out to lanes by the table, and gives what became of it in the type.
std::vector<LaneWords> deal(const Table& table, MatrixType type, Matrix& matrix) {
  const int bits = bits_of(type);
  std::vector<LaneWords> registers(4, LaneWords{});
  for (std::size_t row = 0; row < table.size(); ++row) {
    for (std::size_t column = 0; column < table[row].size(); ++column) {
      const std::uint32_t code = encode_as(type, matrix[row][column]);
      matrix[row][column] = decode_as(type, code);
      const Holder& holder = table[row][column];
      const int place = holder.index * bits;
      registers[static_cast<std::size_t>(place / 32)][static_cast<std::size_t>(holder.lane)] |=
          code << (place % 32);
    }
  }
  return registers;
}

Matrix draw(std::size_t rows, std::size_t columns, MatrixType type, bool whole, Random& random) {
  Matrix matrix(rows, std::vector<double>(columns));
  for (auto& row : matrix) {
    for (double& value : row) {
      if (type == MatrixType::kU8) {
        value = random.integer(0, 255);
      } else if (type == MatrixType::kS8) {
        value = random.integer(-128, 127);
      } else {
        value = whole ? random.integer(-8, 8) : double{random.normal()};
      }
    }
  }
  return matrix;
}

std::span<const LaneWords> first(const std::vector<LaneWords>& registers, int count) {
  return std::span(registers).first(static_cast<std::size_t>(count));
}

TEST_CASE("halves become floats, many at a time as one by one", "[emulator]") {
  std::vector<std::uint16_t> halves(65536 + 5);  // the last ones by themselves
  for (std::size_t i = 0; i < halves.size(); ++i) {
    halves[i] = static_cast<std::uint16_t>(i);
  }
  std::vector<float> values(halves.size());
  to_floats(MatrixType::kF16, std::as_bytes(std::span(halves)), values);
  for (std::size_t i = 0; i < halves.size(); ++i) {
    const float expected = half_to_float(halves[i]);
    const bool same = std::isnan(expected) ? std::isnan(values[i])
                                           : float_bits(values[i]) == float_bits(expected);
    if (!same) {
      CAPTURE(halves[i], values[i]);
      REQUIRE(same);
    }
  }
}

TEST_CASE("fragment layouts are those of the ISA", "[emulator]") {
  for (const Layouts& layouts : all_layouts()) {
    const int bits = bits_of(layouts.type);
    CAPTURE(bits, layouts.k);
    REQUIRE(layouts.a.size() == 16);
    REQUIRE(layouts.b.size() == static_cast<std::size_t>(layouts.k));
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < layouts.k; ++column) {
        const Holder& holder =
            layouts.a[static_cast<std::size_t>(row)][static_cast<std::size_t>(column)];
        const Position at = position_a(bits, holder.lane, holder.index);
        REQUIRE((at.row == row && at.column == column));
      }
    }
    for (int row = 0; row < layouts.k; ++row) {
      for (int column = 0; column < 8; ++column) {
        const Holder& holder =
            layouts.b[static_cast<std::size_t>(row)][static_cast<std::size_t>(column)];
        const Position at = position_b(bits, holder.lane, holder.index);
        REQUIRE((at.row == row && at.column == column));
      }
    }
  }
  const Table c = read_table(isa::kC);
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      const Holder& holder = c[static_cast<std::size_t>(row)][static_cast<std::size_t>(column)];
      const Position at = position_c(holder.lane, holder.index);
      REQUIRE((at.row == row && at.column == column));
    }
  }
}

// Float operands. Whole numbers leave no room for rounding; others are held against the documented
// order bit by bit, and against the exact sum within its bound.
void check_float(const Layouts& layouts, bool half_accumulator, bool whole, Random& random) {
  const Table table_c = read_table(isa::kC);
  const auto k = static_cast<std::size_t>(layouts.k);
  Matrix a = draw(16, k, layouts.type, whole, random);
  Matrix b = draw(k, 8, layouts.type, whole, random);
  Matrix c = draw(16, 8, MatrixType::kF16, whole, random);
  const auto registers_a = deal(layouts.a, layouts.type, a);
  const auto registers_b = deal(layouts.b, layouts.type, b);
  std::vector<LaneWords> registers_c(4, LaneWords{});
  if (half_accumulator) {
    registers_c = deal(table_c, MatrixType::kF16, c);
  } else {
    for (std::size_t row = 0; row < 16; ++row) {
      for (std::size_t column = 0; column < 8; ++column) {
        const Holder& holder = table_c[row][column];
        const auto value = static_cast<float>(c[row][column]);
        registers_c[static_cast<std::size_t>(holder.index)][static_cast<std::size_t>(holder.lane)] =
            float_bits(value);
        c[row][column] = double{value};
      }
    }
  }
  MmaShape shape{layouts.k, layouts.type, layouts.type, half_accumulator, false};
  REQUIRE(mma_supported(shape));
  std::vector<LaneWords> d(4, LaneWords{});
  mma(shape, first(registers_a, mma_registers_a(shape)), first(registers_b, mma_registers_b(shape)),
      first(registers_c, mma_registers_c(shape)),
      std::span(d).first(static_cast<std::size_t>(mma_registers_c(shape))));
  for (std::size_t row = 0; row < 16; ++row) {
    for (std::size_t column = 0; column < 8; ++column) {
      auto sum = static_cast<float>(c[row][column]);
      double exact = c[row][column];
      double magnitude = std::fabs(exact);
      for (std::size_t i = 0; i < k; ++i) {
        sum += static_cast<float>(a[row][i] * b[i][column]);
        exact += a[row][i] * b[i][column];
        magnitude += std::fabs(a[row][i] * b[i][column]);
      }
      const Holder& holder = table_c[row][column];
      const auto index = static_cast<std::size_t>(holder.index);
      const auto lane = static_cast<std::size_t>(holder.lane);
      if (half_accumulator) {
        const auto got = static_cast<std::uint16_t>(d[index / 2][lane] >> (16 * (index % 2)));
        REQUIRE(got == half_from_float(sum));
        REQUIRE((!whole || half_to_float(got) == half_to_float(half_from_double(exact))));
      } else {
        const float got = float_from_bits(d[index][lane]);
        REQUIRE(got == sum);
        REQUIRE((!whole || double{got} == exact));
        // k additions, each within half an ulp of a partial sum of at most `magnitude`.
        REQUIRE(std::fabs(double{got} - exact) <= static_cast<double>(k) * 0x1p-24 * magnitude);
      }
    }
  }
}

TEST_CASE("mma of floating types", "[emulator]") {
  XC_RANDOM(random);
  for (const Layouts& layouts : all_layouts()) {
    if (bits_of(layouts.type) == 8) {
      continue;
    }
    for (int i = 0; i < 20; ++i) {
      CAPTURE(bits_of(layouts.type), layouts.k, i);
      check_float(layouts, false, i % 2 == 0, random);
      if (layouts.type == MatrixType::kF16) {
        check_float(layouts, true, i % 2 == 0, random);
      }
    }
  }
}

void check_integer(const Layouts& layouts_a, const Layouts& layouts_b, bool saturate,
                   Random& random) {
  const Table table_c = read_table(isa::kC);
  const auto k = static_cast<std::size_t>(layouts_a.k);
  Matrix a = draw(16, k, layouts_a.type, true, random);
  Matrix b = draw(k, 8, layouts_b.type, true, random);
  const auto registers_a = deal(layouts_a.a, layouts_a.type, a);
  const auto registers_b = deal(layouts_b.b, layouts_b.type, b);
  std::vector<LaneWords> c(4);
  for (LaneWords& words : c) {
    for (std::uint32_t& word : words) {
      // Half of them so near the ends that the sum goes over.
      const auto any = static_cast<std::uint32_t>(random.integer(0, 0x7fffffff));
      word = random.integer(0, 1) != 0 ? any * 2 : 0x7fffffffU + (any & 1) - (any >> 1) % 1000;
    }
  }
  const MmaShape shape{layouts_a.k, layouts_a.type, layouts_b.type, false, saturate};
  REQUIRE(mma_supported(shape));
  std::vector<LaneWords> d = c;
  mma(shape, first(registers_a, mma_registers_a(shape)), first(registers_b, mma_registers_b(shape)),
      d, d);
  for (std::size_t row = 0; row < 16; ++row) {
    for (std::size_t column = 0; column < 8; ++column) {
      const auto index = static_cast<std::size_t>(table_c[row][column].index);
      const auto lane = static_cast<std::size_t>(table_c[row][column].lane);
      std::int64_t sum = static_cast<std::int32_t>(c[index][lane]);
      for (std::size_t i = 0; i < k; ++i) {
        sum += static_cast<std::int64_t>(a[row][i]) * static_cast<std::int64_t>(b[i][column]);
      }
      if (saturate) {
        sum = std::min<std::int64_t>(std::max<std::int64_t>(sum, -0x80000000LL), 0x7fffffffLL);
      }
      REQUIRE(d[index][lane] == static_cast<std::uint32_t>(sum));
    }
  }
}

TEST_CASE("mma of integers is exact, wraps and saturates", "[emulator]") {
  XC_RANDOM(random);
  const std::vector<Layouts> layouts = all_layouts();
  for (const Layouts& a : layouts) {
    for (const Layouts& b : layouts) {
      if (bits_of(a.type) != 8 || bits_of(b.type) != 8 || a.k != b.k) {
        continue;
      }
      for (int i = 0; i < 10; ++i) {
        check_integer(a, b, i % 2 == 0, random);
      }
    }
  }
}

TEST_CASE("mma hands NaN and infinity on, and knows its shapes", "[emulator]") {
  std::vector<LaneWords> a(4, LaneWords{});
  std::vector<LaneWords> b(2, LaneWords{});
  std::vector<LaneWords> c(4, LaneWords{});
  a[0][0] = 0x7c00;  // infinity at row 0, column 0
  b[0][0] = 0x3c00;  // one at row 0, column 0
  mma({}, a, b, c, c);
  REQUIRE(float_from_bits(c[0][0]) == std::numeric_limits<float>::infinity());
  REQUIRE(std::isnan(float_from_bits(c[1][0])));  // infinity times zero
  REQUIRE(float_from_bits(c[2][0]) == 0);
  REQUIRE_FALSE(mma_supported({32, MatrixType::kF16, MatrixType::kF16, false, false}));
  REQUIRE_FALSE(mma_supported({16, MatrixType::kF16, MatrixType::kBf16, false, false}));
  REQUIRE_FALSE(mma_supported({16, MatrixType::kBf16, MatrixType::kBf16, true, false}));
  REQUIRE_FALSE(mma_supported({16, MatrixType::kF16, MatrixType::kF16, false, true}));
  REQUIRE_FALSE(mma_supported({16, MatrixType::kTf32, MatrixType::kTf32, false, false}));
  REQUIRE(mma_supported({32, MatrixType::kS8, MatrixType::kU8, false, true}));
}

TEST_CASE("ldmatrix and stmatrix deal rows as the ISA says", "[emulator]") {
  XC_RANDOM(random);
  const Table table = read_table(isa::kLdmatrix);
  for (const int count : {1, 2, 4}) {
    for (const bool transposed : {false, true}) {
      // matrix, row, column
      std::vector<std::uint16_t> elements(static_cast<std::size_t>(count) * 64);
      for (std::uint16_t& element : elements) {
        element = static_cast<std::uint16_t>(random.integer(0, 65535));
      }
      const auto size = static_cast<std::size_t>(count);
      std::vector<LaneWords> registers(size);
      ldmatrix(count, transposed, std::as_bytes(std::span(elements)), registers);
      for (std::size_t matrix = 0; matrix < size; ++matrix) {
        for (std::size_t row = 0; row < 8; ++row) {
          for (std::size_t column = 0; column < 8; ++column) {
            const Holder& holder = transposed ? table[column][row] : table[row][column];
            const std::uint32_t word = registers[matrix][static_cast<std::size_t>(holder.lane)];
            REQUIRE(static_cast<std::uint16_t>(word >> (16 * holder.index)) ==
                    elements[matrix * 64 + row * 8 + column]);
          }
        }
      }
      std::vector<std::uint16_t> stored(elements.size());
      stmatrix(count, transposed, registers, std::as_writable_bytes(std::span(stored)));
      REQUIRE(stored == elements);
    }
  }
}

TEST_CASE("movmatrix transposes", "[emulator]") {
  const Table table = read_table(isa::kLdmatrix);
  LaneWords source{};
  for (std::uint32_t row = 0; row < 8; ++row) {
    for (std::uint32_t column = 0; column < 8; ++column) {
      const Holder& holder = table[row][column];
      source[static_cast<std::size_t>(holder.lane)] |= (10 * row + column) << (16 * holder.index);
    }
  }
  const LaneWords result = movmatrix(source);
  for (std::uint32_t row = 0; row < 8; ++row) {
    for (std::uint32_t column = 0; column < 8; ++column) {
      const Holder& holder = table[row][column];
      REQUIRE((result[static_cast<std::size_t>(holder.lane)] >> (16 * holder.index) & 0xffff) ==
              10 * column + row);
    }
  }
}

}  // namespace
}  // namespace xception::emulator
