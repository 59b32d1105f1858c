#include "bench_layers.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include "bench_roofline.h"
#include "statistics.h"
#include "stopwatch.h"

namespace xception::bench {
namespace {

using nlohmann::ordered_json;

ordered_json describe_session(const SessionInfo& info, const std::optional<Roofline>& roofline) {
  ordered_json session;
  session["device"] = device_text(info);
  session["precision"] = precision_name(info.precision);
  session["threads"] = info.threads;
  session["input"] = xception::to_string(info.input);
  session["roofline"] = nullptr;
  if (roofline) {
    session["roofline"] = {{"flops_per_s", roofline->peak.flops_per_s},
                           {"bytes_per_s", roofline->peak.bytes_per_s},
                           {"source", roofline->source}};
  }
  return session;
}

// The bytes of packed weights that each layer reads. A repetition ("name#3") holds none of its own,
// but reads those of the first.
std::vector<std::size_t> weights_read(const std::vector<LayerInfo>& layers) {
  std::map<std::string, std::size_t> held;
  std::vector<std::size_t> read;
  for (const LayerInfo& layer : layers) {
    const std::string name = layer.name.substr(0, layer.name.find('#'));
    read.push_back(held.try_emplace(name, layer.parameter_bytes).first->second);
  }
  return read;
}

ordered_json describe_layer(const LayerInfo& layer, std::size_t weights) {
  ordered_json row;
  row["name"] = layer.name;
  row["operation"] = layer.operation;
  row["implementation"] = layer.implementation;
  row["inputs"] = ordered_json::array();
  for (const Shape& input : layer.inputs) {
    row["inputs"].push_back(xception::to_string(input));
  }
  row["output"] = xception::to_string(layer.output);
  row["macs"] = layer.macs;
  row["bytes"] = layer.input_bytes + weights + layer.output_bytes;
  return row;
}

void add_rates(double seconds, const std::optional<Roofline>& roofline, ordered_json* row) {
  const auto macs = (*row)["macs"].get<double>();
  const auto bytes = (*row)["bytes"].get<double>();
  (*row)["gflops_per_s"] = 2e-9 * macs / seconds;
  (*row)["gb_per_s"] = 1e-9 * bytes / seconds;
  (*row)["roofline_share"] =
      roofline ? ordered_json(bound_s(*roofline, macs, bytes) / seconds) : ordered_json();
}

}  // namespace

Result<ordered_json> measure_layers(Workload& workload, const Effort& effort) {
  Effort half = effort;
  half.duration_s /= 2;
  const Result<std::vector<double>> whole = timed_runs(workload, half);
  XC_RETURN_IF_ERROR(whole.status());
  const Result<Profile> profile = workload.session.profile(static_cast<int>(whole->size()));
  XC_RETURN_IF_ERROR(profile.status());

  const SessionInfo& info = workload.session.info();
  const std::optional<Roofline> roofline = find_roofline(info);
  const std::vector<double> medians = step_medians(*profile);
  const double sum = std::accumulate(medians.begin(), medians.end(), 0.0);
  ordered_json measured;
  measured["session"] = describe_session(info, roofline);
  measured["session"]["runs"] = profile->size();
  measured["session"]["run_ms"] = 1e3 * percentile_of(*whole, 50);
  measured["session"]["steps_ms"] = 1e3 * sum;
  ordered_json& rows = measured["rows"] = ordered_json::array();
  const std::vector<std::size_t> weights = weights_read(info.layers);
  for (std::size_t i = 0; i < info.layers.size(); ++i) {
    ordered_json row = describe_layer(info.layers[i], weights[i]);
    row["median_ms"] = 1e3 * medians[i];
    row["share"] = medians[i] / sum;
    add_rates(medians[i], roofline, &row);
    rows.push_back(std::move(row));
  }
  return measured;
}

namespace {

struct KernelTime {
  double seconds = 0;  // of a run: the median of the series
  std::size_t series = 0;
};

Result<KernelTime> time_kernel(Session& session, std::size_t layer, const Effort& effort) {
  constexpr double kSeriesSeconds = 1e-3;
  constexpr int kMostRuns = 1 << 14;
  int runs = 1;
  for (;; runs *= 2) {  // until a series is long enough; what it reads is in the caches then
    const Result<double> series = session.time_layer(layer, runs);
    XC_RETURN_IF_ERROR(series.status());
    if (*series >= kSeriesSeconds || runs == kMostRuns) {
      break;
    }
  }
  std::vector<double> times;
  const Clock::time_point start = Clock::now();
  while (!is_enough(effort, times.size(), seconds_since(start))) {
    const Result<double> series = session.time_layer(layer, runs);
    XC_RETURN_IF_ERROR(series.status());
    times.push_back(*series / runs);
  }
  return KernelTime{percentile_of(times, 50), times.size()};
}

// max |a - b| over max |b|; NaN where either has one.
double relative_difference(std::span<const float> a, std::span<const float> b) {
  double difference = 0;
  double largest = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (std::isnan(d)) {
      return d;
    }
    difference = std::max(difference, d);
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return difference == 0 ? 0 : difference / largest;
}

// How far every layer is from what the double-precision loops make of the same pictures, by name.
Result<std::map<std::string, double>> compare_with_loops(Workload& workload) {
  const SessionInfo& info = workload.session.info();
  Result<Session> loops = Session::create(workload.model, {.device = "reference",
                                                           .batch = info.input.n,
                                                           .height = info.input.h,
                                                           .width = info.input.w,
                                                           .fuse = false});
  XC_RETURN_IF_ERROR(loops.status());
  std::map<std::string, std::vector<float>> computed;
  workload.session.set_layer_callback([&](const LayerOutput& output) {
    computed[output.layer->name].assign(output.values.begin(), output.values.end());
    return Status();
  });
  const Status ran = workload.run().status();
  workload.session.set_layer_callback({});
  XC_RETURN_IF_ERROR(ran);
  std::map<std::string, double> differences;
  loops->set_layer_callback([&](const LayerOutput& output) {
    const auto found = computed.find(output.layer->name);
    if (found != computed.end()) {
      differences[found->first] = relative_difference(found->second, output.values);
      computed.erase(found);
    }
    return Status();
  });
  std::vector<float> logits(workload.logits.size());
  XC_RETURN_IF_ERROR(loops->run(TensorView<const float>{workload.images.data(), info.input},
                                TensorView<float>{logits.data(), info.logits}));
  if (!computed.empty()) {
    return Status(Code::kInternal, "layer '" + computed.begin()->first + "' has no reference");
  }
  return differences;
}

// Layers that run the same kernel, the first of them before the others.
using Kernels = std::vector<std::vector<std::size_t>>;

double greatest_of(const std::vector<std::size_t>& kernel, const std::vector<LayerInfo>& layers,
                   const std::map<std::string, double>& differences) {
  double greatest = 0;
  for (const std::size_t i : kernel) {
    const double difference = differences.at(layers[i].name);
    greatest = std::isnan(greatest) || difference <= greatest ? greatest : difference;
  }
  return greatest;
}

Kernels find_kernels(const std::vector<LayerInfo>& layers, const std::string& part_of_name) {
  Kernels kernels;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const LayerInfo& layer = layers[i];
    if (layer.name.find(part_of_name) == std::string::npos) {
      continue;
    }
    const auto same = std::find_if(kernels.begin(), kernels.end(), [&](const auto& kernel) {
      const LayerInfo& other = layers[kernel.front()];
      return other.operation == layer.operation && other.inputs == layer.inputs &&
             other.implementation == layer.implementation && other.output == layer.output &&
             other.input_bytes == layer.input_bytes && other.output_bytes == layer.output_bytes;
    });
    if (same != kernels.end()) {
      same->push_back(i);
    } else {
      kernels.push_back({i});
    }
  }
  return kernels;
}

}  // namespace

Result<ordered_json> measure_kernels(Workload& workload, const Effort& effort,
                                     const KernelChoice& choice) {
  const SessionInfo& info = workload.session.info();
  const Kernels kernels = find_kernels(info.layers, choice.layer);
  if (kernels.empty()) {
    return Status(Code::kInvalidArgument, "--layer: no layer has '" + choice.layer +
                                              "' in its name; 'bench layer' names them");
  }
  std::map<std::string, double> differences;
  if (choice.verify) {
    Result<std::map<std::string, double>> compared = compare_with_loops(workload);
    XC_RETURN_IF_ERROR(compared.status());
    differences = *std::move(compared);
  }
  const Clock::time_point start = Clock::now();
  do {  // once at least: kernels read what a run has left
    XC_RETURN_IF_ERROR(workload.run().status());
  } while (seconds_since(start) < effort.warmup_s);

  const std::optional<Roofline> roofline = find_roofline(info);
  const std::vector<std::size_t> weights = weights_read(info.layers);
  ordered_json measured;
  measured["session"] = describe_session(info, roofline);
  if (choice.verify) {
    measured["session"]["logits_difference"] = differences.at(info.layers.back().name);
    measured["session"]["tolerance"] = info.precision == Precision::kFp32 ? 1e-4 : 2e-2;
  }
  Effort share = effort;
  share.duration_s /= static_cast<double>(kernels.size());
  double sum = 0;
  ordered_json rows = ordered_json::array();
  for (const std::vector<std::size_t>& kernel : kernels) {
    const std::size_t layer = kernel.front();
    const Result<KernelTime> time = time_kernel(workload.session, layer, share);
    XC_RETURN_IF_ERROR(time.status());
    ordered_json row = describe_layer(info.layers[layer], weights[layer]);
    row["times"] = kernel.size();
    row["series"] = time->series;
    row["median_ms"] = 1e3 * time->seconds;
    add_rates(time->seconds, roofline, &row);
    if (choice.verify) {
      row["difference"] = greatest_of(kernel, info.layers, differences);
    }
    rows.push_back(std::move(row));
    sum += time->seconds * static_cast<double>(kernel.size());
  }
  if (choice.layer.empty()) {
    measured["session"]["kernels_ms"] = 1e3 * sum;
  }
  measured["rows"] = std::move(rows);
  return measured;
}

}  // namespace xception::bench
