// Sums of many words: add.cc, addc, sub.cc, subc, mad.cc, madc.
#include <algorithm>
#include <cstdint>

#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"

namespace xception::emulator {
namespace {

// A chain of carries: the flag is a predicate register that the builder keeps for the function.
template <class T, bool kSubtract, bool kCarryIn, bool kProduct, bool kHigh>
Flow carry(Warp& warp, const Instruction& in, LaneMask mask) {
  // Slots: d, flag out; then sources and flag in.
  alignas(64) T results[kLanes];
  const Slot* source = in.slots + 2;
  const LaneMask flags = warp.predicate(source[in.sources - 1]);
  LaneMask carries = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    T a = lanes_of<T>(warp, source[0])[lane];
    T b = lanes_of<T>(warp, source[1])[lane];
    if constexpr (kProduct) {
      __extension__ typedef unsigned __int128 Wide;
      Wide product = static_cast<Wide>(a) * b;
      if constexpr (kHigh) {
        product >>= 8 * sizeof(T);
      }
      a = static_cast<T>(product);
      b = lanes_of<T>(warp, source[2])[lane];
    }
    const T flag = kCarryIn ? static_cast<T>(flags >> lane & 1) : T{0};
    bool out = false;
    if constexpr (kSubtract) {
      // The flag is a borrow.
      const T difference = a - b;
      results[lane] = difference - flag;
      out = a < b || difference < flag;
    } else {
      const T sum = a + b;
      results[lane] = sum + flag;
      out = sum < a || results[lane] < sum;
    }
    carries |= static_cast<LaneMask>(out) << lane;
  }
  warp.set_predicate(in.slots[1], carries, mask);
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}

template <class T>
Handler select_carry(bool subtract, bool carry_in, bool product, bool high) {
  if (product) {
    return high
               ? (carry_in ? carry<T, false, true, true, true> : carry<T, false, false, true, true>)
               : (carry_in ? carry<T, false, true, true, false>
                           : carry<T, false, false, true, false>);
  }
  return subtract
             ? (carry_in ? carry<T, true, true, false, false> : carry<T, true, false, false, false>)
             : (carry_in ? carry<T, false, true, false, false>
                         : carry<T, false, false, false, false>);
}

}  // namespace

Handler decode_carry(Statement* s) {
  const std::string_view op = s->opcode;
  const bool sum = op == "add" || op == "sub" || op == "mad";
  if (op != "addc" && op != "subc" && op != "madc" &&
      !(sum && std::ranges::find(s->modifiers, "cc") != s->modifiers.end())) {
    return nullptr;
  }
  const bool product = op == "mad" || op == "madc";
  const bool subtract = op == "sub" || op == "subc";
  const bool carry_in = op.back() == 'c';
  const bool sets = s->take("cc");
  const bool high = product && s->take("hi");
  if (product && !high && !s->take("lo")) {
    return nullptr;
  }
  const Type type = s->take_type();
  Operand flag;
  flag.kind = Operand::Kind::kRegister;
  flag.slot = s->builder().carry_flag();
  Operand sink;
  sink.kind = Operand::Kind::kSink;
  s->destination(0, type);
  s->destination(sets ? flag : sink, Type::kPred);
  for (std::size_t i = 1; i < s->count(); ++i) {
    s->source(i, type);
  }
  s->source(flag, Type::kPred);
  if (s->count() != (product ? 4U : 3U) || (high && is_signed(type))) {
    return nullptr;
  }
  return type_bytes(type) == 4   ? select_carry<std::uint32_t>(subtract, carry_in, product, high)
         : type_bytes(type) == 8 ? select_carry<std::uint64_t>(subtract, carry_in, product, high)
                                 : nullptr;
}

}  // namespace xception::emulator
