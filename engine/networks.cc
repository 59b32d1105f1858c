#include "engine/networks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <utility>

#include "engine/builder.h"
#include "engine/metadata.h"
#include "engine/network_graphs.h"
#include "engine/safetensors_header.h"

namespace xception {
namespace {

struct KnownNetwork {
  const char* arch;
  Sides sides;
};
constexpr std::array<KnownNetwork, 3> kKnown = {
    {{"seed", {17, 32}}, {"seed_depthwise", {17, 32}}, {"xception", {71, kMaxSide}}}};

const KnownNetwork* find_known(const std::string& arch) {
  const auto* known = std::find_if(kKnown.begin(), kKnown.end(),
                                   [&](const KnownNetwork& k) { return arch == k.arch; });
  return known == kKnown.end() ? nullptr : known;
}

std::string list_known() {
  std::string list;
  for (const KnownNetwork& known : kKnown) {
    list += (list.empty() ? "" : ", ") + std::string(known.arch);
  }
  return list;
}

// timm's and Cadene's names of the paper's network.
std::string resolve_alias(const std::string& arch) {
  return arch == "legacy_xception" ? "xception" : arch;
}

std::string guess_arch(const Parameters& parameters) {
  if (parameters.find("block12.rep.1.conv1.weight") != nullptr &&
      parameters.find("conv4.pointwise.weight") != nullptr) {
    return "xception";
  }
  const TensorEntry* middle = parameters.find("block4.feature.1.depthwise.0.weight");
  if (middle != nullptr && middle->shape.size() == 4) {
    return middle->shape[1] == 1 ? "seed_depthwise" : "seed";
  }
  return "";
}

Status unknown_network(const WeightFile& file) {
  std::string names;
  for (std::size_t i = 0; i < std::min<std::size_t>(3, file.entries().size()); ++i) {
    names += (i == 0 ? "" : ", ") + quoted_name(file.entries()[i].name);
  }
  return {Code::kBadModel, "no network of ours has tensors named like these (" +
                               (names.empty() ? "there are none" : names) +
                               ", ...); known networks: " + list_known() +
                               ". Convert the checkpoint with weights/export.py, or name the "
                               "network (arch)"};
}

Result<std::string> choose_arch(const Parameters& parameters, const Metadata& metadata,
                                const Metadata& timm, const std::string& wanted) {
  if (!wanted.empty()) {
    const std::string arch = resolve_alias(wanted);
    if (find_known(arch) == nullptr) {
      return Status(Code::kInvalidArgument,
                    "unknown network '" + wanted + "'; known networks: " + list_known());
    }
    return arch;
  }
  if (!metadata.arch.empty()) {
    const std::string arch = resolve_alias(metadata.arch);
    if (find_known(arch) == nullptr) {
      return Status(Code::kBadModel, "metadata 'xception.arch' is " + quoted_name(metadata.arch) +
                                         "; known networks: " + list_known());
    }
    return arch;
  }
  if (!timm.arch.empty()) {
    return resolve_alias(timm.arch);
  }
  const std::string guess = guess_arch(parameters);
  if (guess.empty()) {
    return unknown_network(parameters.file());
  }
  return guess;
}

// The simplest width that makes the channel counts of a seed network's tensors; where no width
// makes all of them, that of the last one, so that the tensor that does not fit is named.
double infer_width(const Parameters& parameters) {
  constexpr double kMaxWidth = 16;
  std::vector<std::pair<int, int>> counts;  // at width 1, and here
  double low = 0;
  double high = kMaxWidth;
  for (const auto& [full, norm] :
       std::initializer_list<std::pair<int, const char*>>{{32, "feature.1.weight"},
                                                          {64, "feature.4.weight"},
                                                          {128, "block1.0.pointwise.1.weight"},
                                                          {256, "block2.5.weight"},
                                                          {728, "block3.5.weight"},
                                                          {1024, "block5.5.weight"},
                                                          {1536, "block6.2.weight"},
                                                          {2048, "block6.5.weight"}}) {
    const TensorEntry* entry = parameters.find(norm);
    if (entry == nullptr || entry->shape.size() != 1 || entry->shape[0] < 1 ||
        static_cast<double>(entry->shape[0]) > full * kMaxWidth) {
      continue;
    }
    const int count = static_cast<int>(entry->shape[0]);
    counts.emplace_back(full, count);
    low = std::max(low, count == 8 ? 0.0 : (count - 4.0) / full);
    high = std::min(high, (count + 4.0) / full);
  }
  if (counts.empty()) {
    return 1.0;
  }
  for (double unit = 1; unit <= 1e6; unit *= 10) {
    const double width = std::round((low + high) / 2 * unit) / unit;
    if (width > 0 && std::all_of(counts.begin(), counts.end(), [width](const auto& pair) {
          return scaled_channels(pair.first, width) == pair.second;
        })) {
      return width;
    }
  }
  return static_cast<double>(counts.back().second) / counts.back().first;
}

Result<NetworkConfig> configure(const Parameters& parameters, const Metadata& metadata,
                                const std::string& arch) {
  NetworkConfig config;
  config.arch = arch;
  config.bn_eps = metadata.bn_eps.value_or(1e-5);
  config.pool_pad = metadata.pool_pad_same.value_or(false) ? PadMode::kSame : PadMode::kExplicit;
  config.sep_relu = metadata.sep_relu.value_or(true);
  if (arch != "xception") {
    if (config.pool_pad == PadMode::kSame) {
      return Status(Code::kBadModel, "metadata 'xception.pool_pad' is 'tf_same', which " + arch +
                                         " does not have; expected 'torch'");
    }
    config.width = metadata.width ? *metadata.width : infer_width(parameters);
  }
  return config;
}

Preprocess preset(const std::string& arch) {
  Preprocess preprocess;  // as published for the paper's network
  if (arch != "xception") {
    preprocess.size = 32;
    preprocess.keep_min = 17;
    preprocess.keep_max = 32;
    preprocess.mode = ResizeMode::kSquash;
    preprocess.interpolation = Interpolation::kBilinear;
  }
  return preprocess;
}

// Whether the file's own metadata leave nothing for a config.json to say but the network's name.
bool says_all(const WeightFile& file) {
  return file.metadata().count("xception.preprocess") > 0 &&
         file.metadata().count("xception.labels") > 0;
}

// A config.json may stand beside any file: what it says counts only where it names a network of
// ours. One that cannot be read is an error, since the pictures might want what it said.
Result<Metadata> read_config(const Result<std::string>& config_json, bool settled) {
  if (config_json.ok() && config_json->empty()) {
    return Metadata();
  }
  Result<Metadata> timm =
      config_json.ok() ? read_timm_config(*config_json) : Result<Metadata>(config_json.status());
  if (!timm.ok() && !settled) {
    return timm.status();
  }
  const bool ours = timm.ok() && find_known(resolve_alias(timm->arch)) != nullptr;
  return ours ? *std::move(timm) : Metadata();
}

constexpr const char* kConfig = "config.json beside the weight file";
constexpr const char* kReplace = "; it is another model's: replace or remove it";

// `where` is who says `given`. 0 is a model that was saved without its head.
Status check_classes(const std::string& where, const std::optional<int>& given, int outputs,
                     int classes, const std::string& remedy) {
  return !given || *given == classes || *given == outputs
             ? Status()
             : Status(Code::kBadModel, where + " is " + std::to_string(*given) + ", the head has " +
                                           std::to_string(classes) + remedy);
}

Status fill_info(const Metadata& metadata, const Metadata& timm, int outputs, int classes,
                 ModelInfo& info) {
  XC_RETURN_IF_ERROR(check_classes("metadata 'xception.num_classes'", metadata.num_classes, outputs,
                                   classes, "; export the model again"));
  XC_RETURN_IF_ERROR(check_classes(std::string(kConfig) + ": 'num_classes'", timm.num_classes,
                                   outputs, classes, kReplace));
  info.classes = classes;
  info.has_head = outputs > 0;
  const bool own_labels = !metadata.labels.empty();
  info.labels = own_labels ? metadata.labels : timm.labels;
  if (!info.labels.empty() && info.labels.size() != static_cast<std::size_t>(classes)) {
    return {Code::kBadModel, (own_labels ? "the file" : kConfig) + std::string(" names ") +
                                 std::to_string(info.labels.size()) + " labels for " +
                                 std::to_string(classes) + " classes" +
                                 (outputs == 1 ? ", as a head of one output has" : "") +
                                 (own_labels ? "; export it with as many, or without" : kReplace)};
  }
  return {};
}

}  // namespace

std::vector<std::string> known_networks() {
  std::vector<std::string> names;
  for (const KnownNetwork& known : kKnown) {
    names.emplace_back(known.arch);
  }
  return names;
}

Result<Network> build_network(const WeightFile& file, const Result<std::string>& config_json,
                              const std::string& arch) {
  Result<Parameters> parameters = Parameters::create(file);
  XC_RETURN_IF_ERROR(parameters.status());
  Result<Metadata> metadata = read_metadata(file.metadata());
  XC_RETURN_IF_ERROR(metadata.status());
  Result<Metadata> timm = read_config(config_json, !arch.empty() && says_all(file));
  XC_RETURN_IF_ERROR(timm.status());
  const Result<std::string> chosen = choose_arch(*parameters, *metadata, *timm, arch);
  XC_RETURN_IF_ERROR(chosen.status());
  Result<NetworkConfig> config = configure(*parameters, *metadata, *chosen);
  XC_RETURN_IF_ERROR(config.status());

  GraphBuilder builder(*parameters, config->bn_eps);
  const ValueId features =
      *chosen == "xception" ? append_xception(builder, *config) : append_seed(builder, *config);
  const GraphBuilder::Head head = builder.head(features);
  const int classes = builder.channels(head.value);
  Result<Graph> graph = builder.finish();
  XC_RETURN_IF_ERROR(graph.status().with_context("as network '" + *chosen + "'"));

  Network network{*config, {}, std::move(*graph)};
  network.info.file = file.name();
  network.info.arch = *chosen;
  const Sides sides = find_known(*chosen)->sides;
  network.info.min_side = sides.least;
  network.info.max_side = sides.most;
  network.info.preprocess = preset(*chosen);
  if (resolve_alias(timm->arch) != *chosen) {
    *timm = {};  // it tells of another network
  } else {
    XC_RETURN_IF_ERROR(read_timm_preprocess(*config_json, sides, network.info.preprocess));
  }
  XC_RETURN_IF_ERROR(read_preprocess(file.metadata(), sides, network.info.preprocess));
  XC_RETURN_IF_ERROR(fill_info(*metadata, *timm, head.outputs, classes, network.info));
  network.info.parameters = parameters->count();
  return network;
}

}  // namespace xception
