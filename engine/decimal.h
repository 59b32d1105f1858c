// Numbers in messages: with a point whatever the locale, and no digit more than it takes.
#pragma once

#include <array>
#include <charconv>
#include <string>

namespace xception {

// The shortest decimal number that reads back as `value`, a float or double.
template <class T>
std::string decimal(T value) {
  std::array<char, 64> text{};  // a double takes 24
  const std::to_chars_result end = std::to_chars(text.data(), text.data() + text.size(), value);
  return {text.data(), end.ptr};
}

}  // namespace xception
