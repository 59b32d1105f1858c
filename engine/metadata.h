// What a weight file, or the config.json beside it, says about its network in words: architecture,
// labels, preprocessing. JSON beyond 4 MiB or 16 levels is refused unread, and messages show the
// beginning of a value.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "xception/preprocess.h"
#include "xception/status.h"

namespace xception {

// Every field that was not given is empty; `preprocess` starts from what the caller passes.
struct Metadata {
  std::string arch;
  std::optional<double> bn_eps;
  std::optional<bool> pool_pad_same;
  std::optional<bool> sep_relu;
  std::optional<double> width;
  std::optional<int> num_classes;
  std::vector<std::string> labels;
};

// Heights and widths that a network takes, in pixels.
struct Sides {
  int least = 1;
  int most = kMaxSide;
};

// Reads the "xception.*" entries of a safetensors header. Fails with kBadModel, naming the key,
// where it is unknown or its value is not what it needs.
Result<Metadata> read_metadata(const std::map<std::string, std::string>& entries);

// Reads timm's config.json: architecture, number of classes and label names.
Result<Metadata> read_timm_config(const std::string& json_text);

// Overwrites in `preprocess` what "xception.preprocess" or timm's pretrained_cfg gives. Fails with
// kBadModel, naming the key, on a value that is none or that makes pictures of other sides, and on
// an unknown key of ours; timm's others are passed over.
Status read_preprocess(const std::map<std::string, std::string>& entries, const Sides& sides,
                       Preprocess& preprocess);
Status read_timm_preprocess(const std::string& json_text, const Sides& sides,
                            Preprocess& preprocess);

}  // namespace xception
