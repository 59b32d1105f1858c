#include "tests/emulator/ptx_parser.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>

namespace xception::emulator {
namespace {

std::size_t round_up(std::size_t value, std::size_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

}  // namespace

bool ModuleParser::fail(const std::string& what) {
  if (!fault_) {
    fault_ =
        Fault{FaultKind::kUnsupported, "PTX line " + std::to_string(lexer_.line()) + ": " + what};
  }
  return false;
}

std::optional<Fault> ModuleParser::parse() {
  program_->texts.emplace_back();
  program_->sources.emplace_back();
  while (!lexer_.at_end() && !failed()) {
    if (lexer_.peek() == '@') {
      lexer_.rest_of_line();  // DWARF of old compilers
    } else if (lexer_.peek() == '.') {
      parse_directive();
    } else if (!lexer_.take(';')) {
      const std::string_view word = lexer_.word(true);
      fail("a declaration is expected, not " + std::string(word));
    }
  }
  // Files are named at the end of the text.
  const auto name_file = [&](std::string* file) {
    const auto found = files_.find(std::strtoull(file->c_str(), nullptr, 10));
    *file = found == files_.end() ? "" : found->second;
  };
  for (SourceLine& source : program_->sources) {
    name_file(&source.file);
    name_file(&source.inlined_file);
  }
  return fault_;
}

void ModuleParser::parse_directive() {
  bool external = false;
  for (;;) {
    const std::string_view name = lexer_.directive();
    Number number;
    if (name == "version" || name == "address_size") {
      lexer_.rest_of_line();
    } else if (name == "target") {
      do {
        const std::string_view target = lexer_.word();
        program_->sm_90a = target == "sm_90a" || program_->sm_90a;
        if (target.starts_with("sm_")) {
          std::from_chars(target.data() + 3, target.data() + target.size(), program_->target);
        }
      } while (lexer_.take(','));
    } else if (name == "file") {
      parse_file();
    } else if (name == "section") {
      lexer_.directive();
      lexer_.skip_braces();
    } else if (name == "pragma" || name == "alias") {
      lexer_.skip_past(';');
    } else if (name == "loc") {
      lexer_.rest_of_line();
    } else if (name == "extern" || name == "visible" || name == "weak" || name == "common") {
      external = external || name == "extern";
      continue;
    } else if (name == "func" || name == "entry") {
      parse_function(name == "entry");
    } else if (name == "global") {
      parse_variable(Space::kGlobal, external);
    } else if (name == "const") {
      parse_variable(Space::kConst, external);
    } else if (name == "shared") {
      parse_variable(Space::kShared, external);
    } else {
      fail("directive ." + std::string(name) + " is not supported");
    }
    return;
  }
}

void ModuleParser::parse_file() {
  Number number;
  std::string_view name;
  if (!lexer_.number(&number) || !lexer_.quoted(&name)) {
    fail("malformed .file");
    return;
  }
  files_[number.bits] = name;
  while (lexer_.take(',')) {
    lexer_.number(&number);
  }
}

// After the state space: [.align N] [.attribute(...)] .type name [N]... . The type of a parameter
// may come with .ptr, .space and another .align, which say nothing that is needed here.
bool ModuleParser::parse_declaration(Declaration* declaration) {
  Number number;
  while (lexer_.peek() == '.') {
    const std::string_view word = lexer_.directive();
    if (word == "align") {
      if (!lexer_.number(&number)) {
        return fail("malformed .align");
      }
      if (declaration->type == Type::kNone) {
        declaration->alignment = number.bits;
      }
    } else if (word == "attribute") {
      lexer_.skip_past(')');
    } else if (declaration->type == Type::kNone) {
      declaration->type = parse_type(word);
      if (declaration->type == Type::kNone) {
        return fail("type ." + std::string(word) + " is not supported");
      }
      declaration->alignment = std::max(declaration->alignment, type_bytes(declaration->type));
    }
  }
  declaration->name = lexer_.word();
  if (declaration->name.empty() || declaration->type == Type::kNone) {
    return fail("malformed declaration");
  }
  while (lexer_.take('[')) {
    if (lexer_.number(&number)) {
      declaration->elements *= number.bits;
    } else {
      declaration->unsized = true;
      declaration->elements = 0;
    }
    if (!lexer_.take(']')) {
      return fail("']' expected");
    }
  }
  return true;
}

void ModuleParser::parse_variable(Space space, bool external) {
  Declaration declaration;
  if (!parse_declaration(&declaration)) {
    return;
  }
  Symbol symbol;
  symbol.name = declaration.name;
  symbol.space = space;
  symbol.alignment = declaration.alignment;
  symbol.bytes = declaration.bytes();
  symbol.dynamic = space == Space::kShared && (declaration.unsized || external);
  if (lexer_.take('=')) {
    if (declaration.unsized) {
      fail("an initialised array without a size is not supported");
      return;
    }
    symbol.initial.resize(symbol.bytes);
    std::size_t at = 0;
    parse_initial(&symbol, declaration.type, &at);
  }
  if (!failed() && !lexer_.take(';')) {
    fail("';' expected after variable " + symbol.name);
  }
  symbols_[symbol.name] = static_cast<std::uint32_t>(program_->symbols.size());
  program_->symbols.push_back(std::move(symbol));
}

void ModuleParser::parse_initial(Symbol* symbol, Type type, std::size_t* at) {
  if (lexer_.take('{')) {
    do {
      parse_initial(symbol, type, at);
    } while (!failed() && lexer_.take(','));
    if (!failed() && !lexer_.take('}')) {
      fail("'}' expected");
    }
    return;
  }
  Number number;
  if (!lexer_.number(&number)) {
    parse_initial_address(symbol, type, at);
    return;
  }
  std::uint64_t bits = number.bits;
  if (number.real && number.width == 0) {
    if (type == Type::kF64) {
      std::memcpy(&bits, &number.value, 8);
    } else {
      const float value = static_cast<float>(number.value);
      std::memcpy(&bits, &value, 4);
    }
  }
  const std::size_t bytes = type_bytes(type);
  if (*at + bytes > symbol->initial.size()) {
    fail("more initial values than elements in " + symbol->name);
    return;
  }
  std::memcpy(symbol->initial.data() + *at, &bits, bytes);
  *at += bytes;
}

// "name", "name+8" or "generic(name)". Generic addresses of global memory are those themselves.
void ModuleParser::parse_initial_address(Symbol* symbol, Type type, std::size_t* at) {
  std::string_view name = lexer_.word();
  const bool generic = name == "generic" && lexer_.take('(');
  if (generic) {
    name = lexer_.word();
  }
  const bool closed = !generic || lexer_.take(')');
  InitialAddress address;
  address.offset = *at;
  Number addend;
  if (lexer_.take('+') && lexer_.number(&addend)) {
    address.addend = static_cast<std::int64_t>(addend.bits);
  }
  const std::optional<std::uint32_t> found = find_symbol(name);
  if (!found || !closed || type_bytes(type) != 8 || *at + 8 > symbol->initial.size()) {
    fail("the initial value of " + symbol->name + " is not understood");
    return;
  }
  address.symbol = *found;
  symbol->addresses.push_back(address);
  *at += 8;
}

std::optional<std::uint32_t> ModuleParser::find_symbol(std::string_view name) {
  const auto variable = symbols_.find(name);
  if (variable != symbols_.end()) {
    return variable->second;
  }
  const auto function = functions_.find(name);
  if (function == functions_.end()) {
    return std::nullopt;
  }
  // Its address is taken: a symbol of its own, by a name that no variable has.
  const auto [at, added] = symbols_.try_emplace(
      std::string("&").append(name), static_cast<std::uint32_t>(program_->symbols.size()));
  if (added) {
    Symbol& taken = program_->symbols.emplace_back();
    taken.name = at->first;
    taken.function = function->second;
  }
  return at->second;
}

int ModuleParser::function_index(std::string_view name) {
  const auto found = functions_.find(name);
  if (found != functions_.end()) {
    return found->second;
  }
  const int index = static_cast<int>(program_->functions.size());
  program_->functions.emplace_back().name = name;
  functions_.emplace(name, index);
  return index;
}

void ModuleParser::parse_parameters(std::vector<Parameter>* parameters,
                                    std::vector<Declaration>* names) {
  if (!lexer_.take('(')) {
    return;
  }
  parameters->clear();
  while (!failed() && !lexer_.take(')')) {
    lexer_.take(',');
    const std::string_view space = lexer_.directive();
    Declaration declaration;
    if (space != "param") {
      fail("a parameter in state space ." + std::string(space) + " is not supported");
    } else if (parse_declaration(&declaration)) {
      parameters->push_back({.name = std::string(declaration.name),
                             .bytes = static_cast<std::uint32_t>(declaration.bytes()),
                             .alignment = static_cast<std::uint32_t>(declaration.alignment)});
      names->push_back(declaration);
    }
  }
}

void ModuleParser::parse_function_attributes(Function* function) {
  while (lexer_.peek() == '.') {
    const std::string_view name = lexer_.directive();
    std::uint64_t product = 1;
    Number number;
    if (name == "pragma") {
      lexer_.skip_past(';');
      continue;
    }
    if (name == "attribute") {
      lexer_.skip_past(')');
      continue;
    }
    while (lexer_.number(&number)) {
      product *= number.bits;
      lexer_.take(',');
    }
    if (name == "maxntid" || name == "reqntid") {
      function->max_threads = static_cast<int>(product);
    } else if (name == "minnctapersm") {
      function->min_blocks = static_cast<int>(product);
    } else if (name == "maxnreg") {
      function->max_registers = static_cast<int>(product);
    } else if (name != "maxnctapersm" && name != "noreturn" && name != "explicitcluster" &&
               name != "maxclusterrank" && name != "unique") {
      fail("function attribute ." + std::string(name) + " is not supported");
      return;
    }
  }
}

void ModuleParser::parse_function(bool entry) {
  std::vector<Parameter> returns;
  std::vector<Parameter> parameters;
  std::vector<Declaration> names;
  if (!entry) {
    if (lexer_.peek() == '.') {
      parse_function_attributes(&program_->functions.emplace_back());
      program_->functions.pop_back();
    }
    parse_parameters(&returns, &names);
  }
  const int index = function_index(lexer_.word());
  parse_parameters(&parameters, &names);
  if (failed()) {
    return;
  }
  Function& function = program_->functions[static_cast<std::size_t>(index)];
  function.entry = entry;
  std::uint32_t offset = 0;
  for (std::vector<Parameter>* list : {&parameters, &returns}) {
    for (Parameter& parameter : *list) {
      parameter.offset = static_cast<std::uint32_t>(round_up(offset, parameter.alignment));
      offset = parameter.offset + parameter.bytes;
    }
  }
  function.parameter_bytes = offset;
  function.parameters = parameters;
  function.returns = returns;
  parse_function_attributes(&function);
  if (failed() || lexer_.take(';')) {
    return;
  }
  if (lexer_.peek() != '{') {
    fail("'{' expected after the head of " + function.name);
    return;
  }
  function.defined = true;
  if (entry) {
    program_->entries[function.name] = index;
  }
  // The functions of the program may move while a body is parsed: the body works on a copy.
  Function body = function;
  FunctionParser parser(this, &body);
  parser.declare(parameters);
  parser.declare(returns);
  parser.parse();
  program_->functions[static_cast<std::size_t>(index)] = std::move(body);
}

ParseResult parse_ptx(std::string_view ptx) {
  auto program = std::make_shared<Program>();
  if (std::optional<Fault> fault = ModuleParser(ptx, program.get()).parse()) {
    return {nullptr, std::move(fault)};
  }
  return {std::move(program), std::nullopt};
}

}  // namespace xception::emulator
