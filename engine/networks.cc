#include "engine/networks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <utility>

#include "engine/builder.h"
#include "engine/metadata.h"
#include "engine/safetensors_header.h"

namespace xception {
namespace {

// Channel counts of the seed networks at a width: multiples of 8, at least 8.
int scaled(int channels, double width) {
  return std::max(8, static_cast<int>(std::floor(channels * width / 8 + 0.5)) * 8);
}

// --- seed and seed_depthwise -------------------------------------------------------------------

class SeedNetwork {
 public:
  SeedNetwork(GraphBuilder& builder, const NetworkConfig& config)
      : b_(builder), config_(config), depthwise_(config.arch == "seed_depthwise") {}

  ValueId build() {
    ValueId x = b_.conv("feature.0", b_.input(), conv3x3(channels(32)));
    x = b_.relu("feature.2", b_.batch_norm("feature.1", x));
    x = b_.conv("feature.3", x, conv3x3(channels(64)));
    x = b_.relu("feature.5", b_.batch_norm("feature.4", x));

    ValueId y = b_.relu("block1.1", separable("block1.0", x, channels(128)));
    y = separable("block1.2", y, channels(128));
    x = halve("block1.3", y, "conv3", x, "add1");
    x = down("block2", x, channels(256), channels(256), "conv4", "add2");
    x = down("block3", x, channels(728), channels(728), "conv5", "add3");
    for (int repeat = 0; repeat < 8; ++repeat) {
      x = middle(x);
    }
    x = down("block5", x, channels(728), channels(1024), "conv7", "add5");
    x = relu_separable_norm("block6", 0, x, channels(1536));
    x = relu_separable_norm("block6", 3, x, channels(2048));
    return b_.avg_pool("block6.6", x, 2);
  }

 private:
  int channels(int full) const { return scaled(full, config_.width); }

  static GraphBuilder::Conv conv3x3(int out) {
    return {.out = out, .size = 3, .pad = 1, .bias = true};
  }

  ValueId separable(const std::string& name, ValueId x, int out) {
    GraphBuilder::Conv spatial = conv3x3(b_.channels(x));
    spatial.depthwise = depthwise_;
    x = b_.batch_norm(name + ".depthwise.1", b_.conv(name + ".depthwise.0", x, spatial));
    x = config_.sep_relu ? b_.relu(name + ".depthwise.2", x) : x;
    x = b_.conv(name + ".pointwise.0", x, {.out = out, .bias = true});
    x = b_.batch_norm(name + ".pointwise.1", x);
    return config_.sep_relu ? b_.relu(name + ".pointwise.2", x) : x;
  }

  // The modules name.first to name.(first + 2).
  ValueId relu_separable_norm(const std::string& name, int first, ValueId x, int out) {
    const auto module = [&](int i) { return name + '.' + std::to_string(first + i); };
    x = separable(module(1), b_.relu(module(0), x), out);
    return b_.batch_norm(module(2), x);
  }

  // Max pooling of `main` plus a strided 1x1 convolution of `src`.
  ValueId halve(const std::string& pool, ValueId main, const std::string& shortcut, ValueId src,
                const std::string& add) {
    const int out = b_.channels(main);
    main = b_.max_pool(pool, main, PadMode::kExplicit);
    const ValueId skip = b_.conv(shortcut, src, {.out = out, .stride = 2, .bias = true});
    return b_.add(add, main, skip);
  }

  ValueId down(const std::string& name, ValueId src, int between, int out,
               const std::string& shortcut, const std::string& add) {
    ValueId x = relu_separable_norm(name, 0, src, between);
    x = relu_separable_norm(name, 3, x, out);
    return halve(name + ".6", x, shortcut, src, add);
  }

  // One module, applied again and again with the same weights.
  ValueId middle(ValueId x) {
    ValueId y = x;
    for (int i = 0; i < 3; ++i) {
      y = relu_separable_norm("block4.feature", 3 * i, y, channels(728));
    }
    return b_.add("block4.add", y, x);
  }

  GraphBuilder& b_;
  const NetworkConfig& config_;
  bool depthwise_;
};

// --- xception ----------------------------------------------------------------------------------

class PaperNetwork {
 public:
  PaperNetwork(GraphBuilder& builder, const NetworkConfig& config)
      : b_(builder), pool_pad_(config.pool_pad) {}

  ValueId build() {
    ValueId x = b_.conv("conv1", b_.input(), {.out = 32, .size = 3, .stride = 2});
    x = b_.relu("act1", b_.batch_norm("bn1", x));
    x = b_.conv("conv2", x, {.out = 64, .size = 3});
    x = b_.relu("act2", b_.batch_norm("bn2", x));
    x = block("block1", x, {128, 128}, Shortcut::kConv, false);
    x = block("block2", x, {256, 256}, Shortcut::kConv, true);
    x = block("block3", x, {728, 728}, Shortcut::kConv, true);
    for (int i = 4; i <= 11; ++i) {
      x = block("block" + std::to_string(i), x, {728, 728, 728}, Shortcut::kIdentity, true);
    }
    x = block("block12", x, {728, 1024}, Shortcut::kConv, true);
    x = b_.relu("act3", b_.batch_norm("bn3", separable("conv3", x, 1536)));
    x = b_.relu("act4", b_.batch_norm("bn4", separable("conv4", x, 2048)));
    return b_.global_avg_pool("global_pool", x);
  }

 private:
  enum class Shortcut { kIdentity, kConv };

  ValueId separable(const std::string& name, ValueId x, int out) {
    x = b_.conv(name + ".conv1", x, {.size = 3, .pad = 1, .depthwise = true});
    return b_.conv(name + ".pointwise", x, {.out = out});
  }

  ValueId block(const std::string& name, ValueId src, const std::vector<int>& widths,
                Shortcut shortcut, bool starts_with_relu) {
    int module = 0;
    const auto next = [&] { return name + ".rep." + std::to_string(module++); };
    ValueId x = src;
    for (const int width : widths) {
      if (module > 0 || starts_with_relu) {
        x = b_.relu(next(), x);
      }
      x = separable(next(), x, width);
      x = b_.batch_norm(next(), x);
    }
    if (shortcut == Shortcut::kIdentity) {
      return b_.add(name + ".add", x, src);
    }
    x = b_.max_pool(next(), x, pool_pad_);
    const ValueId skip = b_.conv(name + ".skip", src, {.out = widths.back(), .stride = 2});
    return b_.add(name + ".add", x, b_.batch_norm(name + ".skipbn", skip));
  }

  GraphBuilder& b_;
  PadMode pool_pad_;
};

// --- which network is this? --------------------------------------------------------------------

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
                               "network with --arch"};
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
          return scaled(pair.first, width) == pair.second;
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
  const ValueId features = *chosen == "xception" ? PaperNetwork(builder, *config).build()
                                                 : SeedNetwork(builder, *config).build();
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
