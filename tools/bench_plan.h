// What bench is to do: the options as they were typed, and understood.
#pragma once

#include <string>
#include <vector>

#include "bench_measure.h"
#include "bench_report.h"
#include "xception/status.h"

namespace xception::bench {

// The options as they were typed.
struct Options {
  std::string model;
  std::string arch;
  std::string device = "auto";
  std::vector<std::string> batches = {"1"};
  std::vector<std::string> sizes = {};  // empty: the model's own
  std::vector<std::string> threads = {"0"};
  std::vector<std::string> precisions = {"fp32"};
  std::string warmup_ms = "200";
  std::string duration = "3s";
  std::string runs;  // empty: as long as `duration`
  std::vector<std::string> percentiles = {"50", "90", "99"};
  std::string output = "md";
  std::string baseline;
  std::string max_regress = "5%";
  bool network_only = false;
  bool step = false;
  std::string input;
  std::string logits;
  std::string layer;
  bool verify = false;
};

// The same, understood. A configuration is every combination, the batch changing fastest.
struct Plan {
  std::vector<Configuration> configurations;
  Effort effort;
  Format format = Format::kMarkdown;
  double max_regress = 0;
};

// Fails with kInvalidArgument, naming the option.
Result<Plan> make_plan(const Options& options);

}  // namespace xception::bench
