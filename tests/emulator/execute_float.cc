// f32 and f64 arithmetic.
#include <algorithm>
#include <bit>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"
#include "tests/emulator/numeric.h"

namespace xception::emulator {
namespace {

// The NaN that f32 arithmetic makes of every NaN; f64 keeps the host's.
inline float canonical(float value) { return value == value ? value : float_from_bits(0x7FFFFFFF); }
inline double canonical(double value) { return value; }

constexpr std::uint8_t kPropagatesNan = 1;  // min.NaN, max.NaN
constexpr std::uint8_t kXorSign = 2;        // min.xorsign.abs, max.xorsign.abs

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return a + b;
  }
};
struct Sub {
  template <class T>
  T operator()(T a, T b) const {
    return a - b;
  }
};
struct Mul {
  template <class T>
  T operator()(T a, T b) const {
    return a * b;
  }
};
struct Fma {
  template <class T>
  T operator()(T a, T b, T c) const {
    return std::fma(a, b, c);
  }
};
struct Div {
  template <class T>
  T operator()(T a, T b) const {
    return a / b;
  }
};
struct Reciprocal {
  template <class T>
  T operator()(T a) const {
    return T{1} / a;
  }
};
struct SquareRoot {
  template <class T>
  T operator()(T a) const {
    return std::sqrt(a);
  }
};
// What follows is approximate on GPUs. Here f32 is rounded once from double.
struct ReciprocalSquareRoot {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(1.0 / std::sqrt(static_cast<double>(a)));
  }
};
struct Sine {
  float operator()(float a) const { return static_cast<float>(std::sin(static_cast<double>(a))); }
};
struct Cosine {
  float operator()(float a) const { return static_cast<float>(std::cos(static_cast<double>(a))); }
};
struct Log2 {
  float operator()(float a) const { return static_cast<float>(std::log2(static_cast<double>(a))); }
};
struct Exp2 {
  float operator()(float a) const { return static_cast<float>(std::exp2(static_cast<double>(a))); }
};
struct Tanh {
  float operator()(float a) const { return static_cast<float>(std::tanh(static_cast<double>(a))); }
};

// An operation that the compiler must not move out of the rounding mode it runs in.
template <class Operation, class T, class... Sources>
[[gnu::noipa]] T apply_in_mode(Sources... sources) {
  return Operation()(sources...);
}

class RoundingMode {
 public:
  explicit RoundingMode(Rounding rounding) : saved_(std::fegetround()) {
    std::fesetround(rounding == Rounding::kZero   ? FE_TOWARDZERO
                    : rounding == Rounding::kDown ? FE_DOWNWARD
                    : rounding == Rounding::kUp   ? FE_UPWARD
                                                  : FE_TONEAREST);
  }
  ~RoundingMode() { std::fesetround(saved_); }
  RoundingMode(const RoundingMode&) = delete;
  RoundingMode& operator=(const RoundingMode&) = delete;

 private:
  int saved_;
};

template <class Operation>
struct Canonical {
  template <class... Sources>
  auto operator()(Sources... sources) const {
    return canonical(Operation()(sources...));
  }
};

// To nearest, with subnormals and without clamping: what nearly every instruction is.
template <class Operation, class T, class... Sources>
Flow plain(Warp& warp, const Instruction& in, LaneMask mask) {
  return map_lanes<Canonical<Operation>, T, Sources...>(warp, in, mask);
}

#if defined(__x86_64__)
// The same of fma.f32 in vector code, which std::fma alone is a call a lane of.
[[gnu::target("avx2,fma")]] Flow plain_fma(Warp& warp, const Instruction& in, LaneMask mask) {
  alignas(64) float results[kLanes];
  const auto* a = lanes_of<float>(warp, in.slots[1]);
  const auto* b = lanes_of<float>(warp, in.slots[2]);
  const auto* c = lanes_of<float>(warp, in.slots[3]);
  for (int lane = 0; lane < kLanes; ++lane) {
    results[lane] = canonical(__builtin_fmaf(a[lane], b[lane], c[lane]));
  }
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}
#endif

// With .ftz, .sat or another rounding.
template <class Operation, class T, class... Sources>
Flow modified(Warp& warp, const Instruction& in, LaneMask mask) {
  T results[kLanes];
  const RoundingMode mode(in.rounding);
  [&]<std::size_t... kIndex>(std::index_sequence<kIndex...>) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const auto source = [&](const Slot& slot) {
        const T value = lanes_of<T>(warp, slot)[lane];
        if constexpr (std::is_same_v<T, float>) {
          return in.flush ? flush_subnormal(value) : value;
        } else {
          return value;
        }
      };
      results[lane] = apply_in_mode<Operation, T, Sources...>(source(in.slots[1 + kIndex])...);
    }
  }
  (std::index_sequence_for<Sources...>());
  for (T& value : results) {
    value = canonical(value);
    if constexpr (std::is_same_v<T, float>) {
      value = in.flush ? flush_subnormal(value) : value;
    }
    value = in.saturate ? saturate(value) : value;
  }
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}

template <class Operation, class T, class... Sources>
Handler select_modified(const Instruction& in) {
  return in.flush || in.saturate || in.rounding != Rounding::kNearest
             ? modified<Operation, T, Sources...>
             : plain<Operation, T, Sources...>;
}

// For both types; kSources of them.
template <class Operation, int kSources>
Handler select_float(Type type, const Instruction& in) {
  const auto pick = [&](auto value) -> Handler {
    using T = decltype(value);
    if constexpr (kSources == 1) {
      return select_modified<Operation, T, T>(in);
    } else if constexpr (kSources == 2) {
      return select_modified<Operation, T, T, T>(in);
    } else {
      return select_modified<Operation, T, T, T, T>(in);
    }
  };
  return type == Type::kF32 ? pick(float{}) : type == Type::kF64 ? pick(double{}) : nullptr;
}

template <class Operation>
Handler select_f32(Type type, const Instruction& in) {
  return type == Type::kF32 ? select_modified<Operation, float, float>(in) : nullptr;
}

// Without branches, so that 32 lanes are vector code; minimum() of numeric.h says what comes out.
template <bool kMaximum, class T>
T choose(T a, T b, bool nan) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  const auto x = std::bit_cast<Bits>(a);
  const auto y = std::bit_cast<Bits>(b);
  // Of equal values only zeros differ in bits: -0 is less.
  Bits result = (kMaximum ? a > b : a < b) ? x : y;
  result = a == b ? (kMaximum ? x & y : x | y) : result;
  result = a != a ? y : result;
  result = b != b ? (nan ? y : x) : result;
  result = nan && a != a ? x : result;
  return canonical(std::bit_cast<T>(result));
}

template <class T, bool kMaximum>
Flow extremum(Warp& warp, const Instruction& in, LaneMask mask) {
  alignas(64) T results[kLanes];
  const auto* const a = lanes_of<T>(warp, in.slots[1]);
  const auto* const b = lanes_of<T>(warp, in.slots[2]);
  const bool nan = (in.variant & kPropagatesNan) != 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    results[lane] = choose<kMaximum>(T(a[lane]), T(b[lane]), nan);
  }
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}

// With .ftz or .xorsign.abs, or (sm_100) of three operands.
template <class T, bool kMaximum>
Flow modified_extremum(Warp& warp, const Instruction& in, LaneMask mask) {
  T results[kLanes];
  const bool nan = (in.variant & kPropagatesNan) != 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto source = [&](std::size_t index) {
      const T value = lanes_of<T>(warp, in.slots[index])[lane];
      if constexpr (std::is_same_v<T, float>) {
        return in.flush ? flush_subnormal(value) : value;
      } else {
        return value;
      }
    };
    T value = source(1);
    for (std::size_t i = 2; i <= in.sources; ++i) {
      if ((in.variant & kXorSign) != 0) {
        const bool sign = std::signbit(value) != std::signbit(source(i));
        value = choose<kMaximum>(std::fabs(value), std::fabs(source(i)), nan);
        value = sign ? -value : value;
      } else {
        value = choose<kMaximum>(value, source(i), nan);
      }
    }
    results[lane] = canonical(value);
  }
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}

// The sign bit only; a NaN keeps its payload, which is what makes neg and abs of a word exact.
template <class T, bool kAbsolute>
Flow sign(Warp& warp, const Instruction& in, LaneMask mask) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  constexpr Bits kSign = Bits{1} << (8 * sizeof(T) - 1);
  alignas(64) Bits results[kLanes];
  const auto* const source = lanes_of<Bits>(warp, in.slots[1]);
  for (int lane = 0; lane < kLanes; ++lane) {
    results[lane] = kAbsolute ? source[lane] & ~kSign : source[lane] ^ kSign;
  }
  if (in.flush) {
    for (Bits& bits : results) {
      if constexpr (sizeof(T) == 4) {
        bits = float_bits(flush_subnormal(float_from_bits(bits)));
      }
    }
  }
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}

template <class Bits>
struct CopySign {
  // The sign of a on the magnitude of b.
  Bits operator()(Bits a, Bits b) const {
    constexpr Bits kSign = Bits{1} << (8 * sizeof(Bits) - 1);
    return (a & kSign) | (b & ~kSign);
  }
};

// Takes .ftz and .sat, then the type, and the operands.
Type operands(Statement* s, std::size_t sources) {
  s->in.flush = s->take("ftz");
  s->in.saturate = s->take("sat");
  const Type type = s->take_type();
  s->destination(0, type);
  for (std::size_t i = 1; i <= sources; ++i) {
    s->source(i, type);
  }
  if (s->count() != sources + 1) {
    s->fail();
  }
  return type;
}

template <class T>
Handler select_extremum(bool maximum, bool modified) {
  if (modified) {
    return maximum ? modified_extremum<T, true> : modified_extremum<T, false>;
  }
  return maximum ? extremum<T, true> : extremum<T, false>;
}

Handler decode_extremum(Statement* s) {
  const bool nan = s->take("NaN");
  const bool xor_sign = s->take("xorsign");
  if (xor_sign && !s->take("abs")) {
    return nullptr;
  }
  s->in.variant = static_cast<std::uint8_t>((nan ? kPropagatesNan : 0) | (xor_sign ? kXorSign : 0));
  const bool three = s->count() == 4;
  const Type type = operands(s, three ? 3 : 2);
  const bool modified = xor_sign || three || s->in.flush;
  const bool maximum = s->opcode == "max";
  return type == Type::kF32   ? select_extremum<float>(maximum, modified)
         : type == Type::kF64 ? select_extremum<double>(maximum, modified)
                              : nullptr;
}

}  // namespace

Handler decode_float(Statement* s) {
  const std::string_view op = s->opcode;
  const Type last = s->modifiers.empty() ? Type::kNone : parse_type(s->modifiers.back());
  if (last != Type::kF32 && last != Type::kF64) {
    return nullptr;
  }
  if (op == "cvt" || op == "mov" || op == "set" || op == "setp" || op == "atom" || op == "red" ||
      op == "testp" || op == "slct" || op == "selp" || op == "ld" || op == "st" || op == "mma") {
    return nullptr;
  }
  if (op == "min" || op == "max") {
    return decode_extremum(s);
  }
  s->in.rounding = s->take_rounding(Rounding::kNearest);
  if (op == "add") {
    return select_float<Add, 2>(operands(s, 2), s->in);
  }
  if (op == "sub") {
    return select_float<Sub, 2>(operands(s, 2), s->in);
  }
  if (op == "mul") {
    return select_float<Mul, 2>(operands(s, 2), s->in);
  }
  if (op == "fma" || op == "mad") {
    s->in.kind = InstructionClass::kFma;
    Handler handler = select_float<Fma, 3>(operands(s, 3), s->in);
#if defined(__x86_64__)
    static const bool has_fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (has_fma && handler == plain<Fma, float, float, float, float>) {
      handler = plain_fma;
    }
#endif
    return handler;
  }
  if (op == "div") {
    return select_float<Div, 2>(operands(s, 2), s->in);
  }
  if (op == "rcp") {
    return select_float<Reciprocal, 1>(operands(s, 1), s->in);
  }
  if (op == "sqrt") {
    return select_float<SquareRoot, 1>(operands(s, 1), s->in);
  }
  if (op == "rsqrt") {
    return select_float<ReciprocalSquareRoot, 1>(operands(s, 1), s->in);
  }
  if (op == "sin") {
    return select_f32<Sine>(operands(s, 1), s->in);
  }
  if (op == "cos") {
    return select_f32<Cosine>(operands(s, 1), s->in);
  }
  if (op == "lg2") {
    return select_f32<Log2>(operands(s, 1), s->in);
  }
  if (op == "ex2") {
    return select_f32<Exp2>(operands(s, 1), s->in);
  }
  if (op == "tanh") {
    return select_f32<Tanh>(operands(s, 1), s->in);
  }
  if (op == "neg" || op == "abs") {
    const Type type = operands(s, 1);
    return op == "neg" ? (type == Type::kF32 ? sign<float, false> : sign<double, false>)
                       : (type == Type::kF32 ? sign<float, true> : sign<double, true>);
  }
  if (op == "copysign") {
    const Type type = operands(s, 2);
    return type == Type::kF32
               ? map_lanes<CopySign<std::uint32_t>, std::uint32_t, std::uint32_t, std::uint32_t>
               : map_lanes<CopySign<std::uint64_t>, std::uint64_t, std::uint64_t, std::uint64_t>;
  }
  return nullptr;
}

}  // namespace xception::emulator
