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

constexpr std::size_t kComparisons = 14;

template <class T>
using Comparer = LaneMask (*)(const T*, const T*);

template <Compare kCompare, class T>
LaneMask compare(const T* a, const T* b) {
  alignas(64) std::uint8_t holds[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    holds[lane] = Holds<kCompare>()(a[lane], b[lane]) ? 1 : 0;
  }
  LaneMask result = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    result |= static_cast<LaneMask>(holds[lane]) << lane;
  }
  return result;
}

template <class T>
LaneMask compare_as(Compare comparison, const T* a, const T* b) {
  static constexpr auto kTable = []<std::size_t... kIndex>(std::index_sequence<kIndex...>) {
    return std::array<Comparer<T>, kComparisons>{compare<static_cast<Compare>(kIndex), T>...};
  }
  (std::make_index_sequence<kComparisons>());
  return kTable[static_cast<std::size_t>(comparison)](a, b);
}

// How the lanes of an operand become values of a C++ type; a half of a pair where `shift` is 16.
template <class T>
struct Plain {
  using Value = T;
  static void read(Warp& warp, const Slot& slot, const Instruction& in, int, T* values) {
    std::memcpy(values, warp.bytes(slot), sizeof(T) * kLanes);
    if constexpr (std::is_same_v<T, float>) {
      for (int lane = 0; lane < kLanes && in.flush; ++lane) {
        values[lane] = flush_subnormal(values[lane]);
      }
    }
  }
};

template <class Word, float (*kToFloat)(std::uint16_t)>
struct Sixteen {
  using Value = float;
  static void read(Warp& warp, const Slot& slot, const Instruction&, int shift, float* values) {
    const auto* const words = lanes_of<Word>(warp, slot);
    for (int lane = 0; lane < kLanes; ++lane) {
      values[lane] = kToFloat(static_cast<std::uint16_t>(words[lane] >> shift));
    }
  }
};

template <class Operand>
LaneMask compare_operands(Warp& warp, const Instruction& in, int shift) {
  const Slot* const source = in.slots + in.destinations;
  alignas(64) typename Operand::Value a[kLanes];
  alignas(64) typename Operand::Value b[kLanes];
  Operand::read(warp, source[0], in, shift, a);
  Operand::read(warp, source[1], in, shift, b);
  return compare_as(in.compare, a, b);
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

LaneMask other_predicate(Warp& warp, const Instruction& in) {
  return in.combine == Combine::kNone ? 0 : warp.predicate(in.slots[in.destinations + 2]);
}

template <class Operand>
Flow set_predicates(Warp& warp, const Instruction& in, LaneMask mask) {
  const LaneMask result = compare_operands<Operand>(warp, in, 0);
  const LaneMask other = other_predicate(warp, in);
  warp.set_predicate(in.slots[0], combine(in.combine, result, other), mask);
  if (in.destinations == 2) {
    warp.set_predicate(in.slots[1], combine(in.combine, ~result, other), mask);
  }
  return Flow::kNext;
}

// setp of a pair: a predicate for each half.
template <class Operand>
Flow set_predicates_x2(Warp& warp, const Instruction& in, LaneMask mask) {
  const LaneMask other = other_predicate(warp, in);
  const LaneMask low = combine(in.combine, compare_operands<Operand>(warp, in, 0), other);
  const LaneMask high = combine(in.combine, compare_operands<Operand>(warp, in, 16), other);
  warp.set_predicate(in.slots[0], low, mask);
  if (in.destinations == 2) {
    warp.set_predicate(in.slots[1], high, mask);
  }
  return Flow::kNext;
}

// set: `immediate`, all ones or 1.0, where it holds.
template <class Operand>
Flow set_values(Warp& warp, const Instruction& in, LaneMask mask) {
  const LaneMask result =
      combine(in.combine, compare_operands<Operand>(warp, in, 0), other_predicate(warp, in));
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

template <class Operand>
Flow set_values_x2(Warp& warp, const Instruction& in, LaneMask mask) {
  const LaneMask other = other_predicate(warp, in);
  const LaneMask low = combine(in.combine, compare_operands<Operand>(warp, in, 0), other);
  const LaneMask high = combine(in.combine, compare_operands<Operand>(warp, in, 16), other);
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

bool take_comparison(Statement* s, Compare* comparison) {
  // lo, ls, hi and hs are what lt, le, gt and ge are of unsigned integers.
  constexpr std::array<std::pair<std::string_view, Compare>, kComparisons + 4> kNames = {{
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
  const auto pick = []<class Operand>(Operand) -> Handler {
    return kValues ? set_values<Operand> : set_predicates<Operand>;
  };
  using F16x2 = Sixteen<std::uint32_t, half_to_float>;
  using Bf16x2 = Sixteen<std::uint32_t, bfloat_to_float>;
  switch (type) {
    case Type::kB16:
    case Type::kU16:
      return pick(Plain<std::uint16_t>());
    case Type::kB32:
    case Type::kU32:
      return pick(Plain<std::uint32_t>());
    case Type::kB64:
    case Type::kU64:
      return pick(Plain<std::uint64_t>());
    case Type::kS16:
      return pick(Plain<std::int16_t>());
    case Type::kS32:
      return pick(Plain<std::int32_t>());
    case Type::kS64:
      return pick(Plain<std::int64_t>());
    case Type::kF32:
      return pick(Plain<float>());
    case Type::kF64:
      return pick(Plain<double>());
    case Type::kF16:
      return pick(Sixteen<std::uint16_t, half_to_float>());
    case Type::kBf16:
      return pick(Sixteen<std::uint16_t, bfloat_to_float>());
    case Type::kF16x2:
      return kValues ? set_values_x2<F16x2> : set_predicates_x2<F16x2>;
    case Type::kBf16x2:
      return kValues ? set_values_x2<Bf16x2> : set_predicates_x2<Bf16x2>;
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
  if (!take_comparison(s, &s->in.compare)) {
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
  if (!take_comparison(s, &s->in.compare)) {
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
