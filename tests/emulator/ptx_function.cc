#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"
#include "tests/emulator/ptx_parser.h"

namespace xception::emulator {
namespace {

std::uint32_t align(std::size_t value, std::size_t alignment) {
  return static_cast<std::uint32_t>((value + alignment - 1) / alignment * alignment);
}

// Local variables and call parameters are kept at multiples of this, the widest access.
constexpr std::size_t kAlignment = 16;

}  // namespace

void FunctionParser::declare(const std::vector<Parameter>& parameters) {
  if (scopes_.empty()) {
    open_scope();
  }
  for (const Parameter& parameter : parameters) {
    Operand operand;
    operand.kind = Operand::Kind::kParam;
    operand.displacement = parameter.offset;
    operand.index = parameter.bytes;
    scopes_[0].names.insert_or_assign(parameter.name, operand);
  }
}

void FunctionParser::open_scope() {
  Scope scope;
  scope.parent = scope_;
  scope_ = static_cast<int>(scopes_.size());
  scopes_.push_back(std::move(scope));
}

void FunctionParser::close_scope() { scope_ = scopes_[static_cast<std::size_t>(scope_)].parent; }

void FunctionParser::parse() {
  function_->begin = static_cast<std::uint32_t>(program_->instructions.size());
  lexer_.take('{');
  int depth = 1;
  while (depth > 0 && !module_->failed()) {
    if (lexer_.at_end()) {
      module_->fail("the body of " + function_->name + " has no end");
    } else if (lexer_.take('{')) {
      open_scope();
      ++depth;
    } else if (lexer_.take('}')) {
      close_scope();
      --depth;
    } else if (!lexer_.take(';')) {
      parse_statement();
    }
  }
  if (module_->failed()) {
    return;
  }
  // A body may end without ret.
  lexer_.take(';');
  Statement end(&builder_);
  end.opcode = "ret";
  decode(&end);
  end.in.line = lexer_.line();
  append(&end);
  function_->end = static_cast<std::uint32_t>(program_->instructions.size());
  link_labels();
  if (!module_->failed()) {
    assign_registers(program_, function_, builder_.widths(), &slots_);
  }
}

void FunctionParser::parse_statement() {
  statement_line_ = lexer_.line();
  if (lexer_.peek() == '.') {
    parse_body_directive();
    return;
  }
  const std::size_t begin = lexer_.position();
  if (lexer_.peek() != '@') {
    const Lexer before = lexer_;
    const std::string_view label = lexer_.word();
    if (!label.empty() && lexer_.peek() == ':') {
      lexer_.take(':');
      if (!parse_label_directive(label)) {
        scopes_[static_cast<std::size_t>(scope_)].labels.emplace(
            label, static_cast<std::uint32_t>(program_->instructions.size()));
      }
      return;
    }
    lexer_ = before;
  }
  parse_instruction(begin, statement_line_);
}

void FunctionParser::parse_body_directive() {
  const std::string_view name = lexer_.directive();
  if (name == "reg") {
    parse_registers();
  } else if (name == "loc") {
    parse_location();
  } else if (name == "local") {
    parse_local();
  } else if (name == "param") {
    parse_call_parameter();
  } else if (name == "pragma") {
    lexer_.skip_past(';');
  } else if (name == "shared" || name == "global" || name == "const") {
    // A name of this function only: kept from others of the module by being looked up here first.
    const auto index = static_cast<std::uint32_t>(program_->symbols.size());
    module_->parse_variable(name == "shared"   ? Space::kShared
                            : name == "global" ? Space::kGlobal
                                               : Space::kConst,
                            false);
    if (!module_->failed()) {
      const std::string& symbol = program_->symbols[index].name;
      module_->symbols_.erase(symbol);
      Operand operand;
      operand.kind = Operand::Kind::kSymbol;
      operand.index = index;
      scopes_[static_cast<std::size_t>(scope_)].names.insert_or_assign(symbol, operand);
    }
  } else if (name == "file") {
    module_->parse_file();
  } else {
    module_->fail("directive ." + std::string(name) + " is not supported in a function");
  }
}

void FunctionParser::parse_registers() {
  std::string_view type_name = lexer_.directive();
  const Type type = parse_type(type_name);
  if (type == Type::kNone || type_bytes(type) > 8) {
    module_->fail("registers of type ." + std::string(type_name) + " are not supported");
    return;
  }
  const std::uint8_t width = Statement::width(type);
  Scope& scope = scopes_[static_cast<std::size_t>(scope_)];
  do {
    const std::string name(lexer_.word());
    Number count;
    if (lexer_.take('<')) {
      lexer_.number(&count);
      lexer_.take('>');
      const auto first = static_cast<std::uint32_t>(builder_.widths().size());
      for (std::uint64_t i = 0; i < count.bits; ++i) {
        builder_.new_register(width);
      }
      scope.ranges[name] = {first, static_cast<std::uint32_t>(count.bits), width};
    } else {
      Operand operand;
      operand.kind = Operand::Kind::kRegister;
      operand.slot = builder_.new_register(width);
      scope.names.insert_or_assign(name, operand);
    }
  } while (lexer_.take(','));
  if (!lexer_.take(';')) {
    module_->fail("';' expected after registers");
  }
}

// ".loc file line column[, function_name label, inlined_at file line column]"
void FunctionParser::parse_location() {
  Number file;
  Number line;
  Number column;
  if (!lexer_.number(&file) || !lexer_.number(&line) || !lexer_.number(&column)) {
    module_->fail("malformed .loc");
    return;
  }
  const std::string_view rest = lexer_.peek() == ',' ? lexer_.rest_of_line() : std::string_view();
  source_ = static_cast<std::uint32_t>(program_->sources.size());
  program_->sources.push_back({std::to_string(file.bits), static_cast<int>(line.bits), {}, 0});
  const std::size_t inlined = rest.find("inlined_at ");
  if (inlined != std::string_view::npos) {
    SourceLine& source = program_->sources.back();
    const char* const end = rest.data() + rest.size();
    std::uint64_t outer = 0;
    const char* next = rest.data() + inlined + std::string_view("inlined_at ").size();
    next = std::from_chars(next, end, outer).ptr;
    source.inlined_file = std::to_string(outer);
    std::from_chars(next + (next < end ? 1 : 0), end, source.inlined_line);
  }
}

void FunctionParser::parse_local() {
  Declaration declaration;
  if (!module_->parse_declaration(&declaration)) {
    return;
  }
  Operand operand;
  operand.kind = Operand::Kind::kLocal;
  operand.displacement = align(function_->local_bytes, std::max(kAlignment, declaration.alignment));
  function_->local_bytes = static_cast<std::uint32_t>(
      static_cast<std::size_t>(operand.displacement) + declaration.bytes());
  scopes_[static_cast<std::size_t>(scope_)].names.insert_or_assign(std::string(declaration.name),
                                                                   operand);
  if (!lexer_.take(';')) {
    module_->fail("';' expected after a local variable");
  }
}

void FunctionParser::parse_call_parameter() {
  Declaration declaration;
  if (!module_->parse_declaration(&declaration)) {
    return;
  }
  Operand operand;
  operand.kind = Operand::Kind::kParam;
  operand.displacement = align(function_->parameter_bytes, kAlignment);
  operand.index = static_cast<std::uint32_t>(declaration.bytes());
  function_->parameter_bytes = static_cast<std::uint32_t>(operand.displacement) + operand.index;
  scopes_[static_cast<std::size_t>(scope_)].names.insert_or_assign(std::string(declaration.name),
                                                                   operand);
  if (!lexer_.take(';')) {
    module_->fail("';' expected after a parameter");
  }
}

// "label: .branchtargets a, b;" and declarations that calls through registers come with. False,
// and nothing taken, where the label is one of an instruction.
bool FunctionParser::parse_label_directive(std::string_view label) {
  const Lexer before = lexer_;
  const std::string_view name = lexer_.directive();
  if (name == "branchtargets") {
    std::vector<std::string>& list =
        scopes_[static_cast<std::size_t>(scope_)].label_lists[std::string(label)];
    do {
      list.emplace_back(lexer_.word());
    } while (lexer_.take(','));
  } else if (name != "callprototype" && name != "calltargets") {
    lexer_ = before;
    return false;
  }
  lexer_.skip_past(';');
  return true;
}

void FunctionParser::parse_instruction(std::size_t begin, std::uint32_t line) {
  Statement statement(&builder_);
  if (lexer_.take('@')) {
    const bool negated = lexer_.take('!');
    Operand guard = parse_name();
    if (guard.kind != Operand::Kind::kRegister || guard.slot.width != 0) {
      module_->fail("a guard that is no predicate");
      return;
    }
    statement.in.guarded = true;
    statement.in.guard = guard.slot;
    statement.in.guard.negated = negated;
  }
  const std::string_view name = lexer_.word(true);
  if (name.empty()) {
    module_->fail("an instruction is expected");
    return;
  }
  std::size_t at = name.find('.');
  statement.opcode = name.substr(0, at);
  while (at != std::string_view::npos) {
    const std::size_t next = name.find('.', at + 1);
    statement.modifiers.push_back(name.substr(at + 1, next - at - 1));
    at = next;
  }
  if (statement.opcode == "call") {
    parse_call(&statement);
  } else if (lexer_.peek() != ';') {
    do {
      statement.operands.push_back(parse_operand());
    } while (!module_->failed() && lexer_.take(','));
  }
  if (module_->failed()) {
    return;
  }
  if (!lexer_.take(';')) {
    module_->fail("';' expected after " + lexer_.statement_text(begin));
    return;
  }
  const bool branch = statement.opcode == "bra";
  const bool indexed = statement.opcode == "brx";
  const std::string target(
      (branch || indexed) && !statement.operands.empty() ? statement.operands.back().name : "");
  decode(&statement);
  statement.in.line = line;
  statement.in.text = static_cast<std::uint32_t>(program_->texts.size());
  program_->texts.push_back(lexer_.statement_text(begin));
  if (branch || indexed) {
    fixups_.push_back({program_->instructions.size(), scope_, target});
  }
  append(&statement);
}

void FunctionParser::append(Statement* statement) {
  statement->in.source = source_;
  program_->instructions.push_back(statement->in);
  slots_.push_back(statement->slots());
}

bool FunctionParser::parse_name_list(std::vector<Parameter>* list) {
  while (!module_->failed() && !lexer_.take(')')) {
    const Operand operand = parse_operand();
    if (operand.kind != Operand::Kind::kParam) {
      return module_->fail("an argument that is no .param is not supported");
    }
    list->push_back({.name = std::string(operand.name),
                     .offset = static_cast<std::uint32_t>(operand.displacement),
                     .bytes = operand.index});
    lexer_.take(',');
  }
  return true;
}

// call [(returns),] target [, (arguments)] [, prototype]
void FunctionParser::parse_call(Statement* statement) {
  Call call;
  if (lexer_.take('(')) {
    parse_name_list(&call.returns);
    lexer_.take(',');
  }
  if (lexer_.peek() == '%') {
    call.function = kIndirectCall;
    statement->operands.push_back(parse_name());
  } else {
    call.name = lexer_.word();
    call.function = call.name == "vprintf"        ? kPrintfCall
                    : call.name == "__assertfail" ? kAssertCall
                                                  : module_->function_index(call.name);
  }
  if (lexer_.take(',')) {
    if (lexer_.take('(')) {
      parse_name_list(&call.arguments);
      lexer_.take(',');
    }
    if (lexer_.peek() != ';') {
      lexer_.word();
    }
  }
  statement->in.target = static_cast<std::uint32_t>(function_->calls.size());
  function_->calls.push_back(std::move(call));
}

std::optional<std::uint32_t> FunctionParser::find_label(int scope, std::string_view name) const {
  for (int at = scope; at >= 0; at = scopes_[static_cast<std::size_t>(at)].parent) {
    const auto& labels = scopes_[static_cast<std::size_t>(at)].labels;
    const auto found = labels.find(name);
    if (found != labels.end()) {
      return found->second;
    }
  }
  return std::nullopt;
}

void FunctionParser::link_labels() {
  for (const Fixup& fixup : fixups_) {
    Instruction& instruction = program_->instructions[fixup.instruction];
    if (const std::optional<std::uint32_t> target = find_label(fixup.scope, fixup.label)) {
      instruction.target = *target;
      continue;
    }
    const std::vector<std::string>* list = nullptr;
    for (int at = fixup.scope; at >= 0; at = scopes_[static_cast<std::size_t>(at)].parent) {
      const auto& lists = scopes_[static_cast<std::size_t>(at)].label_lists;
      const auto found = lists.find(fixup.label);
      if (found != lists.end()) {
        list = &found->second;
        break;
      }
    }
    if (list == nullptr) {
      module_->fail("no label " + fixup.label);
      return;
    }
    instruction.target = static_cast<std::uint32_t>(function_->branch_targets.size());
    std::vector<std::uint32_t>& targets = function_->branch_targets.emplace_back();
    for (const std::string& label : *list) {
      const std::optional<std::uint32_t> target = find_label(fixup.scope, label);
      if (!target) {
        module_->fail("no label " + label);
        return;
      }
      targets.push_back(*target);
    }
  }
}

}  // namespace xception::emulator
