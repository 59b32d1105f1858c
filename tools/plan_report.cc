#include "plan_report.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <vector>

#include "batch.h"
#include "message.h"
#include "network.h"
#include "output.h"
#include "statistics.h"
#include "table.h"

namespace xception::cli {
namespace {

std::string triple(const std::array<float, 3>& values) {
  std::string text;
  for (const float value : values) {
    text += (text.empty() ? "" : ", ") + fixed(value, 4);
  }
  return text;
}

std::string fitting_text(const Preprocess& p) {
  std::string text = std::to_string(p.size) + " x " + std::to_string(p.size) + ", ";
  text += p.interpolation == Interpolation::kNearest    ? "nearest"
          : p.interpolation == Interpolation::kBilinear ? "bilinear"
                                                        : "bicubic";
  switch (p.mode) {
    case ResizeMode::kCenter:
      text += ", centre crop of " + fixed(p.crop_pct, 4);
      break;
    case ResizeMode::kSquash:
      text += ", squashed";
      break;
    case ResizeMode::kBorder:
      text += ", with a border";
      break;
  }
  if (p.keep_max > 0) {
    text += "; sides of " + std::to_string(p.keep_min) + " to " + std::to_string(p.keep_max) +
            " are taken as they are";
  }
  return text;
}

double mebibytes(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

std::string network_text(const Network& network, const SessionInfo& session) {
  const ModelInfo& info = network.info();
  const Preprocess& preprocess = network.preprocess();
  Table table({{"model"}, {info.file}});
  const std::string outputs =
      info.has_head
          ? " classes, " + std::string(network.labels().empty() ? "without" : "with") + " names"
          : " features and no classes";
  table.add({"network", info.arch + ", " + std::to_string(info.classes) + outputs});
  table.add({"parameters", std::to_string(info.parameters)});
  table.add({"input", fitting_text(preprocess)});
  table.add({"mean", triple(preprocess.mean)});
  table.add({"std", triple(preprocess.std)});
  table.add({"runs on", place_text(session) + ", input " + to_string(session.input)});
  return table.text();
}

std::string plan_text(const SessionInfo& session) {
  Table table({{"#", true},
               {"layer"},
               {"operation"},
               {"implementation"},
               {"output"},
               {"MMAC", true},
               {"param KiB", true},
               {"arena offset", true},
               {"bytes", true}});
  double macs = 0;
  for (const LayerInfo& layer : session.layers) {
    macs += static_cast<double>(layer.macs);
    table.add({std::to_string(&layer - session.layers.data()), layer.name, layer.operation,
               layer.implementation, to_string(layer.output),
               fixed(static_cast<double>(layer.macs) / 1e6, 3),
               fixed(static_cast<double>(layer.parameter_bytes) / 1024, 1),
               std::to_string(layer.arena_offset), std::to_string(layer.output_bytes)});
  }
  return table.text() + "\nlayers " + std::to_string(session.layers.size()) + ", " +
         fixed(macs / 1e9, 4) + " GMAC, packed weights " + std::to_string(session.parameter_bytes) +
         " bytes (" + fixed(mebibytes(session.parameter_bytes), 1) + " MiB), arena " +
         std::to_string(session.arena_bytes) + " bytes (" +
         fixed(mebibytes(session.arena_bytes), 1) + " MiB)\n";
}

std::string profile_text(const SessionInfo& session, const Profile& profile) {
  const std::vector<double> medians = step_medians(profile);
  std::vector<double> totals;
  for (const std::vector<double>& run : profile) {
    totals.push_back(std::accumulate(run.begin(), run.end(), 0.0));
  }
  const double sum = std::accumulate(medians.begin(), medians.end(), 0.0);
  Table table({{"#", true},
               {"layer"},
               {"operation"},
               {"implementation"},
               {"median ms", true},
               {"%", true},
               {"GFLOP/s", true}});
  double macs = 0;
  for (std::size_t i = 0; i < session.layers.size(); ++i) {
    const LayerInfo& layer = session.layers[i];
    macs += static_cast<double>(layer.macs);
    table.add({std::to_string(i), layer.name, layer.operation, layer.implementation,
               fixed(medians[i] * 1e3, 4), fixed(sum > 0 ? medians[i] / sum * 100 : 0, 1),
               layer.macs == 0 || medians[i] <= 0
                   ? "-"
                   : fixed(2e-9 * static_cast<double>(layer.macs) / medians[i], 1)});
  }
  const double total = percentile_of(totals, 50);
  return table.text() + "\nall steps " + fixed(total * 1e3, 3) + " ms (median of " +
         std::to_string(profile.size()) + "), " + fixed(total * 1e3 / session.input.n, 3) +
         " ms a picture, " + fixed(total > 0 ? 2e-9 * macs / total : 0, 1) + " GFLOP/s\n";
}

// What --profile runs on: the inputs as one batch, or where there are none gray pictures.
Result<Batch> profile_batch(const Options& options, const Network& network) {
  if (options.has_inputs()) {
    const Result<PictureSource> source = open_inputs(options, network.preprocess());
    XC_RETURN_IF_ERROR(source.status());
    if (options.batch > 0 && static_cast<std::size_t>(options.batch) != source->count) {
      return Status(Code::kInvalidArgument, "--profile runs the " + std::to_string(source->count) +
                                                " inputs as one batch, which --batch " +
                                                std::to_string(options.batch) + " contradicts");
    }
    return gather(*source);
  }
  const int size = network.preprocess().size;
  Batch batch;
  batch.shape = {std::max(options.batch, 1), size, size, 3};
  batch.pixels.assign(static_cast<std::size_t>(batch.shape.elements()), 128);
  return batch;
}

Status write_info(const Options& options, std::string& text) {
  Result<Network> network = Network::load(options);
  XC_RETURN_IF_ERROR(network.status());
  const int size = network->preprocess().size;
  const Result<Session*> session = network->session(std::max(options.batch, 1), size, size);
  XC_RETURN_IF_ERROR(session.status());
  say_place(options, network->info().arch, (*session)->info());
  text = network_text(*network, (*session)->info()) + '\n' + plan_text((*session)->info());
  return {};
}

Status write_profile(const Options& options, std::string& text) {
  Result<Network> network = Network::load(options);
  XC_RETURN_IF_ERROR(network.status());
  const Result<Batch> batch = profile_batch(options, *network);
  XC_RETURN_IF_ERROR(batch.status());
  Result<Session*> session = network->session(batch->shape.n, batch->shape.h, batch->shape.w);
  XC_RETURN_IF_ERROR(name_array(session.status(), options.raw_input));
  say_place(options, network->info().arch, (*session)->info());
  std::vector<float> logits;
  XC_RETURN_IF_ERROR(run_batch(**session, *batch, logits));  // warms up, and stages the input
  Result<Profile> profile = (*session)->profile(options.profile_runs);
  XC_RETURN_IF_ERROR(profile.status());
  text = network_text(*network, (*session)->info()) + '\n' +
         profile_text((*session)->info(), *profile);
  return {};
}

}  // namespace

int print_info(const Options& options) {
  std::string text;
  return print_result(write_info(options, text), text);
}

int print_profile(const Options& options) {
  std::string text;
  return print_result(write_profile(options, text), text);
}

}  // namespace xception::cli
