// What CLI11 needs to be told of every option: how values are written, and how the help text is.
#pragma once

#include <CLI/CLI.hpp>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "not_empty.h"

namespace xception::cli {

// Names that an option takes, and what they mean.
template <class T>
using Names = std::vector<std::pair<const char*, T>>;

template <class T>
std::string join(const Names<T>& names) {
  std::string text;
  for (const auto& entry : names) {
    text += (text.empty() ? "" : "|") + std::string(entry.first);
  }
  return text;
}

inline std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

// The help text without what excludes what; error messages tell it when it matters.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(35); }
  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string type = option->get_type_name();
    return type.empty() || type == "BOOLEAN" ? "" : ' ' + type;
  }
  // "--profile{20}" is how CLI11 is told the default of an optional value.
  std::string make_option_name(const CLI::Option* option, bool positional) const override {
    const std::string name = CLI::Formatter::make_option_name(option, positional);
    const std::size_t brace = name.find('{');
    return brace == std::string::npos ? name : name.substr(0, brace) + "[=N]";
  }
};

// A whole number in decimal; both ends belong to the range. To be used as a transform, for CLI11 by
// itself takes 032 for 26 and 0x20 for 32. The help text does not show it, the error message does.
inline CLI::Validator whole(std::int64_t low, std::int64_t high) {
  const auto check = [=](std::string& text) -> std::string {
    std::int64_t value = 0;
    const char* const last = text.data() + text.size();
    const auto [end, error] = std::from_chars(text.data(), last, value);
    if (error != std::errc() || end != last || value < low || value > high) {
      return "'" + text + "' is not a whole number from " + std::to_string(low) + " to " +
             std::to_string(high);
    }
    text = std::to_string(value);
    return {};
  };
  return {check, ""};
}

// Parses the arguments of `main`. CLI11 takes [a,b] for several values where an option has several,
// as the names of pictures are: behind a NUL, which no argument has, it stays what it is.
inline void parse_whole(CLI::App& app, int argc, const char* const* argv) {
  const auto is_bracketed = [](std::string_view text) {
    return text.starts_with('[') && text.ends_with(']');
  };
  std::vector<std::string> last_first;
  for (int i = argc - 1; i > 0; --i) {
    last_first.emplace_back(is_bracketed(argv[i]) ? 1 : 0, '\0').append(argv[i]);
  }
  for (CLI::Option* option : app.get_options()) {
    if (option->get_expected_max() > 0) {
      option->transform(
          [](const std::string& text) { return text.substr(text.starts_with('\0') ? 1 : 0); });
    }
  }
  app.parse(std::move(last_first));
}

// Adds options to one group of the help text.
class Group {
 public:
  Group(CLI::App& app, std::string name) : app_(app), name_(std::move(name)) {}

  CLI::Option* flag(const std::string& names, bool& target, const std::string& help) {
    const auto check = [](const std::string& text) {
      return text == "true" ? "" : "takes no value, and got '" + text + "'";
    };
    return app_.add_flag(names, target, help)->check(check)->group(name_);
  }

  // Any type that CLI11 reads by itself.
  template <class T>
  CLI::Option* value(const std::string& names, T& target, const std::string& type,
                     const std::string& help) {
    CLI::Option* option = app_.add_option(names, target, help)->type_name(type)->group(name_);
    if constexpr (std::is_same_v<T, std::string>) {
      option->check(not_empty());
    }
    return option;
  }

  // One of `names`.
  template <class T, class V>
  CLI::Option* choice(const std::string& option, T& target, const Names<V>& names,
                      const std::string& help) {
    const auto store = [option, &target, &names](const std::string& text) {
      for (const auto& [name, meaning] : names) {
        if (name == text) {
          target = meaning;
          return;
        }
      }
      throw CLI::ValidationError(option, "'" + text + "' is none of " + join(names));
    };
    return function(option, store, join(names), help);
  }

  // A number from `low` to `high`.
  template <class T>
  CLI::Option* number(const std::string& option, T& target, double low, double high,
                      const std::string& help) {
    const auto store = [=, &target](const std::string& text) {
      const std::optional<double> value = parse_number(text);
      if (!value || *value < low || *value > high) {
        std::array<char, 64> range{};
        std::snprintf(range.data(), range.size(), "%g to %g", low, high);
        throw CLI::ValidationError(option, "'" + text + "' is not a number from " + range.data());
      }
      target = *value;
    };
    return function(option, store, "X", help);
  }

  // Three numbers with commas between.
  CLI::Option* triple(const std::string& option, std::optional<std::array<float, 3>>& target,
                      bool positive, const std::string& help) {
    const auto store = [=, &target](const std::string& text) {
      const std::vector<std::string> parts = CLI::detail::split(text, ',');
      std::array<float, 3> values{};
      bool good = parts.size() == values.size() && text.back() != ',';
      for (std::size_t i = 0; good && i < values.size(); ++i) {
        const std::optional<double> value = parse_number(parts[i]);
        values[i] = static_cast<float>(value.value_or(0.0));
        // The bounds of a weight file's own preprocessing: beyond them the network is fed noise.
        good = value && std::abs(*value) < 1e6 && (!positive || *value >= 1e-6);
      }
      if (!good) {
        throw CLI::ValidationError(
            option, "'" + text + "' is not three numbers " +
                        (positive ? "from 1e-6 on and below 1e6" : "between -1e6 and 1e6") +
                        ", with commas between them, as 0.5,0.5,0.5");
      }
      target = values;
    };
    return function(option, store, "R,G,B", help);
  }

 private:
  template <class F>
  CLI::Option* function(const std::string& option, const F& store, const std::string& type,
                        const std::string& help) {
    return app_.add_option_function<std::string>(option, store, help)
        ->type_name(type)
        ->group(name_);
  }

  CLI::App& app_;
  std::string name_;
};

}  // namespace xception::cli
