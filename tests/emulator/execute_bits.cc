// Logic, shifts, bit fields and permutations of bytes.
#include <algorithm>
#include <bit>
#include <cstdint>

#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"

namespace xception::emulator {
namespace {

template <class T>
struct And {
  T operator()(T a, T b) const { return static_cast<T>(a & b); }
};
template <class T>
struct Or {
  T operator()(T a, T b) const { return static_cast<T>(a | b); }
};
template <class T>
struct Xor {
  T operator()(T a, T b) const { return static_cast<T>(a ^ b); }
};
template <class T>
struct Not {
  T operator()(T a) const { return static_cast<T>(~a); }
};
template <class T>
struct LogicalNot {
  T operator()(T a) const { return a == 0 ? T{1} : T{0}; }
};

// Shifts by more than the width clamp: zero, or copies of the sign.
template <class T>
struct ShiftLeft {
  T operator()(T a, std::uint32_t b) const {
    return b >= 8 * sizeof(T) ? T{0} : static_cast<T>(a << b);
  }
};
template <class T>
struct ShiftRight {
  T operator()(T a, std::uint32_t b) const {
    constexpr std::uint32_t kBits = 8 * sizeof(T);
    if constexpr (std::is_signed_v<T>) {
      return static_cast<T>(a >> std::min(b, kBits - 1));
    } else {
      return b >= kBits ? T{0} : static_cast<T>(a >> b);
    }
  }
};

// The upper (left) or lower (right) word of {b, a} shifted by c.
template <bool kLeft, bool kWrap>
struct Funnel {
  std::uint32_t operator()(std::uint32_t a, std::uint32_t b, std::uint32_t c) const {
    const std::uint32_t n = kWrap ? c & 31 : std::min(c, 32U);
    const std::uint64_t both = std::uint64_t{b} << 32 | a;
    return static_cast<std::uint32_t>(kLeft ? (both << n) >> 32 : both >> n);
  }
};

template <class T>
struct PopCount {
  std::uint32_t operator()(T a) const { return static_cast<std::uint32_t>(std::popcount(a)); }
};
template <class T>
struct LeadingZeros {
  std::uint32_t operator()(T a) const { return static_cast<std::uint32_t>(std::countl_zero(a)); }
};
// The highest bit that differs from the sign, as a position or as a shift to the top; all ones
// where there is none.
template <class T, bool kShift>
struct FindBit {
  std::uint32_t operator()(T a) const {
    auto bits = static_cast<std::make_unsigned_t<T>>(a);
    if (a < 0) {
      bits = static_cast<std::make_unsigned_t<T>>(~bits);
    }
    if (bits == 0) {
      return ~0U;
    }
    const int zeros = std::countl_zero(bits);
    return static_cast<std::uint32_t>(kShift ? zeros : 8 * static_cast<int>(sizeof(T)) - 1 - zeros);
  }
};
template <class T>
struct Reverse {
  T operator()(T a) const {
    T result = 0;
    for (std::size_t i = 0; i < 8 * sizeof(T); ++i) {
      result = static_cast<T>(result << 1 | (a >> i & 1));
    }
    return result;
  }
};

template <class T>
struct Extract {
  T operator()(T a, std::uint32_t b, std::uint32_t c) const {
    constexpr std::uint32_t kBits = 8 * sizeof(T);
    using U = std::make_unsigned_t<T>;
    const std::uint32_t position = b & 0xFF;
    const std::uint32_t length = c & 0xFF;
    if (length == 0) {
      return 0;
    }
    const auto bits = static_cast<U>(a);
    const std::uint32_t top = std::min(position + length - 1, kBits - 1);
    const bool sign = std::is_signed_v<T> && (bits >> top & 1) != 0;
    U field = position >= kBits ? U{0} : static_cast<U>(bits >> position);
    const std::uint32_t got = position >= kBits ? 0 : std::min(length, kBits - position);
    const U keep = got >= kBits ? static_cast<U>(~U{0}) : static_cast<U>((U{1} << got) - 1);
    field &= keep;
    return static_cast<T>(sign ? field | static_cast<U>(~keep) : field);
  }
};

template <class T>
struct Insert {
  T operator()(T a, T b, std::uint32_t c, std::uint32_t d) const {
    constexpr std::uint32_t kBits = 8 * sizeof(T);
    const std::uint32_t position = c & 0xFF;
    const std::uint32_t length = d & 0xFF;
    if (length == 0 || position >= kBits) {
      return b;
    }
    const T ones = length >= kBits ? ~T{0} : (T{1} << length) - 1;
    const T keep = static_cast<T>(ones << position);
    return (b & ~keep) | (static_cast<T>(a << position) & keep);
  }
};

// Ones from bit a on, b of them.
template <bool kWrap>
struct Mask {
  std::uint32_t operator()(std::uint32_t a, std::uint32_t b) const {
    const std::uint32_t position = kWrap ? a & 31 : a;
    const std::uint32_t length = kWrap ? b & 31 : b;
    if (position >= 32 || length == 0) {
      return 0;
    }
    const std::uint32_t ones = length >= 32 ? ~0U : (1U << length) - 1;
    return ones << position;
  }
};

struct Permute {
  std::uint32_t operator()(std::uint32_t a, std::uint32_t b, std::uint32_t c) const {
    const std::uint64_t bytes = std::uint64_t{b} << 32 | a;
    std::uint32_t result = 0;
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t selector = c >> (4 * i) & 0xF;
      auto byte = static_cast<std::uint32_t>(bytes >> (8 * (selector & 7)) & 0xFF);
      if ((selector & 8) != 0) {  // the sign, eight times
        byte = (byte & 0x80) != 0 ? 0xFF : 0;
      }
      result |= byte << (8 * i);
    }
    return result;
  }
};

// prmt with a mode: the low two bits of c choose a row of the ISA's table, as selectors.
Flow permute_by_mode(Warp& warp, const Instruction& in, LaneMask mask) {
  constexpr std::uint16_t kSelectors[6][4] = {
      {0x3210, 0x4321, 0x5432, 0x6543}, {0x5670, 0x6701, 0x7012, 0x0123},
      {0x0000, 0x1111, 0x2222, 0x3333}, {0x3210, 0x3211, 0x3222, 0x3333},
      {0x0000, 0x1110, 0x2210, 0x3210}, {0x1010, 0x3232, 0x1010, 0x3232},
  };
  std::uint32_t results[kLanes];
  const auto* const a = lanes_of<std::uint32_t>(warp, in.slots[1]);
  const auto* const b = lanes_of<std::uint32_t>(warp, in.slots[2]);
  const auto* const c = lanes_of<std::uint32_t>(warp, in.slots[3]);
  for (int lane = 0; lane < kLanes; ++lane) {
    results[lane] = Permute()(a[lane], b[lane], kSelectors[in.variant][c[lane] & 3]);
  }
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}

// d = f(a, b, c) bit by bit, f a table of 8 bits in `immediate`: a sum of products over its ones.
Flow lop3(Warp& warp, const Instruction& in, LaneMask mask) {
  alignas(64) std::uint32_t results[kLanes] = {};
  const Slot* source = in.slots + in.destinations;
  const auto* const a = lanes_of<std::uint32_t>(warp, source[0]);
  const auto* const b = lanes_of<std::uint32_t>(warp, source[1]);
  const auto* const c = lanes_of<std::uint32_t>(warp, source[2]);
  for (std::uint32_t row = 0; row < 8; ++row) {
    if ((in.immediate >> row & 1) == 0) {
      continue;
    }
    const std::uint32_t not_a = (row & 4) != 0 ? 0 : ~0U;
    const std::uint32_t not_b = (row & 2) != 0 ? 0 : ~0U;
    const std::uint32_t not_c = (row & 1) != 0 ? 0 : ~0U;
    for (int lane = 0; lane < kLanes; ++lane) {
      results[lane] |= (a[lane] ^ not_a) & (b[lane] ^ not_b) & (c[lane] ^ not_c);
    }
  }
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}

template <template <class> class Operation>
Flow map_predicates(Warp& warp, const Instruction& in, LaneMask mask) {
  const LaneMask a = warp.predicate(in.slots[1]);
  const LaneMask b = in.sources > 1 ? warp.predicate(in.slots[2]) : 0;
  LaneMask result = 0;
  if constexpr (std::is_invocable_v<Operation<LaneMask>, LaneMask>) {
    result = Operation<LaneMask>()(a);
  } else {
    result = Operation<LaneMask>()(a, b);
  }
  warp.set_predicate(in.slots[0], result, mask);
  return Flow::kNext;
}

template <template <class> class Operation, int kSources>
Handler select_bits(Type type) {
  const auto pick = [](auto value) -> Handler {
    using T = decltype(value);
    if constexpr (kSources == 1) {
      return map_lanes<Operation<T>, T, T>;
    } else {
      return map_lanes<Operation<T>, T, T, T>;
    }
  };
  switch (type) {
    case Type::kPred:
      return map_predicates<Operation>;
    case Type::kB16:
      return pick(std::uint16_t{});
    case Type::kB32:
      return pick(std::uint32_t{});
    case Type::kB64:
      return pick(std::uint64_t{});
    default:
      return nullptr;
  }
}

template <template <class> class Operation>
Handler select_shift(Type type) {
  switch (type) {
    case Type::kB16:
    case Type::kU16:
      return map_lanes<Operation<std::uint16_t>, std::uint16_t, std::uint16_t, std::uint32_t>;
    case Type::kS16:
      return map_lanes<Operation<std::int16_t>, std::int16_t, std::int16_t, std::uint32_t>;
    case Type::kB32:
    case Type::kU32:
      return map_lanes<Operation<std::uint32_t>, std::uint32_t, std::uint32_t, std::uint32_t>;
    case Type::kS32:
      return map_lanes<Operation<std::int32_t>, std::int32_t, std::int32_t, std::uint32_t>;
    case Type::kB64:
    case Type::kU64:
      return map_lanes<Operation<std::uint64_t>, std::uint64_t, std::uint64_t, std::uint32_t>;
    case Type::kS64:
      return map_lanes<Operation<std::int64_t>, std::int64_t, std::int64_t, std::uint32_t>;
    default:
      return nullptr;
  }
}

Handler decode_permute(Statement* s) {
  constexpr std::string_view kModes[] = {"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"};
  int mode = -1;
  for (int i = 0; i < 6; ++i) {
    if (s->take(kModes[i])) {
      mode = i;
    }
  }
  if (s->take_type() != Type::kB32) {
    return nullptr;
  }
  s->destination(0, Type::kB32);
  for (std::size_t i = 1; i < 4; ++i) {
    s->source(i, Type::kB32);
  }
  if (mode < 0) {
    return map_lanes<Permute, std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>;
  }
  s->in.variant = static_cast<std::uint8_t>(mode);
  return permute_by_mode;
}

Handler decode_funnel(Statement* s) {
  const bool left = s->take("l");
  const bool right = s->take("r");
  const bool wrap = s->take("wrap");
  const bool clamp = s->take("clamp");
  if (s->take_type() != Type::kB32 || left == right || wrap == clamp) {
    return nullptr;
  }
  s->destination(0, Type::kB32);
  for (std::size_t i = 1; i < 4; ++i) {
    s->source(i, Type::kU32);
  }
  const auto pick = [](auto operation) -> Handler {
    return map_lanes<decltype(operation), std::uint32_t, std::uint32_t, std::uint32_t,
                     std::uint32_t>;
  };
  return left ? (wrap ? pick(Funnel<true, true>()) : pick(Funnel<true, false>()))
              : (wrap ? pick(Funnel<false, true>()) : pick(Funnel<false, false>()));
}

Handler decode_count(Statement* s) {
  const bool population = s->opcode == "popc";
  const Type type = s->take_type();
  s->destination(0, Type::kU32);
  s->source(1, type);
  if (type == Type::kB32) {
    return population ? map_lanes<PopCount<std::uint32_t>, std::uint32_t, std::uint32_t>
                      : map_lanes<LeadingZeros<std::uint32_t>, std::uint32_t, std::uint32_t>;
  }
  if (type == Type::kB64) {
    return population ? map_lanes<PopCount<std::uint64_t>, std::uint32_t, std::uint64_t>
                      : map_lanes<LeadingZeros<std::uint64_t>, std::uint32_t, std::uint64_t>;
  }
  return nullptr;
}

Handler decode_find(Statement* s) {
  const bool shift = s->take("shiftamt");
  const Type type = s->take_type();
  s->destination(0, Type::kU32);
  s->source(1, type);
  const auto pick = [&](auto value) -> Handler {
    using T = decltype(value);
    return shift ? map_lanes<FindBit<T, true>, std::uint32_t, T>
                 : map_lanes<FindBit<T, false>, std::uint32_t, T>;
  };
  switch (type) {
    case Type::kU32:
      return pick(std::uint32_t{});
    case Type::kS32:
      return pick(std::int32_t{});
    case Type::kU64:
      return pick(std::uint64_t{});
    case Type::kS64:
      return pick(std::int64_t{});
    default:
      return nullptr;
  }
}

Handler decode_field(Statement* s) {
  const Type type = s->take_type();
  s->destination(0, type);
  s->source(1, type);
  if (s->opcode == "bfi") {
    s->source(2, type);
    s->source(3, Type::kU32);
    s->source(4, Type::kU32);
    return type == Type::kB32   ? map_lanes<Insert<std::uint32_t>, std::uint32_t, std::uint32_t,
                                          std::uint32_t, std::uint32_t, std::uint32_t>
           : type == Type::kB64 ? map_lanes<Insert<std::uint64_t>, std::uint64_t, std::uint64_t,
                                            std::uint64_t, std::uint32_t, std::uint32_t>
                                : nullptr;
  }
  s->source(2, Type::kU32);
  s->source(3, Type::kU32);
  const auto pick = [](auto value) -> Handler {
    using T = decltype(value);
    return map_lanes<Extract<T>, T, T, std::uint32_t, std::uint32_t>;
  };
  switch (type) {
    case Type::kU32:
      return pick(std::uint32_t{});
    case Type::kS32:
      return pick(std::int32_t{});
    case Type::kU64:
      return pick(std::uint64_t{});
    case Type::kS64:
      return pick(std::int64_t{});
    default:
      return nullptr;
  }
}

}  // namespace

Handler decode_bits(Statement* s) {
  const std::string_view op = s->opcode;
  if (op == "and" || op == "or" || op == "xor") {
    const Type type = s->take_type();
    s->destination(0, type);
    s->source(1, type);
    s->source(2, type);
    return op == "and"  ? select_bits<And, 2>(type)
           : op == "or" ? select_bits<Or, 2>(type)
                        : select_bits<Xor, 2>(type);
  }
  if (op == "not" || op == "cnot") {
    const Type type = s->take_type();
    s->destination(0, type);
    s->source(1, type);
    if (op == "cnot" && type == Type::kPred) {
      return nullptr;
    }
    return op == "not" ? select_bits<Not, 1>(type) : select_bits<LogicalNot, 1>(type);
  }
  if (op == "shl" || op == "shr") {
    const Type type = s->take_type();
    s->destination(0, type);
    s->source(1, type);
    s->source(2, Type::kU32);
    if (op == "shl") {
      return type == Type::kB16 || type == Type::kB32 || type == Type::kB64
                 ? select_shift<ShiftLeft>(type)
                 : nullptr;
    }
    return select_shift<ShiftRight>(type);
  }
  if (op == "lop3") {
    const Type type = s->take_type();
    s->destination(0, Type::kB32);
    for (std::size_t i = 1; i < 4; ++i) {
      s->source(i, Type::kB32);
    }
    if (type != Type::kB32 || s->count() != 5 || s->operands[4].kind != Operand::Kind::kNumber) {
      return nullptr;
    }
    s->in.immediate = static_cast<std::int64_t>(s->operands[4].number.bits);
    return lop3;
  }
  if (op == "prmt") {
    return decode_permute(s);
  }
  if (op == "shf") {
    return decode_funnel(s);
  }
  if (op == "popc" || op == "clz") {
    return decode_count(s);
  }
  if (op == "bfind") {
    return decode_find(s);
  }
  if (op == "brev") {
    const Type type = s->take_type();
    s->destination(0, type);
    s->source(1, type);
    return type == Type::kB32   ? map_lanes<Reverse<std::uint32_t>, std::uint32_t, std::uint32_t>
           : type == Type::kB64 ? map_lanes<Reverse<std::uint64_t>, std::uint64_t, std::uint64_t>
                                : nullptr;
  }
  if (op == "bfe" || op == "bfi") {
    return decode_field(s);
  }
  if (op == "bmsk") {
    const bool wrap = s->take("wrap");
    if ((!wrap && !s->take("clamp")) || s->take_type() != Type::kB32) {
      return nullptr;
    }
    s->destination(0, Type::kB32);
    s->source(1, Type::kB32);
    s->source(2, Type::kB32);
    return wrap ? map_lanes<Mask<true>, std::uint32_t, std::uint32_t, std::uint32_t>
                : map_lanes<Mask<false>, std::uint32_t, std::uint32_t, std::uint32_t>;
  }
  return nullptr;
}

}  // namespace xception::emulator
