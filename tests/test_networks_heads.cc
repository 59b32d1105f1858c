// Heads: none, one Linear or several, one output.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "network_fixture.h"
#include "random.h"
#include "testing.h"

namespace xception {

TEST_CASE("without a head the result is features") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  fixture.remove("fc.weight");
  fixture.remove("fc.bias");
  const Loaded loaded = load(fixture);
  CHECK(loaded.info().classes == 128);
  CHECK_FALSE(loaded.info().has_head);
  CHECK(loaded.node_names().back() == "block6.6");
  fixture.metadata["xception.num_classes"] = "0";  // as an exporter counts them then
  CHECK(load(fixture).info().classes == 128);

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
      REQUIRE(softmax(TensorView<const float>{row.data(), {1, 1, 1, 2}},
                      TensorView<float>{row.data(), {1, 1, 1, 2}})
                  .ok());
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
        "tensor 'fc.x.bias' [7] is no parameter of this network; is it another network (arch)?");
  check("fc.x.weight", {7, 128},
        "tensor 'fc.x.weight' [7, 128] is no parameter of this network; is it another network "
        "(arch)?");
  check("fc..weight", {7, 128},
        "tensor 'fc..weight' [7, 128] is no parameter of this network; is it another network "
        "(arch)?");
  check("fc.12345.weight", {7, 128},
        "tensor 'fc.12345.weight' [7, 128] is no parameter of this network; is it another network "
        "(arch)?");
  // A Linear of one output makes one column, which a vector must not pass for.
  base.add("fc.0.weight", {1, 128}, std::vector<float>(128));
  check("fc.1.weight", {5}, "tensor 'fc.1.weight' has shape [5], expected [outputs, 1]");
  check("fc.00.weight", {1, 128}, "tensor 'fc.0.weight' has shape [1, 128], expected [outputs, 1]");
}

}  // namespace xception
