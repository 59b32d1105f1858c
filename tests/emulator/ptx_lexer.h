// Characters of a PTX text to words, numbers and punctuation.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace xception::emulator {

// An immediate as written: an integer, or a floating-point number of a known or unknown width.
struct Number {
  bool real = false;
  std::uint8_t width = 0;  // 4 for 0f..., 8 for 0d..., 0 for a decimal fraction and integers
  std::uint64_t bits = 0;  // two's complement, or the pattern of 0f and 0d
  double value = 0;        // of a decimal fraction
};

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) { skip_space(); }

  bool at_end() const { return position_ >= text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[position_]; }
  std::uint32_t line() const { return line_; }
  std::size_t position() const { return position_; }
  std::string_view text(std::size_t begin, std::size_t end) const {
    return text_.substr(begin, end - begin);
  }

  // Takes `c` where it comes next.
  bool take(char c);
  // Letters, digits, _ $ % and, where `dotted`, the dots and double colons of opcodes and special
  // registers. Empty where something else comes next.
  std::string_view word(bool dotted = false);
  // A word that begins with a dot: ".reg" without its dot.
  std::string_view directive();
  bool number(Number* number);  // false, and nothing taken, where no number comes next
  bool quoted(std::string_view* value);
  // The rest of the line, without the line's end; comments stay in.
  std::string_view rest_of_line();
  void skip_braces();  // "{ ... }", nested
  void skip_past(char c);
  // The end of the statement that starts at `begin`: its text up to ';', white space folded.
  std::string statement_text(std::size_t begin) const;

 private:
  void skip_space();

  std::string_view text_;
  std::size_t position_ = 0;
  std::uint32_t line_ = 1;
};

}  // namespace xception::emulator
