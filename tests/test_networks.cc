// Which network a weight file holds, its graph, and the sentence for every file that holds none.
#include "engine/networks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "engine/model.h"
#include "model_fixture.h"
#include "safetensors_bytes.h"
#include "testing.h"
#include "xception/engine.h"

namespace xception {
namespace {

std::span<const std::byte> memory(const std::string& bytes) {
  return std::as_bytes(std::span(bytes));
}

// A model with the bytes that it reads from.
struct Loaded {
  std::string bytes;
  std::shared_ptr<const Model> model;

  const ModelInfo& info() const { return model->info(); }
  const Graph& graph() const { return model->impl().network.graph; }
  const NetworkConfig& config() const { return model->impl().network.config; }

  std::vector<std::string> node_names() const {
    std::vector<std::string> names;
    for (const Node& node : graph().nodes) {
      names.push_back(node.name);
    }
    return names;
  }
};

Loaded load(const ModelFixture& fixture, const std::string& arch = "") {
  Loaded loaded{fixture.bytes(), nullptr};
  const auto model = Model::load(memory(loaded.bytes), {.arch = arch});
  INFO(model.status().message());
  REQUIRE(model.ok());
  loaded.model = *model;
  return loaded;
}

void check_refused(const ModelFixture& fixture, const std::string& message,
                   const ModelOptions& options = {}) {
  const std::string bytes = fixture.bytes();
  const auto model = Model::load(memory(bytes), options);
  REQUIRE_FALSE(model.ok());
  CHECK(model.status().code() == Code::kBadModel);
  CHECK(model.status().message() == "model '(memory)': " + message);
}

// `fixture` as a file, with what `make_config` makes at the path it is given beside it.
template <class MakeConfig>
Result<std::shared_ptr<const Model>> load_beside(const ModelFixture& fixture,
                                                 const MakeConfig& make_config,
                                                 const ModelOptions& options) {
  namespace fs = std::filesystem;
  std::string pattern = (fs::temp_directory_path() / "xception-XXXXXX").string();
  REQUIRE(::mkdtemp(pattern.data()) != nullptr);
  std::ofstream(pattern + "/model.safetensors", std::ios::binary) << fixture.bytes();
  make_config(pattern + "/config.json");
  auto model = Model::load(pattern + "/model.safetensors", options);
  fs::remove_all(pattern);
  return model;
}

// `fixture` as a file, with a config.json beside it where the text is not empty.
Result<std::shared_ptr<const Model>> load_file(const ModelFixture& fixture,
                                               const std::string& config_json,
                                               const ModelOptions& options = {}) {
  const auto write = [&](const std::string& path) {
    if (!config_json.empty()) {
      std::ofstream(path) << config_json;
    }
  };
  return load_beside(fixture, write, options);
}

// One picture of the network's own size, or of `side`.
std::vector<float> run(const Loaded& loaded, const std::string& device, int side = 32) {
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

bool starts_with(const std::string& text, const std::string& prefix) {
  return text.rfind(prefix, 0) == 0;
}

// For messages that begin with a path.
void check_ends(const Status& status, const std::string& end) {
  CHECK(status.code() == Code::kBadModel);
  const std::string& message = status.message();
  CHECK(message.substr(message.size() - std::min(message.size(), end.size())) == end);
}

// Puts `prefix` before every name, and `head` in the place of "fc.".
void rename_all(ModelFixture& fixture, const std::string& prefix, const std::string& head = "fc.") {
  fixture.rename([&](const std::string& name) {
    return prefix + (starts_with(name, "fc.") ? head + name.substr(3) : name);
  });
}

}  // namespace

TEST_CASE("the known networks are listed") {
  CHECK(known_networks() == std::vector<std::string>{"seed", "seed_depthwise", "xception"});
}

TEST_CASE("names and shapes tell the networks") {
  XC_RANDOM(random);
  const Loaded depthwise = load(seed_fixture(random));
  CHECK(depthwise.info().file == "(memory)");
  CHECK(depthwise.info().arch == "seed_depthwise");
  CHECK(depthwise.info().classes == 7);
  CHECK(depthwise.info().has_head);
  CHECK(depthwise.info().labels.empty());
  CHECK(depthwise.info().min_side == 17);
  CHECK(depthwise.info().max_side == 32);
  CHECK(depthwise.info().preprocess.size == 32);
  CHECK(depthwise.info().preprocess.keep_min == 17);
  CHECK(depthwise.info().preprocess.keep_max == 32);
  CHECK(depthwise.info().preprocess.mode == ResizeMode::kSquash);
  CHECK(depthwise.info().preprocess.interpolation == Interpolation::kBilinear);
  CHECK(std::abs(depthwise.config().width - 0.0625) < 0.02);
  CHECK(depthwise.config().bn_eps == 1e-5);
  CHECK(depthwise.config().sep_relu);

  const Loaded dense = load(seed_fixture(random, {.depthwise = false}));
  CHECK(dense.info().arch == "seed");
  CHECK(dense.info().parameters > depthwise.info().parameters);

  const Loaded paper = load(xception_fixture());
  CHECK(paper.info().arch == "xception");
  CHECK(paper.info().classes == 1000);
  CHECK(paper.info().min_side == 71);
  CHECK(paper.info().max_side == kMaxSide);
  CHECK(paper.info().preprocess == Preprocess());
}

// Figures of the PyTorch modules: sum(p.numel() for p in module.parameters()).
TEST_CASE("parameters are counted as PyTorch counts them") {
  XC_RANDOM(random);
  CHECK(load(xception_fixture()).info().parameters == 22'855'952);
  const Loaded full = load(seed_fixture(random, {.width = 1.0, .classes = 100}));
  CHECK(full.info().parameters == 9'763'980);
  CHECK(full.config().width == 1.0);
}

TEST_CASE("a module is a node, and a repetition has its number") {
  XC_RANDOM(random);
  const Loaded seed = load(seed_fixture(random));
  const std::vector<std::string> names = seed.node_names();
  CHECK(std::set<std::string>(names.begin(), names.end()).size() == names.size());
  CHECK(names.size() == 298);  // 297 calls of modules, and the input
  CHECK(names.front() == "input");
  CHECK(names.back() == "fc");
  for (const char* name : {"feature.2", "block1.0.depthwise.2", "block4.feature.7.pointwise.1#7",
                           "block4.add", "block4.add#7", "add5", "block6.6"}) {
    INFO(name);
    CHECK(std::count(names.begin(), names.end(), name) == 1);
  }
  // The eight repetitions share their tensors.
  std::set<const TensorEntry*> weights;
  int convolutions = 0;
  for (const Node& node : seed.graph().nodes) {
    if (const auto* conv = std::get_if<Conv2d>(&node.op);
        conv != nullptr && starts_with(node.name, "block4.")) {
      weights.insert(conv->weight);
      ++convolutions;
    }
  }
  CHECK(convolutions == 48);
  CHECK(weights.size() == 6);
}

TEST_CASE("metadata comes before names and shapes, and --arch before metadata") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  fixture.metadata["xception.arch"] = "seed";
  check_refused(fixture,
                "as network 'seed': tensor 'block1.0.depthwise.0.weight' has shape [8, 1, 3, 3], "
                "expected [8, 8, 3, 3]");
  CHECK(load(fixture, "seed_depthwise").info().arch == "seed_depthwise");
  check_refused(fixture,
                "as network 'xception': tensor 'conv1.weight' is missing; expected shape "
                "[32, 3, 3, 3]",
                {.arch = "legacy_xception"});
  fixture.metadata["xception.arch"] = "inception";
  check_refused(fixture,
                "metadata 'xception.arch' is 'inception'; known networks: seed, seed_depthwise, "
                "xception");
}

TEST_CASE("timm's and Cadene's name is the paper's network") {
  ModelFixture fixture = xception_fixture();
  CHECK(load(fixture, "legacy_xception").info().arch == "xception");
  fixture.metadata["xception.arch"] = "legacy_xception";
  CHECK(load(fixture).info().arch == "xception");
}

TEST_CASE("an unknown --arch is the caller's mistake") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  const Status status = Model::load(memory(bytes), {.arch = "vgg"}).status();
  CHECK(status.code() == Code::kInvalidArgument);
  CHECK(status.message() ==
        "unknown network 'vgg'; known networks: seed, seed_depthwise, xception");
}

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

TEST_CASE("other spellings of names and shapes are the same network to the bit") {
  XC_RANDOM(random);
  const ModelFixture fixture = seed_fixture(random);
  const std::vector<float> expected = run(load(fixture), "cpu");
  const auto check = [&](const ModelFixture& spelling) {
    CHECK(run(load(spelling), "cpu") == expected);
  };
  for (const char* prefix : {"module.", "model.", "module.model."}) {
    for (const char* head : {"fc.", "last_linear.", "head.fc."}) {
      INFO(prefix << " " << head);
      ModelFixture renamed = fixture;
      rename_all(renamed, prefix, head);
      check(renamed);
    }
  }
  ModelFixture face_forensics = fixture;  // Dropout and Linear
  rename_all(face_forensics, "model.", "last_linear.1.");
  check(face_forensics);

  ModelFixture flat = fixture;
  flat.flatten_pointwise();
  check(flat);

  ModelFixture uncounted = fixture;
  std::erase_if(uncounted.tensors, [](const ModelFixture::Tensor& tensor) {
    return tensor.name.ends_with("num_batches_tracked");
  });
  CHECK(uncounted.tensors.size() + 39 == fixture.tensors.size());
  check(uncounted);

  ModelFixture reversed = fixture;
  std::reverse(reversed.tensors.begin(), reversed.tensors.end());
  check(reversed);
}

TEST_CASE("older files of the paper's network are read") {
  ModelFixture fixture = xception_fixture();
  fixture.flatten_pointwise();
  std::erase_if(fixture.tensors, [](const ModelFixture::Tensor& tensor) {
    return tensor.name.ends_with("num_batches_tracked");
  });
  rename_all(fixture, "", "last_linear.");
  CHECK(load(fixture).info().arch == "xception");
  rename_all(fixture, "model.");
  CHECK(load(fixture).info().arch == "xception");
}

TEST_CASE("two spellings of one parameter are refused") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  fixture.add("last_linear.bias", {7}, std::vector<float>(7));
  check_refused(fixture,
                "tensors 'fc.bias' and 'last_linear.bias' both stand for parameter 'fc.bias'; "
                "remove one of them");
}

// --- heads -------------------------------------------------------------------------------------

TEST_CASE("without a head the result is features") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  fixture.remove("fc.weight");
  fixture.remove("fc.bias");
  const Loaded loaded = load(fixture);
  CHECK(loaded.info().classes == 128);
  CHECK_FALSE(loaded.info().has_head);
  CHECK(loaded.node_names().back() == "block6.6");

  ModelFixture paper = xception_fixture();
  paper.remove("fc.weight");
  paper.remove("fc.bias");
  CHECK(load(paper).info().classes == 2048);
}

namespace {

using Matrix = std::vector<float>;

// A value in double, and the sum of the absolute values it was added up from: where those cancel,
// float32 is as far from the value as the sum is large.
struct Exact {
  double value;
  double size;
};
using Exacts = std::vector<Exact>;

Exacts exact(const std::vector<float>& values) {
  Exacts result;
  for (const float value : values) {
    result.push_back({value, std::abs(static_cast<double>(value))});
  }
  return result;
}

// weight * x + bias.
Exacts linear(const Matrix& weight, const Matrix& bias, const Exacts& x) {
  Exacts y(weight.size() / x.size(), Exact{0, 0});
  for (std::size_t row = 0; row < y.size(); ++row) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double factor = weight[row * x.size() + i];
      y[row].value += factor * x[i].value;
      y[row].size += std::abs(factor) * x[i].size;
    }
    const double added = bias.empty() ? 0.0 : static_cast<double>(bias[row]);
    y[row].value += added;
    y[row].size += std::abs(added);
  }
  return y;
}

// A value goes through fewer than 200 roundings, of at most 2^-24 of the sizes each: the sums of
// 128, 7 and 40 products behind each other are the most.
void check_near(const std::vector<float>& actual, const Exacts& expected) {
  REQUIRE(actual.size() == expected.size());
  constexpr double kBound = 200 * 0x1p-24;
  double largest = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    INFO(i);
    CHECK(std::abs(static_cast<double>(actual[i]) - expected[i].value) <=
          kBound * expected[i].size);
    largest = std::max(largest, std::abs(expected[i].value));
  }
  CHECK(largest > 0.1);
}

}  // namespace

TEST_CASE("a head is a Linear, or several in the order of their numbers with ReLU between") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  fixture.remove("fc.bias");
  const Matrix weight = fixture.values("fc.weight");
  fixture.remove("fc.weight");
  const Exacts x = exact(run(load(fixture), "cpu"));

  ModelFixture no_bias = fixture;
  no_bias.add("fc.weight", {7, 128}, weight);
  check_near(run(load(no_bias), "cpu"), linear(weight, {}, x));

  // 10 sorts before 2 as text.
  const Matrix second = random.normals(40 * 7, 0.5F);
  Matrix bias = random.normals(7);
  bias[0] = 50.0F;  // or else all seven may be negative, and the ReLU leaves nothing to compare
  const Matrix third = random.normals(3 * 40, 0.3F);
  ModelFixture several = fixture;
  several.add("fc.10.weight", {3, 40}, third);
  several.add("fc.2.weight", {40, 7}, second);
  several.add("fc.0.weight", {7, 128}, weight);
  several.add("fc.0.bias", {7}, bias);
  const Loaded loaded = load(several);
  CHECK(loaded.info().classes == 3);
  const std::vector<std::string> names = loaded.node_names();
  CHECK(std::vector<std::string>(names.end() - 6, names.end()) ==
        std::vector<std::string>{"block6.6", "fc.0", "fc.relu2", "fc.2", "fc.relu10", "fc.10"});
  const auto relu = [](Exacts values) {
    for (Exact& value : values) {
      value.value = std::max(value.value, 0.0);
    }
    return values;
  };
  const Exacts hidden = relu(linear(weight, bias, x));
  check_near(run(loaded, "cpu"), linear(third, {}, relu(linear(second, {}, hidden))));
}

TEST_CASE("a head of one output makes two classes with the logits 0 and z") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  fixture.remove("fc.bias");
  fixture.remove("fc.weight");
  const Loaded features = load(fixture);
  const Exacts x = exact(run(features, "cpu"));
  const Matrix weight = random.normals(128, 0.5F);
  // z is nearly 1.5, whatever was drawn.
  const Matrix bias = {static_cast<float>(1.5 - linear(weight, {}, x)[0].value)};
  fixture.add("fc.weight", {1, 128}, weight);
  fixture.add("fc.bias", {1}, bias);
  fixture.metadata["xception.labels"] = R"(["no", "yes"])";
  for (const char* count : {"1", "2"}) {  // outputs, as an exporter counts them, or classes
    fixture.metadata["xception.num_classes"] = count;
    const Loaded loaded = load(fixture);
    CHECK(loaded.info().classes == 2);
    CHECK(loaded.info().has_head);
    CHECK(loaded.info().labels == std::vector<std::string>{"no", "yes"});
    // The Linear stays comparable with PyTorch's.
    const std::vector<std::string> names = loaded.node_names();
    CHECK(std::vector<std::string>(names.end() - 2, names.end()) ==
          std::vector<std::string>{"fc", "fc.two_classes"});
    for (const char* device : {"cpu", "reference"}) {
      std::vector<float> row = run(loaded, device);
      const Exact z = linear(weight, bias, exact(run(features, device)))[0];
      check_near(row, {{0.0, 0.0}, z});
      CHECK(row[0] == 0.0F);
      const double logit = row[1];
      softmax(TensorView<const float>{row.data(), {1, 1, 1, 2}},
              TensorView<float>{row.data(), {1, 1, 1, 2}});
      CHECK(std::abs(static_cast<double>(row[1]) - 1 / (1 + std::exp(-logit))) < 1e-6);
    }
  }
  fixture.metadata["xception.labels"] = R"(["yes"])";
  check_refused(
      fixture,
      "the file names 1 labels for 2 classes, as a head of one output has; export it with as many, "
      "or without");
  fixture.metadata["xception.num_classes"] = "3";
  check_refused(fixture,
                "metadata 'xception.num_classes' is 3, the head has 2; export the model again");
}

TEST_CASE("one output between two Linears stays one") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  fixture.remove("fc.bias");
  fixture.remove("fc.weight");
  fixture.add("fc.0.weight", {1, 128}, random.normals(128));
  fixture.add("fc.1.weight", {5, 1}, random.normals(5));
  CHECK(load(fixture).info().classes == 5);
  fixture.add("fc.3.weight", {1, 5}, random.normals(5));
  const Loaded loaded = load(fixture);
  CHECK(loaded.info().classes == 2);
  CHECK(loaded.node_names().back() == "fc.two_classes");
}

TEST_CASE("a head that fits nothing is refused") {
  XC_RANDOM(random);
  ModelFixture base = seed_fixture(random);
  base.remove("fc.weight");
  base.remove("fc.bias");
  const auto check = [&](const std::string& name, const std::vector<std::int64_t>& shape,
                         const std::string& message) {
    ModelFixture fixture = base;
    std::int64_t count = 1;
    for (const std::int64_t extent : shape) {
      count *= extent;
    }
    fixture.add(name, shape, std::vector<float>(static_cast<std::size_t>(count)));
    check_refused(fixture, "as network 'seed_depthwise': " + message);
  };
  const std::string expected = ", expected [outputs, 128]";
  check("fc.weight", {7, 64}, "tensor 'fc.weight' has shape [7, 64]" + expected);
  check("fc.weight", {7, 128, 1, 1}, "tensor 'fc.weight' has shape [7, 128, 1, 1]" + expected);
  check("fc.weight", {128}, "tensor 'fc.weight' has shape [128]" + expected);
  check("fc.weight", {}, "tensor 'fc.weight' has shape []" + expected);
  check("fc.weight", {0, 128}, "tensor 'fc.weight' has shape [0, 128]" + expected);
  check("last_linear.3.weight", {2}, "tensor 'last_linear.3.weight' has shape [2]" + expected);
  check("fc.bias", {7}, "tensor 'fc.weight' is missing, while 'fc.bias' is there");
  check("last_linear.2.bias", {7}, "tensor 'fc.2.weight' is missing, while 'fc.2.bias' is there");
  check("fc.x.bias", {7},
        "tensor 'fc.x.bias' [7] is no parameter of this network; is it another --arch?");
  check("fc.x.weight", {7, 128},
        "tensor 'fc.x.weight' [7, 128] is no parameter of this network; is it another --arch?");
  check("fc.12345.weight", {7, 128},
        "tensor 'fc.12345.weight' [7, 128] is no parameter of this network; is it another --arch?");
  // A Linear of one output makes one column, which a vector must not pass for.
  base.add("fc.0.weight", {1, 128}, std::vector<float>(128));
  check("fc.1.weight", {5}, "tensor 'fc.1.weight' has shape [5], expected [outputs, 1]");
  check("fc.00.weight", {1, 128}, "tensor 'fc.0.weight' has shape [1, 128], expected [outputs, 1]");
}

// --- what tensors do not tell ------------------------------------------------------------------

TEST_CASE("width is told by the channel counts, and checked everywhere") {
  XC_RANDOM(random);
  // 0.05 makes 102.4 channels of 2048, rounded to 104; 104 / 2048 would round others differently.
  for (const double width : {0.05, 0.1, 0.125, 0.3}) {
    INFO("width " << width);
    const Loaded loaded = load(seed_fixture(random, {.width = width}));
    CHECK(std::abs(loaded.config().width - width) < 0.02);
  }
  ModelFixture fixture = seed_fixture(random, {.width = 0.3});
  fixture.metadata["xception.width"] = "0.3";
  CHECK(load(fixture).config().width == 0.3);
  fixture.metadata["xception.width"] = "0.5";
  check_refused(fixture,
                "as network 'seed_depthwise': tensor 'feature.0.weight' has shape [8, 3, 3, 3], "
                "expected [16, 3, 3, 3]");
  fixture.metadata.clear();
  fixture.remove("block6.5.weight");
  fixture.add("block6.5.weight", {2048}, std::vector<float>(2048));
  check_refused(fixture,
                "as network 'seed_depthwise': tensor 'feature.0.weight' has shape [8, 3, 3, 3], "
                "expected [32, 3, 3, 3]");
  fixture.metadata["xception.width"] = "0";
  check_refused(fixture, "metadata 'xception.width' is '0', expected a number from 0.001 to 16.0");
}

TEST_CASE("sep_relu=false takes the ReLUs out of the separable convolutions") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  const auto relus = [](const Loaded& loaded) {
    const auto& nodes = loaded.graph().nodes;
    return std::count_if(nodes.begin(), nodes.end(),
                         [](const Node& node) { return std::holds_alternative<Relu>(node.op); });
  };
  const Loaded with = load(fixture);
  fixture.metadata["xception.sep_relu"] = "false";
  const Loaded without = load(fixture);
  CHECK(relus(with) - relus(without) == 2 * 34);  // 10 separables, and 3 that run eight times
  const std::vector<std::string> names = without.node_names();
  CHECK(std::none_of(names.begin(), names.end(), [](const std::string& name) {
    return name.find("wise.2") != std::string::npos;
  }));
}

TEST_CASE("bn_eps is the one of the metadata") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  const float gamma = fixture.values("feature.1.weight")[3];
  const float variance = fixture.values("feature.1.running_var")[3];
  const auto scale = [&] {
    const Loaded loaded = load(fixture);
    return std::get<BatchNorm>(loaded.graph().nodes.at(2).op).affine->scale.at(3);
  };
  CHECK(scale() == gamma / std::sqrt(static_cast<double>(variance) + 1e-5));
  fixture.metadata["xception.bn_eps"] = "0.25";
  CHECK(scale() == gamma / std::sqrt(static_cast<double>(variance) + 0.25));
}

TEST_CASE("pool_pad is the one of the metadata, in the paper's network only") {
  XC_RANDOM(random);
  ModelFixture paper = xception_fixture();
  const auto pools = [&](PadMode mode) {
    const Loaded loaded = load(paper);
    const auto& nodes = loaded.graph().nodes;
    return std::count_if(nodes.begin(), nodes.end(), [mode](const Node& node) {
      const auto* pool = std::get_if<MaxPool>(&node.op);
      return pool != nullptr && pool->pad_mode == mode;
    });
  };
  CHECK(pools(PadMode::kExplicit) == 4);
  paper.metadata["xception.pool_pad"] = "tf_same";
  CHECK(pools(PadMode::kSame) == 4);
  CHECK(pools(PadMode::kExplicit) == 0);

  ModelFixture seed = seed_fixture(random);
  seed.metadata["xception.pool_pad"] = "torch";
  CHECK(load(seed).info().arch == "seed_depthwise");
  seed.metadata["xception.pool_pad"] = "tf_same";
  check_refused(seed,
                "metadata 'xception.pool_pad' is 'tf_same', which seed_depthwise does not have; "
                "expected 'torch'");
}

TEST_CASE("labels and classes have to agree with the head") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random, {.classes = 2});
  fixture.metadata["xception.num_classes"] = "2";
  fixture.metadata["xception.labels"] = R"(["cat", "dog"])";
  CHECK(load(fixture).info().labels == std::vector<std::string>{"cat", "dog"});
  fixture.metadata["xception.labels"] = "[]";
  CHECK(load(fixture).info().labels.empty());
  fixture.metadata["xception.labels"] = R"(["cat"])";
  check_refused(fixture,
                "the file names 1 labels for 2 classes; export it with as many, or without");
  fixture.metadata["xception.num_classes"] = "3";
  check_refused(fixture,
                "metadata 'xception.num_classes' is 3, the head has 2; export the model again");
}

// --- tensors that are missing, too many, or not what they should be ------------------------------

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
  REQUIRE(starts_with(status.message(), before));
  CHECK(status.message().substr(before.size() + 64) ==
        ", its header promises '" + std::string(64, '0') +
            "'; the file is damaged, fetch it again");
  fixture.metadata["xception.sha256"] = status.message().substr(before.size(), 64);
  CHECK(load(fixture).info().classes == 7);
}

}  // namespace xception
