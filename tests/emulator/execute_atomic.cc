// atom and red.
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>

#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"
#include "tests/emulator/execute_memory.h"
#include "tests/emulator/numeric.h"

namespace xception::emulator {
namespace {

enum class Atomic : std::uint8_t {
  kAdd,
  kMin,
  kMax,
  kAnd,
  kOr,
  kXor,
  kExchange,
  kCompareSwap,
  kIncrement,
  kDecrement,
};

template <class T>
T apply_number(Atomic operation, T old, T b) {
  switch (operation) {
    case Atomic::kAdd:
      return static_cast<T>(old + b);
    case Atomic::kMin:
      return std::min(old, b);
    case Atomic::kMax:
      return std::max(old, b);
    default:
      return old;
  }
}

// Of one 16-bit value. `add.noftz` keeps subnormals, as add16 does.
std::uint16_t apply_half(Atomic operation, Type16 type, std::uint16_t old, std::uint16_t b) {
  return operation == Atomic::kAdd   ? add16(type, old, b)
         : operation == Atomic::kMin ? min16(type, old, b, false)
                                     : max16(type, old, b, false);
}

template <class Word>
Word apply(const Instruction& in, Word old, Word b, Word c) {
  const auto operation = static_cast<Atomic>(in.variant);
  switch (operation) {
    case Atomic::kAnd:
      return old & b;
    case Atomic::kOr:
      return old | b;
    case Atomic::kXor:
      return old ^ b;
    case Atomic::kExchange:
      return b;
    case Atomic::kCompareSwap:
      return old == b ? c : old;
    case Atomic::kIncrement:
      return old >= b ? Word{0} : static_cast<Word>(old + 1);
    case Atomic::kDecrement:
      return old == 0 || old > b ? b : static_cast<Word>(old - 1);
    default:
      break;
  }
  switch (in.type) {
    case Type::kF32:
      return static_cast<Word>(
          float_bits(apply_number(operation, float_from_bits(static_cast<std::uint32_t>(old)),
                                  float_from_bits(static_cast<std::uint32_t>(b)))));
    case Type::kF64:
      return static_cast<Word>(std::bit_cast<std::uint64_t>(
          apply_number(operation, std::bit_cast<double>(static_cast<std::uint64_t>(old)),
                       std::bit_cast<double>(static_cast<std::uint64_t>(b)))));
    case Type::kF16:
    case Type::kF16x2:
    case Type::kBf16:
    case Type::kBf16x2: {
      const Type16 type =
          in.type == Type::kF16 || in.type == Type::kF16x2 ? Type16::kF16 : Type16::kBf16;
      Word result = 0;
      for (std::size_t shift = 0; shift < 8 * sizeof(Word); shift += 16) {
        result = static_cast<Word>(
            result |
            static_cast<Word>(apply_half(operation, type, static_cast<std::uint16_t>(old >> shift),
                                         static_cast<std::uint16_t>(b >> shift)))
                << shift);
      }
      return result;
    }
    default:
      break;
  }
  if (is_signed(in.type)) {
    using Signed = std::make_signed_t<Word>;
    if (operation != Atomic::kAdd) {
      return static_cast<Word>(
          apply_number(operation, static_cast<Signed>(old), static_cast<Signed>(b)));
    }
  }
  return apply_number(operation, old, b);
}

// Lane by lane, lowest first. Blocks run on several threads of the host, so that global memory is
// changed by compare and swap.
template <class Word>
Flow execute_atomic(Warp& warp, const Instruction& in, LaneMask mask) {
  Address addresses[kLanes];
  std::byte* targets[kLanes];
  const Slot* const source = in.slots + in.destinations;
  read_addresses(warp, source[0], in.immediate, addresses);
  const Flow flow =
      touch(warp, Access::kAtomic, in.space, sizeof(Word), mask, addresses, targets, nullptr);
  if (flow != Flow::kNext) {
    return flow;
  }
  Word olds[kLanes] = {};
  for (LaneMask rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const Word b = lanes_of<Word>(warp, source[1])[lane];
    const Word c = in.sources > 2 ? lanes_of<Word>(warp, source[2])[lane] : Word{0};
    const std::atomic_ref<Word> target(*reinterpret_cast<Word*>(targets[lane]));
    Word old = target.load(std::memory_order_relaxed);
    while (!target.compare_exchange_weak(old, apply<Word>(in, old, b, c))) {
    }
    olds[lane] = old;
  }
  if (in.destinations != 0) {
    store_lanes(warp, in.slots[0], olds, mask);
  }
  return Flow::kNext;
}

bool take_operation(Statement* s) {
  constexpr std::array<std::pair<std::string_view, Atomic>, 10> kNames = {{
      {"add", Atomic::kAdd},
      {"min", Atomic::kMin},
      {"max", Atomic::kMax},
      {"and", Atomic::kAnd},
      {"or", Atomic::kOr},
      {"xor", Atomic::kXor},
      {"exch", Atomic::kExchange},
      {"cas", Atomic::kCompareSwap},
      {"inc", Atomic::kIncrement},
      {"dec", Atomic::kDecrement},
  }};
  for (const auto& [name, operation] : kNames) {
    if (s->take(name)) {
      s->in.variant = static_cast<std::uint8_t>(operation);
      return true;
    }
  }
  return false;
}

}  // namespace

Handler decode_atomic(Statement* s) {
  if (s->opcode != "atom" && s->opcode != "red") {
    return nullptr;
  }
  s->in.kind = InstructionClass::kMemory;
  const bool returns = s->opcode == "atom";
  s->in.space = take_space(s);
  const bool hint = take_memory_hints(s);
  s->take("noftz");
  if (!take_operation(s)) {
    return nullptr;
  }
  const Type type = s->take_type();
  s->in.type = type;
  std::size_t next = 0;
  if (returns) {
    s->destination(next++, type);
  }
  s->address(next++);
  for (std::size_t end = s->count() - (hint ? 1 : 0); next < end; ++next) {
    s->source(next, type);
  }
  const bool swap = static_cast<Atomic>(s->in.variant) == Atomic::kCompareSwap;
  if (s->in.sources != (swap ? 3 : 2)) {
    return nullptr;
  }
  switch (type_bytes(type)) {
    case 2:
      return execute_atomic<std::uint16_t>;
    case 4:
      return execute_atomic<std::uint32_t>;
    case 8:
      return execute_atomic<std::uint64_t>;
    default:
      return nullptr;
  }
}

}  // namespace xception::emulator
