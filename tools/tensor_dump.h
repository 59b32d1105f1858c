// --dump-input: everything that was fed, as one .npy file.
#pragma once

#include <string>
#include <vector>

#include "batch.h"

namespace xception::cli {

class TensorDump {
 public:
  // `path` empty: nothing is collected.
  explicit TensorDump(std::string path) : path_(std::move(path)) {}

  // Fails with kIo, before anything is fed, where the file could not be written.
  Status prepare() const;

  // Keeps the batch's tensor. What cannot go into one array is told of by finish().
  void add(const Batch& batch, const Preprocess& preprocess);

  // Writes float32 NCHW. Fails with kIo, and where the pictures had different sizes, were none, or
  // were more than 1 GiB in all.
  Status finish();

 private:
  std::string path_;
  Shape shape_;
  std::vector<float> values_;
  Status status_;
};

}  // namespace xception::cli
