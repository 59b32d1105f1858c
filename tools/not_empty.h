// What the options of the programs that take a name have in common.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace xception::cli {

// For an option whose empty value stands for its not being given: one that is given needs another.
inline CLI::Validator not_empty() {
  return {[](const std::string& text) { return text.empty() ? "needs a value, not ''" : ""; }, ""};
}

}  // namespace xception::cli
