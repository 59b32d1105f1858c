// The roundings of numeric.h, each against a search or a scaled integer, or the host in its other
// rounding modes.
#include <algorithm>
#include <array>
#include <cfenv>
#include <vector>

#include "tests/emulator/numeric.h"
#include "tests/random.h"
#include "tests/testing.h"

namespace xception::emulator {
namespace {

constexpr std::array kRoundings = {Rounding::kNearest, Rounding::kNearestAway, Rounding::kZero,
                                   Rounding::kDown, Rounding::kUp};

// A number by its definition: sign, exponent and mantissa fields.
double decode(FloatFormat format, std::uint64_t code) {
  const auto mantissa = static_cast<double>(code & ((1ULL << format.mantissa_bits) - 1));
  const auto field =
      static_cast<int>(code >> format.mantissa_bits & ((1ULL << format.exponent_bits) - 1));
  const bool negative = (code >> (format.mantissa_bits + format.exponent_bits) & 1) != 0;
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  double magnitude = 0;
  if (field == (1 << format.exponent_bits) - 1) {
    magnitude = mantissa == 0 ? INFINITY : NAN;
  } else if (field == 0) {
    magnitude = std::ldexp(mantissa, 1 - bias - format.mantissa_bits);
  } else {
    magnitude = std::ldexp(1 + std::ldexp(mantissa, -format.mantissa_bits), field - bias);
  }
  return negative ? -magnitude : magnitude;
}

// All magnitudes of a 16-bit format, ascending, infinity last; code i is the i-th.
std::vector<double> magnitudes(FloatFormat format) {
  std::vector<double> values;
  for (std::uint64_t code = 0; values.empty() || std::isfinite(values.back()); ++code) {
    values.push_back(decode(format, code));
  }
  return values;
}

// The neighbour that the rounding asks for, found by search.
std::uint64_t nearest_code(const std::vector<double>& values, FloatFormat format, double value,
                           Rounding rounding) {
  const std::uint64_t sign =
      std::signbit(value) ? 1ULL << (format.exponent_bits + format.mantissa_bits) : 0;
  const double magnitude = std::fabs(value);
  const auto above = std::lower_bound(values.begin(), values.end(), magnitude);
  const auto high = static_cast<std::uint64_t>(above - values.begin());
  if (*above == magnitude) {
    return sign | high;
  }
  const std::uint64_t low = high - 1;
  const double low_value = values[low];
  // To nearest, infinity stands where the next number would.
  const double high_value =
      std::isinf(values[high]) ? 2 * low_value - values[low - 1] : values[high];
  const double to_low = magnitude - low_value;
  const double to_high = high_value - magnitude;
  bool up = false;
  switch (rounding) {
    case Rounding::kNearest:
      up = to_high < to_low || (to_high == to_low && low % 2 == 1);
      break;
    case Rounding::kNearestAway:
      up = to_high <= to_low;
      break;
    case Rounding::kZero:
      break;
    case Rounding::kDown:
      up = value < 0;
      break;
    case Rounding::kUp:
      up = value > 0;
      break;
  }
  return sign | (up ? high : low);
}

// Values that rounding can get wrong: each number, each middle of two, and their neighbours.
std::vector<double> awkward(const std::vector<double>& values) {
  std::vector<double> result;
  for (std::size_t i = 0; i + 1 < values.size(); ++i) {
    const double next = std::isinf(values[i + 1]) ? 2 * values[i] - values[i - 1] : values[i + 1];
    for (const double value : {values[i], (values[i] + next) / 2}) {
      for (const double near : {value, std::nextafter(value, 1e300), std::nextafter(value, -1.0)}) {
        result.push_back(near);
        result.push_back(-near);
      }
    }
  }
  return result;
}

bool is_nan(FloatFormat format, std::uint64_t code) { return std::isnan(decode(format, code)); }

TEST_CASE("every f16 and bf16 has the value of its fields", "[emulator]") {
  for (std::uint32_t code = 0; code < 65536; ++code) {
    const auto bits = static_cast<std::uint16_t>(code);
    const double half = decode(kF16Format, code);
    const double bfloat = decode(kBf16Format, code);
    if (std::isnan(half)) {
      REQUIRE(std::isnan(half_to_float(bits)));
    } else {
      REQUIRE(half_to_float(bits) == half);
      REQUIRE(std::signbit(half_to_float(bits)) == std::signbit(half));
      REQUIRE(half_from_float(half_to_float(bits)) == code);
    }
    if (std::isnan(bfloat)) {
      REQUIRE(std::isnan(bfloat_to_float(bits)));
    } else {
      REQUIRE(bfloat_to_float(bits) == bfloat);
      REQUIRE(bfloat_from_float(bfloat_to_float(bits)) == code);
    }
  }
}

TEST_CASE("narrowing takes the neighbour that the rounding asks for", "[emulator]") {
  XC_RANDOM(random);
  for (const FloatFormat format : {kF16Format, kBf16Format}) {
    const std::vector<double> values = magnitudes(format);
    std::vector<double> inputs = awkward(values);
    for (int i = 0; i < 200000; ++i) {
      inputs.push_back(std::ldexp(double{random.normal()}, random.integer(-160, 160)));
    }
    const bool half = format.mantissa_bits == 10;
    for (const double value : inputs) {
      const auto narrow = static_cast<float>(value);
      for (const Rounding rounding : kRoundings) {
        const std::uint64_t expected = nearest_code(values, format, value, rounding);
        const std::uint64_t of_float = nearest_code(values, format, double{narrow}, rounding);
        const std::uint64_t got =
            half ? half_from_double(value, rounding) : bfloat_from_double(value, rounding);
        const std::uint64_t got_float =
            half ? half_from_float(narrow, rounding) : bfloat_from_float(narrow, rounding);
        if (got != expected || got_float != of_float) {
          CAPTURE(value, narrow, static_cast<int>(rounding), half);
          REQUIRE(got == expected);
          REQUIRE(got_float == of_float);
        }
      }
    }
  }
  REQUIRE(half_from_float(NAN) == kNan16);
  REQUIRE(half_from_double(-NAN) == kNan16);
  REQUIRE(bfloat_from_float(-NAN) == kNan16);
  REQUIRE(half_from_float(-INFINITY) == 0xfc00);
  REQUIRE(bfloat_from_double(INFINITY) == 0x7f80);
}

TEST_CASE("tf32 rounds to ten bits of mantissa, ties away", "[emulator]") {
  XC_RANDOM(random);
  for (int i = 0; i < 500000; ++i) {
    const auto bits = static_cast<std::uint32_t>(random.integer(0, 0x7f7fffff)) |
                      (random.integer(0, 1) != 0 ? 0x80000000U : 0);
    const float value = float_from_bits(bits);
    const std::uint32_t low = bits & ~0x1fffU;
    const std::uint32_t cut = bits & 0x1fffU;
    REQUIRE(tf32_from_float(value) == (cut >= 0x1000 ? low + 0x2000 : low));
    REQUIRE(tf32_from_float(value, Rounding::kZero) == low);
    const bool up = cut > 0x1000 || (cut == 0x1000 && (low >> 13 & 1) != 0);
    REQUIRE(tf32_from_float(value, Rounding::kNearest) == (up ? low + 0x2000 : low));
    REQUIRE(float_bits(tf32_operand(bits)) == low);
  }
  REQUIRE(std::isnan(float_from_bits(tf32_from_float(NAN))));
}

// Runs `body` in each rounding mode of the host that has a name here.
template <class Body>
void in_host_roundings(Body body) {
  const std::array<std::pair<Rounding, int>, 4> modes = {{{Rounding::kNearest, FE_TONEAREST},
                                                          {Rounding::kZero, FE_TOWARDZERO},
                                                          {Rounding::kDown, FE_DOWNWARD},
                                                          {Rounding::kUp, FE_UPWARD}}};
  for (const auto& [rounding, mode] : modes) {
    body(rounding, mode);
  }
}

// The host's arithmetic in one of its modes; volatile keeps it from being moved or folded.
template <class Operation>
float host(int mode, Operation operation) {
  std::fesetround(mode);
  volatile float result = operation();
  std::fesetround(FE_TONEAREST);
  return result;
}

// The host's NaN has another sign.
std::uint32_t bits_or_nan(float value) {
  return std::isnan(value) ? 0x7fffffff : float_bits(value);
}

float any_float(Random& random) {
  // Exponents near each other, so that sums cancel and do not only keep the larger.
  const float value = std::ldexp(random.normal(), random.integer(-30, 30));
  switch (random.integer(0, 15)) {
    case 0:
      return std::ldexp(value, random.integer(-140, 120));
    case 1:
      return std::copysign(0.0F, value);
    case 2:
      return float_from_bits(float_bits(value) & 0xffff0000U);
    default:
      return value;
  }
}

TEST_CASE("f32 arithmetic rounds as the host does in that mode", "[emulator]") {
  XC_RANDOM(random);
  for (int i = 0; i < 300000; ++i) {
    volatile float a = any_float(random);
    volatile float b = random.integer(0, 9) == 0 ? -a : any_float(random);
    volatile float c = random.integer(0, 9) == 0 ? -(a * b) : any_float(random);
    in_host_roundings([&](Rounding rounding, int mode) {
      const float sum = host(mode, [&] { return a + b; });
      const float product = host(mode, [&] { return a * b; });
      const float fused = host(mode, [&] { return std::fma(float{a}, float{b}, float{c}); });
      const std::array<std::uint32_t, 3> expected = {bits_or_nan(sum), bits_or_nan(product),
                                                     bits_or_nan(fused)};
      const std::array<std::uint32_t, 3> got = {float_bits(add_f32(a, b, rounding)),
                                                float_bits(mul_f32(a, b, rounding)),
                                                float_bits(fma_f32(a, b, c, rounding))};
      if (got != expected) {
        CAPTURE(float{a}, float{b}, float{c}, mode);
        REQUIRE(got == expected);
      }
    });
  }
}

TEST_CASE("doubles and integers narrow to f32 as the host does in that mode", "[emulator]") {
  XC_RANDOM(random);
  for (int i = 0; i < 300000; ++i) {
    volatile double value = std::ldexp(double{random.normal()}, random.integer(-160, 130));
    const int shift = random.integer(0, 63);
    const auto low = static_cast<std::uint32_t>(random.integer(0, 0x7fffffff));
    const auto high = static_cast<std::uint64_t>(random.integer(0, 0x7fffffff));
    const std::uint64_t word = (high << 33 | low) >> shift << random.integer(0, 2);
    volatile auto whole = static_cast<std::int64_t>(random.integer(0, 1) != 0 ? word : 0 - word);
    in_host_roundings([&](Rounding rounding, int mode) {
      const float narrow = host(mode, [&] { return static_cast<float>(value); });
      const float converted = host(mode, [&] { return static_cast<float>(whole); });
      REQUIRE(float_bits(float_from_double(value, rounding)) == float_bits(narrow));
      REQUIRE(encode(kF32Format, std::int64_t{whole}, rounding) == float_bits(converted));
    });
    REQUIRE(encode(kF64Format, word, Rounding::kNearest) ==
            std::bit_cast<std::uint64_t>(static_cast<double>(word)));
  }
  REQUIRE(encode(kF32Format, std::numeric_limits<std::int64_t>::min(), Rounding::kZero) ==
          float_bits(-0x1p63F));
}

template <class T>
void check_to_integer(double value, Rounding rounding) {
  // A long double holds every integer of 64 bits.
  const long double rounded = round_to_integral(value, rounding);
  const auto least = static_cast<long double>(std::numeric_limits<T>::min());
  const auto most = static_cast<long double>(std::numeric_limits<T>::max());
  const auto expected = static_cast<T>(std::clamp(rounded, least, most));
  REQUIRE(to_integer<T>(value, rounding, false) == expected);
}

TEST_CASE("floats become integers, clamped", "[emulator]") {
  XC_RANDOM(random);
  for (int i = 0; i < 100000; ++i) {
    double value = std::ldexp(double{random.normal()}, random.integer(-3, 66));
    if (random.integer(0, 3) == 0) {
      value = random.integer(-1000, 1000) / 2.0;
    }
    for (const Rounding rounding : kRoundings) {
      check_to_integer<std::int8_t>(value, rounding);
      check_to_integer<std::uint8_t>(value, rounding);
      check_to_integer<std::int16_t>(value, rounding);
      check_to_integer<std::uint16_t>(value, rounding);
      check_to_integer<std::int32_t>(value, rounding);
      check_to_integer<std::uint32_t>(value, rounding);
      check_to_integer<std::int64_t>(value, rounding);
      check_to_integer<std::uint64_t>(value, rounding);
    }
  }
  REQUIRE(round_to_integral(2.5, Rounding::kNearest) == 2);
  REQUIRE(round_to_integral(2.5, Rounding::kNearestAway) == 3);
  REQUIRE(round_to_integral(-2.5, Rounding::kZero) == -2);
  REQUIRE(round_to_integral(-2.5, Rounding::kDown) == -3);
  REQUIRE(round_to_integral(-2.5, Rounding::kUp) == -2);
  REQUIRE(to_integer<std::int32_t>(INFINITY, Rounding::kZero, false) == 0x7fffffff);
  REQUIRE(to_integer<std::int32_t>(NAN, Rounding::kZero, false) == 0);
  REQUIRE(to_integer<std::uint8_t>(NAN, Rounding::kZero, false) == 0);
  REQUIRE(to_integer<std::int64_t>(NAN, Rounding::kZero, false) ==
          std::numeric_limits<std::int64_t>::min());
  REQUIRE(to_integer<std::uint32_t>(NAN, Rounding::kZero, true) == 0x80000000U);
}

// An f16 as a multiple of 2^-24, which every f16 is.
std::int64_t in_units(std::uint16_t half) {
  return static_cast<std::int64_t>(std::ldexp(decode(kF16Format, half), 24));
}

// A multiple of 2^-48 to the nearest f16, ties to even, on whole numbers.
std::uint16_t half_of_units(__int128 units, bool zero_is_negative) {
  const bool negative = units < 0 || (units == 0 && zero_is_negative);
  auto magnitude = static_cast<unsigned __int128>(units < 0 ? -units : units);
  int exponent = -48;
  bool sticky = false;
  // Until 11 bits are left, and the last place is no smaller than 2^-24; one more bit for the tie.
  while ((magnitude >> 12) != 0 || exponent < -25) {
    sticky = sticky || (magnitude & 1) != 0;
    magnitude >>= 1;
    ++exponent;
  }
  auto kept = static_cast<std::uint64_t>(magnitude >> 1);
  const bool half = (magnitude & 1) != 0;
  kept += half && (sticky || (kept & 1) != 0) ? 1 : 0;
  const double value = std::ldexp(static_cast<double>(kept), exponent + 1);
  const std::uint16_t sign = negative ? 0x8000 : 0;
  if (value >= 65536) {
    return sign | 0x7c00;
  }
  return static_cast<std::uint16_t>(half_from_double(value) | sign);
}

TEST_CASE("f16 sums and products are those of whole numbers", "[emulator]") {
  XC_RANDOM(random);
  const auto finite = [](std::uint16_t code) { return (code & 0x7c00) != 0x7c00; };
  // Every f16 on one side; on the other some of all sizes.
  for (int i = 0; i < 60; ++i) {
    const auto b = static_cast<std::uint16_t>(random.integer(0, 65535));
    const auto c = static_cast<std::uint16_t>(random.integer(0, 65535));
    if (!finite(b) || !finite(c)) {
      continue;
    }
    const __int128 unit = __int128{1} << 24;
    for (std::uint32_t code = 0; code < 65536; ++code) {
      const auto a = static_cast<std::uint16_t>(code);
      if (!finite(a)) {
        continue;
      }
      const bool negative_a = a >= 0x8000;
      const bool negative_b = b >= 0x8000;
      const bool negative_c = c >= 0x8000;
      const bool negative_product = negative_a != negative_b;
      const __int128 product = __int128{in_units(a)} * in_units(b);
      const __int128 sum = (__int128{in_units(a)} + in_units(b)) * unit;
      const __int128 difference = (__int128{in_units(a)} - in_units(b)) * unit;
      const bool zero_terms = in_units(a) == 0 && in_units(b) == 0;
      const std::array<std::uint16_t, 4> expected = {
          half_of_units(sum, zero_terms && negative_a && negative_b),
          half_of_units(difference, zero_terms && negative_a && !negative_b),
          half_of_units(product, negative_product),
          half_of_units(product + in_units(c) * unit,
                        product == 0 && in_units(c) == 0 && negative_product && negative_c)};
      const std::array<std::uint16_t, 4> got = {
          add16(Type16::kF16, a, b), sub16(Type16::kF16, a, b), mul16(Type16::kF16, a, b),
          fma16(Type16::kF16, a, b, c)};
      if (got != expected) {
        CAPTURE(a, b, c);
        REQUIRE(got == expected);
      }
    }
  }
}

TEST_CASE("bf16 arithmetic rounds once", "[emulator]") {
  XC_RANDOM(random);
  // Of exponents up to 12 a bf16 is a multiple of 2^-19, a product of 2^-38, and all fit 64 bits.
  const auto draw = [&] {
    return static_cast<std::uint16_t>((random.integer(0, 1) << 15) |
                                      ((127 + random.integer(-12, 11)) << 7) |
                                      random.integer(0, 127));
  };
  const auto units = [](std::uint16_t code) {
    return static_cast<std::int64_t>(std::ldexp(decode(kBf16Format, code), 19));
  };
  const std::vector<double> values = magnitudes(kBf16Format);
  const auto rounded = [&](std::int64_t multiple, int exponent) -> std::uint16_t {
    // Cut to 40 bits with the rest in the last one: a double holds that and rounds the same way.
    bool negative = multiple < 0;
    auto magnitude = static_cast<std::uint64_t>(negative ? -multiple : multiple);
    while (magnitude >= 1ULL << 40) {
      magnitude = magnitude >> 1 | (magnitude & 1);
      ++exponent;
    }
    const double value = std::ldexp(static_cast<double>(magnitude), exponent);
    return static_cast<std::uint16_t>(
        nearest_code(values, kBf16Format, negative ? -value : value, Rounding::kNearest));
  };
  for (int i = 0; i < 500000; ++i) {
    const std::uint16_t a = draw();
    const std::uint16_t b = draw();
    const std::uint16_t c = draw();
    CAPTURE(a, b, c);
    const std::int64_t unit = 1 << 19;
    REQUIRE(add16(Type16::kBf16, a, b) == rounded(units(a) + units(b), -19));
    REQUIRE(sub16(Type16::kBf16, a, b) == rounded(units(a) - units(b), -19));
    REQUIRE(mul16(Type16::kBf16, a, b) == rounded(units(a) * units(b), -38));
    REQUIRE(fma16(Type16::kBf16, a, b, c) == rounded(units(a) * units(b) + units(c) * unit, -38));
  }
}

TEST_CASE("a tie that a far smaller addend breaks is not rounded as a tie", "[emulator]") {
  // 1 + 2^-11 lies half way between two f16; the product's last bit lies 30 places below.
  const std::uint16_t one_and_half_place = half_from_float(1.0F);
  const std::uint16_t tiny = 0x0001;  // 2^-24
  const std::uint16_t half_place = half_from_float(0x1p-11F);
  REQUIRE(fma16(Type16::kF16, half_place, one_and_half_place, one_and_half_place) == 0x3c00);
  // (1 + 2^-10) * 2^-11 is a little more than half a place.
  REQUIRE(fma16(Type16::kF16, half_place, 0x3c01, 0x3c00) == 0x3c01);
  REQUIRE(fma16(Type16::kF16, tiny, tiny, 0x3c00) == 0x3c00);
  // bf16: 1 + 2^-8 is a tie, and 2^-120 breaks it.
  const std::uint16_t small = bfloat_from_float(0x1p-120F);
  const float tie_product = 0x1p-8F;
  REQUIRE(fma16(Type16::kBf16, bfloat_from_float(tie_product), 0x3f80, 0x3f80) == 0x3f80);
  REQUIRE(bfloat_from_double(add_to_odd(1.0 + 0x1p-8, bfloat_to_float(small))) == 0x3f81);
  REQUIRE(bfloat_from_double(add_to_odd(1.0 + 0x1p-8, -bfloat_to_float(small))) == 0x3f80);
}

TEST_CASE("NaN, flushing, saturation, minimum and maximum", "[emulator]") {
  const std::uint16_t infinity = 0x7c00;
  REQUIRE(add16(Type16::kF16, infinity, 0xfc00) == kNan16);
  REQUIRE(mul16(Type16::kF16, infinity, 0) == kNan16);
  REQUIRE(fma16(Type16::kBf16, 0x7f80, 0x3f80, 0xff80) == kNan16);
  REQUIRE(fma16(Type16::kF16, 0x7bff, 0x7bff, 0) == infinity);
  REQUIRE(float_bits(flush_subnormal(-0x1p-130F)) == 0x80000000U);
  REQUIRE(flush_subnormal(0x1p-126F) == 0x1p-126F);
  REQUIRE(saturate(-1.0F) == 0.0F);
  REQUIRE(saturate(0.25F) == 0.25F);
  REQUIRE(saturate(7.0) == 1.0);
  REQUIRE(float_bits(saturate(NAN)) == 0);
  REQUIRE(minimum(1.0F, 2.0F, false) == 1.0F);
  REQUIRE(maximum(1.0F, 2.0F, false) == 2.0F);
  REQUIRE(minimum(NAN, 2.0F, false) == 2.0F);
  REQUIRE(maximum(3.0F, NAN, false) == 3.0F);
  REQUIRE(float_bits(minimum(NAN, 2.0F, true)) == 0x7fffffff);
  REQUIRE(float_bits(maximum(NAN, 2.0F, true)) == 0x7fffffff);
  REQUIRE(float_bits(maximum(-NAN, NAN, false)) == 0x7fffffff);
  REQUIRE(float_bits(minimum(0.0F, -0.0F, false)) == 0x80000000U);
  REQUIRE(float_bits(maximum(-0.0F, 0.0F, false)) == 0);
  REQUIRE(float_bits(maximum(-0.0F, -0.0F, false)) == 0x80000000U);
  REQUIRE(min16(Type16::kF16, 0x3c00, kNan16, false) == 0x3c00);
  REQUIRE(max16(Type16::kBf16, 0x3f80, 0x4000, false) == 0x4000);
  REQUIRE(max16(Type16::kF16, 0x3c00, 0x7e00, true) == kNan16);
  REQUIRE(is_nan(kF16Format, kNan16));
  REQUIRE(is_nan(kBf16Format, kNan16));
}

TEST_CASE("extrema of 16 bits are those of their values", "[emulator]") {
  XC_RANDOM(random);
  std::vector<std::uint16_t> codes = {0,      0x8000, 1,      0x8001, 0x3ff,  0x400,  0x7bff,
                                      0xfbff, 0x7c00, 0xfc00, 0x7c01, 0xfe00, 0x7f7f, 0xff7f,
                                      0x7f80, 0xff80, 0x7f81, 0xffc0, 0x7fff, 0xffff};
  for (int i = 0; i < 500; ++i) {
    codes.push_back(static_cast<std::uint16_t>(random.integer(0, 65535)));
  }
  for (const Type16 type : {Type16::kF16, Type16::kBf16}) {
    for (const std::uint16_t a : codes) {
      for (const std::uint16_t b : codes) {
        const double x = to_float(type, a);
        const double y = to_float(type, b);
        for (const bool nan : {false, true}) {
          const bool same = min16(type, a, b, nan) == from_double(type, minimum(x, y, nan)) &&
                            max16(type, a, b, nan) == from_double(type, maximum(x, y, nan));
          if (!same) {
            CAPTURE(a, b, nan, type == Type16::kF16);
            REQUIRE(same);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace xception::emulator
