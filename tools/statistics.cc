#include "statistics.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace xception {

double percentile_of(std::vector<double> values, double percentile) {
  std::sort(values.begin(), values.end());
  const double rank = percentile / 100 * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(rank);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  const double part = rank - static_cast<double>(below);
  return values[below] + part * (values[above] - values[below]);
}

std::vector<double> step_medians(const Profile& profile) {
  std::vector<double> medians;
  for (std::size_t i = 0; i < profile.front().size(); ++i) {
    std::vector<double> times;
    for (const std::vector<double>& run : profile) {
      times.push_back(run[i]);
    }
    medians.push_back(percentile_of(std::move(times), 50));
  }
  return medians;
}

}  // namespace xception
