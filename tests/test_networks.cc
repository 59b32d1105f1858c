// Which network a weight file holds, and its graph.
#include "engine/networks.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "network_fixture.h"
#include "random.h"
#include "testing.h"

namespace xception {

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
        conv != nullptr && node.name.starts_with("block4.")) {
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

}  // namespace xception
