// The networks that the engine knows: which one a weight file holds, how it is set, and its graph.
#pragma once

#include <string>
#include <vector>

#include "engine/graph.h"
#include "engine/safetensors.h"
#include "xception/engine.h"

namespace xception {

// Everything about a network that its tensors do not say.
struct NetworkConfig {
  std::string arch;
  double bn_eps = 1e-5;
  PadMode pool_pad = PadMode::kExplicit;  // xception only
  bool sep_relu = true;                   // seed networks only: ReLUs inside SeparableConv2d
  double width = 1.0;                     // seed networks only: factor of every channel count
};

struct Network {
  NetworkConfig config;
  ModelInfo info;
  Graph graph;
};

// Finds out what `file` is, in the order: metadata, `config_json` (the text of the config.json that
// timm publishes beside its files, empty, or why that cannot be read), names and shapes of the
// tensors; `arch`, if not empty, overrules them. Then builds the graph and checks that every
// parameter is there in the right shape and every tensor is used. The graph points to entries of
// `file`, which must outlive it. Fails with kBadModel, naming the tensor, what was expected and
// what is there.
Result<Network> build_network(const WeightFile& file, const Result<std::string>& config_json,
                              const std::string& arch);

}  // namespace xception
