// Weight files of the networks, made in memory and without PyTorch: complete in names and shapes,
// small where the network can be, and to be spoilt by a test in one thing.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "random.h"

namespace xception {

class ModelFixture {
 public:
  struct Tensor {
    std::string name;
    std::string type;  // as safetensors spells it
    std::vector<std::int64_t> shape;
    std::string data;
  };

  std::map<std::string, std::string> metadata;
  std::vector<Tensor> tensors;

  // The tensor of that name, which has to be there.
  Tensor& at(std::string_view name);
  std::vector<float> values(std::string_view name);  // of an F32 tensor

  void add(const std::string& name, const std::vector<std::int64_t>& shape,
           const std::vector<float>& values);
  void remove(std::string_view name);
  void rename(const std::function<std::string(const std::string&)>& new_name);

  // Takes the 1s at the end off every shape of four sides, as older checkpoints have it.
  void flatten_pointwise();

  // The safetensors file.
  std::string bytes() const;
};

struct SeedOptions {
  bool depthwise = true;
  double width = 0.0625;  // 8 to 128 channels
  int classes = 7;
};

// Random weights of a size that keeps activations alive, as F32. No metadata.
ModelFixture seed_fixture(Random& random, const SeedOptions& options = {});

// The paper's network with 1000 classes; every value is zero, as F16, since 23 million of them are
// enough to write. No metadata.
ModelFixture xception_fixture();

}  // namespace xception
