// One instruction as written, and the builder that turns its operands into slots.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "tests/emulator/ptx.h"
#include "tests/emulator/ptx_lexer.h"

namespace xception::emulator {

struct Operand {
  enum class Kind : std::uint8_t {
    kNone,
    kRegister,  // also special registers that are plain data
    kNumber,
    kAddress,  // [base + displacement], base in `elements[0]` or none; `elements[1]`: {coordinates}
    kVector,   // {a, b, ...}
    kPair,     // a|b
    kSymbol,   // of the module: `index` into Program::symbols
    kParam,    // a .param: `displacement` is its place in the parameter space
    kLocal,    // a .local: `displacement` likewise
    kName,     // not declared: a label, or a function of another module
    kSink,     // _
    kUnknown,  // a special register that the emulator does not have
  };
  Kind kind = Kind::kNone;
  Slot slot;
  Number number;
  std::vector<Operand> elements;
  std::string_view name;
  std::uint32_t index = 0;
  std::int64_t displacement = 0;
};

// Values that a special register bank holds, in the order of its slots.
enum class Special : std::uint8_t {
  kTidX,
  kTidY,
  kTidZ,
  kNtidX,
  kNtidY,
  kNtidZ,
  kCtaidX,
  kCtaidY,
  kCtaidZ,
  kNctaidX,
  kNctaidY,
  kNctaidZ,
  kLaneId,
  kWarpId,
  kNwarpId,
  kSmId,
  kNsmId,
  kMaskEq,
  kMaskLt,
  kMaskLe,
  kMaskGt,
  kMaskGe,
  kDynamicShared,
  kTotalShared,
  kZero,
  kOne,
  kGridId /* 8 bytes, and what follows */,
  kCount,
};
inline constexpr std::size_t kSpecialBytes = 256;  // a slot of the bank

// Registers, constants and slots of one function while it is parsed.
class FunctionBuilder {
 public:
  FunctionBuilder(Program* program, Function* function) : program_(program), function_(function) {}

  // A register of `width` bytes a lane (0: predicate); offsets are indices until
  // assign_registers().
  Slot new_register(std::uint8_t width);
  // The same value in every lane.
  Slot constant(std::uint8_t width, std::uint64_t bits);
  Slot predicate_constant(bool value);
  Slot symbol(std::uint8_t width, std::uint32_t symbol, std::int64_t addend);
  // The carry flag of add.cc and its kin, a predicate register of the function.
  Slot carry_flag();
  const std::vector<std::uint8_t>& widths() const { return widths_; }

  Program& program() { return *program_; }
  Function& function() { return *function_; }

 private:
  Program* program_;
  Function* function_;
  std::vector<std::uint8_t> widths_;
  std::optional<Slot> carry_flag_;
  std::map<std::pair<std::uint8_t, std::uint64_t>, std::uint32_t> constants_;
  std::map<std::tuple<std::uint8_t, std::uint32_t, std::int64_t>, std::uint32_t> relocations_;
};

// Reads modifiers and operands of one instruction strictly: what nobody has asked for makes the
// instruction unsupported, so that no modifier is ever ignored by accident.
class Statement {
 public:
  std::string_view opcode;
  std::vector<std::string_view> modifiers;
  std::vector<Operand> operands;
  Instruction in;

  explicit Statement(FunctionBuilder* builder) : builder_(builder) {}

  // Modifiers. take() consumes the first equal one, wherever it stands.
  bool take(std::string_view modifier);
  bool take_prefix(std::string_view prefix);
  Type take_type();  // the first modifier that is a type
  Rounding take_rounding(Rounding otherwise);
  bool done() const { return modifiers.empty() && !failed_; }

  // Operands become slots in the order of these calls, destinations first.
  void destination(std::size_t index, Type type);
  void source(std::size_t index, Type type);
  // Registers may be wider than the type, as in ld, st and cvt.
  void wide_destination(const Operand& operand, Type type);
  void wide_source(const Operand& operand, Type type);
  void destination(const Operand& operand, Type type);
  void source(const Operand& operand, Type type);
  void constant(Type type, std::uint64_t bits);
  // [base + displacement]: the base as a source of 4 or 8 bytes.
  void address(std::size_t index, std::int64_t* displacement);
  void address(std::size_t index) { address(index, &in.immediate); }
  // A register that only this instruction uses.
  Slot temporary(Type type) { return builder_->new_register(width(type)); }
  void fail() { failed_ = true; }
  bool failed() const { return failed_; }
  std::size_t count() const { return operands.size(); }
  const std::vector<Slot>& slots() const { return slots_; }
  void clear_slots() {
    slots_.clear();
    in.destinations = in.sources = 0;
  }
  FunctionBuilder& builder() { return *builder_; }

  static std::uint8_t width(Type type);

 private:
  void push(Slot slot, bool destination);
  Slot resolve(const Operand& operand, Type type, bool wide);

  FunctionBuilder* builder_;
  std::vector<Slot> slots_;
  bool failed_ = false;
};

}  // namespace xception::emulator
