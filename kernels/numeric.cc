// Conversions between float32 and what tensors keep, on integers: the host's compiler need not know
// the 16-bit types. Formats: IEEE 754 binary16; bfloat16 is the upper half of a binary32.
#include "kernels/numeric.h"

#include <bit>
#include <cstring>

namespace xception {
namespace {

constexpr std::uint32_t kSign = 0x80000000U;
constexpr std::uint32_t kInfinity = 0x7F800000U;

// `bits` without its low `dropped` bits, rounded to nearest even; the carry runs into the exponent,
// as it should.
std::uint32_t shift_right_to_even(std::uint32_t bits, unsigned dropped) {
  const std::uint32_t half = 1U << (dropped - 1);
  return (bits + half - 1 + ((bits >> dropped) & 1)) >> dropped;
}

}  // namespace

std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & ~kSign) > kInfinity) {
    return static_cast<std::uint16_t>(bits >> 16 | 0x40);  // quiet, and never rounded to infinity
  }
  return static_cast<std::uint16_t>(shift_right_to_even(bits, 16));
}

std::uint16_t to_fp16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits & kSign) >> 16);
  const std::uint32_t magnitude = bits & ~kSign;
  const auto with_sign = [&](std::uint32_t rest) {
    return static_cast<std::uint16_t>(sign | rest);
  };
  if (magnitude > kInfinity) {
    return with_sign(0x7E00);
  }
  if (magnitude >= 0x477FF000U) {  // 65520: half way from the largest to the one there is not
    return with_sign(0x7C00);
  }
  if (magnitude >= 0x38800000U) {  // 2^-14, the smallest normal: exponent 127 becomes 15
    return with_sign(shift_right_to_even(magnitude - (112U << 23), 13));
  }
  if (magnitude < 0x33000000U) {  // 2^-25, half the smallest subnormal
    return with_sign(0);
  }
  const std::uint32_t mantissa = (magnitude & 0x7FFFFFU) | 0x800000U;
  return with_sign(shift_right_to_even(mantissa, 126 - (magnitude >> 23)));
}

float from_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

float from_fp16(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000U) << 16;
  const std::uint32_t magnitude = bits & 0x7FFFU;
  if (magnitude >= 0x7C00U) {
    return std::bit_cast<float>(sign | kInfinity | magnitude << 13);
  }
  if (magnitude >= 0x400U) {
    return std::bit_cast<float>(sign | ((magnitude << 13) + (112U << 23)));
  }
  const float subnormal = static_cast<float>(magnitude) * 0x1p-24F;
  return sign != 0 ? -subnormal : subnormal;
}

namespace {

template <std::uint16_t (*kConvert)(float)>
void convert(const float* values, std::size_t count, std::byte* kept) {
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint16_t bits = kConvert(values[i]);
    std::memcpy(kept + 2 * i, &bits, 2);
  }
}

template <float (*kConvert)(std::uint16_t)>
void convert_back(const std::byte* kept, std::size_t count, float* values) {
  for (std::size_t i = 0; i < count; ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, kept + 2 * i, 2);
    values[i] = kConvert(bits);
  }
}

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
  return "unknown";
}

void to_numeric(std::span<const float> values, Numeric numeric, std::byte* dst) {
  if (numeric == Numeric::kFp16) {
    convert<to_fp16>(values.data(), values.size(), dst);
  } else if (numeric == Numeric::kBf16) {
    convert<to_bf16>(values.data(), values.size(), dst);
  } else {
    std::memcpy(dst, values.data(), values.size_bytes());
  }
}

void from_numeric(const std::byte* src, Numeric numeric, std::span<float> values) {
  if (numeric == Numeric::kFp16) {
    convert_back<from_fp16>(src, values.size(), values.data());
  } else if (numeric == Numeric::kBf16) {
    convert_back<from_bf16>(src, values.size(), values.data());
  } else {
    std::memcpy(values.data(), src, values.size_bytes());
  }
}

float round_to_tf32(float value) {
  constexpr std::uint32_t kDropped = 13;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & kInfinity) == kInfinity) {
    return value;
  }
  return std::bit_cast<float>((bits + (1U << (kDropped - 1))) >> kDropped << kDropped);
}

}  // namespace xception
