// From PTX text to a Program: declarations, scopes, labels. Instructions are decode()'s.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/emulator/fault.h"
#include "tests/emulator/ptx.h"
#include "tests/emulator/ptx_lexer.h"
#include "tests/emulator/ptx_statement.h"

namespace xception::emulator {

// A variable or parameter as declared: ".align 16 .b8 name[24]".
struct Declaration {
  std::string_view name;
  Type type = Type::kNone;
  std::size_t elements = 1;
  std::size_t alignment = 1;
  bool unsized = false;  // name[]
  std::size_t bytes() const { return elements * type_bytes(type); }
};

// What the declarations of a module have in common: the text, names and the first failure.
class ModuleParser {
 public:
  ModuleParser(std::string_view text, Program* program) : lexer_(text), program_(program) {}

  std::optional<Fault> parse();

 private:
  friend class FunctionParser;

  bool fail(const std::string& what);
  bool failed() const { return fault_.has_value(); }

  void parse_directive();
  void parse_file();
  void parse_variable(Space space, bool external);
  void parse_initial(Symbol* symbol, Type type, std::size_t* at);
  void parse_initial_address(Symbol* symbol, Type type, std::size_t* at);
  void parse_function(bool entry);
  void parse_parameters(std::vector<Parameter>* parameters, std::vector<Declaration>* names);
  void parse_function_attributes(Function* function);
  bool parse_declaration(Declaration* declaration);
  int function_index(std::string_view name);
  // A variable, or a function whose address is taken.
  std::optional<std::uint32_t> find_symbol(std::string_view name);

  Lexer lexer_;
  Program* program_;
  std::optional<Fault> fault_;
  std::map<std::string, std::uint32_t, std::less<>> symbols_;
  std::map<std::string, int, std::less<>> functions_;
  std::map<std::uint64_t, std::string> files_;
};

// The body of one function.
class FunctionParser {
 public:
  FunctionParser(ModuleParser* module, Function* function)
      : module_(module),
        lexer_(module->lexer_),
        program_(module->program_),
        function_(function),
        builder_(module->program_, function) {}

  // `parameters` and `returns` of the function, by the names that its body uses.
  void declare(const std::vector<Parameter>& parameters);
  void parse();

 private:
  struct RegisterRange {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    std::uint8_t width = 0;
  };
  struct Scope {
    int parent = -1;
    std::uint32_t parameter_bytes = 0;  // at its beginning
    std::map<std::string, Operand, std::less<>> names;
    std::map<std::string, RegisterRange, std::less<>> ranges;
    std::map<std::string, std::uint32_t, std::less<>> labels;
    std::map<std::string, std::vector<std::string>, std::less<>> label_lists;
  };
  struct Fixup {
    std::size_t instruction = 0;
    int scope = 0;
    std::string label;
  };

  void parse_statement();
  void parse_body_directive();
  void parse_registers();
  void parse_location();
  void parse_local();
  void parse_call_parameter();
  bool parse_label_directive(std::string_view label);
  void parse_instruction(std::size_t begin, std::uint32_t line);
  void parse_call(Statement* statement);
  bool parse_name_list(std::vector<Parameter>* list);
  Operand parse_operand();
  Operand parse_address();
  Operand parse_name();
  Operand special_register(std::string_view name);
  Operand hidden(Handler handler, Type type, std::int64_t immediate);
  const Operand* find(std::string_view name) const;
  void append(Statement* statement);
  void open_scope();
  void close_scope();
  void link_labels();
  std::optional<std::uint32_t> find_label(int scope, std::string_view name) const;

  ModuleParser* module_;
  Lexer& lexer_;
  Program* program_;
  Function* function_;
  FunctionBuilder builder_;
  std::vector<Scope> scopes_;
  int scope_ = -1;
  std::vector<Fixup> fixups_;
  std::vector<std::vector<Slot>> slots_;
  std::uint32_t source_ = 0;
  std::uint32_t statement_line_ = 0;
};

// Replaces register indices in the slots of `function` by places in a warp's registers: those that
// are never live together share one. Sets register_bytes and live_registers.
void assign_registers(Program* program, Function* function, const std::vector<std::uint8_t>& widths,
                      std::vector<std::vector<Slot>>* slots);

}  // namespace xception::emulator
