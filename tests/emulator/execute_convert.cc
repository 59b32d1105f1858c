// cvt of every pair of types.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"
#include "tests/emulator/numeric.h"

namespace xception::emulator {
namespace {

__extension__ typedef __int128 Int128;  // holds every integer source

double canonical_nan() { return std::numeric_limits<double>::quiet_NaN(); }

FloatFormat format_of(Type type) {
  switch (type) {
    case Type::kF16:
    case Type::kF16x2:
      return kF16Format;
    case Type::kBf16:
    case Type::kBf16x2:
      return kBf16Format;
    case Type::kTf32:
      return kTf32Format;
    case Type::kF64:
      return kF64Format;
    default:
      return kF32Format;
  }
}

// The low bytes of a lane of a slot that may be wider.
std::uint64_t raw_lane(Warp& warp, const Slot& slot, int lane, std::size_t bytes) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, warp.bytes(slot) + static_cast<std::size_t>(lane) * slot.width, bytes);
  return bits;
}

double to_double(Type type, std::uint64_t bits) {
  switch (type) {
    case Type::kF16:
      return half_to_float(static_cast<std::uint16_t>(bits));
    case Type::kBf16:
      return bfloat_to_float(static_cast<std::uint16_t>(bits));
    case Type::kF32:
      return float_from_bits(static_cast<std::uint32_t>(bits));
    default:
      return std::bit_cast<double>(bits);
  }
}

Int128 to_integer_value(Type type, std::uint64_t bits) {
  if (!is_signed(type)) {
    return static_cast<Int128>(bits);
  }
  const auto shift = static_cast<int>(64 - 8 * type_bytes(type));
  return static_cast<std::int64_t>(bits << shift) >> shift;
}

std::uint64_t integer_from_double(Type type, double value, Rounding rounding, bool from_f64) {
  switch (type) {
    case Type::kU8:
      return to_integer<std::uint8_t>(value, rounding, from_f64);
    case Type::kU16:
      return to_integer<std::uint16_t>(value, rounding, from_f64);
    case Type::kU32:
      return to_integer<std::uint32_t>(value, rounding, from_f64);
    case Type::kU64:
      return to_integer<std::uint64_t>(value, rounding, from_f64);
    case Type::kS8:
      return static_cast<std::uint64_t>(to_integer<std::int8_t>(value, rounding, from_f64));
    case Type::kS16:
      return static_cast<std::uint64_t>(to_integer<std::int16_t>(value, rounding, from_f64));
    case Type::kS32:
      return static_cast<std::uint64_t>(to_integer<std::int32_t>(value, rounding, from_f64));
    default:
      return static_cast<std::uint64_t>(to_integer<std::int64_t>(value, rounding, from_f64));
  }
}

Int128 clamp_to_type(Type type, Int128 value) {
  const auto bits = static_cast<int>(8 * type_bytes(type));
  const Int128 one = 1;
  const Int128 least = is_signed(type) ? -(one << (bits - 1)) : 0;
  const Int128 most = (one << (is_signed(type) ? bits - 1 : bits)) - 1;
  return std::clamp(value, least, most);
}

constexpr std::uint8_t kIntegral = 1;   // .rni and its kin: to a whole number of the same format
constexpr std::uint8_t kSatFinite = 2;  // .satfinite: infinities become the largest number

std::uint64_t convert_float(const Instruction& in, Type source_type, double value) {
  if (in.flush && source_type == Type::kF32) {
    value = flush_subnormal(static_cast<float>(value));
  }
  if ((in.variant & kIntegral) != 0) {
    value = round_to_integral(value, in.rounding);
  }
  if (in.saturate) {
    value = saturate(value);
  }
  if (in.relu && !std::isnan(value)) {
    value = value > 0 ? value : 0.0;
  }
  if (std::isnan(value)) {
    value = canonical_nan();
  }
  const FloatFormat format = format_of(in.type);
  std::uint64_t bits = in.type == Type::kF64 && !std::isnan(value)
                           ? std::bit_cast<std::uint64_t>(value)
                           : encode(format, value, in.rounding);
  if (in.type == Type::kF64 && std::isnan(value)) {
    bits = std::bit_cast<std::uint64_t>(value);
  }
  if ((in.variant & kSatFinite) != 0) {
    const int width = format.exponent_bits + format.mantissa_bits;
    const std::uint64_t magnitude = bits & ((std::uint64_t{1} << width) - 1);
    const std::uint64_t infinity = ((std::uint64_t{1} << format.exponent_bits) - 1)
                                   << format.mantissa_bits;
    bits -= magnitude == infinity ? 1 : 0;
  }
  if (in.flush && in.type == Type::kF32) {
    bits = float_bits(flush_subnormal(float_from_bits(static_cast<std::uint32_t>(bits))));
  }
  return in.type == Type::kTf32 ? bits << 13 : bits;
}

std::uint64_t convert(const Instruction& in, std::uint64_t bits) {
  const Type from = in.source_type;
  const Type to = in.type;
  if (is_float(from)) {
    const double value = to_double(from, bits);
    if (is_float(to)) {
      return convert_float(in, from, value);
    }
    const double flushed =
        in.flush && from == Type::kF32 ? flush_subnormal(static_cast<float>(value)) : value;
    return integer_from_double(to, flushed, in.rounding, from == Type::kF64);
  }
  const Int128 value = to_integer_value(from, bits);
  if (!is_float(to)) {
    return static_cast<std::uint64_t>(in.saturate ? clamp_to_type(to, value) : value);
  }
  if (in.saturate) {
    return convert_float(in, from, value > 0 ? (value >= 1 ? 1.0 : 0.0) : 0.0);
  }
  const FloatFormat format = format_of(to);
  return from == Type::kU64 ? encode(format, static_cast<std::uint64_t>(value), in.rounding)
                            : encode(format, static_cast<std::int64_t>(value), in.rounding);
}

// Any pair. A destination wider than the type is filled up by the type's sign.
Flow convert_any(Warp& warp, const Instruction& in, LaneMask mask) {
  const Slot& target = in.slots[0];
  const std::size_t from_bytes = type_bytes(in.source_type);
  const auto shift = static_cast<int>(64 - 8 * type_bytes(in.type));
  std::uint64_t results[kLanes];
  for (LaneMask rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    std::uint64_t bits = convert(in, raw_lane(warp, in.slots[1], lane, from_bytes)) << shift;
    bits = is_signed(in.type) ? static_cast<std::uint64_t>(static_cast<std::int64_t>(bits) >> shift)
                              : bits >> shift;
    results[lane] = bits;
  }
  for (LaneMask rest = mask; rest != 0 && !target.sink; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    std::memcpy(warp.bytes(target) + static_cast<std::size_t>(lane) * target.width, &results[lane],
                target.width);
  }
  return Flow::kNext;
}

// cvt.f16x2.f32 d, a, b: a in the upper half.
Flow convert_pair(Warp& warp, const Instruction& in, LaneMask mask) {
  std::uint32_t results[kLanes];
  const auto* const high = lanes_of<float>(warp, in.slots[1]);
  const auto* const low = lanes_of<float>(warp, in.slots[2]);
  const auto convert_with = [&](const auto& one) {
    for (int lane = 0; lane < kLanes; ++lane) {
      results[lane] = std::uint32_t{one(high[lane])} << 16 | one(low[lane]);
    }
  };
  const auto rectified = [relu = in.relu](float value) {
    return relu && value <= 0 ? 0.0F : value;
  };
  if (in.variant != 0 || in.rounding != Rounding::kNearest) {
    convert_with([&](float value) {
      return static_cast<std::uint16_t>(convert_float(in, Type::kF32, value));
    });
  } else if (in.type == Type::kF16x2) {
    convert_with([&](float value) { return half_from_float(rectified(value)); });
  } else {
    convert_with([&](float value) { return bfloat_from_float(rectified(value)); });
  }
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}

// cvt.pack.sat: a and b clamped into the low halves or bytes of d, c shifted up behind them.
Flow convert_pack(Warp& warp, const Instruction& in, LaneMask mask) {
  std::uint32_t results[kLanes];
  const auto bits = static_cast<int>(8 * type_bytes(in.type));
  const auto keep = static_cast<std::uint32_t>((std::uint64_t{1} << bits) - 1);
  const auto* const a = lanes_of<std::uint32_t>(warp, in.slots[1]);
  const auto* const b = lanes_of<std::uint32_t>(warp, in.slots[2]);
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto one = [&](std::uint32_t value) {
      const Int128 whole = to_integer_value(in.source_type, value);
      return static_cast<std::uint32_t>(clamp_to_type(in.type, whole)) & keep;
    };
    results[lane] = one(a[lane]) << bits | one(b[lane]);
    if (in.sources == 3) {
      results[lane] |= lanes_of<std::uint32_t>(warp, in.slots[3])[lane] << (2 * bits);
    }
  }
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}

// The common pairs, without modifiers.
template <class To, class From>
struct Cast {
  To operator()(From a) const { return static_cast<To>(a); }
};
struct HalfToFloat {
  float operator()(std::uint16_t a) const { return half_to_float(a); }
};
struct BfloatToFloat {
  float operator()(std::uint16_t a) const { return bfloat_to_float(a); }
};
struct FloatToHalf {
  std::uint16_t operator()(float a) const { return half_from_float(a); }
};
struct FloatToBfloat {
  std::uint16_t operator()(float a) const { return bfloat_from_float(a); }
};

struct FloatToTf32 {
  std::uint32_t operator()(float a) const { return tf32_from_float(a); }
};

template <class To, class From>
Handler cast() {
  return map_lanes<Cast<To, From>, To, From>;
}

Handler select_common(const Instruction& in, Slot to, Slot from) {
  if (in.flush || in.saturate || in.relu || in.variant != 0 || to.width != type_bytes(in.type) ||
      from.width != type_bytes(in.source_type)) {
    return nullptr;
  }
  const auto is = [&](Type to_type, Type from_type) {
    return in.type == to_type && in.source_type == from_type;
  };
  if (is(Type::kTf32, Type::kF32) && in.rounding == Rounding::kNearestAway) {
    return map_lanes<FloatToTf32, std::uint32_t, float>;
  }
  if (in.rounding != Rounding::kNearest) {
    return nullptr;
  }
  if (is(Type::kS64, Type::kS32) || is(Type::kU64, Type::kS32)) {
    return cast<std::int64_t, std::int32_t>();
  }
  if (is(Type::kU64, Type::kU32) || is(Type::kS64, Type::kU32)) {
    return cast<std::uint64_t, std::uint32_t>();
  }
  if (is(Type::kU32, Type::kU64) || is(Type::kU32, Type::kS64) || is(Type::kS32, Type::kS64)) {
    return cast<std::uint32_t, std::uint64_t>();
  }
  if (is(Type::kU32, Type::kU16) || is(Type::kS32, Type::kU16)) {
    return cast<std::uint32_t, std::uint16_t>();
  }
  if (is(Type::kS32, Type::kS16) || is(Type::kU32, Type::kS16)) {
    return cast<std::int32_t, std::int16_t>();
  }
  if (is(Type::kU16, Type::kU32) || is(Type::kS16, Type::kS32)) {
    return cast<std::uint16_t, std::uint32_t>();
  }
  if (is(Type::kF32, Type::kS32)) {
    return cast<float, std::int32_t>();
  }
  if (is(Type::kF32, Type::kU32)) {
    return cast<float, std::uint32_t>();
  }
  if (is(Type::kF32, Type::kF16)) {
    return map_lanes<HalfToFloat, float, std::uint16_t>;
  }
  if (is(Type::kF32, Type::kBf16)) {
    return map_lanes<BfloatToFloat, float, std::uint16_t>;
  }
  if (is(Type::kF16, Type::kF32)) {
    return map_lanes<FloatToHalf, std::uint16_t, float>;
  }
  if (is(Type::kBf16, Type::kF32)) {
    return map_lanes<FloatToBfloat, std::uint16_t, float>;
  }
  return nullptr;
}

Handler decode_pack(Statement* s) {
  if (!s->take("sat")) {
    return nullptr;
  }
  const Type to = s->take_type();
  const Type from = s->take_type();
  const bool three = s->count() == 4;
  if (three) {
    s->take("b32");
  }
  s->in.type = to;
  s->in.source_type = from;
  s->destination(0, Type::kB32);
  for (std::size_t i = 1; i < s->count(); ++i) {
    s->source(i, Type::kB32);
  }
  return type_bytes(to) > 2 || type_bytes(to) == 0 || is_float(to) || from != Type::kS32
             ? nullptr
             : convert_pack;
}

}  // namespace

Handler decode_convert(Statement* s) {
  if (s->opcode != "cvt") {
    return nullptr;
  }
  if (s->take("pack")) {
    return decode_pack(s);
  }
  Instruction& in = s->in;
  for (const char* name : {"rni", "rzi", "rmi", "rpi"}) {
    if (std::ranges::find(s->modifiers, name) != s->modifiers.end()) {
      in.variant = kIntegral;
    }
  }
  in.rounding = s->take_rounding(Rounding::kNearest);
  in.relu = s->take("relu");
  in.flush = s->take("ftz");
  in.saturate = s->take("sat");
  if (s->take("satfinite")) {
    in.variant |= kSatFinite;
  }
  in.type = s->take_type();
  in.source_type = s->take_type();
  if (in.type == Type::kF16x2 || in.type == Type::kBf16x2) {
    s->destination(0, Type::kB32);
    s->source(1, Type::kF32);
    s->source(2, Type::kF32);
    return in.source_type == Type::kF32 ? convert_pair : nullptr;
  }
  if (s->count() != 2 || type_bytes(in.type) == 0 || type_bytes(in.source_type) == 0 ||
      in.source_type == Type::kTf32 || in.source_type == Type::kF16x2 ||
      in.source_type == Type::kBf16x2) {
    return nullptr;
  }
  s->wide_destination(s->operands[0], in.type);
  s->wide_source(s->operands[1], in.source_type);
  if (s->failed()) {
    return nullptr;
  }
  const Handler common = select_common(in, s->slots()[0], s->slots()[1]);
  return common != nullptr ? common : convert_any;
}

}  // namespace xception::emulator
