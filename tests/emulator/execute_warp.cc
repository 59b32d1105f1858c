// Instructions by which the lanes of a warp look at each other. The scheduler has brought the lanes
// of the member mask together before a handler runs.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <string>

#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"

namespace xception::emulator {
namespace {

enum class Shuffle : std::uint8_t { kUp, kDown, kButterfly, kIndex };

Flow shuffle(Warp& warp, const Instruction& in, LaneMask mask) {
  const Slot* const source = in.slots + in.destinations;
  const auto* const a = lanes_of<std::uint32_t>(warp, source[0]);
  const auto* const b = lanes_of<std::uint32_t>(warp, source[1]);
  const auto* const c = lanes_of<std::uint32_t>(warp, source[2]);
  std::uint32_t results[kLanes] = {};
  LaneMask inside = 0;
  for (LaneMask rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const int offset = static_cast<int>(b[lane] & 31);
    const int segment = static_cast<int>(c[lane] >> 8 & 31);
    const int least = lane & segment;
    const int most = least | (static_cast<int>(c[lane] & 31) & ~segment);
    int from = 0;
    bool valid = false;
    switch (static_cast<Shuffle>(in.variant)) {
      case Shuffle::kUp:
        from = lane - offset;
        valid = from >= most;
        break;
      case Shuffle::kDown:
        from = lane + offset;
        valid = from <= most;
        break;
      case Shuffle::kButterfly:
        from = lane ^ offset;
        valid = from <= most;
        break;
      case Shuffle::kIndex:
        from = least | (offset & ~segment);
        valid = from <= most;
        break;
    }
    from = valid ? from : lane;
    if ((mask >> from & 1) == 0) {
      return warp.fail(
          FaultKind::kDivergentBarrier,
          "reads the register of lane " + std::to_string(from) + ", which takes no part", lane);
    }
    results[lane] = a[from];
    inside |= static_cast<LaneMask>(valid) << lane;
  }
  store_lanes(warp, in.slots[0], results, mask);
  if (in.destinations == 2) {
    warp.set_predicate(in.slots[1], inside, mask);
  }
  return Flow::kNext;
}

enum class Vote : std::uint8_t { kAll, kAny, kUniform, kBallot };

Flow vote(Warp& warp, const Instruction& in, LaneMask mask) {
  const LaneMask votes = warp.predicate(in.slots[1]) & mask;
  bool result = false;
  switch (static_cast<Vote>(in.variant)) {
    case Vote::kAll:
      result = votes == mask;
      break;
    case Vote::kAny:
      result = votes != 0;
      break;
    case Vote::kUniform:
      result = votes == mask || votes == 0;
      break;
    case Vote::kBallot: {
      std::uint32_t results[kLanes];
      std::fill_n(results, kLanes, votes);
      store_lanes(warp, in.slots[0], results, mask);
      return Flow::kNext;
    }
  }
  warp.set_predicate(in.slots[0], result ? kAllLanes : 0, mask);
  return Flow::kNext;
}

template <class T, bool kAll>
Flow match(Warp& warp, const Instruction& in, LaneMask mask) {
  const auto* const values = lanes_of<T>(warp, in.slots[in.destinations]);
  std::uint32_t results[kLanes] = {};
  bool all = true;
  for (LaneMask rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    for (LaneMask others = mask; others != 0; others &= others - 1) {
      const int other = std::countr_zero(others);
      results[lane] |= values[other] == values[lane] ? LaneMask{1} << other : 0;
    }
    all = all && results[lane] == mask;
  }
  if constexpr (kAll) {
    std::fill_n(results, kLanes, all ? mask : 0);
    if (in.destinations == 2) {
      warp.set_predicate(in.slots[1], all ? kAllLanes : 0, mask);
    }
  }
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}

enum class Reduce : std::uint8_t { kAdd, kMin, kMax, kAnd, kOr, kXor };

template <class T>
Flow reduce(Warp& warp, const Instruction& in, LaneMask mask) {
  const auto* const values = lanes_of<T>(warp, in.slots[1]);
  T result = values[std::countr_zero(mask)];
  for (LaneMask rest = mask & (mask - 1); rest != 0; rest &= rest - 1) {
    const T value = values[std::countr_zero(rest)];
    switch (static_cast<Reduce>(in.variant)) {
      case Reduce::kAdd:
        result =
            static_cast<T>(static_cast<std::uint32_t>(result) + static_cast<std::uint32_t>(value));
        break;
      case Reduce::kMin:
        result = std::min(result, value);
        break;
      case Reduce::kMax:
        result = std::max(result, value);
        break;
      case Reduce::kAnd:
        result &= value;
        break;
      case Reduce::kOr:
        result |= value;
        break;
      case Reduce::kXor:
        result ^= value;
        break;
    }
  }
  T results[kLanes];
  std::fill_n(results, kLanes, result);
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}

Flow active_mask(Warp& warp, const Instruction& in, LaneMask mask) {
  std::uint32_t results[kLanes];
  std::fill_n(results, kLanes, mask);
  store_lanes(warp, in.slots[0], results, mask);
  return Flow::kNext;
}

// Unlike the others it waits for all threads of its mask, says the ISA, not for those that live.
Flow elect(Warp& warp, const Instruction& in, LaneMask mask) {
  const int first = std::countr_zero(mask);
  if ((lanes_of<std::uint32_t>(warp, in.slots[in.member_mask])[first] & ~mask) != 0) {
    return warp.fail(FaultKind::kDivergentBarrier,
                     "waits for lanes that have exited or do not exist", first);
  }
  const auto leader = static_cast<std::uint32_t>(first);
  std::uint32_t results[kLanes];
  std::fill_n(results, kLanes, leader);
  store_lanes(warp, in.slots[0], results, mask);
  warp.set_predicate(in.slots[1], LaneMask{1} << leader, mask);
  return Flow::kNext;
}

// "d|p" or "d".
void destinations(Statement* s, Type type) {
  if (s->operands.empty()) {
    s->fail();
    return;
  }
  if (s->operands[0].kind == Operand::Kind::kPair) {
    s->destination(s->operands[0].elements[0], type);
    s->destination(s->operands[0].elements[1], Type::kPred);
  } else {
    s->destination(0, type);
  }
}

void member_mask(Statement* s, std::size_t operand) {
  s->source(operand, Type::kU32);
  s->in.collective = Collective::kMembers;
  s->in.member_mask = static_cast<std::uint8_t>(s->in.destinations + s->in.sources - 1);
  if (s->count() != operand + 1) {
    s->fail();
  }
}

template <class Enumeration>
bool take_variant(Statement* s, std::initializer_list<std::pair<const char*, Enumeration>> names) {
  for (const auto& [name, value] : names) {
    if (s->take(name)) {
      s->in.variant = static_cast<std::uint8_t>(value);
      return true;
    }
  }
  return false;
}

Handler decode_shuffle(Statement* s) {
  if (!take_variant<Shuffle>(s, {{"up", Shuffle::kUp},
                                 {"down", Shuffle::kDown},
                                 {"bfly", Shuffle::kButterfly},
                                 {"idx", Shuffle::kIndex}}) ||
      s->take_type() != Type::kB32) {
    return nullptr;
  }
  destinations(s, Type::kB32);
  for (std::size_t i = 1; i < 4; ++i) {
    s->source(i, Type::kB32);
  }
  member_mask(s, 4);
  return shuffle;
}

Handler decode_vote(Statement* s) {
  if (!take_variant<Vote>(s, {{"all", Vote::kAll},
                              {"any", Vote::kAny},
                              {"uni", Vote::kUniform},
                              {"ballot", Vote::kBallot}})) {
    return nullptr;
  }
  const bool ballot = static_cast<Vote>(s->in.variant) == Vote::kBallot;
  const Type type = s->take_type();
  s->destination(0, type);
  s->source(1, Type::kPred);
  member_mask(s, 2);
  return type == (ballot ? Type::kB32 : Type::kPred) ? vote : nullptr;
}

Handler decode_match(Statement* s) {
  const bool all = s->take("all");
  if (!all && !s->take("any")) {
    return nullptr;
  }
  const Type type = s->take_type();
  destinations(s, Type::kB32);
  s->source(1, type);
  member_mask(s, 2);
  if (type == Type::kB32) {
    return all ? match<std::uint32_t, true> : match<std::uint32_t, false>;
  }
  if (type == Type::kB64) {
    return all ? match<std::uint64_t, true> : match<std::uint64_t, false>;
  }
  return nullptr;
}

Handler decode_reduce(Statement* s) {
  if (!take_variant<Reduce>(s, {{"add", Reduce::kAdd},
                                {"min", Reduce::kMin},
                                {"max", Reduce::kMax},
                                {"and", Reduce::kAnd},
                                {"or", Reduce::kOr},
                                {"xor", Reduce::kXor}})) {
    return nullptr;
  }
  const Type type = s->take_type();
  s->destination(0, type);
  s->source(1, type);
  member_mask(s, 2);
  return type == Type::kS32                         ? reduce<std::int32_t>
         : type == Type::kU32 || type == Type::kB32 ? reduce<std::uint32_t>
                                                    : nullptr;
}

}  // namespace

Handler decode_warp(Statement* s) {
  const std::string_view op = s->opcode;
  if (op == "activemask") {
    s->take_type();
    s->destination(0, Type::kB32);
    return active_mask;
  }
  if (op != "shfl" && op != "vote" && op != "match" && op != "redux" && op != "elect") {
    return nullptr;
  }
  if (!s->take("sync")) {
    return nullptr;  // what came before sm_70 has no member mask
  }
  if (op == "shfl") {
    return decode_shuffle(s);
  }
  if (op == "vote") {
    return decode_vote(s);
  }
  if (op == "match") {
    return decode_match(s);
  }
  if (op == "redux") {
    return decode_reduce(s);
  }
  destinations(s, Type::kB32);
  member_mask(s, 1);
  return s->in.destinations == 2 ? elect : nullptr;
}

}  // namespace xception::emulator
