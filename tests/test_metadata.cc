// What a file says in words: every key of our metadata, and of preprocessing in timm's config.json
// too, good and bad.
#include "engine/metadata.h"

#include <map>
#include <new>
#include <string>
#include <vector>

#include "allocations.h"
#include "testing.h"

namespace xception {
namespace {

using Entries = std::map<std::string, std::string>;

Metadata read(const Entries& entries) {
  const Result<Metadata> metadata = read_metadata(entries);
  INFO(metadata.status().message());
  REQUIRE(metadata.ok());
  return *metadata;
}

void check_refused(const std::string& key, const std::string& value, const std::string& expected) {
  const Result<Metadata> metadata = read_metadata({{key, value}});
  INFO(key << " = " << value);
  REQUIRE_FALSE(metadata.ok());
  CHECK(metadata.status().code() == Code::kBadModel);
  CHECK(metadata.status().message() ==
        "metadata '" + key + "' is '" + value + "', expected " + expected);
}

Preprocess read_object(const std::string& json_text, Preprocess preprocess = {}) {
  const Status status = read_preprocess({{"xception.preprocess", json_text}}, Sides(), preprocess);
  INFO(json_text << ": " << status.message());
  REQUIRE(status.ok());
  return preprocess;
}

// `key` of an object of preprocessing, in our metadata and in timm's config.
void check_value_refused(const std::string& key, const std::string& value, const std::string& shown,
                         const Sides& sides = {}) {
  const std::string side = "a side that the network takes, " + std::to_string(sides.least) +
                           " to " + std::to_string(sides.most);
  const std::map<std::string, std::string> expectations = {
      {"size", side},
      {"keep_min", side + ", or 0"},
      {"keep_max", side + ", or 0"},
      {"input_size", "[3, side, side] with " + side},
      {"resize_mode", "'center', 'squash' or 'border'"},
      {"crop_mode", "'center', 'squash' or 'border'"},
      {"interpolation", "'nearest', 'bilinear' or 'bicubic'"},
      {"crop_pct", "a number from 0.01 to 1"},
      {"mean", "three numbers between -1e6 and 1e6"},
      {"std", "three numbers from 1e-6 on and below 1e6"}};
  const std::string& expected = expectations.at(key);
  const std::string object = "{\"" + key + "\":" + value + "}";
  INFO(object.substr(0, 100));
  const std::string rest = "." + key + "' is '" + shown + "', expected " + expected;
  Preprocess preprocess;
  const Status ours = read_preprocess({{"xception.preprocess", object}}, sides, preprocess);
  CHECK(ours.code() == Code::kBadModel);
  CHECK(ours.message() == "metadata 'xception.preprocess" + rest);
  const Status timm =
      read_timm_preprocess("{\"pretrained_cfg\":" + object + "}", sides, preprocess);
  CHECK(timm.code() == Code::kBadModel);
  CHECK(timm.message() == "config.json beside the weight file: 'pretrained_cfg" + rest);
}

}  // namespace

TEST_CASE("a file without metadata says nothing") {
  for (const Entries& entries : {Entries(), Entries{{"format", "pt"}, {"xception", "seed"}}}) {
    const Metadata metadata = read(entries);
    CHECK(metadata.arch.empty());
    CHECK_FALSE(metadata.bn_eps);
    CHECK_FALSE(metadata.pool_pad_same);
    CHECK_FALSE(metadata.sep_relu);
    CHECK_FALSE(metadata.width);
    CHECK_FALSE(metadata.num_classes);
    CHECK(metadata.labels.empty());
    Preprocess preprocess;
    CHECK(read_preprocess(entries, Sides(), preprocess).ok());
    CHECK(preprocess == Preprocess());
  }
}

TEST_CASE("every key is read") {
  const Metadata metadata = read({{"xception.schema", "1"},
                                  {"xception.arch", "seed"},
                                  {"xception.bn_eps", "1e-3"},
                                  {"xception.pool_pad", "tf_same"},
                                  {"xception.sep_relu", "false"},
                                  {"xception.width", "0.25"},
                                  {"xception.num_classes", "2"},
                                  {"xception.labels", R"(["Katze", "\u732b"])"},
                                  {"xception.sha256", "ab"}});
  CHECK(metadata.arch == "seed");
  CHECK(metadata.bn_eps == 1e-3);
  CHECK(metadata.pool_pad_same == true);
  CHECK(metadata.sep_relu == false);
  CHECK(metadata.width == 0.25);
  CHECK(metadata.num_classes == 2);
  CHECK(metadata.labels == std::vector<std::string>{"Katze", "\xE7\x8C\xAB"});

  CHECK(read({{"xception.pool_pad", "torch"}}).pool_pad_same == false);
  CHECK(read({{"xception.sep_relu", "true"}}).sep_relu == true);
  CHECK(read({{"xception.width", "1"}}).width == 1.0);
  CHECK(read({{"xception.labels", "[]"}}).labels.empty());
}

TEST_CASE("a value that is none is refused, and what would be one is said") {
  for (const char* schema : {"0", "2", "1.0", ""}) {
    check_refused("xception.schema", schema, "'1'; this file needs a later xception");
  }
  for (const char* number : {"", "x", "0", "-1e-5", "1.1", "NaN", "1e999", "\"1\"", "[1]", "1 2",
                             "true", "null", "0x1p-3", "1,5"}) {
    check_refused("xception.bn_eps", number, "a number from 1e-12 to 1.0");
  }
  for (const char* number : {"0", "-1", "16.5", "1e-4", "wide"}) {
    check_refused("xception.width", number, "a number from 0.001 to 16.0");
  }
  for (const char* number : {"-1", "2.5", "16777217", "1e300", "ten"}) {
    check_refused("xception.num_classes", number, "a whole number from 0 to 16777216");
  }
  for (const char* word : {"", "same", "TORCH", "torch "}) {
    check_refused("xception.pool_pad", word, "'torch' or 'tf_same'");
  }
  for (const char* word : {"", "1", "True", "no"}) {
    check_refused("xception.sep_relu", word, "'false' or 'true'");
  }
  for (const char* list :
       {"", "cat", "\"cat\"", "{}", "[1]", "[\"a\", null]", "[\"a\"", "[\"\xFF\"]"}) {
    check_refused("xception.labels", list, "a JSON list of strings");
  }
}

TEST_CASE("a key that is not known is refused, others' keys are not ours") {
  const std::string known =
      " is no known key; known keys: xception.schema, xception.arch, xception.bn_eps, "
      "xception.pool_pad, xception.sep_relu, xception.width, xception.num_classes, "
      "xception.labels, xception.preprocess, xception.sha256";
  const std::string long_key = "xception." + std::string(200, 'x');
  for (const std::string& key : {std::string("xception.bn_epsilon"),
                                 std::string("xception.sep_order"), std::string("xception.")}) {
    const Status status = read_metadata({{"xception.arch", "seed"}, {key, "1"}}).status();
    CHECK(status.code() == Code::kBadModel);
    CHECK(status.message() == "metadata '" + key + "'" + known);
  }
  CHECK(read_metadata({{long_key, "1"}}).status().message() ==
        "metadata '" + long_key.substr(0, 100) + "...'" + known);
  // What a later version added is a matter of its schema.
  CHECK(read_metadata({{"xception.schema", "2"}, {"xception.new", "1"}}).status().message() ==
        "metadata 'xception.schema' is '2', expected '1'; this file needs a later xception");
  CHECK(read_metadata({{"xceptional", "1"}, {"Xception.arch", "1"}, {"format", "pt"}}).ok());
}

TEST_CASE("a long value is shown in part") {
  const Status status = read_metadata({{"xception.bn_eps", std::string(1000, 'x')}}).status();
  CHECK(status.message() == "metadata 'xception.bn_eps' is '" + std::string(100, 'x') +
                                "...', expected a number from 1e-12 to 1.0");
}

TEST_CASE("a list that is too long is refused by its length") {
  std::string labels = "[\"\"";
  while (labels.size() < std::size_t{4} << 20) {
    labels += ",\"\"";
  }
  labels += "]";
  const std::string begin = "metadata 'xception.labels' is '[\"\",";
  const Status status = read_metadata({{"xception.labels", labels}}).status();
  CHECK(status.message().substr(0, begin.size()) == begin);
  CHECK(status.message().size() < 300);
  CHECK(status.message().ends_with("expected a JSON list of strings of at most 4 MiB"));
  CHECK_FALSE(read_timm_config("{\"label_names\":" + labels + "}").ok());
}

TEST_CASE("preprocessing is overwritten value by value") {
  const Preprocess all = read_object(
      R"({"size": 64, "keep_min": 17, "keep_max": 32, "resize_mode": "border", "crop_pct": 0.5,
          "interpolation": "nearest", "mean": [0, 0.5, 1], "std": [0.1, 0.2, 3]})");
  CHECK(all.size == 64);
  CHECK(all.keep_min == 17);
  CHECK(all.keep_max == 32);
  CHECK(all.mode == ResizeMode::kBorder);
  CHECK(all.crop_pct == 0.5);
  CHECK(all.interpolation == Interpolation::kNearest);
  CHECK(all.mean == std::array<float, 3>{0.0F, 0.5F, 1.0F});
  CHECK(all.std == std::array<float, 3>{0.1F, 0.2F, 3.0F});

  CHECK(read_object("{}", all) == all);
  Preprocess one = all;
  one.mode = ResizeMode::kCenter;
  CHECK(read_object(R"({"resize_mode": "center"})", all) == one);
  one.mode = ResizeMode::kSquash;
  CHECK(read_object(R"({"resize_mode": "squash"})", all) == one);
  one.interpolation = Interpolation::kBilinear;
  CHECK(read_object(R"({"interpolation": "bilinear"})", one) == one);
  one.interpolation = Interpolation::kBicubic;
  CHECK(read_object(R"({"interpolation": "bicubic"})", one) == one);
  one.crop_pct = 1.0;
  CHECK(read_object(R"({"crop_pct": 1})", one) == one);
  one.crop_pct = 0.01;
  CHECK(read_object(R"({"crop_pct": 0.01})", one) == one);
}

TEST_CASE("an unknown key of preprocessing is refused in our metadata, and passed over in timm's") {
  for (const std::string key : {"crop", "Size", "", "size ", "xception.size"}) {
    Preprocess preprocess;
    const std::string object = "{\"size\": 64, \"" + key + "\": [[]]}";
    const Status ours = read_preprocess({{"xception.preprocess", object}}, Sides(), preprocess);
    CHECK(ours.code() == Code::kBadModel);
    CHECK(ours.message() ==
          "metadata 'xception.preprocess': '" + key +
              "' is no known key; known keys: size, resize_mode, crop_pct, interpolation, mean, "
              "std, keep_min, keep_max, input_size, crop_mode");
    CHECK(preprocess == Preprocess());
    CHECK(read_timm_preprocess("{\"pretrained_cfg\":" + object + "}", Sides(), preprocess).ok());
    CHECK(preprocess.size == 64);
  }
}

TEST_CASE("preprocessing that makes no sense is refused by key") {
  for (const char* object : {"", "[]", "3", "{", "{\"size\": 3}}"}) {
    Preprocess preprocess;
    const Status status = read_preprocess({{"xception.preprocess", object}}, Sides(), preprocess);
    CHECK(status.message() == "metadata 'xception.preprocess' is '" + std::string(object) +
                                  "', expected a JSON object");
  }
  for (const char* size : {"0", "-1", "16385", "1.5", "\"299\"", "true", "null",
                           "9223372036854775808", "18446744073709551615", "1e3"}) {
    INFO(size);
    Preprocess preprocess;
    const Status status = read_preprocess(
        {{"xception.preprocess", std::string("{\"size\":") + size + "}"}}, Sides(), preprocess);
    CHECK(status.code() == Code::kBadModel);
    CHECK(preprocess == Preprocess());
  }
  check_value_refused("size", "0", "0");
  check_value_refused("size", "[299]", "[299]");
  check_value_refused("keep_min", "-1", "-1");
  check_value_refused("keep_max", "\"x\"", "\"x\"");
  check_value_refused("resize_mode", "\"stretch\"", "\"stretch\"");
  check_value_refused("resize_mode", "7", "7");
  check_value_refused("resize_mode", "\"centered\"", "\"centered\"");
  check_value_refused("crop_mode", "\"random\"", "\"random\"");
  check_value_refused("crop_pct", "0.0099", "0.0099");
  check_value_refused("crop_pct", "1.01", "1.01");
  check_value_refused("crop_pct", "{}", "{}");
  check_value_refused("interpolation", "\"lanczos\"", "\"lanczos\"");
  check_value_refused("mean", "[0.5,0.5]", "[0.5,0.5]");
  check_value_refused("mean", "[0.5,0.5,\"x\"]", "[0.5,0.5,\"x\"]");
  check_value_refused("mean", "[0,0,1e7]", "[0,0,10000000.0]");
  check_value_refused("mean", "[0,0,1e6]", "[0,0,1000000.0]");
  check_value_refused("std", "[1,0,1]", "[1,0,1]");
  check_value_refused("std", "[1,-1,1]", "[1,-1,1]");
  check_value_refused("std", "0.5", "0.5");
  std::string ones = "[1";
  for (int i = 0; i < 40; ++i) {
    ones += ",1";
  }
  check_value_refused("std", ones + "]", "an array");
  check_value_refused("input_size", "299", "299");
  check_value_refused("input_size", "[3,299]", "[3,299]");
  check_value_refused("input_size", "[3,299,300]", "[3,299,300]");
  check_value_refused("input_size", "[3,0,0]", "[3,0,0]");
  check_value_refused("input_size", "[1,299,299]", "[1,299,299]");
}

TEST_CASE("preprocessing has to make pictures that the network takes") {
  const Sides seed = {17, 32};
  check_value_refused("size", "299", "299", seed);
  check_value_refused("size", "16", "16", seed);
  check_value_refused("input_size", "[3,299,299]", "[3,299,299]", seed);
  check_value_refused("keep_min", "8", "8", seed);
  check_value_refused("keep_max", "64", "64", seed);
  check_value_refused("size", "70", "70", {71, kMaxSide});
  check_value_refused("size", "16385", "16385", {71, kMaxSide});

  const auto read = [&seed](const std::string& object) {
    Preprocess preprocess;
    preprocess.keep_min = 17;
    preprocess.keep_max = 32;
    const Status status = read_preprocess({{"xception.preprocess", object}}, seed, preprocess);
    return status.ok()
               ? std::to_string(preprocess.keep_min) + " " + std::to_string(preprocess.keep_max)
               : status.message();
  };
  CHECK(read("{}") == "17 32");
  CHECK(read(R"({"keep_min": 20, "keep_max": 24})") == "20 24");
  CHECK(read(R"({"keep_min": 20})") == "20 32");
  CHECK(read(R"({"keep_min": 0, "keep_max": 0})") == "0 0");
  CHECK(read(R"({"keep_max": 0})") == "0 0");
  const std::string begin = "metadata 'xception.preprocess.keep_min' is ";
  CHECK(read(R"({"keep_min": 30, "keep_max": 20})") ==
        begin + "'30', expected 17 to keep_max, which is 20");
  CHECK(read(R"({"keep_min": 0})") == begin + "'0', expected 17 to keep_max, which is 32");
  CHECK(read(R"({"keep_min": 17, "keep_max": 0})") == begin + "'17', expected 0, as keep_max is");
}

TEST_CASE("a value of ever more levels is an error, not the end of the stack") {
  const std::string deep = std::string(300'000, '[') + std::string(300'000, ']');
  CHECK_FALSE(read_metadata({{"xception.labels", deep}}).ok());
  CHECK_FALSE(read_metadata({{"xception.bn_eps", deep}}).ok());
  for (const std::string& object :
       {"{\"size\":" + deep + "}", "{\"mean\":[0,0," + deep + "]}",
        "{\"input_size\":[3," + deep + "," + deep + "]}", "{\"a key of tomorrow\":" + deep + "}"}) {
    Preprocess preprocess;
    CHECK_FALSE(read_preprocess({{"xception.preprocess", object}}, Sides(), preprocess).ok());
    const std::string config = "{\"pretrained_cfg\":" + object + "}";
    CHECK_FALSE(read_timm_config(config).ok());
    CHECK_FALSE(read_timm_preprocess(config, Sides(), preprocess).ok());
  }
  // Beyond some levels nothing is meant, and below them nothing is compared level by level.
  const std::string nested = std::string(12, '[') + std::string(12, ']');
  const std::string both = "[3," + nested + "," + nested + "]";
  check_value_refused("input_size", both, both);
  CHECK(read_timm_config("{\"label_names\":" + nested + "}").ok());
  // Brackets of a string are no levels, nor does an escaped quote end one.
  const std::string text = std::string(20, '[') + R"(\"\\)" + std::string(20, '{');
  CHECK(read_metadata({{"xception.labels", "[\"" + text + "\", \"b\"]"}}).ok());
}

TEST_CASE("a list of a million objects is refused at once") {
  std::string objects = "[";
  for (int i = 0; i < 1'300'000; ++i) {
    objects += "{},";
  }
  CHECK_FALSE(read_metadata({{"xception.labels", objects + "{}]"}}).ok());
}

// JSON's values are compared with texts inside functions that may not throw: one that allocates
// there ends the process where that fails.
TEST_CASE("every single allocation of what is read that fails is std::bad_alloc") {
  const Entries entries = {
      {"xception.arch", "seed_depthwise"},
      {"xception.pool_pad", "tf_same"},
      {"xception.sep_relu", "true"},
      {"xception.width", "0.25"},
      {"xception.labels", R"(["a label that is longer than most, and the others", "b"])"},
      {"xception.preprocess",
       R"({"size": 24, "resize_mode": "border", "interpolation": "nearest", "crop_pct": 0.5,
           "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "keep_min": 17, "keep_max": 32})"}};
  const std::string timm =
      R"({"architecture": "xception", "num_classes": 2, "label_names": ["a", "b"],
          "pretrained_cfg": {"input_size": [3, 299, 299], "crop_mode": "squash",
                             "interpolation": "bicubic", "crop_pct": 0.9}})";
  int failures = -1;
  for (bool done = false; !done; ++failures) {
    INFO("allocation " << failures + 1);
    Preprocess preprocess;
    bool thrown = false;
    Status status;
    allocations::fail_after(failures + 1);
    try {
      for (const Status& read :
           {read_metadata(entries).status(), read_preprocess(entries, Sides(), preprocess),
            read_timm_config(timm).status(), read_timm_preprocess(timm, Sides(), preprocess)}) {
        status = status.ok() ? read : status;
      }
    } catch (const std::bad_alloc&) {
      thrown = true;
    }
    done = allocations::cancel_failure();  // it lay beyond the last allocation
    CHECK(thrown != done);
    CHECK(status.ok());
  }
  CHECK(failures > 100);
}

}  // namespace xception
