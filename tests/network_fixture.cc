#include "network_fixture.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "temp_dir.h"
#include "testing.h"

namespace xception {

std::span<const std::byte> memory(const std::string& bytes) {
  return std::as_bytes(std::span(bytes));
}

std::vector<std::string> Loaded::node_names() const {
  std::vector<std::string> names;
  for (const Node& node : graph().nodes) {
    names.push_back(node.name);
  }
  return names;
}

Loaded load(const ModelFixture& fixture, const std::string& arch) {
  Loaded loaded{fixture.bytes(), nullptr};
  const auto model = Model::load(memory(loaded.bytes), {.arch = arch});
  INFO(model.status().message());
  REQUIRE(model.ok());
  loaded.model = *model;
  return loaded;
}

void check_refused(const ModelFixture& fixture, const std::string& message,
                   const ModelOptions& options) {
  const std::string bytes = fixture.bytes();
  const auto model = Model::load(memory(bytes), options);
  REQUIRE_FALSE(model.ok());
  CHECK(model.status().code() == Code::kBadModel);
  CHECK(model.status().message() == "model '(memory)': " + message);
}

Result<std::shared_ptr<const Model>> load_beside(
    const ModelFixture& fixture, const std::function<void(const std::string& path)>& make_config,
    const ModelOptions& options) {
  const TempDir folder;
  std::ofstream(folder.path("model.safetensors"), std::ios::binary) << fixture.bytes();
  make_config(folder.path("config.json"));
  return Model::load(folder.path("model.safetensors"), options);
}

Result<std::shared_ptr<const Model>> load_file(const ModelFixture& fixture,
                                               const std::string& config_json,
                                               const ModelOptions& options) {
  const auto write = [&](const std::string& path) {
    if (!config_json.empty()) {
      std::ofstream(path) << config_json;
    }
  };
  return load_beside(fixture, write, options);
}

std::vector<float> run(const Loaded& loaded, const std::string& device, int side) {
  auto session = Session::create(loaded.model,
                                 {.device = device, .height = side, .width = side, .threads = 1});
  INFO(session.status().message());
  REQUIRE(session.ok());
  std::vector<float> image(static_cast<std::size_t>(side) * static_cast<std::size_t>(side) * 3);
  for (std::size_t i = 0; i < image.size(); ++i) {
    image[i] = std::sin(0.37F * static_cast<float>(i));
  }
  std::vector<float> logits(static_cast<std::size_t>(session->info().logits.elements()));
  REQUIRE(session
              ->run(TensorView<const float>{image.data(), session->info().input},
                    TensorView<float>{logits.data(), session->info().logits})
              .ok());
  return logits;
}

void check_ends(const Status& status, const std::string& end) {
  CHECK(status.code() == Code::kBadModel);
  const std::string& message = status.message();
  CHECK(message.substr(message.size() - std::min(message.size(), end.size())) == end);
}

void rename_all(ModelFixture& fixture, const std::string& prefix, const std::string& head) {
  fixture.rename([&](const std::string& name) {
    return prefix + (name.starts_with("fc.") ? head + name.substr(3) : name);
  });
}

}  // namespace xception
