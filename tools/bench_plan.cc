#include "bench_plan.h"

#include <string_view>
#include <tuple>
#include <utility>

#include "bench_options.h"

namespace xception::bench {
namespace {

Status parse_effort(const Options& options, Effort* effort) {
  const Result<int> warmup = parse_count("--warmup-ms", options.warmup_ms, 0);
  XC_RETURN_IF_ERROR(warmup.status());
  effort->warmup_s = 1e-3 * *warmup;
  const Result<double> duration = parse_duration("--duration", options.duration);
  XC_RETURN_IF_ERROR(duration.status());
  effort->duration_s = *duration;
  if (!options.runs.empty()) {
    const Result<int> runs = parse_count("--runs", options.runs, 1);
    XC_RETURN_IF_ERROR(runs.status());
    effort->runs = *runs;
  }
  effort->percentiles.clear();
  for (const std::string& text : options.percentiles) {
    const Result<double> percentile = parse_percentile(text);
    XC_RETURN_IF_ERROR(percentile.status());
    effort->percentiles.push_back(*percentile);
  }
  return {};
}

// Every combination, the batch changing fastest.
Result<std::vector<Configuration>> combine(const Options& options) {
  std::vector<Configuration> result(1);
  result[0].model = options.model;
  result[0].arch = options.arch;
  result[0].device = options.device;
  result[0].network_only = options.network_only;
  const auto expand = [&result](const std::vector<std::string>& texts, const auto& set) -> Status {
    std::vector<Configuration> expanded;
    for (const Configuration& configuration : result) {
      for (const std::string& text : texts) {
        XC_RETURN_IF_ERROR(set(text, &expanded.emplace_back(configuration)));
      }
    }
    result = std::move(expanded);
    return {};
  };
  const auto set_size = [](const std::string& text, Configuration* c) -> Status {
    const Result<std::pair<int, int>> size = parse_size(text);
    XC_RETURN_IF_ERROR(size.status());
    std::tie(c->height, c->width) = *size;
    return {};
  };
  const auto set_precision = [](const std::string& text, Configuration* c) -> Status {
    const Result<Precision> precision = parse_precision(text);
    XC_RETURN_IF_ERROR(precision.status());
    c->precision = *precision;
    return {};
  };
  const auto set_count = [](std::string_view option, int least, int Configuration::*member) {
    return [=](const std::string& text, Configuration* c) -> Status {
      const Result<int> count = parse_count(option, text, least);
      XC_RETURN_IF_ERROR(count.status());
      c->*member = *count;
      return {};
    };
  };
  if (!options.sizes.empty()) {
    XC_RETURN_IF_ERROR(expand(options.sizes, set_size));
  }
  XC_RETURN_IF_ERROR(expand(options.precisions, set_precision));
  XC_RETURN_IF_ERROR(expand(options.threads, set_count("--threads", 0, &Configuration::threads)));
  XC_RETURN_IF_ERROR(expand(options.batches, set_count("--batch", 1, &Configuration::batch)));
  return result;
}

}  // namespace

Result<Plan> make_plan(const Options& options) {
  Plan plan;
  XC_RETURN_IF_ERROR(parse_effort(options, &plan.effort));
  const Result<Format> format = parse_format(options.output);
  XC_RETURN_IF_ERROR(format.status());
  plan.format = *format;
  const Result<double> max_regress = parse_share("--max-regress", options.max_regress);
  XC_RETURN_IF_ERROR(max_regress.status());
  plan.max_regress = *max_regress;
  Result<std::vector<Configuration>> configurations = combine(options);
  XC_RETURN_IF_ERROR(configurations.status());
  plan.configurations = *std::move(configurations);
  return plan;
}

}  // namespace xception::bench
