// What many timings come down to.
#pragma once

#include <vector>

#include "xception/engine.h"

namespace xception {

// Linear interpolation between the closest ranks, as numpy.percentile has it. `percentile` in
// 0..100, `values` not empty.
double percentile_of(std::vector<double> values, double percentile);

// Of each step over all runs, of which there is one at least; in seconds.
std::vector<double> step_medians(const Profile& profile);

}  // namespace xception
