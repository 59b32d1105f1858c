// What timm's config.json says: labels, classes, preprocessing.
#include <array>
#include <limits>
#include <string>
#include <vector>

#include "engine/metadata.h"
#include "testing.h"

namespace xception {

TEST_CASE("timm's config.json is read as timm publishes it") {
  const std::string config = R"({
    "architecture": "legacy_xception",
    "num_classes": 1000,
    "num_features": 2048,
    "pretrained_cfg": {
      "tag": "tf_in1k",
      "custom_load": false,
      "input_size": [3, 331, 331],
      "fixed_input_size": false,
      "interpolation": "bilinear",
      "crop_pct": 0.9,
      "crop_mode": "squash",
      "mean": [0.485, 0.456, 0.406],
      "std": [0.229, 0.224, 0.225],
      "num_classes": 1000,
      "pool_size": [10, 10],
      "first_conv": "conv1",
      "classifier": "fc"
    }
  })";
  const Result<Metadata> metadata = read_timm_config(config);
  REQUIRE(metadata.ok());
  CHECK(metadata->arch == "legacy_xception");
  CHECK(metadata->labels.empty());
  CHECK(metadata->num_classes == 1000);
  Preprocess preprocess;
  REQUIRE(read_timm_preprocess(config, Sides(), preprocess).ok());
  CHECK(preprocess.size == 331);
  CHECK(preprocess.interpolation == Interpolation::kBilinear);
  CHECK(preprocess.mode == ResizeMode::kSquash);
  CHECK(preprocess.crop_pct == 0.9);
  CHECK(preprocess.mean == std::array<float, 3>{0.485F, 0.456F, 0.406F});
  CHECK(preprocess.std == std::array<float, 3>{0.229F, 0.224F, 0.225F});
}

TEST_CASE("timm's labels are names, or descriptions where there are some") {
  const auto labels = [](const std::string& json_text) {
    const Result<Metadata> metadata = read_timm_config(json_text);
    REQUIRE(metadata.ok());
    return metadata->labels;
  };
  using List = std::vector<std::string>;
  CHECK(labels(R"({"label_names": ["a", "b"]})") == List{"a", "b"});
  CHECK(labels(R"({"label_names": ["a", "b"], "label_descriptions": {"b": "bee", "a": 1}})") ==
        List{"a", "bee"});
  CHECK(labels(R"({"label_names": ["a"], "label_descriptions": ["bee"]})") == List{"a"});
  CHECK(labels(R"({"label_names": {"0": "a"}})").empty());
  CHECK(labels(R"({"label_names": ["a", 1]})").empty());
  CHECK(labels("{}").empty());
}

TEST_CASE("timm's count of classes is any number, the nearest that an int holds") {
  const auto classes = [](const std::string& number) {
    return read_timm_config("{\"num_classes\": " + number + "}")->num_classes;
  };
  CHECK(classes("10") == 10);
  CHECK(classes("10.5") == 10);
  CHECK(classes("1e300") == std::numeric_limits<int>::max());
  CHECK(classes("-1e300") == -std::numeric_limits<int>::max());
}

TEST_CASE("a config.json that is none is refused") {
  for (const char* text : {"[]", "3", "{", "null", "\"seed\"", "# a comment"}) {
    const Status status = read_timm_config(text).status();
    CHECK(status.code() == Code::kBadModel);
    CHECK(status.message() ==
          "config.json beside the weight file is no JSON object of at most 4 MiB; repair or remove "
          "it");
    Preprocess preprocess;
    CHECK(read_timm_preprocess(text, Sides(), preprocess).message() == status.message());
  }
  // What it says of other things, and in other shapes, is none of our business.
  const Result<Metadata> metadata =
      read_timm_config(R"({"architecture": 3, "pretrained_cfg": [], "num_classes": "ten"})");
  REQUIRE(metadata.ok());
  CHECK(metadata->arch.empty());
  CHECK_FALSE(metadata->num_classes);
  Preprocess preprocess;
  CHECK(read_timm_preprocess(R"({"pretrained_cfg": []})", Sides(), preprocess).ok());
  CHECK(preprocess == Preprocess());
}

}  // namespace xception
