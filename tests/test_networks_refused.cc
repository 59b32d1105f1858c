// The sentence for every file that holds no network of ours, or one that cannot be.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "network_fixture.h"
#include "random.h"
#include "safetensors_bytes.h"
#include "testing.h"

namespace xception {

TEST_CASE("a file of another network is refused by its first names") {
  ModelFixture fixture;
  check_refused(fixture,
                "no network of ours has tensors named like these (there are none, ...); known "
                "networks: seed, seed_depthwise, xception. Convert the checkpoint with "
                "weights/export.py, or name the network with --arch");
  for (const char* name : {"layer1.weight", "layer1.bias", "layer2.weight", "layer2.bias"}) {
    fixture.add(name, {2}, {1, 2});
  }
  check_refused(fixture,
                "no network of ours has tensors named like these ('layer1.weight', "
                "'layer1.bias', 'layer2.weight', ...); known networks: seed, seed_depthwise, "
                "xception. Convert the "
                "checkpoint with weights/export.py, or name the network with --arch");
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
                "this network; is it another --arch?");
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

}  // namespace xception
