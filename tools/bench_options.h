// Values of bench's options, from text. Each fails with kInvalidArgument and a sentence.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "xception/engine.h"

namespace xception::bench {

// A whole number of at least `least`.
Result<int> parse_count(std::string_view option, const std::string& text, int least);
// "299" or "224x320", height first.
Result<std::pair<int, int>> parse_size(const std::string& text);
Result<Precision> parse_precision(const std::string& text);
// "2s", "2" and "2000ms" are two seconds.
Result<double> parse_duration(std::string_view option, const std::string& text);
// "5%" is 0.05.
Result<double> parse_share(std::string_view option, const std::string& text);
// 0 to 100.
Result<double> parse_percentile(const std::string& text);

}  // namespace xception::bench
