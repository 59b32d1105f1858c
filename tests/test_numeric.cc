// float32 to fp16, bf16 and tf32: every pattern, and both sides of every midpoint, by the formats'
// definitions (IEEE 754-2019, 3.4; PTX ISA, "Alternate Floating-Point Data Formats").
#include "kernels/numeric.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "testing.h"

namespace xception {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A format of 16 bits: sign, exponent, mantissa.
struct Format {
  int mantissa_bits;
  int bias;
  std::uint16_t (*to)(float);
  float (*from)(std::uint16_t);

  unsigned infinity() const { return 0x7FFFU >> mantissa_bits << mantissa_bits; }
  // What a positive finite pattern means; also of `infinity()`, as if the exponents went on.
  double meaning(unsigned bits) const {
    const unsigned exponent = bits >> mantissa_bits;
    const unsigned mantissa = bits & ((1U << mantissa_bits) - 1);
    const unsigned leading = exponent == 0 ? 0 : 1U << mantissa_bits;
    return std::ldexp(leading + mantissa,
                      static_cast<int>(exponent == 0 ? 1 : exponent) - bias - mantissa_bits);
  }
};

constexpr Format kFp16 = {10, 15, to_fp16, from_fp16};
constexpr Format kBf16 = {7, 127, to_bf16, from_bf16};

std::uint16_t negative(unsigned bits) { return static_cast<std::uint16_t>(bits | 0x8000U); }

void check_patterns(const Format& format) {
  for (unsigned bits = 0; bits < format.infinity(); ++bits) {
    const auto positive = static_cast<std::uint16_t>(bits);
    const float value = format.from(positive);
    REQUIRE(static_cast<double>(value) == format.meaning(bits));
    REQUIRE(std::bit_cast<std::uint32_t>(format.from(negative(bits))) ==
            (std::bit_cast<std::uint32_t>(value) | 0x80000000U));
    REQUIRE(format.to(value) == bits);
    REQUIRE(format.to(-value) == negative(bits));

    // Between this one and the next, which may be infinity.
    const auto middle = static_cast<float>((format.meaning(bits) + format.meaning(bits + 1)) / 2);
    REQUIRE(format.to(middle) == bits + (bits & 1));
    REQUIRE(format.to(-middle) == negative(bits + (bits & 1)));
    REQUIRE(format.to(std::nextafter(middle, 0.0F)) == bits);
    REQUIRE(format.to(std::nextafter(middle, kInfinity)) == bits + 1);
  }
}

void check_specials(const Format& format) {
  const unsigned infinity = format.infinity();
  CHECK(format.to(kInfinity) == infinity);
  CHECK(format.to(-kInfinity) == negative(infinity));
  CHECK(format.from(static_cast<std::uint16_t>(infinity)) == kInfinity);
  CHECK(format.to(std::numeric_limits<float>::max()) == infinity);
  CHECK(format.to(std::numeric_limits<float>::denorm_min()) == 0);
  // Those with bits that do not fit, and all bits, included.
  for (const std::uint32_t nan :
       {0x7F800001U, 0x7FC00000U, 0x7FFFFFFFU, 0xFF800001U, 0xFFFFFFFFU}) {
    const unsigned bits = format.to(std::bit_cast<float>(nan));
    CHECK((bits & 0x7FFFU) > infinity);
    CHECK(bits >> 15 == nan >> 31);
  }
  for (unsigned bits = infinity + 1; bits < 0x8000U; ++bits) {
    REQUIRE(std::isnan(format.from(static_cast<std::uint16_t>(bits))));
    REQUIRE(std::isnan(format.from(negative(bits))));
  }
}

}  // namespace

TEST_CASE("every half is what it means, and what lies between goes to the nearest") {
  check_patterns(kFp16);
  check_specials(kFp16);
}

TEST_CASE("every bfloat16 is what it means, and what lies between goes to the nearest") {
  check_patterns(kBf16);
  check_specials(kBf16);
}

TEST_CASE("tf32 keeps ten bits of mantissa, and takes ties away from zero") {
  const auto rounded = [](std::uint32_t bits) {
    return std::bit_cast<std::uint32_t>(round_to_tf32(std::bit_cast<float>(bits)));
  };
  for (const std::uint32_t sign : {0U, 0x80000000U}) {
    for (std::uint32_t bits = 0; bits < 0x7F800000U; bits += 0x2000U) {
      const std::uint32_t kept = sign | bits;
      REQUIRE(rounded(kept) == kept);
      REQUIRE(rounded(kept | 0x0FFFU) == kept);
      REQUIRE(rounded(kept | 0x1000U) == kept + 0x2000U);  // to infinity, from the largest
      REQUIRE(rounded(kept | 0x1FFFU) == kept + 0x2000U);
    }
    for (const std::uint32_t special : {0x7F800000U, 0x7F800001U, 0x7FC01234U, 0x7FFFFFFFU}) {
      CHECK(rounded(sign | special) == (sign | special));
    }
  }
}

}  // namespace xception
