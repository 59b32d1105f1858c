// How a report of `bench model` stands to an older one.
#pragma once

#include <iosfwd>
#include <nlohmann/json.hpp>
#include <string>

#include "xception/status.h"

namespace xception::bench {

// A report of `bench model` that was kept. Fails with kInvalidArgument where the file cannot be
// read or is none, and where it is of another network than `report`, whose rows are not looked at.
Result<nlohmann::ordered_json> read_baseline(const std::string& path,
                                             const nlohmann::ordered_json& report);

// Compares the medians of the rows with those of a baseline that read_baseline() read from `path`:
// device, precision, threads, batch and size have to be equal. Prints a line for each row, and what
// else is different. Returns how many are slower than the old ones by more than `max_regress` (0.05
// is 5 %); fails where the baseline has none of the rows.
Result<int> compare_with_baseline(std::ostream& out, const nlohmann::ordered_json& report,
                                  const std::string& path, const nlohmann::ordered_json& baseline,
                                  double max_regress);

}  // namespace xception::bench
