// Integer arithmetic. Overflow wraps, so everything is computed in unsigned types.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"
#include "tests/emulator/execute_integer.h"

namespace xception::emulator {
namespace {

struct SubSaturated {
  std::int32_t operator()(std::int32_t a, std::int32_t b) const {
    return clamp_to<std::int32_t>(std::int64_t{a} - b);
  }
};

// Division by zero gives all ones, and the remainder is then the dividend, as GPUs do; the ISA
// leaves it open.
template <class T>
struct Div {
  T operator()(T a, T b) const {
    if (b == 0) {
      return static_cast<T>(~Unsigned<T>{0});
    }
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) {
      return SubWrapped<T>()(0, a);
    }
    return static_cast<T>(a / b);
  }
};

template <class T>
struct Rem {
  T operator()(T a, T b) const {
    if (b == 0) {
      return a;
    }
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) {
      return 0;
    }
    return static_cast<T>(a % b);
  }
};

template <class T>
struct Neg {
  T operator()(T a) const { return SubWrapped<T>()(0, a); }
};

template <class T>
struct Abs {
  T operator()(T a) const { return a < 0 ? SubWrapped<T>()(0, a) : a; }
};

template <class T>
struct Min {
  T operator()(T a, T b) const { return b < a ? b : a; }
};

template <class T>
struct Max {
  T operator()(T a, T b) const { return a < b ? b : a; }
};

template <template <class> class Operation, class T>
struct Relu {
  T operator()(T a, T b) const { return std::max(Operation<T>()(a, b), T{0}); }
};

// Of each half of a word.
template <template <class> class Operation, class T>
struct Halves {
  std::uint32_t operator()(std::uint32_t a, std::uint32_t b) const {
    const auto half = [](std::uint32_t x, std::uint32_t y) {
      return static_cast<std::uint16_t>(Operation<T>()(static_cast<T>(x), static_cast<T>(y)));
    };
    return half(a, b) | static_cast<std::uint32_t>(half(a >> 16, b >> 16)) << 16;
  }
};

template <class T>
struct Sad {
  T operator()(T a, T b, T c) const {
    return AddWrapped<T>()(c, a < b ? SubWrapped<T>()(b, a) : SubWrapped<T>()(a, b));
  }
};

template <template <class> class Operation>
Handler decode_min(Statement* s) {
  const bool relu = s->take("relu");
  const std::string_view name = s->modifiers.empty() ? "" : s->modifiers.back();
  if (name == "s16x2" || name == "u16x2") {
    s->take(name);
    operands(s, Type::kB32, 2);
    if (relu) {
      s->fail();
    }
    return name == "s16x2" ? map_lanes<Halves<Operation, std::int16_t>, std::uint32_t,
                                       std::uint32_t, std::uint32_t>
                           : map_lanes<Halves<Operation, std::uint16_t>, std::uint32_t,
                                       std::uint32_t, std::uint32_t>;
  }
  const Type type = s->take_type();
  operands(s, type, 2);
  if (relu) {
    return type == Type::kS32
               ? map_lanes<Relu<Operation, std::int32_t>, std::int32_t, std::int32_t, std::int32_t>
               : nullptr;
  }
  return select_integer<Operation, 2>(type);
}

}  // namespace

Handler decode_integer(Statement* s) {
  const std::string_view op = s->opcode;
  if (is_float(last_type(s))) {
    return nullptr;
  }
  if (op == "min") {
    return decode_min<Min>(s);
  }
  if (op == "max") {
    return decode_min<Max>(s);
  }
  if (op == "add" || op == "sub") {
    const std::string_view name = s->modifiers.empty() ? "" : s->modifiers.back();
    if (name == "s16x2" || name == "u16x2") {
      s->take(name);
      operands(s, Type::kB32, 2);
      return op == "add" ? map_lanes<Halves<AddWrapped, std::uint16_t>, std::uint32_t,
                                     std::uint32_t, std::uint32_t>
                         : map_lanes<Halves<SubWrapped, std::uint16_t>, std::uint32_t,
                                     std::uint32_t, std::uint32_t>;
    }
    const bool saturate = s->take("sat");
    const Type type = s->take_type();
    operands(s, type, 2);
    if (saturate) {
      return type != Type::kS32 ? nullptr
             : op == "add"      ? map_lanes<AddSaturated, std::int32_t, std::int32_t, std::int32_t>
                                : map_lanes<SubSaturated, std::int32_t, std::int32_t, std::int32_t>;
    }
    return op == "add" ? select_integer<AddWrapped, 2>(type) : select_integer<SubWrapped, 2>(type);
  }
  if (op == "div" || op == "rem") {
    const Type type = s->take_type();
    operands(s, type, 2);
    return op == "div" ? select_integer<Div, 2>(type) : select_integer<Rem, 2>(type);
  }
  if (op == "neg" || op == "abs") {
    const Type type = s->take_type();
    operands(s, type, 1);
    return op == "neg" ? select_signed<Neg, 1>(type) : select_signed<Abs, 1>(type);
  }
  if (op == "sad") {
    const Type type = s->take_type();
    operands(s, type, 3);
    return select_integer<Sad, 3>(type);
  }
  return nullptr;
}

}  // namespace xception::emulator
