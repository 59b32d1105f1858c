// The sentence for every file that holds no network of ours, or one that cannot be.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "network_fixture.h"
#include "random.h"
#include "safetensors_bytes.h"
#include "temp_dir.h"
#include "testing.h"

namespace xception {

TEST_CASE("a file of another network is refused by its first names") {
  ModelFixture fixture;
  check_refused(fixture,
                "no network of ours has tensors named like these (there are none, ...); known "
                "networks: seed, seed_depthwise, xception. Convert the checkpoint with "
                "weights/export.py, or name the network (arch)");
  for (const char* name : {"layer1.weight", "layer1.bias", "layer2.weight", "layer2.bias"}) {
    fixture.add(name, {2}, {1, 2});
  }
  check_refused(fixture,
                "no network of ours has tensors named like these ('layer1.weight', "
                "'layer1.bias', 'layer2.weight', ...); known networks: seed, seed_depthwise, "
                "xception. Convert the "
                "checkpoint with weights/export.py, or name the network (arch)");
}

TEST_CASE("names that never end are shown in part") {
  XC_RANDOM(random);
  const std::string endless(1'000'000, 'x');
  const auto check = [&](const ModelFixture& fixture) {
    const std::string bytes = fixture.bytes();
    const Status status = Model::load(memory(bytes)).status();
    CHECK(status.code() == Code::kBadModel);
    CHECK(status.message().find("xxx...'") != std::string::npos);
    CHECK(status.message().size() < 1000);
  };
  const ModelFixture seed = seed_fixture(random);
  ModelFixture stray = seed;
  stray.add(endless, {1}, {1});
  check(stray);
  stray.add("module." + endless, {1}, {1});  // twice the same
  check(stray);
  ModelFixture other;
  other.add(endless, {1}, {1});
  check(other);
  for (const char* key : {"xception.arch", "xception.sha256"}) {
    ModelFixture told = seed;
    told.metadata[key] = endless;
    check(told);
  }
}

TEST_CASE("two spellings of one parameter are refused") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  fixture.add("last_linear.bias", {7}, std::vector<float>(7));
  check_refused(fixture,
                "tensors 'fc.bias' and 'last_linear.bias' both stand for parameter 'fc.bias'; "
                "remove one of them");
}

TEST_CASE("every tensor is needed") {
  XC_RANDOM(random);
  const ModelFixture fixture = seed_fixture(random);
  int refusals = 0;
  for (const ModelFixture::Tensor& tensor : fixture.tensors) {
    ModelFixture spoilt = fixture;
    spoilt.remove(tensor.name);
    const std::string bytes = spoilt.bytes();
    const auto model = Model::load(memory(bytes));
    INFO(tensor.name);
    // Batch norm's counter is not used, and a Linear may come without a bias.
    const bool optional = tensor.name.ends_with("num_batches_tracked") || tensor.name == "fc.bias";
    // Without the weight of this one it is no network.
    const bool special = tensor.name == "block4.feature.1.depthwise.0.weight";
    REQUIRE(model.ok() == optional);
    if (!optional && !special) {
      CHECK(model.status().message().find("tensor '" + tensor.name + "' is missing") !=
            std::string::npos);
      ++refusals;
    }
  }
  CHECK(refusals == 220);
}

TEST_CASE("a tensor that the network lacks is refused") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  fixture.add("block7.weight", {1, 2}, {1, 2});
  check_refused(fixture,
                "as network 'seed_depthwise': tensor 'block7.weight' [1, 2] is no parameter of "
                "this network; is it another network (arch)?");
}

TEST_CASE("a tensor of another shape is refused") {
  XC_RANDOM(random);
  const ModelFixture fixture = seed_fixture(random);
  const auto check = [&](const char* name, const std::vector<std::int64_t>& shape,
                         const std::string& was, const std::string& expected) {
    ModelFixture spoilt = fixture;
    spoilt.at(name).shape = shape;
    check_refused(spoilt, "as network 'seed_depthwise': tensor '" + std::string(name) +
                              "' has shape " + was + ", expected " + expected);
  };
  check("conv3.weight", {4, 16}, "[4, 16]", "[8, 8, 1, 1]");
  check("conv3.weight", {1, 8, 8}, "[1, 8, 8]", "[8, 8, 1, 1]");
  // Only 1s may be missing at the end.
  ModelFixture cut = fixture;
  cut.at("conv3.weight").shape = {8};
  cut.at("conv3.weight").data.resize(8 * sizeof(float));
  check_refused(cut,
                "as network 'seed_depthwise': tensor 'conv3.weight' has shape [8], expected "
                "[8, 8, 1, 1]");
  check("conv3.weight", {8, 8, 1, 1, 1}, "[8, 8, 1, 1, 1]", "[8, 8, 1, 1]");
  check("conv3.bias", {2, 4}, "[2, 4]", "[8]");
  check("feature.3.weight", {8, 72}, "[8, 72]", "[8, 8, 3, 3]");
  check("feature.1.running_var", {8, 1}, "[8, 1]", "[8]");
}

TEST_CASE("integers are no weights") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random, {.classes = 2});
  ModelFixture::Tensor& bias = fixture.at("fc.bias");
  bias.type = "I64";
  bias.data.assign(16, '\0');
  check_refused(fixture,
                "as network 'seed_depthwise': tensor 'fc.bias' holds I64, expected F32, F16, BF16 "
                "or F64");
}

namespace {

void set_value(ModelFixture& fixture, const char* name, std::size_t index, float value) {
  std::memcpy(fixture.at(name).data.data() + index * sizeof(float), &value, sizeof(value));
}

}  // namespace

TEST_CASE("a batch norm whose values cannot be is refused") {
  XC_RANDOM(random);
  const ModelFixture fixture = seed_fixture(random);
  ModelFixture negative = fixture;
  for (const auto& [value, text] : {std::pair(-0.5F, "-0.5"), std::pair(-1e-7F, "-1e-07")}) {
    set_value(negative, "block2.2.running_var", 5, value);
    check_refused(negative,
                  "as network 'seed_depthwise': tensor 'block2.2.running_var' has the value " +
                      std::string(text) + " at index 5; a variance cannot be negative");
  }
  for (const float zero : {0.0F, -0.0F}) {
    set_value(negative, "block2.2.running_var", 5, zero);
    CHECK(load(negative).info().classes == 7);
  }
  ModelFixture nan = fixture;
  set_value(nan, "block2.2.bias", 1, std::nanf(""));
  check_refused(nan,
                "as network 'seed_depthwise': tensor 'block2.2.bias' of model '(memory)' is "
                "unusable: its value at index 1 is not a number; fetch or export the model again");
}

TEST_CASE("the file's own SHA-256 is checked") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  check_refused(fixture,
                "there is no 'xception.sha256' in its metadata to verify against; export the model "
                "again with weights/export.py",
                {.arch = "", .verify = true});
  fixture.metadata["xception.sha256"] = std::string(64, '0');
  const std::string bytes = fixture.bytes();
  const Status status = Model::load(memory(bytes)).status();
  CHECK(status.code() == Code::kBadModel);
  const std::string before = "model '(memory)': its data have SHA-256 ";
  REQUIRE(status.message().starts_with(before));
  CHECK(status.message().substr(before.size() + 64) ==
        ", its header promises '" + std::string(64, '0') +
            "'; the file is damaged, fetch it again");
  fixture.metadata["xception.sha256"] = status.message().substr(before.size(), 64);
  CHECK(load(fixture).info().classes == 7);
}

namespace {

// A file of `bytes` and zeros behind them, which take no room on the disk.
void write_zeros(const std::string& path, const std::string& bytes, std::size_t zeros) {
  std::ofstream(path, std::ios::binary) << bytes;
  std::filesystem::resize_file(path, bytes.size() + zeros);
}

}  // namespace

TEST_CASE("the SHA-256 of a large file is checked where that is asked for") {
  const TempDir folder;
  const std::string path = folder.path("m");
  constexpr std::size_t kLarge = std::size_t{64} << 20;
  const std::string none = "no network of ours has tensors named like these";
  const std::string wrong = ": its data have SHA-256 ";
  struct Case {
    std::size_t bytes;
    bool verify;
    std::string words;
  };
  for (const Case& c :
       {Case{kLarge, false, none}, Case{kLarge, true, wrong}, Case{kLarge - 2, false, wrong}}) {
    INFO(c.bytes << " bytes, verify " << c.verify);
    const std::string header =
        "{\"__metadata__\":{\"xception.sha256\":\"0\"}," +
        entry_json("x", "F16", "[" + std::to_string(c.bytes / 2) + "]", 0, c.bytes) + "}";
    write_zeros(path, safetensors_bytes(header, ""), c.bytes);
    const Status status = Model::load(path, {.arch = "", .verify = c.verify}).status();
    CHECK(status.code() == Code::kBadModel);
    CHECK_THAT(status.message(), containing(c.words));
  }
}

TEST_CASE("a head of more outputs than there may be classes is refused") {
  XC_RANDOM(random);
  const TempDir folder;
  ModelFixture fixture = seed_fixture(random);
  fixture.remove("fc.weight");
  fixture.remove("fc.bias");
  fixture.add("fc.0.weight", {1, 128}, std::vector<float>(128));
  const std::string bytes = fixture.bytes();
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  std::string header = bytes.substr(sizeof(length), length);
  const std::string data = bytes.substr(sizeof(length) + length);
  constexpr std::size_t kZeros = 2 * 16'777'217;
  header.back() = ',';
  header += entry_json("fc.1.weight", "F16", "[16777217,1]", data.size(), data.size() + kZeros);
  write_zeros(folder.path("m"), safetensors_bytes(header + "}", data), kZeros);
  check_ends(Model::load(folder.path("m")).status(),
             "as network 'seed_depthwise': tensor 'fc.1.weight' has shape [16777217, 1], expected "
             "[outputs, 1]");
}

}  // namespace xception
