// The networks at full size, for tests that look at their graphs and plans and at no value.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/graph.h"
#include "engine/safetensors.h"

namespace xception {

// A file of zeros with all the tensors of network `arch` ("fc" for 10 classes included). The zeros
// take no memory until they are written.
class ZeroModel {
 public:
  explicit ZeroModel(const std::string& arch);
  ~ZeroModel();
  ZeroModel(const ZeroModel&) = delete;
  ZeroModel& operator=(const ZeroModel&) = delete;

  const WeightFile& file() const { return *file_; }
  const Graph& graph() const { return graph_; }

 private:
  struct Tensor {
    std::string name;
    std::string shape;
    std::int64_t elements = 0;
  };

  void load(const std::vector<Tensor>& tensors);

  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
  std::shared_ptr<const WeightFile> file_;
  Graph graph_;
};

}  // namespace xception
