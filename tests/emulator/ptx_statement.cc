#include "tests/emulator/ptx_statement.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "tests/emulator/numeric.h"

namespace xception::emulator {
namespace {

struct TypeName {
  std::string_view name;
  Type type;
  std::uint8_t bytes;
};

constexpr std::array kTypes = {
    TypeName{"pred", Type::kPred, 0}, TypeName{"b8", Type::kB8, 1},
    TypeName{"b16", Type::kB16, 2},   TypeName{"b32", Type::kB32, 4},
    TypeName{"b64", Type::kB64, 8},   TypeName{"b128", Type::kB128, 16},
    TypeName{"u8", Type::kU8, 1},     TypeName{"u16", Type::kU16, 2},
    TypeName{"u32", Type::kU32, 4},   TypeName{"u64", Type::kU64, 8},
    TypeName{"s8", Type::kS8, 1},     TypeName{"s16", Type::kS16, 2},
    TypeName{"s32", Type::kS32, 4},   TypeName{"s64", Type::kS64, 8},
    TypeName{"f16", Type::kF16, 2},   TypeName{"f16x2", Type::kF16x2, 4},
    TypeName{"bf16", Type::kBf16, 2}, TypeName{"bf16x2", Type::kBf16x2, 4},
    TypeName{"tf32", Type::kTf32, 4}, TypeName{"f32", Type::kF32, 4},
    TypeName{"f64", Type::kF64, 8},
};

// A number as an operand of `type` holds it.
std::uint64_t immediate_bits(const Number& number, Type type) {
  if (!number.real) {
    if (type == Type::kF32) {
      return std::bit_cast<std::uint32_t>(
          static_cast<float>(static_cast<std::int64_t>(number.bits)));
    }
    if (type == Type::kF64) {
      return std::bit_cast<std::uint64_t>(
          static_cast<double>(static_cast<std::int64_t>(number.bits)));
    }
    return number.bits;
  }
  const bool wide = type_bytes(type) == 8;
  if (number.width == 4) {
    const float value = std::bit_cast<float>(static_cast<std::uint32_t>(number.bits));
    return wide ? std::bit_cast<std::uint64_t>(static_cast<double>(value)) : number.bits;
  }
  const double value = number.width == 8 ? std::bit_cast<double>(number.bits) : number.value;
  return wide ? std::bit_cast<std::uint64_t>(value)
              : std::bit_cast<std::uint32_t>(static_cast<float>(value));
}

}  // namespace

Type parse_type(std::string_view name) {
  const auto* found = std::ranges::find(kTypes, name, &TypeName::name);
  return found == kTypes.end() ? Type::kNone : found->type;
}

std::size_t type_bytes(Type type) {
  const auto* found = std::ranges::find(kTypes, type, &TypeName::type);
  return found == kTypes.end() ? 0 : found->bytes;
}

bool is_float(Type type) { return type >= Type::kF16; }

bool is_signed(Type type) { return type >= Type::kS8 && type <= Type::kS64; }

Slot FunctionBuilder::new_register(std::uint8_t width) {
  widths_.push_back(width);
  return {.offset = static_cast<std::uint32_t>(widths_.size() - 1), .width = width};
}

Slot FunctionBuilder::carry_flag() {
  if (!carry_flag_) {
    carry_flag_ = new_register(0);
  }
  return *carry_flag_;
}

Slot FunctionBuilder::constant(std::uint8_t width, std::uint64_t bits) {
  if (width < 8) {
    bits &= (std::uint64_t{1} << (8 * width)) - 1;
  }
  const auto [at, added] = constants_.try_emplace(
      {width, bits}, static_cast<std::uint32_t>(function_->constants.size()));
  if (added) {
    function_->constants.resize(function_->constants.size() + kLanes * std::size_t{width});
    std::byte* bytes = function_->constants.data() + at->second;
    for (int lane = 0; lane < kLanes; ++lane, bytes += width) {
      std::memcpy(bytes, &bits, width);
    }
  }
  return {.offset = at->second, .bank = Bank::kConstants, .width = width};
}

Slot FunctionBuilder::predicate_constant(bool value) {
  // A predicate is one word, not 32: the first of a constant that repeats it.
  Slot slot = constant(4, value ? kAllLanes : 0);
  slot.width = 0;
  return slot;
}

Slot FunctionBuilder::symbol(std::uint8_t width, std::uint32_t symbol, std::int64_t addend) {
  const auto [at, added] = relocations_.try_emplace(
      {width, symbol, addend}, static_cast<std::uint32_t>(function_->constants.size()));
  if (added) {
    function_->constants.resize(function_->constants.size() + kLanes * std::size_t{width});
    function_->relocations.push_back({at->second, width, symbol, addend});
    if (std::ranges::find(function_->symbols, symbol) == function_->symbols.end()) {
      function_->symbols.push_back(symbol);
    }
  }
  return {.offset = at->second, .bank = Bank::kConstants, .width = width};
}

bool Statement::take(std::string_view modifier) {
  const auto found = std::ranges::find(modifiers, modifier);
  if (found == modifiers.end()) {
    return false;
  }
  modifiers.erase(found);
  return true;
}

bool Statement::take_prefix(std::string_view prefix) {
  const auto found = std::ranges::find_if(
      modifiers, [&](std::string_view modifier) { return modifier.starts_with(prefix); });
  if (found == modifiers.end()) {
    return false;
  }
  modifiers.erase(found);
  return true;
}

Type Statement::take_type() {
  for (auto at = modifiers.begin(); at != modifiers.end(); ++at) {
    const Type type = parse_type(*at);
    if (type != Type::kNone) {
      modifiers.erase(at);
      return type;
    }
  }
  return Type::kNone;
}

Rounding Statement::take_rounding(Rounding otherwise) {
  // What is approximate on a GPU is rounded to nearest here, and differs by a few units.
  constexpr std::array<std::pair<std::string_view, Rounding>, 11> kNames = {{
      {"rn", Rounding::kNearest},
      {"rz", Rounding::kZero},
      {"rm", Rounding::kDown},
      {"rp", Rounding::kUp},
      {"rna", Rounding::kNearestAway},
      {"rni", Rounding::kNearest},
      {"rzi", Rounding::kZero},
      {"rmi", Rounding::kDown},
      {"rpi", Rounding::kUp},
      {"approx", Rounding::kNearest},
      {"full", Rounding::kNearest},
  }};
  for (const auto& [name, rounding] : kNames) {
    if (take(name)) {
      return rounding;
    }
  }
  return otherwise;
}

std::uint8_t Statement::width(Type type) { return static_cast<std::uint8_t>(type_bytes(type)); }

void Statement::push(Slot slot, bool destination) {
  slots_.push_back(slot);
  (destination ? in.destinations : in.sources)++;
}

Slot Statement::resolve(const Operand& operand, Type type, bool wide) {
  const std::uint8_t bytes = width(type);
  if (bytes == 0 && type != Type::kPred) {
    fail();
    return {};
  }
  switch (operand.kind) {
    case Operand::Kind::kRegister: {
      const bool predicate = operand.slot.width == 0;
      if (predicate != (type == Type::kPred) ||
          (wide ? operand.slot.width < bytes : operand.slot.width != bytes)) {
        fail();
      }
      return operand.slot;
    }
    case Operand::Kind::kNumber:
      return type == Type::kPred ? builder_->predicate_constant(operand.number.bits != 0)
                                 : builder_->constant(bytes, immediate_bits(operand.number, type));
    case Operand::Kind::kSymbol:
      if (bytes < 4) {
        fail();
      }
      return builder_->symbol(bytes, operand.index, operand.displacement);
    case Operand::Kind::kParam:
      return builder_->constant(bytes, static_cast<std::uint64_t>(operand.displacement));
    default:
      fail();
      return {};
  }
}

void Statement::destination(const Operand& operand, Type type) {
  if (operand.kind == Operand::Kind::kSink) {
    push({.width = width(type), .sink = true}, true);
    return;
  }
  if (operand.kind != Operand::Kind::kRegister || operand.slot.bank != Bank::kRegisters) {
    fail();
  }
  push(resolve(operand, type, false), true);
}

void Statement::wide_destination(const Operand& operand, Type type) {
  if (operand.kind == Operand::Kind::kSink) {
    push({.width = width(type), .sink = true}, true);
    return;
  }
  if (operand.kind != Operand::Kind::kRegister || operand.slot.bank != Bank::kRegisters) {
    fail();
  }
  push(resolve(operand, type, true), true);
}

void Statement::wide_source(const Operand& operand, Type type) {
  push(resolve(operand, type, true), false);
}

void Statement::source(const Operand& operand, Type type) {
  push(resolve(operand, type, false), false);
}

void Statement::destination(std::size_t index, Type type) {
  index < operands.size() ? destination(operands[index], type) : fail();
}

void Statement::source(std::size_t index, Type type) {
  index < operands.size() ? source(operands[index], type) : fail();
}

void Statement::constant(Type type, std::uint64_t bits) {
  push(builder_->constant(width(type), bits), false);
}

void Statement::address(std::size_t index, std::int64_t* displacement) {
  if (index >= operands.size() || operands[index].kind != Operand::Kind::kAddress) {
    fail();
    return;
  }
  const Operand& operand = operands[index];
  *displacement = operand.displacement;
  if (operand.elements.empty()) {
    constant(Type::kU64, 0);
    return;
  }
  const Operand& base = operand.elements[0];
  if (base.kind == Operand::Kind::kRegister && base.slot.width != 4 && base.slot.width != 8) {
    fail();
    return;
  }
  const bool narrow = base.kind == Operand::Kind::kRegister && base.slot.width == 4;
  push(resolve(base, narrow ? Type::kU32 : Type::kU64, false), false);
}

}  // namespace xception::emulator
