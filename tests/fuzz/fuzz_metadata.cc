// What a weight file and the config.json beside it say in words: any text is read within limits, or
// refused with a message.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "engine/metadata.h"

namespace {

using xception::Code;
using xception::Preprocess;
using xception::Status;

constexpr xception::Sides kSides = {17, 400};

void require(bool condition, const char* what) {
  if (!condition) {
    std::fprintf(stderr, "broken promise: %s\n", what);
    std::abort();
  }
}

void check_status(const Status& status) {
  require(status.ok() || status.code() == Code::kBadModel, "what is bad is the model");
  require(status.ok() || !status.message().empty(), "a failure has a message");
  require(status.message().size() < 1000, "a message shows the beginning of a value");
}

void check_preprocess(const Status& status, const Preprocess& preprocess) {
  check_status(status);
  const auto taken = [](int side) { return side >= kSides.least && side <= kSides.most; };
  require(preprocess.size == Preprocess().size || taken(preprocess.size),
          "the network takes the size");
  require(!status.ok() || (preprocess.keep_min == 0 && preprocess.keep_max == 0) ||
              (taken(preprocess.keep_min) && taken(preprocess.keep_max) &&
               preprocess.keep_min <= preprocess.keep_max),
          "the network takes what is kept");
  require(preprocess.crop_pct > 0 && preprocess.crop_pct <= 1, "the crop is a part");
  for (std::size_t c = 0; c < 3; ++c) {
    require(std::isfinite(preprocess.mean[c]), "the mean is finite");
    require(preprocess.std[c] > 0, "the deviation is positive");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const char* key :
       {"xception.schema", "xception.arch", "xception.bn_eps", "xception.pool_pad",
        "xception.sep_relu", "xception.width", "xception.num_classes", "xception.labels"}) {
    check_status(xception::read_metadata({{key, text}}).status());
  }
  check_status(xception::read_metadata({{text, "1"}}).status());
  Preprocess ours;
  check_preprocess(xception::read_preprocess({{"xception.preprocess", text}}, kSides, ours), ours);
  check_status(xception::read_timm_config(text).status());
  for (const std::string& config : {text, "{\"pretrained_cfg\":" + text + "}"}) {
    Preprocess timm;
    check_preprocess(xception::read_timm_preprocess(config, kSides, timm), timm);
  }
  return 0;
}
