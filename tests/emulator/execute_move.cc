// mov with its vectors, selp, slct, conversions of addresses between state spaces.
#include <bit>
#include <cstring>

#include "tests/emulator/block.h"
#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"

namespace xception::emulator {
namespace {

template <class T>
struct Same {
  T operator()(T a) const { return a; }
};

template <class T>
Flow move(Warp& warp, const Instruction& in, LaneMask mask) {
  const auto* const source = warp.bytes(in.slots[1]);
  if (mask == kAllLanes) {
    std::memmove(warp.bytes(in.slots[0]), source, sizeof(T) * kLanes);
    return Flow::kNext;
  }
  return map_lanes<Same<T>, T, T>(warp, in, mask);
}

Flow move_predicate(Warp& warp, const Instruction& in, LaneMask mask) {
  warp.set_predicate(in.slots[0], warp.predicate(in.slots[1]), mask);
  return Flow::kNext;
}

// mov.b64 d, {a, b, ...}
template <class Whole, class Part>
Flow pack(Warp& warp, const Instruction& in, LaneMask mask) {
  alignas(64) Whole results[kLanes] = {};
  for (std::size_t i = 0; i < in.sources; ++i) {
    const auto* const parts = lanes_of<Part>(warp, in.slots[1 + i]);
    for (int lane = 0; lane < kLanes; ++lane) {
      results[lane] =
          static_cast<Whole>(results[lane] | Whole{parts[lane]} << (8 * sizeof(Part) * i));
    }
  }
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}

// mov.b64 {a, b, ...}, s
template <class Whole, class Part>
Flow unpack(Warp& warp, const Instruction& in, LaneMask mask) {
  alignas(64) Whole wholes[kLanes];  // a part may be stored where the whole stands
  std::memcpy(wholes, warp.bytes(in.slots[in.destinations]), sizeof wholes);
  for (std::size_t i = 0; i < in.destinations; ++i) {
    alignas(64) Part parts[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      parts[lane] = static_cast<Part>(wholes[lane] >> (8 * sizeof(Part) * i));
    }
    store_lanes(warp, in.slots[i], parts, mask);
  }
  return Flow::kNext;
}

// pack() or unpack() of `parts` elements.
template <bool kPack, class Whole, class Part>
Handler mover() {
  return kPack ? pack<Whole, Part> : unpack<Whole, Part>;
}
template <bool kPack>
Handler select_mover(std::size_t bytes, std::size_t parts) {
  if (parts != 2 && parts != 4) {
    return nullptr;
  }
  switch (bytes) {
    case 2:
      return parts == 2 ? mover<kPack, std::uint16_t, std::uint8_t>() : nullptr;
    case 4:
      return parts == 2 ? mover<kPack, std::uint32_t, std::uint16_t>()
                        : mover<kPack, std::uint32_t, std::uint8_t>();
    case 8:
      return parts == 2 ? mover<kPack, std::uint64_t, std::uint32_t>()
                        : mover<kPack, std::uint64_t, std::uint16_t>();
    default:
      return nullptr;
  }
}

template <class T>
Flow select(Warp& warp, const Instruction& in, LaneMask mask) {
  alignas(64) T results[kLanes];
  const auto* const a = lanes_of<T>(warp, in.slots[1]);
  const auto* const b = lanes_of<T>(warp, in.slots[2]);
  const LaneMask condition = warp.predicate(in.slots[3]);
  for (int lane = 0; lane < kLanes; ++lane) {
    results[lane] = ((condition >> lane) & 1) != 0 ? a[lane] : b[lane];
  }
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}

template <class Condition>
struct NotNegative {
  // c >= 0: false for NaN, true for -0.
  template <class T>
  T operator()(T a, T b, Condition c) const {
    return c >= 0 ? a : b;
  }
};

// A generic address is its window plus the address within the space; global memory has none.
template <bool kToSpace>
Flow convert_address(Warp& warp, const Instruction& in, LaneMask mask) {
  alignas(64) std::uint64_t results[kLanes];
  const auto* const source = lanes_of<std::uint64_t>(warp, in.slots[1]);
  const auto window = static_cast<std::uint64_t>(in.immediate);
  for (int lane = 0; lane < kLanes; ++lane) {
    results[lane] = kToSpace ? source[lane] - window : source[lane] + window;
  }
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}

Flow is_space(Warp& warp, const Instruction& in, LaneMask mask) {
  const auto* const address = lanes_of<std::uint64_t>(warp, in.slots[1]);
  const auto window = static_cast<std::uint64_t>(in.immediate);
  LaneMask result = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    const bool inside = (address[lane] & ~(kSharedWindow - 1)) == window;
    result |= static_cast<LaneMask>(inside) << lane;
  }
  warp.set_predicate(in.slots[0], result, mask);
  return Flow::kNext;
}

Handler decode_mov(Statement* s) {
  const Type type = s->take_type();
  if (s->count() != 2) {
    return nullptr;
  }
  if (type == Type::kPred) {
    s->destination(0, type);
    s->source(1, type);
    return move_predicate;
  }
  const auto part_type = [&](std::size_t parts) {
    switch (parts == 0 ? 0 : type_bytes(type) / parts) {
      case 1:
        return Type::kB8;
      case 2:
        return Type::kB16;
      case 4:
        return Type::kB32;
      default:
        return Type::kNone;
    }
  };
  if (s->operands[1].kind == Operand::Kind::kVector) {
    const auto elements = s->operands[1].elements;
    s->destination(0, type);
    for (const Operand& element : elements) {
      s->source(element, part_type(elements.size()));
    }
    return select_mover<true>(type_bytes(type), elements.size());
  }
  if (s->operands[0].kind == Operand::Kind::kVector) {
    const auto elements = s->operands[0].elements;
    for (const Operand& element : elements) {
      s->destination(element, part_type(elements.size()));
    }
    s->source(1, type);
    return select_mover<false>(type_bytes(type), elements.size());
  }
  s->destination(0, type);
  s->source(1, type);
  switch (type_bytes(type)) {
    case 2:
      return move<std::uint16_t>;
    case 4:
      return move<std::uint32_t>;
    case 8:
      return move<std::uint64_t>;
    default:
      return nullptr;
  }
}

std::optional<std::int64_t> take_window(Statement* s) {
  if (s->take("global") || s->take("const")) {
    return 0;
  }
  if (s->take("shared") || s->take("shared::cta")) {
    return static_cast<std::int64_t>(kSharedWindow);
  }
  if (s->take("local")) {
    return static_cast<std::int64_t>(kLocalWindow);
  }
  if (s->take("param") || s->take("param::entry")) {
    return static_cast<std::int64_t>(kParamWindow);
  }
  return std::nullopt;
}

Handler decode_cvta(Statement* s) {
  const bool to = s->take("to");
  const std::optional<std::int64_t> window = take_window(s);
  if (!window || s->take_type() != Type::kU64) {
    return nullptr;
  }
  s->in.immediate = *window;
  s->destination(0, Type::kU64);
  s->source(1, Type::kU64);
  return to ? convert_address<true> : convert_address<false>;
}

template <class Condition>
Handler decode_slct_of(Type type) {
  switch (type_bytes(type)) {
    case 2:
      return map_lanes<NotNegative<Condition>, std::uint16_t, std::uint16_t, std::uint16_t,
                       Condition>;
    case 4:
      return map_lanes<NotNegative<Condition>, std::uint32_t, std::uint32_t, std::uint32_t,
                       Condition>;
    case 8:
      return map_lanes<NotNegative<Condition>, std::uint64_t, std::uint64_t, std::uint64_t,
                       Condition>;
    default:
      return nullptr;
  }
}

}  // namespace

Handler decode_move(Statement* s) {
  const std::string_view op = s->opcode;
  if (op == "mov") {
    return decode_mov(s);
  }
  if (op == "selp") {
    const Type type = s->take_type();
    s->destination(0, type);
    s->source(1, type);
    s->source(2, type);
    s->source(3, Type::kPred);
    switch (type_bytes(type)) {
      case 2:
        return select<std::uint16_t>;
      case 4:
        return select<std::uint32_t>;
      case 8:
        return select<std::uint64_t>;
      default:
        return nullptr;
    }
  }
  if (op == "slct") {
    s->take("ftz");  // -0 and subnormals of either sign: a flushed -x is -0, which is not negative
    const Type type = s->take_type();
    const Type condition = s->take_type();
    s->destination(0, type);
    s->source(1, type);
    s->source(2, type);
    s->source(3, condition);
    return condition == Type::kS32   ? decode_slct_of<std::int32_t>(type)
           : condition == Type::kF32 ? decode_slct_of<float>(type)
                                     : nullptr;
  }
  if (op == "cvta") {
    return decode_cvta(s);
  }
  if (op == "isspacep") {
    const std::optional<std::int64_t> window = take_window(s);
    s->destination(0, Type::kPred);
    s->source(1, Type::kU64);
    s->in.immediate = window.value_or(0);
    return window ? is_space : nullptr;
  }
  return nullptr;
}

}  // namespace xception::emulator
