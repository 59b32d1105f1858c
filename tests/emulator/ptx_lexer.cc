#include "tests/emulator/ptx_lexer.h"

#include <charconv>
#include <cstdlib>

namespace xception::emulator {
namespace {

bool digit(char c) { return c >= '0' && c <= '9'; }

bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool word_character(char c) { return letter(c) || digit(c) || c == '_' || c == '$' || c == '%'; }

// White space of PTX, and the zeros that may end its text.
bool white(char c) { return c == ' ' || (c >= '\t' && c <= '\r') || c == '\0'; }

}  // namespace

void Lexer::skip_space() {
  while (position_ < text_.size()) {
    const char c = text_[position_];
    if (white(c)) {
      line_ += c == '\n' ? 1U : 0U;
      ++position_;
      continue;
    }
    if (c != '/') {
      return;
    }
    const std::string_view here = text_.substr(position_, 2);
    if (here == "//") {
      position_ = std::min(text_.find('\n', position_), text_.size());
    } else if (here == "/*") {
      const std::size_t end = std::min(text_.find("*/", position_ + 2), text_.size());
      for (; position_ < end; ++position_) {
        line_ += text_[position_] == '\n' ? 1U : 0U;
      }
      position_ = std::min(position_ + 2, text_.size());
    } else {
      return;
    }
  }
}

bool Lexer::take(char c) {
  if (peek() != c || at_end()) {
    return false;
  }
  ++position_;
  skip_space();
  return true;
}

std::string_view Lexer::word(bool dotted) {
  const std::size_t begin = position_;
  while (position_ < text_.size()) {
    const char c = text_[position_];
    if (word_character(c) || (dotted && c == '.')) {
      ++position_;
    } else if (dotted && text_.substr(position_, 2) == "::") {
      position_ += 2;
    } else {
      break;
    }
  }
  const std::string_view result = text_.substr(begin, position_ - begin);
  skip_space();
  return result;
}

std::string_view Lexer::directive() {
  if (peek() != '.') {
    return {};
  }
  ++position_;
  return word();
}

bool Lexer::number(Number* number) {
  std::size_t at = position_;
  const bool negative = at < text_.size() && text_[at] == '-';
  at += negative ? 1 : 0;
  if (at >= text_.size() || !digit(text_[at])) {
    return false;
  }
  *number = Number{};
  const char* const end = text_.data() + text_.size();
  const char* first = text_.data() + at;
  const char second = at + 1 < text_.size() ? text_[at + 1] : '\0';
  if (text_[at] == '0' && (second == 'f' || second == 'F' || second == 'd' || second == 'D')) {
    number->real = true;
    number->width = second == 'f' || second == 'F' ? 4 : 8;
    const char* const limit = std::min(end, first + 2 + 2 * number->width);
    first = std::from_chars(first + 2, limit, number->bits, 16).ptr;
  } else {
    int base = 10;
    if (text_[at] == '0' && (second == 'x' || second == 'X')) {
      base = 16;
      first += 2;
    } else if (text_[at] == '0' && (second == 'b' || second == 'B')) {
      base = 2;
      first += 2;
    }
    const char* const digits = first;
    first = std::from_chars(digits, end, number->bits, base).ptr;
    if (base == 10 && first < end && (*first == '.' || *first == 'e' || *first == 'E')) {
      number->real = true;
      first = std::from_chars(digits, end, number->value).ptr;
    } else if (base == 10 && *digits == '0' && first > digits + 1) {
      first = std::from_chars(digits, end, number->bits, 8).ptr;
    }
  }
  if (negative) {
    number->bits = number->width == 4   ? number->bits ^ 0x80000000U
                   : number->width == 8 ? number->bits ^ 0x8000000000000000U
                                        : 0 - number->bits;
    number->value = -number->value;
  }
  position_ = static_cast<std::size_t>(first - text_.data());
  if (!number->real && (peek() == 'U' || peek() == 'u')) {
    ++position_;
  }
  skip_space();
  return true;
}

bool Lexer::quoted(std::string_view* value) {
  if (peek() != '"') {
    return false;
  }
  const std::size_t begin = position_ + 1;
  const std::size_t end = std::min(text_.find('"', begin), text_.size());
  *value = text_.substr(begin, end - begin);
  position_ = std::min(end + 1, text_.size());
  skip_space();
  return true;
}

std::string_view Lexer::rest_of_line() {
  const std::size_t begin = position_;
  position_ = std::min(text_.find('\n', position_), text_.size());
  const std::string_view result = text_.substr(begin, position_ - begin);
  skip_space();
  return result;
}

void Lexer::skip_braces() {
  int depth = 0;
  do {
    if (peek() == '{') {
      ++depth;
    } else if (peek() == '}') {
      --depth;
    }
    ++position_;
    skip_space();
  } while (depth > 0 && !at_end());
}

void Lexer::skip_past(char c) {
  while (!at_end() && peek() != c) {
    ++position_;
    skip_space();
  }
  take(c);
}

std::string Lexer::statement_text(std::size_t begin) const {
  std::string result;
  bool space = false;
  for (std::size_t i = begin; i < text_.size() && text_[i] != ';'; ++i) {
    if (white(text_[i])) {
      space = !result.empty();
    } else {
      if (space) {
        result += ' ';
      }
      space = false;
      result += text_[i];
    }
  }
  return result;
}

}  // namespace xception::emulator
