// What a config.json says that stands beside a weight file, as timm publishes it.
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "network_fixture.h"
#include "random.h"
#include "testing.h"

namespace xception {

TEST_CASE("a config.json beside the file names the network") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  const std::string xception_config = R"({
      "architecture": "legacy_xception", "label_names": ["only", "two"],
      "pretrained_cfg": {"input_size": [3, 331, 331], "crop_pct": 0.9, "mean": [0.1, 0.2, 0.3]}})";
  // It comes before names and shapes ...
  auto model = load_file(fixture, xception_config);
  REQUIRE_FALSE(model.ok());
  CHECK(model.status().code() == Code::kBadModel);
  check_ends(model.status(),
             "model.safetensors': as network 'xception': tensor 'conv1.weight' is missing; "
             "expected shape [32, 3, 3, 3]");
  // ... and metadata before it, which then says everything.
  fixture.metadata["xception.arch"] = "seed_depthwise";
  model = load_file(fixture, xception_config);
  REQUIRE(model.ok());
  CHECK((*model)->info().preprocess.size == 32);
  CHECK((*model)->info().labels.empty());
  using List = std::vector<std::string>;
  const std::string own_config = R"({
      "architecture": "seed_depthwise", "label_names": ["1", "2", "3", "4", "5", "6", "7"]})";
  model = load_file(fixture, own_config);
  REQUIRE(model.ok());
  CHECK((*model)->info().labels.empty());
  // Labels in the metadata come first without that, too.
  fixture.metadata.erase("xception.arch");
  model = load_file(fixture, own_config);
  REQUIRE(model.ok());
  CHECK((*model)->info().labels == List{"1", "2", "3", "4", "5", "6", "7"});
  fixture.metadata["xception.labels"] = R"(["a", "b", "c", "d", "e", "f", "g"])";
  model = load_file(fixture, own_config);
  REQUIRE(model.ok());
  CHECK((*model)->info().labels == List{"a", "b", "c", "d", "e", "f", "g"});
}

TEST_CASE("a config.json gives preprocessing and labels") {
  ModelFixture fixture = xception_fixture();
  const std::string config = R"({
      "architecture": "legacy_xception",
      "pretrained_cfg": {"input_size": [3, 331, 331], "crop_pct": 0.9, "mean": [0.1, 0.2, 0.3]}})";
  Preprocess expected;
  expected.size = 331;
  expected.crop_pct = 0.9;
  expected.mean = {0.1F, 0.2F, 0.3F};
  auto model = load_file(fixture, config);
  REQUIRE(model.ok());
  CHECK((*model)->info().preprocess == expected);

  model = load_file(fixture, R"({"architecture": "xception", "label_names": ["only", "two"]})");
  check_ends(model.status(),
             "config.json beside the weight file names 2 labels for 1000 classes; it is another "
             "model's: replace or remove it");
  check_ends(load_file(fixture, R"({"architecture": "xception", "num_classes": 11})").status(),
             "config.json beside the weight file: 'num_classes' is 11, the head has 1000; it is "
             "another model's: replace or remove it");
  CHECK(load_file(fixture, R"({"architecture": "xception", "num_classes": 1000})").ok());
  // timm keeps there what the weights had that a model was fine-tuned from.
  CHECK(load_file(fixture, R"({"architecture": "xception", "pretrained_cfg": {"num_classes": 9}})")
            .ok());

  // Our metadata overrule it value by value.
  fixture.metadata["xception.preprocess"] = R"({"size": 71})";
  expected.size = 71;
  model = load_file(fixture, config);
  REQUIRE(model.ok());
  CHECK((*model)->info().preprocess == expected);
}

TEST_CASE("a config.json of something else changes nothing") {
  XC_RANDOM(random);
  const ModelFixture fixture = seed_fixture(random);
  for (const char* config : {R"({"architecture": "resnet50", "label_names": ["a"],
                                 "pretrained_cfg": {"input_size": [3, 224, 224]}})",
                             R"({"pretrained_cfg": {"mean": "none"}})", "{}"}) {
    const auto model = load_file(fixture, config);
    INFO(model.status().message());
    REQUIRE(model.ok());
    CHECK((*model)->info().arch == "seed_depthwise");
    CHECK((*model)->info().preprocess.size == 32);
    CHECK((*model)->info().labels.empty());
  }
  const Status status = load_file(fixture, "no JSON").status();
  check_ends(status,
             "model.safetensors': config.json beside the weight file is "
             "no JSON object of at most 4 MiB; repair or remove it");
}

TEST_CASE("a config.json that cannot be read counts where it might have said something") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  const std::string end =
      "config.json beside the weight file is no JSON object of at most 4 MiB; repair or remove it";
  const ModelOptions named = {.arch = "seed_depthwise"};
  check_ends(load_file(fixture, "no JSON", named).status(), end);
  check_ends(load_file(fixture, std::string(5 << 20, ' ') + "{}").status(), end);
  fixture.metadata["xception.preprocess"] = R"({"size": 20})";
  check_ends(load_file(fixture, "no JSON", named).status(), end);
  fixture.metadata["xception.labels"] = "[]";
  CHECK(load_file(fixture, "no JSON", named).ok());
  check_ends(load_file(fixture, "no JSON").status(), end);
}

TEST_CASE("a config.json that is there and cannot be opened is not taken for none") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  const auto link_to_itself = [](const std::string& path) {
    std::filesystem::create_symlink("config.json", path);
  };
  const ModelOptions named = {.arch = "seed_depthwise"};
  const Status status = load_beside(fixture, link_to_itself, {}).status();
  check_ends(status, "); repair or remove it");
  CHECK(status.message().find("config.json beside the weight file cannot be read "
                              "(cannot open file '") != std::string::npos);
  CHECK(load_beside(fixture, link_to_itself, named).status().code() == Code::kBadModel);
  fixture.metadata["xception.preprocess"] = R"({"size": 20})";
  fixture.metadata["xception.labels"] = "[]";
  CHECK(load_beside(fixture, link_to_itself, named).ok());
  for (const char* target : {"nothing", "."}) {
    CAPTURE(target);
    const auto link = [&](const std::string& path) {
      std::filesystem::create_symlink(target, path);
    };
    CHECK(load_beside(seed_fixture(random), link, {}).ok());
  }
}

TEST_CASE("a config.json of another network than --arch changes nothing") {
  XC_RANDOM(random);
  const auto model = load_file(
      seed_fixture(random),
      R"({"architecture": "xception", "label_names": ["a"], "pretrained_cfg": {"crop_pct": 0.5}})",
      {.arch = "seed_depthwise"});
  INFO(model.status().message());
  REQUIRE(model.ok());
  CHECK((*model)->info().labels.empty());
  CHECK((*model)->info().preprocess.crop_pct != 0.5);
}

TEST_CASE("a bad value of a config.json is said to be there") {
  check_ends(load_file(xception_fixture(), R"({"architecture": "xception",
                                               "pretrained_cfg": {"crop_pct": 2}})")
                 .status(),
             "model.safetensors': config.json beside the weight file: 'pretrained_cfg.crop_pct' is "
             "'2', expected a number from 0.01 to 1");
}

}  // namespace xception
