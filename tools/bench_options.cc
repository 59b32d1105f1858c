#include "bench_options.h"

#include <charconv>
#include <cmath>
#include <cstdlib>

namespace xception::bench {
namespace {

Status refuse(std::string_view option, const std::string& text, const std::string& expected) {
  return {Code::kInvalidArgument, std::string(option) + ": '" + text + "' is not " + expected};
}

bool to_int(std::string_view text, int* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

// A finite number that is not negative, with nothing after it.
bool to_number(const std::string& text, double* value) {
  if (text.empty() || text.find_first_not_of("0123456789.") != std::string::npos) {
    return false;
  }
  char* end = nullptr;
  *value = std::strtod(text.c_str(), &end);
  return *end == '\0' && std::isfinite(*value);
}

bool remove_suffix(std::string* text, std::string_view suffix) {
  if (!text->ends_with(suffix)) {
    return false;
  }
  text->resize(text->size() - suffix.size());
  return true;
}

}  // namespace

Result<int> parse_count(std::string_view option, const std::string& text, int least) {
  int value = 0;
  if (!to_int(text, &value) || value < least) {
    return refuse(option, text, "a whole number of " + std::to_string(least) + " or more");
  }
  return value;
}

Result<std::pair<int, int>> parse_size(const std::string& text) {
  const std::size_t x = text.find('x');
  int height = 0;
  int width = 0;
  if (!to_int(std::string_view(text).substr(0, x), &height) ||
      !to_int(std::string_view(text).substr(x == std::string::npos ? 0 : x + 1), &width) ||
      height < 1 || width < 1) {
    return refuse("--size", text, "a side or HEIGHTxWIDTH in pixels");
  }
  return std::pair(height, width);
}

Result<Precision> parse_precision(const std::string& text) {
  for (const Precision precision :
       {Precision::kFp32, Precision::kBf16, Precision::kFp16, Precision::kTf32}) {
    if (text == precision_name(precision)) {
      return precision;
    }
  }
  return refuse("--precision", text, "fp32, bf16, fp16 or tf32");
}

Result<double> parse_duration(std::string_view option, const std::string& text) {
  std::string number = text;
  const double unit = remove_suffix(&number, "ms") ? 1e-3 : 1.0;
  if (unit == 1.0) {
    remove_suffix(&number, "s");
  }
  double value = 0;
  if (!to_number(number, &value)) {
    return refuse(option, text, "a duration such as 3s or 500ms");
  }
  return value * unit;
}

Result<double> parse_share(std::string_view option, const std::string& text) {
  std::string number = text;
  double value = 0;
  if (!remove_suffix(&number, "%") || !to_number(number, &value)) {
    return refuse(option, text, "a share such as 5%");
  }
  return value / 100;
}

Result<double> parse_percentile(const std::string& text) {
  double value = 0;
  if (!to_number(text, &value) || value > 100) {
    return refuse("--percentiles", text, "a number from 0 to 100");
  }
  return value;
}

}  // namespace xception::bench
