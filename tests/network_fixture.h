// Models from files of miniature networks, and what tests want to know of them. What fails here is
// no subject of the tests that use it: it ends the test.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/model.h"
#include "model_fixture.h"
#include "xception/engine.h"

namespace xception {

std::span<const std::byte> memory(const std::string& bytes);

// A model with the bytes that it reads from.
struct Loaded {
  std::string bytes;
  std::shared_ptr<const Model> model;

  const ModelInfo& info() const { return model->info(); }
  const Graph& graph() const { return model->impl().network.graph; }
  const NetworkConfig& config() const { return model->impl().network.config; }
  std::vector<std::string> node_names() const;
};
Loaded load(const ModelFixture& fixture, const std::string& arch = "");

// Checks that it is no model of ours, and that `message` says why.
void check_refused(const ModelFixture& fixture, const std::string& message,
                   const ModelOptions& options = {});

// `fixture` as a file, with what `make_config` makes at the path it is given beside it.
Result<std::shared_ptr<const Model>> load_beside(
    const ModelFixture& fixture, const std::function<void(const std::string& path)>& make_config,
    const ModelOptions& options);
// The same with a config.json beside it where the text is not empty.
Result<std::shared_ptr<const Model>> load_file(const ModelFixture& fixture,
                                               const std::string& config_json,
                                               const ModelOptions& options = {});
// Of a kBadModel whose message begins with a path.
void check_ends(const Status& status, const std::string& end);

// The logits of one picture of `side`.
std::vector<float> run(const Loaded& loaded, const std::string& device, int side = 32);

// Puts `prefix` before every name, and `head` in the place of "fc.".
void rename_all(ModelFixture& fixture, const std::string& prefix, const std::string& head = "fc.");

}  // namespace xception
