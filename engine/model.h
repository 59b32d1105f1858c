// What a Model holds: the file, the network it turned out to be, and the weights packed so far.
#pragma once

#include <memory>

#include "engine/backend.h"
#include "engine/networks.h"
#include "engine/safetensors.h"
#include "xception/engine.h"

namespace xception {

struct Model::Impl {
  std::shared_ptr<const WeightFile> file;
  Network network;
  mutable WeightCache cache;  // guards itself
};

}  // namespace xception
