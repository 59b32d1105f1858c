// A weight file seen through the parameter names of the reference PyTorch modules.
//
// Checkpoints name the same parameter in several ways: behind "module." or "model.", with
// "last_linear" for the head. Here every tensor has one canonical name, and remembers whether a
// network asked for it.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/safetensors.h"

namespace xception {

class Parameters {
 public:
  // Fails with kBadModel where two tensors get the same canonical name.
  static Result<Parameters> create(const WeightFile& file);

  const WeightFile& file() const { return *file_; }

  // Null where there is none. Looking does not count as use.
  const TensorEntry* find(std::string_view name) const;

  // Finds and checks the shape; where `shape` ends in 1s they may be missing in the file, as in
  // older files with 2-D pointwise weights. Fails with kBadModel.
  Result<const TensorEntry*> take(const std::string& name, const std::vector<std::int64_t>& shape);

  // The same, and reads the values: for vectors as long as a channel count.
  Result<std::vector<float>> take_values(const std::string& name, std::int64_t length);

  // Elements of all tensors but the running statistics of batch norms, as PyTorch's parameters()
  // counts them.
  std::int64_t count() const;

  // Canonical names that start with `prefix`, sorted.
  std::vector<std::string> names_below(std::string_view prefix) const;

  // Fails with kBadModel, naming the first, where a tensor was not taken. Counters of batch norms
  // (num_batches_tracked) are never needed.
  Status check_all_taken() const;

 private:
  struct Slot {
    const TensorEntry* entry = nullptr;
    bool taken = false;
  };
  const WeightFile* file_ = nullptr;
  std::map<std::string, Slot, std::less<>> slots_;
};

}  // namespace xception
