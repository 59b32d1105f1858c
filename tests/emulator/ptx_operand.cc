// Operands as written: names of registers, variables and labels, addresses, vectors, numbers.
#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include "tests/emulator/execute.h"
#include "tests/emulator/ptx_parser.h"

namespace xception::emulator {
namespace {

struct SpecialName {
  std::string_view name;
  Special special;
  std::uint8_t width;
};

// Clusters are of one block: this is what their registers then hold.
constexpr std::array kSpecials = {
    SpecialName{"%tid.x", Special::kTidX, 4},
    SpecialName{"%tid.y", Special::kTidY, 4},
    SpecialName{"%tid.z", Special::kTidZ, 4},
    SpecialName{"%ntid.x", Special::kNtidX, 4},
    SpecialName{"%ntid.y", Special::kNtidY, 4},
    SpecialName{"%ntid.z", Special::kNtidZ, 4},
    SpecialName{"%ctaid.x", Special::kCtaidX, 4},
    SpecialName{"%ctaid.y", Special::kCtaidY, 4},
    SpecialName{"%ctaid.z", Special::kCtaidZ, 4},
    SpecialName{"%nctaid.x", Special::kNctaidX, 4},
    SpecialName{"%nctaid.y", Special::kNctaidY, 4},
    SpecialName{"%nctaid.z", Special::kNctaidZ, 4},
    SpecialName{"%clusterid.x", Special::kCtaidX, 4},
    SpecialName{"%clusterid.y", Special::kCtaidY, 4},
    SpecialName{"%clusterid.z", Special::kCtaidZ, 4},
    SpecialName{"%nclusterid.x", Special::kNctaidX, 4},
    SpecialName{"%nclusterid.y", Special::kNctaidY, 4},
    SpecialName{"%nclusterid.z", Special::kNctaidZ, 4},
    SpecialName{"%cluster_ctaid.x", Special::kZero, 4},
    SpecialName{"%cluster_ctaid.y", Special::kZero, 4},
    SpecialName{"%cluster_ctaid.z", Special::kZero, 4},
    SpecialName{"%cluster_nctaid.x", Special::kOne, 4},
    SpecialName{"%cluster_nctaid.y", Special::kOne, 4},
    SpecialName{"%cluster_nctaid.z", Special::kOne, 4},
    SpecialName{"%cluster_ctarank", Special::kZero, 4},
    SpecialName{"%cluster_nctarank", Special::kOne, 4},
    SpecialName{"%laneid", Special::kLaneId, 4},
    SpecialName{"%warpid", Special::kWarpId, 4},
    SpecialName{"%nwarpid", Special::kNwarpId, 4},
    SpecialName{"%smid", Special::kSmId, 4},
    SpecialName{"%nsmid", Special::kNsmId, 4},
    SpecialName{"%gridid", Special::kGridId, 8},
    SpecialName{"%lanemask_eq", Special::kMaskEq, 4},
    SpecialName{"%lanemask_lt", Special::kMaskLt, 4},
    SpecialName{"%lanemask_le", Special::kMaskLe, 4},
    SpecialName{"%lanemask_gt", Special::kMaskGt, 4},
    SpecialName{"%lanemask_ge", Special::kMaskGe, 4},
    SpecialName{"%dynamic_smem_size", Special::kDynamicShared, 4},
    SpecialName{"%total_smem_size", Special::kTotalShared, 4},
};

}  // namespace

const Operand* FunctionParser::find(std::string_view name) const {
  for (int at = scope_; at >= 0; at = scopes_[static_cast<std::size_t>(at)].parent) {
    const Scope& scope = scopes_[static_cast<std::size_t>(at)];
    const auto found = scope.names.find(name);
    if (found != scope.names.end()) {
      return &found->second;
    }
  }
  return nullptr;
}

Operand FunctionParser::hidden(Handler handler, Type type, std::int64_t immediate) {
  Statement statement(&builder_);
  Operand operand;
  operand.kind = Operand::Kind::kRegister;
  operand.slot = statement.temporary(type);
  statement.destination(operand, type);
  statement.in.handler = handler;
  statement.in.type = type;
  statement.in.immediate = immediate;
  statement.in.line = statement_line_;
  append(&statement);
  return operand;
}

Operand FunctionParser::special_register(std::string_view name) {
  Operand operand;
  if (name == "%clock" || name == "%clock_hi") {
    return hidden(execute_clock, Type::kU32, name == "%clock" ? 0 : 32);
  }
  if (name == "%clock64" || name == "%globaltimer") {
    return hidden(execute_clock, Type::kU64, 0);
  }
  if (name == "%globaltimer_lo" || name == "%globaltimer_hi") {
    return hidden(execute_clock, Type::kU32, name == "%globaltimer_lo" ? 0 : 32);
  }
  const auto* found = std::ranges::find(kSpecials, name, &SpecialName::name);
  if (found == kSpecials.end()) {
    operand.kind = Operand::Kind::kUnknown;
    operand.name = name;
    return operand;
  }
  operand.kind = Operand::Kind::kRegister;
  operand.slot = {.offset = static_cast<std::uint32_t>(static_cast<std::size_t>(found->special) *
                                                       kSpecialBytes),
                  .bank = Bank::kSpecials,
                  .width = found->width};
  return operand;
}

Operand FunctionParser::parse_name() {
  const std::string_view dotted = lexer_.word(true);
  const std::string_view name = dotted.substr(0, dotted.find('.'));
  Operand operand;
  operand.name = dotted;
  if (dotted == "_") {
    operand.kind = Operand::Kind::kSink;
    return operand;
  }
  if (const Operand* found = find(dotted)) {
    operand = *found;
    operand.name = dotted;
    if (operand.kind == Operand::Kind::kLocal) {
      return hidden(execute_local_address, Type::kU64, operand.displacement);
    }
    return operand;
  }
  // %r17 of ".reg .b32 %r<100>".
  std::size_t digits = dotted.size();
  while (digits > 0 && std::isdigit(static_cast<unsigned char>(dotted[digits - 1])) != 0) {
    --digits;
  }
  if (digits < dotted.size()) {
    std::uint32_t number = 0;
    std::from_chars(dotted.data() + digits, dotted.data() + dotted.size(), number);
    for (int at = scope_; at >= 0; at = scopes_[static_cast<std::size_t>(at)].parent) {
      const Scope& scope = scopes_[static_cast<std::size_t>(at)];
      const auto found = scope.ranges.find(dotted.substr(0, digits));
      if (found != scope.ranges.end() && number < found->second.count) {
        operand.kind = Operand::Kind::kRegister;
        operand.slot = {.offset = found->second.first + number, .width = found->second.width};
        return operand;
      }
    }
  }
  if (dotted == "WARP_SZ") {
    operand.kind = Operand::Kind::kNumber;
    operand.number.bits = kLanes;
    return operand;
  }
  if (dotted.starts_with("%")) {
    return special_register(dotted);
  }
  if (const std::optional<std::uint32_t> symbol = module_->find_symbol(name)) {
    operand.kind = Operand::Kind::kSymbol;
    operand.index = *symbol;
    return operand;
  }
  operand.kind = Operand::Kind::kName;
  return operand;
}

Operand FunctionParser::parse_address() {
  Operand address;
  address.kind = Operand::Kind::kAddress;
  Number number;
  if (lexer_.number(&number)) {
    address.displacement = static_cast<std::int64_t>(number.bits);
  } else {
    address.elements.push_back(parse_name());
    // "+-4" is how compilers write a negative displacement.
    while (lexer_.take('+') || lexer_.peek() == '-') {
      if (!lexer_.number(&number)) {
        module_->fail("a displacement is expected");
        return address;
      }
      address.displacement += static_cast<std::int64_t>(number.bits);
    }
    // [map, {coordinates}]
    if (lexer_.take(',')) {
      address.elements.push_back(parse_operand());
    }
  }
  if (!lexer_.take(']')) {
    module_->fail("']' expected");
  }
  return address;
}

Operand FunctionParser::parse_operand() {
  Operand operand;
  if (lexer_.take('[')) {
    return parse_address();
  }
  if (lexer_.take('{')) {
    operand.kind = Operand::Kind::kVector;
    do {
      operand.elements.push_back(parse_operand());
    } while (!module_->failed() && lexer_.take(','));
    if (!lexer_.take('}')) {
      module_->fail("'}' expected");
    }
    return operand;
  }
  if (lexer_.take('!')) {
    operand = parse_name();
    operand.slot.negated = true;
    return operand;
  }
  if (lexer_.number(&operand.number)) {
    operand.kind = Operand::Kind::kNumber;
    return operand;
  }
  operand = parse_name();
  if (operand.name.empty() && operand.kind != Operand::Kind::kRegister) {
    module_->fail("an operand is expected");
    return operand;
  }
  if (lexer_.take('|')) {
    Operand pair;
    pair.kind = Operand::Kind::kPair;
    pair.elements = {operand, parse_name()};
    return pair;
  }
  while (operand.kind == Operand::Kind::kSymbol && lexer_.take('+')) {
    Number number;
    lexer_.number(&number);
    operand.displacement += static_cast<std::int64_t>(number.bits);
  }
  return operand;
}

}  // namespace xception::emulator
