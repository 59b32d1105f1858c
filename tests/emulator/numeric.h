// Floating formats that the host lacks, and roundings that its arithmetic does not do.
//
// Everything here assumes that the host rounds to nearest, which it does unless told otherwise, and
// takes PTX's definitions: NaN results are the canonical NaN of the format, 0x7FFF and 0x7FFFFFFF.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace xception::emulator {

enum class Rounding {
  kNearest,      // ties to even: .rn, .rni
  kNearestAway,  // ties away from zero: .rna
  kZero,         // .rz, .rzi
  kDown,         // .rm, .rmi
  kUp,           // .rp, .rpi
};

// A binary format with an implied leading bit, subnormals, infinities and NaN.
struct FloatFormat {
  int exponent_bits = 0;
  int mantissa_bits = 0;
};
constexpr FloatFormat kF16Format{5, 10};
constexpr FloatFormat kBf16Format{8, 7};
constexpr FloatFormat kTf32Format{8, 10};
constexpr FloatFormat kF32Format{8, 23};
constexpr FloatFormat kF64Format{11, 52};

// Encoding of (-1)^negative * significand * 2^exponent, rounded once.
constexpr std::uint64_t encode(FloatFormat format, bool negative, std::uint64_t significand,
                               int exponent, Rounding rounding) {
  const int mantissa_bits = format.mantissa_bits;
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  const std::uint64_t sign = std::uint64_t{negative} << (format.exponent_bits + mantissa_bits);
  if (significand == 0) {
    return sign;
  }
  // Of the leading bit; below the least normal number the last place stays where it is.
  const int top = 63 - std::countl_zero(significand) + exponent;
  const int least = 1 - bias;
  const int last_place = std::max(top, least) - mantissa_bits;
  const int shift = last_place - exponent;
  std::uint64_t kept = 0;
  bool below_half = true;  // what is cut off, against half of the last place
  bool exact = false;
  bool tie = false;
  if (shift <= 0) {
    kept = significand << -shift;
    exact = true;
  } else if (shift > 64) {
    kept = 0;
  } else {
    kept = shift == 64 ? 0 : significand >> shift;
    const std::uint64_t rest = shift == 64 ? significand : significand & ((1ULL << shift) - 1);
    const std::uint64_t half = 1ULL << (shift - 1);
    exact = rest == 0;
    tie = rest == half;
    below_half = rest < half;
  }
  bool up = false;
  switch (rounding) {
    case Rounding::kNearest:
      up = tie ? (kept & 1) != 0 : !below_half;
      break;
    case Rounding::kNearestAway:
      up = !below_half;
      break;
    case Rounding::kZero:
      break;
    case Rounding::kDown:
      up = negative && !exact;
      break;
    case Rounding::kUp:
      up = !negative && !exact;
      break;
  }
  kept += up && !exact ? 1 : 0;
  // A carry out of the mantissa goes on into the exponent, as it should.
  const std::uint64_t normal = std::uint64_t{1} << mantissa_bits;
  const int biased = std::max(top, least) + bias;
  std::uint64_t code = kept;
  if (top >= least) {
    code += (static_cast<std::uint64_t>(biased) << mantissa_bits) - normal;
  }
  const std::uint64_t infinity = ((1ULL << format.exponent_bits) - 1) << mantissa_bits;
  if (code >= infinity) {
    const bool stays_finite = rounding == Rounding::kZero ||
                              (rounding == Rounding::kDown && !negative) ||
                              (rounding == Rounding::kUp && negative);
    code = stays_finite ? infinity - 1 : infinity;
  }
  return sign | code;
}

// The same of a double. NaN gives all ones but the sign.
inline std::uint64_t encode(FloatFormat format, double value, Rounding rounding) {
  const auto bits = std::bit_cast<std::uint64_t>(value);
  const bool negative = (bits >> 63) != 0;
  const auto exponent = static_cast<int>((bits >> 52) & 0x7ff);
  const std::uint64_t mantissa = bits & ((1ULL << 52) - 1);
  const int width = format.exponent_bits + format.mantissa_bits;
  if (exponent == 0x7ff) {
    if (mantissa != 0) {
      return (1ULL << width) - 1;
    }
    return (std::uint64_t{negative} << width) |
           (((1ULL << format.exponent_bits) - 1) << format.mantissa_bits);
  }
  const std::uint64_t significand = mantissa | (exponent != 0 ? 1ULL << 52 : 0);
  return encode(format, negative, significand, std::max(exponent, 1) - 1075, rounding);
}

constexpr std::uint16_t kNan16 = 0x7fff;  // in f16 and in bf16

inline float float_from_bits(std::uint32_t bits) { return std::bit_cast<float>(bits); }
inline std::uint32_t float_bits(float value) { return std::bit_cast<std::uint32_t>(value); }

// Written without branches, so that loops over fragments become vector code.
inline float half_to_float(std::uint16_t half) {
  const std::uint32_t exponent = half & 0x7c00U;
  const std::uint32_t normal = ((half & 0x7fffU) << 13) + ((127U - 15U) << 23);
  const std::uint32_t special = (half & 0x7fffU) << 13 | 255U << 23;
  const std::uint32_t subnormal =
      float_bits(static_cast<float>(static_cast<int>(half & 0x3ffU)) * 0x1p-24F);
  const std::uint32_t is_special = 0U - static_cast<std::uint32_t>(exponent == 0x7c00U);
  const std::uint32_t is_subnormal = 0U - static_cast<std::uint32_t>(exponent == 0);
  const std::uint32_t magnitude =
      (normal & ~is_special & ~is_subnormal) | (special & is_special) | (subnormal & is_subnormal);
  return float_from_bits(magnitude | (half & 0x8000U) << 16);
}

inline std::uint16_t half_from_double(double value, Rounding rounding = Rounding::kNearest) {
  return static_cast<std::uint16_t>(encode(kF16Format, value, rounding));
}

inline std::uint16_t half_from_float(float value, Rounding rounding = Rounding::kNearest) {
  if (rounding != Rounding::kNearest) {
    return half_from_double(value, rounding);
  }
  // The common case without branches.
  const std::uint32_t bits = float_bits(value);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  const std::uint32_t odd = magnitude >> 13 & 1;
  const std::uint32_t normal = (magnitude - ((127U - 15U) << 23) + 0xfffU + odd) >> 13;
  // Below 2^-14. The last place of 0.5 is that of an f16 subnormal.
  const std::uint32_t subnormal = float_bits(float_from_bits(magnitude) + 0.5F) - float_bits(0.5F);
  const std::uint32_t is_nan = 0U - static_cast<std::uint32_t>(magnitude > 255U << 23);
  const std::uint32_t is_large = 0U - static_cast<std::uint32_t>(magnitude >= 143U << 23);
  const std::uint32_t is_small = 0U - static_cast<std::uint32_t>(magnitude < 113U << 23);
  const std::uint32_t signless = (normal & ~is_large & ~is_small) | (subnormal & is_small) |
                                 (0x7c00U & is_large) | (kNan16 & is_nan);
  return static_cast<std::uint16_t>(signless | (bits >> 16 & 0x8000U & ~is_nan));
}

inline float bfloat_to_float(std::uint16_t value) {
  return float_from_bits(static_cast<std::uint32_t>(value) << 16);
}

inline std::uint16_t bfloat_from_double(double value, Rounding rounding = Rounding::kNearest) {
  return static_cast<std::uint16_t>(encode(kBf16Format, value, rounding));
}

inline std::uint16_t bfloat_from_float(float value, Rounding rounding = Rounding::kNearest) {
  if (rounding != Rounding::kNearest) {
    return bfloat_from_double(value, rounding);
  }
  const std::uint32_t bits = float_bits(value);
  if ((bits & 0x7fffffffU) > 255U << 23) {
    return kNan16;
  }
  return static_cast<std::uint16_t>((bits + 0x7fffU + (bits >> 16 & 1)) >> 16);
}

// cvt.{rna,rn,rz}.tf32.f32: a float whose low 13 bits are zero.
inline std::uint32_t tf32_from_float(float value, Rounding rounding = Rounding::kNearestAway) {
  const std::uint32_t bits = float_bits(value);
  if (rounding == Rounding::kNearestAway && (bits & 0x7fffffffU) <= 255U << 23) {
    return (bits + 0x1000U) & 0xffffe000U;
  }
  return static_cast<std::uint32_t>(encode(kTf32Format, value, rounding) << 13);
}

// What mma reads of a tf32 operand: the low 13 bits do not count.
inline float tf32_operand(std::uint32_t bits) { return float_from_bits(bits & 0xffffe000U); }

inline float float_from_double(double value, Rounding rounding = Rounding::kNearest) {
  return float_from_bits(static_cast<std::uint32_t>(encode(kF32Format, value, rounding)));
}

// An integer of up to 64 bits in a floating format: encode(kF32Format, integer, rounding).
template <class T>
requires std::is_integral_v<T>
constexpr std::uint64_t encode(FloatFormat format, T value, Rounding rounding) {
  const bool negative = value < 0;
  const auto magnitude = static_cast<std::uint64_t>(value);
  return encode(format, negative, negative ? std::uint64_t{0} - magnitude : magnitude, 0, rounding);
}

// A whole number in the same format: cvt.rni.f32.f32 and its kin.
inline double round_to_integral(double value, Rounding rounding) {
  switch (rounding) {
    case Rounding::kNearest:
      return std::nearbyint(value);
    case Rounding::kNearestAway:
      return std::round(value);
    case Rounding::kZero:
      return std::trunc(value);
    case Rounding::kDown:
      return std::floor(value);
    case Rounding::kUp:
      return std::ceil(value);
  }
  return value;
}

// Floating to integer, clamped to the range of T. Of a NaN the ISA makes zero, but where the source
// is f64 or T has 64 bits the one bit at the top (cvt, "float-to-integer conversions").
template <class T>
T to_integer(double value, Rounding rounding, bool from_f64) {
  if (std::isnan(value)) {
    using Unsigned = std::make_unsigned_t<T>;
    const bool top_bit = from_f64 || sizeof(T) == 8;
    return static_cast<T>(top_bit ? Unsigned(Unsigned{1} << (8 * sizeof(T) - 1)) : Unsigned{0});
  }
  const double rounded = round_to_integral(value, rounding);
  // The bounds as powers of two: the largest value of 64 bits is no double.
  const double above = std::ldexp(1.0, std::numeric_limits<T>::digits);
  const double below = std::is_signed_v<T> ? -above : 0.0;
  if (rounded >= above) {
    return std::numeric_limits<T>::max();
  }
  if (rounded < below) {
    return std::numeric_limits<T>::min();
  }
  return static_cast<T>(rounded);
}

// .ftz: subnormals become zero of the same sign.
inline float flush_subnormal(float value) {
  return std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0F, value) : value;
}

// .sat: clamped to [0, 1], NaN to 0.
inline float saturate(float value) { return value > 0.0F ? std::min(value, 1.0F) : 0.0F; }
inline double saturate(double value) { return value > 0.0 ? std::min(value, 1.0) : 0.0; }

// a + b rounded to odd: exact where a double holds the sum, else the neighbour with an odd last
// bit. Rounding that again to a format of at most 51 bits gives what one rounding of the exact sum
// gives (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
inline double add_to_odd(double a, double b) {
  const double sum = a + b;
  if (!std::isfinite(sum)) {
    return sum;
  }
  // The rounding error, exactly (Knuth's two-sum).
  const double from_b = sum - a;
  const double error = (a - (sum - from_b)) + (b - from_b);
  auto bits = std::bit_cast<std::uint64_t>(sum);
  if (error == 0 || (bits & 1) != 0) {
    return sum;
  }
  // Away from zero where the error has the sum's sign, else towards it.
  bits += (error > 0) == (sum > 0) ? 1 : ~std::uint64_t{0};
  return std::bit_cast<double>(bits);
}

// Sign of an exact zero sum: plus, but minus when rounding down; a sum of like zeros keeps theirs.
inline double zero_sum(double a, double b, double sum, Rounding rounding) {
  return sum == 0 && std::signbit(a) != std::signbit(b) ? (rounding == Rounding::kDown ? -0.0 : 0.0)
                                                        : sum;
}

// f32 arithmetic in any rounding. The product of two floats is exact in double.
inline float add_f32(float a, float b, Rounding rounding) {
  return float_from_double(zero_sum(a, b, add_to_odd(a, b), rounding), rounding);
}
inline float mul_f32(float a, float b, Rounding rounding) {
  return float_from_double(double{a} * double{b}, rounding);
}
inline float fma_f32(float a, float b, float c, Rounding rounding) {
  const double product = double{a} * double{b};
  return float_from_double(zero_sum(product, c, add_to_odd(product, c), rounding), rounding);
}

// f16 and bf16 arithmetic, rounded once to nearest: .rn, which is all that PTX has.
enum class Type16 { kF16, kBf16 };

inline float to_float(Type16 type, std::uint16_t value) {
  return type == Type16::kF16 ? half_to_float(value) : bfloat_to_float(value);
}
inline std::uint16_t from_double(Type16 type, double value) {
  return type == Type16::kF16 ? half_from_double(value) : bfloat_from_double(value);
}
inline std::uint16_t fma16(Type16 type, std::uint16_t a, std::uint16_t b, std::uint16_t c) {
  const double product = double{to_float(type, a)} * double{to_float(type, b)};
  return from_double(type, add_to_odd(product, to_float(type, c)));
}
inline std::uint16_t add16(Type16 type, std::uint16_t a, std::uint16_t b) {
  return from_double(type, add_to_odd(to_float(type, a), to_float(type, b)));
}
inline std::uint16_t sub16(Type16 type, std::uint16_t a, std::uint16_t b) {
  return from_double(type, add_to_odd(to_float(type, a), -double{to_float(type, b)}));
}
inline std::uint16_t mul16(Type16 type, std::uint16_t a, std::uint16_t b) {
  return from_double(type, double{to_float(type, a)} * double{to_float(type, b)});
}

// min and max: of a number and a NaN the number, or with `nan` (.NaN) a NaN; -0 is less than +0.
template <class T>
T minimum(T a, T b, bool nan) {
  if (std::isnan(a) || std::isnan(b)) {
    if (nan || (std::isnan(a) && std::isnan(b))) {
      return sizeof(T) == 4 ? static_cast<T>(float_from_bits(0x7fffffff))
                            : std::numeric_limits<T>::quiet_NaN();
    }
    return std::isnan(a) ? b : a;
  }
  if (a == b) {
    return std::signbit(a) ? a : b;
  }
  return a < b ? a : b;
}
template <class T>
T maximum(T a, T b, bool nan) {
  const T least = minimum(static_cast<T>(-a), static_cast<T>(-b), nan);
  return std::isnan(least) ? least : -least;
}
// As integers 16-bit floats stand in the same order, -0 below +0, once the negative ones are turned
// round.
template <bool kMaximum>
std::uint16_t extremum16(Type16 type, std::uint16_t a, std::uint16_t b, bool nan) {
  const int infinity = type == Type16::kF16 ? 0x7c00 : 0x7f80;
  const auto key = [](std::uint16_t value) {
    const auto number = static_cast<std::int16_t>(value);
    return number ^ (number >> 15 & 0x7fff);
  };
  const bool a_nan = (a & 0x7fff) > infinity;
  const bool b_nan = (b & 0x7fff) > infinity;
  const bool is_a = kMaximum ? key(a) >= key(b) : key(a) <= key(b);
  const std::uint16_t value = (is_a || b_nan) && !a_nan ? a : b;
  return (nan ? a_nan || b_nan : a_nan && b_nan) ? kNan16 : value;
}
inline std::uint16_t min16(Type16 type, std::uint16_t a, std::uint16_t b, bool nan) {
  return extremum16<false>(type, a, b, nan);
}
inline std::uint16_t max16(Type16 type, std::uint16_t a, std::uint16_t b, bool nan) {
  return extremum16<true>(type, a, b, nan);
}

}  // namespace xception::emulator
