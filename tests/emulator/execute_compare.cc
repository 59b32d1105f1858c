// setp, set and testp.
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"
#include "tests/emulator/numeric.h"

namespace xception::emulator {
namespace {

// 16-bit floats as comparisons and conversions see them.
struct [[gnu::may_alias]] Half {
  std::uint16_t bits;
  explicit operator float() const { return half_to_float(bits); }
};
struct [[gnu::may_alias]] Bfloat {
  std::uint16_t bits;
  explicit operator float() const { return bfloat_to_float(bits); }
};

template <class T>
struct Value {
  static T of(T value) { return value; }
};
template <>
struct Value<Half> {
  static float of(Half value) { return float(value); }
};
template <>
struct Value<Bfloat> {
  static float of(Bfloat value) { return float(value); }
};

// An ordered comparison is false of NaN, an unordered one (u) true.
template <Compare kCompare>
struct Holds {
  template <class T>
  bool operator()(T a, T b) const {
    const bool nan = a != a || b != b;
    switch (kCompare) {
      case Compare::kEq:
        return a == b;
      case Compare::kNe:
        return !nan && a != b;
      case Compare::kLt:
        return a < b;
      case Compare::kLe:
        return a <= b;
      case Compare::kGt:
        return a > b;
      case Compare::kGe:
        return a >= b;
      case Compare::kEqu:
        return nan || a == b;
      case Compare::kNeu:
        return nan || a != b;
      case Compare::kLtu:
        return !(a >= b);
      case Compare::kLeu:
        return !(a > b);
      case Compare::kGtu:
        return !(a <= b);
      case Compare::kGeu:
        return !(a < b);
      case Compare::kNum:
        return !nan;
      case Compare::kNan:
        return nan;
    }
    return false;
  }
};

template <Compare kCompare, class T>
LaneMask compare(Warp& warp, const Slot& a, const Slot& b, bool flush) {
  const auto* const left = lanes_of<T>(warp, a);
  const auto* const right = lanes_of<T>(warp, b);
  alignas(64) std::uint8_t holds[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    if constexpr (std::is_same_v<T, float>) {
      const float x = flush ? flush_subnormal(left[lane]) : float(left[lane]);
      const float y = flush ? flush_subnormal(right[lane]) : float(right[lane]);
      holds[lane] = Holds<kCompare>()(x, y) ? 1 : 0;
    } else {
      holds[lane] = Holds<kCompare>()(Value<T>::of(left[lane]), Value<T>::of(right[lane])) ? 1 : 0;
    }
  }
  LaneMask result = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    result |= static_cast<LaneMask>(holds[lane]) << lane;
  }
  return result;
}

using Comparer = LaneMask (*)(Warp&, const Slot&, const Slot&, bool);
constexpr std::size_t kComparisons = 14;

template <class T>
Comparer comparer_of(Compare comparison) {
  static constexpr auto kTable = []<std::size_t... kIndex>(std::index_sequence<kIndex...>) {
    return std::array<Comparer, kComparisons>{compare<static_cast<Compare>(kIndex), T>...};
  }
  (std::make_index_sequence<kComparisons>());
  return kTable[static_cast<std::size_t>(comparison)];
}

LaneMask combine(Combine how, LaneMask result, LaneMask other) {
  switch (how) {
    case Combine::kAnd:
      return result & other;
    case Combine::kOr:
      return result | other;
    case Combine::kXor:
      return result ^ other;
    case Combine::kNone:
      break;
  }
  return result;
}

template <class T>
Flow set_predicates(Warp& warp, const Instruction& in, LaneMask mask) {
  const Slot* const source = in.slots + in.destinations;
  const LaneMask result = comparer_of<T>(in.compare)(warp, source[0], source[1], in.flush);
  const LaneMask other = in.combine == Combine::kNone ? 0 : warp.predicate(source[2]);
  warp.set_predicate(in.slots[0], combine(in.combine, result, other), mask);
  if (in.destinations == 2) {
    warp.set_predicate(in.slots[1], combine(in.combine, ~result, other), mask);
  }
  return Flow::kNext;
}

// set: all ones or 1.0 where it holds.
template <class T>
Flow set_values(Warp& warp, const Instruction& in, LaneMask mask) {
  LaneMask result = comparer_of<T>(in.compare)(warp, in.slots[1], in.slots[2], in.flush);
  if (in.combine != Combine::kNone) {
    result = combine(in.combine, result, warp.predicate(in.slots[3]));
  }
  const auto store = [&](auto one) {
    decltype(one) values[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      values[lane] = (result >> lane & 1) != 0 ? one : decltype(one){0};
    }
    store_lanes(warp, in.slots[0], values, mask);
  };
  if (in.slots[0].width == 2) {
    store(static_cast<std::uint16_t>(in.immediate));
  } else {
    store(static_cast<std::uint32_t>(in.immediate));
  }
  return Flow::kNext;
}

template <class T>
LaneMask compare_half(Warp& warp, const Instruction& in, const Slot* source, int half) {
  std::uint16_t values[2][kLanes];
  for (int operand = 0; operand < 2; ++operand) {
    const auto* const words = lanes_of<std::uint32_t>(warp, source[operand]);
    for (int lane = 0; lane < kLanes; ++lane) {
      values[operand][lane] = static_cast<std::uint16_t>(words[lane] >> (16 * half));
    }
  }
  LaneMask result = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    const float a = Value<T>::of(T{values[0][lane]});
    const float b = Value<T>::of(T{values[1][lane]});
    bool holds = false;
    switch (in.compare) {
      case Compare::kEq:
        holds = Holds<Compare::kEq>()(a, b);
        break;
      case Compare::kNe:
        holds = Holds<Compare::kNe>()(a, b);
        break;
      case Compare::kLt:
        holds = Holds<Compare::kLt>()(a, b);
        break;
      case Compare::kLe:
        holds = Holds<Compare::kLe>()(a, b);
        break;
      case Compare::kGt:
        holds = Holds<Compare::kGt>()(a, b);
        break;
      case Compare::kGe:
        holds = Holds<Compare::kGe>()(a, b);
        break;
      case Compare::kEqu:
        holds = Holds<Compare::kEqu>()(a, b);
        break;
      case Compare::kNeu:
        holds = Holds<Compare::kNeu>()(a, b);
        break;
      case Compare::kLtu:
        holds = Holds<Compare::kLtu>()(a, b);
        break;
      case Compare::kLeu:
        holds = Holds<Compare::kLeu>()(a, b);
        break;
      case Compare::kGtu:
        holds = Holds<Compare::kGtu>()(a, b);
        break;
      case Compare::kGeu:
        holds = Holds<Compare::kGeu>()(a, b);
        break;
      case Compare::kNum:
        holds = Holds<Compare::kNum>()(a, b);
        break;
      case Compare::kNan:
        holds = Holds<Compare::kNan>()(a, b);
        break;
    }
    result |= static_cast<LaneMask>(holds) << lane;
  }
  return result;
}

// setp of two halves: a predicate each.
template <class T>
Flow set_predicates_x2(Warp& warp, const Instruction& in, LaneMask mask) {
  const Slot* const source = in.slots + in.destinations;
  const LaneMask other = in.combine == Combine::kNone ? 0 : warp.predicate(source[2]);
  const LaneMask low = combine(in.combine, compare_half<T>(warp, in, source, 0), other);
  const LaneMask high = combine(in.combine, compare_half<T>(warp, in, source, 1), other);
  warp.set_predicate(in.slots[0], low, mask);
  if (in.destinations == 2) {
    warp.set_predicate(in.slots[1], high, mask);
  }
  return Flow::kNext;
}

// set of two halves into two halves; the two values of `immediate` are "holds" of each half.
template <class T>
Flow set_values_x2(Warp& warp, const Instruction& in, LaneMask mask) {
  const Slot* const source = in.slots + 1;
  const LaneMask other = in.combine == Combine::kNone ? 0 : warp.predicate(source[2]);
  const LaneMask low = combine(in.combine, compare_half<T>(warp, in, source, 0), other);
  const LaneMask high = combine(in.combine, compare_half<T>(warp, in, source, 1), other);
  const auto one = static_cast<std::uint32_t>(in.immediate);
  std::uint32_t values[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    values[lane] = ((low >> lane & 1) != 0 ? one & 0xFFFF : 0) |
                   ((high >> lane & 1) != 0 ? one & 0xFFFF0000 : 0);
  }
  store_lanes(warp, in.slots[0], values, mask);
  return Flow::kNext;
}

enum class Test : std::uint8_t { kFinite, kInfinite, kNumber, kNotANumber, kNormal, kSubnormal };

template <class T>
Flow test_property(Warp& warp, const Instruction& in, LaneMask mask) {
  const auto* const values = lanes_of<T>(warp, in.slots[1]);
  LaneMask result = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    const int kind = std::fpclassify(T(values[lane]));
    bool holds = false;
    switch (static_cast<Test>(in.variant)) {
      case Test::kFinite:
        holds = kind != FP_INFINITE && kind != FP_NAN;
        break;
      case Test::kInfinite:
        holds = kind == FP_INFINITE;
        break;
      case Test::kNumber:
        holds = kind != FP_NAN;
        break;
      case Test::kNotANumber:
        holds = kind == FP_NAN;
        break;
      case Test::kNormal:
        holds = kind == FP_NORMAL || kind == FP_ZERO;
        break;
      case Test::kSubnormal:
        holds = kind == FP_SUBNORMAL;
        break;
    }
    result |= static_cast<LaneMask>(holds) << lane;
  }
  warp.set_predicate(in.slots[0], result, mask);
  return Flow::kNext;
}

bool take_comparison(Statement* s, Compare* comparison, bool* is_unsigned) {
  constexpr std::array<std::pair<std::string_view, Compare>, kComparisons> kNames = {{
      {"eq", Compare::kEq},
      {"ne", Compare::kNe},
      {"lt", Compare::kLt},
      {"le", Compare::kLe},
      {"gt", Compare::kGt},
      {"ge", Compare::kGe},
      {"equ", Compare::kEqu},
      {"neu", Compare::kNeu},
      {"ltu", Compare::kLtu},
      {"leu", Compare::kLeu},
      {"gtu", Compare::kGtu},
      {"geu", Compare::kGeu},
      {"num", Compare::kNum},
      {"nan", Compare::kNan},
  }};
  constexpr std::array<std::pair<std::string_view, Compare>, 4> kUnsignedNames = {{
      {"lo", Compare::kLt},
      {"ls", Compare::kLe},
      {"hi", Compare::kGt},
      {"hs", Compare::kGe},
  }};
  for (const auto& [name, value] : kUnsignedNames) {
    if (s->take(name)) {
      *comparison = value;
      *is_unsigned = true;
      return true;
    }
  }
  for (const auto& [name, value] : kNames) {
    if (s->take(name)) {
      *comparison = value;
      return true;
    }
  }
  return false;
}

Combine take_combine(Statement* s) {
  return s->take("and")   ? Combine::kAnd
         : s->take("or")  ? Combine::kOr
         : s->take("xor") ? Combine::kXor
                          : Combine::kNone;
}

template <bool kValues>
Handler select_comparison(Type type) {
  const auto pick = [](auto value) -> Handler {
    using T = decltype(value);
    return kValues ? set_values<T> : set_predicates<T>;
  };
  switch (type) {
    case Type::kB16:
    case Type::kU16:
      return pick(std::uint16_t{});
    case Type::kB32:
    case Type::kU32:
      return pick(std::uint32_t{});
    case Type::kB64:
    case Type::kU64:
      return pick(std::uint64_t{});
    case Type::kS16:
      return pick(std::int16_t{});
    case Type::kS32:
      return pick(std::int32_t{});
    case Type::kS64:
      return pick(std::int64_t{});
    case Type::kF32:
      return pick(float{});
    case Type::kF64:
      return pick(double{});
    case Type::kF16:
      return pick(Half{});
    case Type::kBf16:
      return pick(Bfloat{});
    case Type::kF16x2:
      return kValues ? set_values_x2<Half> : set_predicates_x2<Half>;
    case Type::kBf16x2:
      return kValues ? set_values_x2<Bfloat> : set_predicates_x2<Bfloat>;
    default:
      return nullptr;
  }
}

// What set stores where the comparison holds.
std::int64_t true_value(Type type) {
  switch (type) {
    case Type::kF32:
      return 0x3F800000;
    case Type::kF16:
      return 0x3C00;
    case Type::kBf16:
      return 0x3F80;
    case Type::kF16x2:
      return 0x3C003C00;
    case Type::kBf16x2:
      return 0x3F803F80;
    default:
      return 0xFFFFFFFF;
  }
}

Handler decode_setp(Statement* s) {
  bool is_unsigned = false;
  if (!take_comparison(s, &s->in.compare, &is_unsigned)) {
    return nullptr;
  }
  s->in.combine = take_combine(s);
  s->in.flush = s->take("ftz");
  const Type type = s->take_type();
  if (s->count() < 3) {
    return nullptr;
  }
  if (s->operands[0].kind == Operand::Kind::kPair) {
    s->destination(s->operands[0].elements[0], Type::kPred);
    s->destination(s->operands[0].elements[1], Type::kPred);
  } else {
    s->destination(0, Type::kPred);
  }
  s->source(1, type);
  s->source(2, type);
  if (s->in.combine != Combine::kNone) {
    s->source(3, Type::kPred);
  }
  return select_comparison<false>(type);
}

Handler decode_set(Statement* s) {
  bool is_unsigned = false;
  if (!take_comparison(s, &s->in.compare, &is_unsigned)) {
    return nullptr;
  }
  s->in.combine = take_combine(s);
  s->in.flush = s->take("ftz");
  const Type result = s->take_type();
  const Type type = s->take_type();
  s->in.immediate = true_value(result);
  s->destination(0, result);
  s->source(1, type);
  s->source(2, type);
  if (s->in.combine != Combine::kNone) {
    s->source(3, Type::kPred);
  }
  if (type_bytes(result) != 4 && type_bytes(result) != 2) {
    return nullptr;
  }
  return select_comparison<true>(type);
}

}  // namespace

Handler decode_compare(Statement* s) {
  if (s->opcode == "setp") {
    return decode_setp(s);
  }
  if (s->opcode == "set") {
    return decode_set(s);
  }
  if (s->opcode == "testp") {
    constexpr std::array<std::string_view, 6> kNames = {"finite",     "infinite", "number",
                                                        "notanumber", "normal",   "subnormal"};
    bool found = false;
    for (std::size_t i = 0; i < kNames.size(); ++i) {
      if (s->take(kNames[i])) {
        s->in.variant = static_cast<std::uint8_t>(i);
        found = true;
      }
    }
    const Type type = s->take_type();
    s->destination(0, Type::kPred);
    s->source(1, type);
    return !found               ? nullptr
           : type == Type::kF32 ? test_property<float>
           : type == Type::kF64 ? test_property<double>
                                : nullptr;
  }
  return nullptr;
}

}  // namespace xception::emulator
