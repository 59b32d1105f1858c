// --dump-layers: what every step of the plan computes, as .npy files.
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "xception/engine.h"

namespace xception::cli {

class LayerDump {
 public:
  explicit LayerDump(std::string folder) : folder_(std::move(folder)) {}

  // Makes the folder where it is not there.
  Status prepare();

  // Writes FOLDER/NAME.npy, float32 NCHW. The networks' names are names of files.
  Status write(const LayerOutput& output);

 private:
  std::string folder_;
  std::set<std::string> written_;
  std::vector<float> nchw_;
};

}  // namespace xception::cli
