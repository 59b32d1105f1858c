// What the families of integer instructions share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "tests/emulator/execute.h"
#include "tests/emulator/ptx_statement.h"

namespace xception::emulator {

template <class T>
using Unsigned = std::make_unsigned_t<T>;

// Sums that wrap.
template <class T>
struct AddWrapped {
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<Unsigned<T>>(a) + static_cast<Unsigned<T>>(b));
  }
};

template <class T>
struct SubWrapped {
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<Unsigned<T>>(a) - static_cast<Unsigned<T>>(b));
  }
};

template <class T>
T clamp_to(std::int64_t value) {
  return static_cast<T>(std::clamp<std::int64_t>(value, std::numeric_limits<T>::min(),
                                                 std::numeric_limits<T>::max()));
}

struct AddSaturated {
  std::int32_t operator()(std::int32_t a, std::int32_t b) const {
    return clamp_to<std::int32_t>(std::int64_t{a} + b);
  }
};

// Instantiates a handler for a type, with `kSources` sources of it.
template <template <class> class Operation, class T, int kSources>
Handler handler_of() {
  if constexpr (kSources == 1) {
    return map_lanes<Operation<T>, T, T>;
  } else if constexpr (kSources == 2) {
    return map_lanes<Operation<T>, T, T, T>;
  } else {
    return map_lanes<Operation<T>, T, T, T, T>;
  }
}

template <template <class> class Operation, int kSources>
Handler select_signed(Type type) {
  switch (type) {
    case Type::kS16:
      return handler_of<Operation, std::int16_t, kSources>();
    case Type::kS32:
      return handler_of<Operation, std::int32_t, kSources>();
    case Type::kS64:
      return handler_of<Operation, std::int64_t, kSources>();
    default:
      return nullptr;
  }
}

template <template <class> class Operation, int kSources>
Handler select_integer(Type type) {
  switch (type) {
    case Type::kU16:
      return handler_of<Operation, std::uint16_t, kSources>();
    case Type::kU32:
      return handler_of<Operation, std::uint32_t, kSources>();
    case Type::kU64:
      return handler_of<Operation, std::uint64_t, kSources>();
    default:
      return select_signed<Operation, kSources>(type);
  }
}

// Destination and sources of one type, and no more operands.
inline void operands(Statement* s, Type type, std::size_t sources) {
  s->destination(0, type);
  for (std::size_t i = 1; i <= sources; ++i) {
    s->source(i, type);
  }
  if (s->count() != sources + 1) {
    s->fail();
  }
}

// The last modifier names the type: that of floating formats is decode_float's and decode_half's.
inline Type last_type(const Statement* s) {
  return s->modifiers.empty() ? Type::kNone : parse_type(s->modifiers.back());
}

}  // namespace xception::emulator
