#include "kernels/numeric.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace xception {
namespace {

// `bits` without its lowest `dropped` ones, to the nearest and half to even. A carry may run into
// the exponent, which is where it belongs: the next binade, or infinity.
std::uint32_t round_off(std::uint32_t bits, int dropped) {
  const std::uint32_t half_less_one = (1U << (dropped - 1)) - 1;
  return (bits + half_less_one + (bits >> dropped & 1U)) >> dropped;
}

constexpr int kFp16MantissaBits = 10;
constexpr int kFp32MantissaBits = 23;
constexpr int kDropped = kFp32MantissaBits - kFp16MantissaBits;

}  // namespace

const char* numeric_name(Numeric numeric) {
  switch (numeric) {
    case Numeric::kFp32:
      return "fp32";
    case Numeric::kTf32:
      return "tf32";
    case Numeric::kFp16:
      return "fp16";
    case Numeric::kBf16:
      return "bf16";
  }
  return "?";
}

std::uint16_t to_fp16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  constexpr std::uint32_t kInfinity = 0x7C00U;
  if (magnitude > 0x7F800000U) {
    return static_cast<std::uint16_t>(sign | 0x7E00U);
  }
  if (magnitude >= 0x47800000U) {  // 2^16
    return static_cast<std::uint16_t>(sign | kInfinity);
  }
  if (magnitude >= 0x38800000U) {  // 2^-14, the least normal number
    constexpr std::uint32_t kBias = (127U - 15U) << kFp32MantissaBits;
    return static_cast<std::uint16_t>(sign | round_off(magnitude - kBias, kDropped));
  }
  // In units of 2^-24, the least denormal; exact but for the rounding that nearbyint does.
  const float units = std::nearbyint(std::bit_cast<float>(magnitude) * 0x1p24F);
  return static_cast<std::uint16_t>(sign | static_cast<std::uint32_t>(units));
}

float from_fp16(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16;
  const std::uint32_t exponent = bits >> kFp16MantissaBits & 0x1FU;
  const std::uint32_t mantissa = bits & 0x3FFU;
  if (exponent == 0x1FU) {
    return std::bit_cast<float>(sign | 0x7F800000U | mantissa << kDropped);
  }
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | (exponent + 127U - 15U) << kFp32MantissaBits |
                              mantissa << kDropped);
}

std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) {
    return static_cast<std::uint16_t>(bits >> 16 |
                                      0x0040U);  // quiet, or it might round to infinity
  }
  return static_cast<std::uint16_t>(round_off(bits, 16));
}

float from_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

void to_numeric(std::span<const float> values, Numeric numeric, std::byte* dst) {
  if (element_bytes(numeric) == sizeof(float)) {
    std::memcpy(dst, values.data(), values.size_bytes());
    return;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t bits =
        numeric == Numeric::kFp16 ? to_fp16(values[i]) : to_bf16(values[i]);
    std::memcpy(dst + i * sizeof(bits), &bits, sizeof(bits));
  }
}

void from_numeric(const std::byte* src, Numeric numeric, std::span<float> values) {
  if (element_bytes(numeric) == sizeof(float)) {
    std::memcpy(values.data(), src, values.size_bytes());
    return;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, src + i * sizeof(bits), sizeof(bits));
    values[i] = numeric == Numeric::kFp16 ? from_fp16(bits) : from_bf16(bits);
  }
}

}  // namespace xception
