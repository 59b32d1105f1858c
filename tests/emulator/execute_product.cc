// Integer products: mul, mad, their 24-bit forms, and dot products of bytes.
#include <cstdint>
#include <type_traits>

#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"
#include "tests/emulator/execute_integer.h"

namespace xception::emulator {
namespace {

// Twice as wide, for products. 16-bit operands would be promoted to int: 32 bits hold them.
template <class T>
struct Wider;
template <>
struct Wider<std::uint16_t> {
  using type = std::uint32_t;
};
template <>
struct Wider<std::int16_t> {
  using type = std::int32_t;
};
template <>
struct Wider<std::uint32_t> {
  using type = std::uint64_t;
};
template <>
struct Wider<std::int32_t> {
  using type = std::int64_t;
};
__extension__ typedef __int128 Int128;
__extension__ typedef unsigned __int128 Uint128;
template <>
struct Wider<std::uint64_t> {
  using type = Uint128;
};
template <>
struct Wider<std::int64_t> {
  using type = Int128;
};
template <class T>
using Wide = typename Wider<T>::type;

template <class T>
struct MulLow {
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<Wide<Unsigned<T>>>(static_cast<Unsigned<T>>(a)) *
                          static_cast<Unsigned<T>>(b));
  }
};

template <class T>
struct MulHigh {
  T operator()(T a, T b) const {
    return static_cast<T>((static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b)) >> (8 * sizeof(T)));
  }
};

template <class T>
struct MulWide {
  Wide<T> operator()(T a, T b) const { return static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b); }
};

template <class T>
struct MadLow {
  T operator()(T a, T b, T c) const { return AddWrapped<T>()(MulLow<T>()(a, b), c); }
};

template <class T>
struct MadHigh {
  T operator()(T a, T b, T c) const { return AddWrapped<T>()(MulHigh<T>()(a, b), c); }
};

struct MadHighSaturated {
  std::int32_t operator()(std::int32_t a, std::int32_t b, std::int32_t c) const {
    return AddSaturated()(MulHigh<std::int32_t>()(a, b), c);
  }
};

template <class T>
struct MadWide {
  Wide<T> operator()(T a, T b, Wide<T> c) const {
    return AddWrapped<Wide<T>>()(MulWide<T>()(a, b), c);
  }
};

// Operands are the low 24 bits; hi gives bits 16 to 47 of the product.
template <class T, bool kHigh>
struct Mul24 {
  T operator()(T a, T b) const {
    const auto low = [](T value) {
      return static_cast<Wide<T>>(static_cast<T>(static_cast<Unsigned<T>>(value) << 8) >> 8);
    };
    return static_cast<T>((low(a) * low(b)) >> (kHigh ? 16 : 0));
  }
};

template <class T, bool kHigh>
struct Mad24 {
  T operator()(T a, T b, T c) const { return AddWrapped<T>()(Mul24<T, kHigh>()(a, b), c); }
};

// Four products of bytes, or two of halves of a with bytes of b; `kHigh` takes the upper ones.
template <class A, class B, class C>
struct Dp4a {
  C operator()(std::uint32_t a, std::uint32_t b, C c) const {
    std::uint32_t sum = static_cast<std::uint32_t>(c);
    for (int i = 0; i < 32; i += 8) {
      sum += static_cast<std::uint32_t>(static_cast<A>(a >> i) * static_cast<B>(b >> i));
    }
    return static_cast<C>(sum);
  }
};

template <class A, class B, class C, bool kHigh>
struct Dp2a {
  C operator()(std::uint32_t a, std::uint32_t b, C c) const {
    std::uint32_t sum = static_cast<std::uint32_t>(c);
    for (int i = 0; i < 2; ++i) {
      sum += static_cast<std::uint32_t>(static_cast<A>(a >> (16 * i)) *
                                        static_cast<B>(b >> (8 * i + (kHigh ? 16 : 0))));
    }
    return static_cast<C>(sum);
  }
};

Type wider(Type type) {
  switch (type) {
    case Type::kU16:
      return Type::kU32;
    case Type::kS16:
      return Type::kS32;
    case Type::kU32:
      return Type::kU64;
    case Type::kS32:
      return Type::kS64;
    default:
      return Type::kNone;
  }
}

Handler select_wide_mul(Type type) {
  switch (type) {
    case Type::kU16:
      return map_lanes<MulWide<std::uint16_t>, std::uint32_t, std::uint16_t, std::uint16_t>;
    case Type::kS16:
      return map_lanes<MulWide<std::int16_t>, std::int32_t, std::int16_t, std::int16_t>;
    case Type::kU32:
      return map_lanes<MulWide<std::uint32_t>, std::uint64_t, std::uint32_t, std::uint32_t>;
    case Type::kS32:
      return map_lanes<MulWide<std::int32_t>, std::int64_t, std::int32_t, std::int32_t>;
    default:
      return nullptr;
  }
}

Handler select_wide_mad(Type type) {
  switch (type) {
    case Type::kU16:
      return map_lanes<MadWide<std::uint16_t>, std::uint32_t, std::uint16_t, std::uint16_t,
                       std::uint32_t>;
    case Type::kS16:
      return map_lanes<MadWide<std::int16_t>, std::int32_t, std::int16_t, std::int16_t,
                       std::int32_t>;
    case Type::kU32:
      return map_lanes<MadWide<std::uint32_t>, std::uint64_t, std::uint32_t, std::uint32_t,
                       std::uint64_t>;
    case Type::kS32:
      return map_lanes<MadWide<std::int32_t>, std::int64_t, std::int32_t, std::int32_t,
                       std::int64_t>;
    default:
      return nullptr;
  }
}

Handler decode_mul(Statement* s, bool mad) {
  const bool high = s->take("hi");
  const bool wide = s->take("wide");
  const bool low = s->take("lo");
  const bool saturate = s->take("sat");
  const Type type = s->take_type();
  if (high + wide + low != 1 || (saturate && (!mad || !high || type != Type::kS32))) {
    return nullptr;
  }
  s->destination(0, wide ? wider(type) : type);
  s->source(1, type);
  s->source(2, type);
  if (mad) {
    s->source(3, wide ? wider(type) : type);
  }
  if (wide) {
    return mad ? select_wide_mad(type) : select_wide_mul(type);
  }
  if (saturate) {
    return map_lanes<MadHighSaturated, std::int32_t, std::int32_t, std::int32_t, std::int32_t>;
  }
  if (high) {
    return mad ? select_integer<MadHigh, 3>(type) : select_integer<MulHigh, 2>(type);
  }
  return mad ? select_integer<MadLow, 3>(type) : select_integer<MulLow, 2>(type);
}

template <class T>
Handler select_24(bool mad, bool high) {
  if (mad) {
    return high ? map_lanes<Mad24<T, true>, T, T, T, T> : map_lanes<Mad24<T, false>, T, T, T, T>;
  }
  return high ? map_lanes<Mul24<T, true>, T, T, T> : map_lanes<Mul24<T, false>, T, T, T>;
}

Handler decode_24(Statement* s, bool mad) {
  const bool high = s->take("hi");
  const bool low = s->take("lo");
  const Type type = s->take_type();
  operands(s, type, mad ? 3 : 2);
  if (high == low) {
    return nullptr;
  }
  return type == Type::kU32   ? select_24<std::uint32_t>(mad, high)
         : type == Type::kS32 ? select_24<std::int32_t>(mad, high)
                              : nullptr;
}

template <class A, class B, class C>
Handler select_dot(bool four, bool high) {
  if (four) {
    return map_lanes<Dp4a<A, B, C>, C, std::uint32_t, std::uint32_t, C>;
  }
  using Half = std::conditional_t<std::is_signed_v<A>, std::int16_t, std::uint16_t>;
  return high ? map_lanes<Dp2a<Half, B, C, true>, C, std::uint32_t, std::uint32_t, C>
              : map_lanes<Dp2a<Half, B, C, false>, C, std::uint32_t, std::uint32_t, C>;
}

Handler decode_dot(Statement* s, bool four) {
  const bool high = !four && s->take("hi");
  if (!four && !high && !s->take("lo")) {
    return nullptr;
  }
  const Type a = s->take_type();
  const Type b = s->take_type();
  const bool sign = a == Type::kS32 || b == Type::kS32;
  s->destination(0, Type::kB32);
  s->source(1, Type::kB32);
  s->source(2, Type::kB32);
  s->source(3, Type::kB32);
  if (type_bytes(a) != 4 || type_bytes(b) != 4 || is_float(a) || is_float(b)) {
    return nullptr;
  }
  if (!sign) {
    return select_dot<std::uint8_t, std::uint8_t, std::uint32_t>(four, high);
  }
  if (a != Type::kS32) {
    return select_dot<std::uint8_t, std::int8_t, std::int32_t>(four, high);
  }
  return b == Type::kS32 ? select_dot<std::int8_t, std::int8_t, std::int32_t>(four, high)
                         : select_dot<std::int8_t, std::uint8_t, std::int32_t>(four, high);
}

}  // namespace

Handler decode_product(Statement* s) {
  const std::string_view op = s->opcode;
  if (is_float(last_type(s))) {
    return nullptr;
  }
  if (op == "mul" || op == "mad") {
    return decode_mul(s, op == "mad");
  }
  if (op == "mul24" || op == "mad24") {
    return decode_24(s, op == "mad24");
  }
  if (op == "dp4a" || op == "dp2a") {
    return decode_dot(s, op == "dp4a");
  }
  return nullptr;
}

}  // namespace xception::emulator
