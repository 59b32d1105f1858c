// f16 and bf16 arithmetic, one or two values a register.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"
#include "tests/emulator/numeric.h"

namespace xception::emulator {
namespace {

struct F16 {
  static constexpr Type16 kType = Type16::kF16;
  static constexpr std::uint16_t kExponent = 0x7C00;
  static float to_float(std::uint16_t value) { return half_to_float(value); }
  static std::uint16_t from_float(float value) { return half_from_float(value); }
};
struct Bf16 {
  static constexpr Type16 kType = Type16::kBf16;
  static constexpr std::uint16_t kExponent = 0x7F80;
  static float to_float(std::uint16_t value) { return bfloat_to_float(value); }
  static std::uint16_t from_float(float value) { return bfloat_from_float(value); }
};

// A sum or product of two is first rounded to 24 bits, which does no harm: those are more than
// twice the bits of the result and two (Figueroa, "When is double rounding innocuous?", 1995).
struct Add {
  template <class Format>
  static std::uint16_t apply(std::uint16_t a, std::uint16_t b) {
    return Format::from_float(Format::to_float(a) + Format::to_float(b));
  }
};
struct Sub {
  template <class Format>
  static std::uint16_t apply(std::uint16_t a, std::uint16_t b) {
    return Format::from_float(Format::to_float(a) - Format::to_float(b));
  }
};
// The exponent of a product of two bf16 may lie below float's: subnormal results are then rounded
// twice, so it goes through double.
struct Mul {
  template <class Format>
  static std::uint16_t apply(std::uint16_t a, std::uint16_t b) {
    if constexpr (Format::kType == Type16::kF16) {
      return Format::from_float(Format::to_float(a) * Format::to_float(b));
    } else {
      return mul16(Format::kType, a, b);
    }
  }
};
struct Fma {
  template <class Format>
  static std::uint16_t apply(std::uint16_t a, std::uint16_t b, std::uint16_t c) {
    return fma16(Format::kType, a, b, c);
  }
};
template <bool kMaximum, bool kNan>
struct Extremum {
  template <class Format>
  static std::uint16_t apply(std::uint16_t a, std::uint16_t b) {
    return kMaximum ? max16(Format::kType, a, b, kNan) : min16(Format::kType, a, b, kNan);
  }
};
// The sign of both on the extremum of the magnitudes.
template <bool kMaximum, bool kNan>
struct ExtremumXorSign {
  template <class Format>
  static std::uint16_t apply(std::uint16_t a, std::uint16_t b) {
    const std::uint16_t value =
        Extremum<kMaximum, kNan>::template apply<Format>(a & 0x7FFF, b & 0x7FFF);
    return static_cast<std::uint16_t>(value | ((a ^ b) & 0x8000));
  }
};
struct Neg {
  template <class Format>
  static std::uint16_t apply(std::uint16_t a) {
    return a ^ 0x8000;
  }
};
struct Abs {
  template <class Format>
  static std::uint16_t apply(std::uint16_t a) {
    return a & 0x7FFF;
  }
};
struct Exp2 {
  template <class Format>
  static std::uint16_t apply(std::uint16_t a) {
    return from_double(Format::kType, std::exp2(static_cast<double>(Format::to_float(a))));
  }
};
struct Tanh {
  template <class Format>
  static std::uint16_t apply(std::uint16_t a) {
    return from_double(Format::kType, std::tanh(static_cast<double>(Format::to_float(a))));
  }
};

template <class Format>
std::uint16_t flush16(std::uint16_t value) {
  return (value & Format::kExponent) == 0 ? value & 0x8000 : value;
}

template <class Format>
std::uint16_t finish(const Instruction& in, std::uint16_t value) {
  const float number = Format::to_float(value);
  if (in.flush) {
    value = flush16<Format>(value);
  }
  if (in.saturate) {
    value = Format::from_float(saturate(number));
  }
  if (in.relu && !std::isnan(number) && (value & 0x8000) != 0) {
    value = 0;
  }
  return value;
}

template <class Operation, class Format, class Word, std::size_t... kIndex>
Flow map_halves(Warp& warp, const Instruction& in, LaneMask mask, std::index_sequence<kIndex...>) {
  alignas(64) Word results[kLanes] = {};
  const bool plain = !in.flush && !in.saturate && !in.relu;
  for (int shift = 0; shift < static_cast<int>(8 * sizeof(Word)); shift += 16) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const auto source = [&](std::size_t index) {
        const Word word = lanes_of<Word>(warp, in.slots[1 + index])[lane];
        const auto value = static_cast<std::uint16_t>(word >> shift);
        return in.flush ? flush16<Format>(value) : value;
      };
      std::uint16_t value = Operation::template apply<Format>(source(kIndex)...);
      value = plain ? value : finish<Format>(in, value);
      results[lane] = static_cast<Word>(results[lane] | static_cast<Word>(value) << shift);
    }
  }
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}

template <class Operation, class Format, class Word, int kSources>
Flow execute_halves(Warp& warp, const Instruction& in, LaneMask mask) {
  return map_halves<Operation, Format, Word>(warp, in, mask, std::make_index_sequence<kSources>());
}

template <class Operation, int kSources>
Handler select_half(Statement* s) {
  // f16 operations keep subnormals unless told to flush; bf16 ones always do.
  s->take("noftz");
  s->in.flush = s->take("ftz");
  s->in.saturate = s->take("sat");
  s->in.relu = s->take("relu");
  const Type type = s->take_type();
  s->destination(0, type);
  for (std::size_t i = 1; i <= kSources; ++i) {
    s->source(i, type);
  }
  if (s->count() != kSources + 1) {
    return nullptr;
  }
  switch (type) {
    case Type::kF16:
      return execute_halves<Operation, F16, std::uint16_t, kSources>;
    case Type::kF16x2:
      return execute_halves<Operation, F16, std::uint32_t, kSources>;
    case Type::kBf16:
      return execute_halves<Operation, Bf16, std::uint16_t, kSources>;
    case Type::kBf16x2:
      return execute_halves<Operation, Bf16, std::uint32_t, kSources>;
    default:
      return nullptr;
  }
}

template <bool kMaximum>
Handler decode_extremum(Statement* s) {
  const bool nan = s->take("NaN");
  if (s->take("xorsign")) {
    if (!s->take("abs")) {
      return nullptr;
    }
    return nan ? select_half<ExtremumXorSign<kMaximum, true>, 2>(s)
               : select_half<ExtremumXorSign<kMaximum, false>, 2>(s);
  }
  return nan ? select_half<Extremum<kMaximum, true>, 2>(s)
             : select_half<Extremum<kMaximum, false>, 2>(s);
}

}  // namespace

Handler decode_half(Statement* s) {
  const std::string_view op = s->opcode;
  const Type last = s->modifiers.empty() ? Type::kNone : parse_type(s->modifiers.back());
  if (last != Type::kF16 && last != Type::kF16x2 && last != Type::kBf16 && last != Type::kBf16x2) {
    return nullptr;
  }
  if (op == "add" || op == "sub" || op == "mul" || op == "fma") {
    s->take("rn");
    return op == "add"   ? select_half<Add, 2>(s)
           : op == "sub" ? select_half<Sub, 2>(s)
           : op == "mul" ? select_half<Mul, 2>(s)
                         : (s->in.kind = InstructionClass::kFma, select_half<Fma, 3>(s));
  }
  if (op == "min") {
    return decode_extremum<false>(s);
  }
  if (op == "max") {
    return decode_extremum<true>(s);
  }
  if (op == "neg") {
    return select_half<Neg, 1>(s);
  }
  if (op == "abs") {
    return select_half<Abs, 1>(s);
  }
  if (op == "ex2" || op == "tanh") {
    if (!s->take("approx")) {
      return nullptr;
    }
    return op == "ex2" ? select_half<Exp2, 1>(s) : select_half<Tanh, 1>(s);
  }
  return nullptr;
}

}  // namespace xception::emulator
