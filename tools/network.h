// The model as the options want it: its labels, its preprocessing, and sessions for the sizes that
// occur.
#pragma once

#include <list>
#include <memory>
#include <string>
#include <vector>

#include "options.h"
#include "xception/engine.h"

namespace xception::cli {

class Network {
 public:
  // Loads the model and the labels and applies the options to the preprocessing. Fails with
  // kBadModel where the model is refused and with kInvalidArgument where an option does not fit.
  static Result<Network> load(const Options& options);

  const ModelInfo& info() const { return model_->info(); }
  const Preprocess& preprocess() const { return preprocess_; }
  const std::vector<std::string>& labels() const { return labels_; }  // one a class, or empty

  // A session of this shape. The latest few are kept; the reference is good until the next call.
  Result<Session*> session(int batch, int height, int width);

 private:
  Network() = default;
  Status apply(const Options& options);
  Status read_labels(const std::string& path);

  std::shared_ptr<const Model> model_;
  Preprocess preprocess_;
  std::vector<std::string> labels_;
  SessionOptions session_options_;
  std::list<Session> sessions_;  // the latest first
};

// Where a session runs: "cpu, fp32, 2 threads", "cuda:0 (NVIDIA L4, ...), fp16".
std::string place_text(const SessionInfo& info);

// With -v, says what runs where, and, where `auto` took the CPU, what stands in the way of each
// GPU.
void say_place(const Options& options, const std::string& arch, const SessionInfo& info);

}  // namespace xception::cli
