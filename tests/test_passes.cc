// Passes: what they fuse, what they leave alone, and that the result is the same.
#include "engine/passes.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <string>

#include "graph_fixture.h"
#include "testing.h"
#include "zero_model.h"

namespace xception {
namespace {

constexpr int kChannels = 3;
constexpr Shape kInput = {1, 6, 5, kChannels};

// Short names for the nodes of the structural cases; all values but padded ones have kInput's
// shape.
class Chain {
 public:
  explicit Chain(Random& random) : random_(random), maker_(kInput) {}

  ValueId conv(const std::string& name, ValueId src, bool bias = false) {
    Conv2d op;
    op.out_channels = kChannels;
    op.affine = bias ? random_bias(random_, kChannels) : nullptr;
    return maker_.conv(name, op, random_.normals(kChannels * kChannels), {src});
  }
  ValueId depthwise(const std::string& name, ValueId src) {
    Conv2d op;
    op.out_channels = kChannels;
    op.size = 3;
    op.pad = 1;
    op.depthwise = true;
    return maker_.conv(name, op, random_.normals(kChannels * 9), {src});
  }
  ValueId padded(const std::string& name, ValueId src) {
    Conv2d op;
    op.out_channels = kChannels;
    op.pad = 1;
    return maker_.conv(name, op, random_.normals(kChannels * kChannels), {src});
  }
  ValueId norm(const std::string& name, ValueId src) {
    return maker_.append(name, BatchNorm{random_norm(random_, kChannels)}, {src});
  }
  ValueId relu(const std::string& name, ValueId src) { return maker_.append(name, Relu{}, {src}); }
  ValueId add(const std::string& name, ValueId a, ValueId b) {
    return maker_.append(name, Add{}, {a, b});
  }
  ValueId pool(const std::string& name, ValueId src) {
    return maker_.append(name, MaxPool{3, 1, 1, PadMode::kExplicit, false}, {src});
  }
  TestGraph finish() { return maker_.finish(); }

 private:
  Random& random_;
  GraphMaker maker_;
};

// "name: operation(inputs)" of every node but the input.
std::vector<std::string> listing(const Graph& graph) {
  std::vector<std::string> lines;
  for (std::size_t i = 1; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    std::string line = node.name + ": " + describe(node.op) + " (";
    for (const ValueId id : node.inputs) {
      line += (line.back() == '(' ? "" : ", ") + graph.nodes[static_cast<std::size_t>(id)].name;
    }
    lines.push_back(line + ")");
  }
  return lines;
}

using Listing = std::vector<std::string>;

// The listing of a graph whose chains are joined.
Listing chains(const Graph& graph, const WantsChain& wanted) {
  const auto joined = fuse_chains(graph, kInput, wanted);
  REQUIRE(joined.ok());
  return listing(*joined);
}

bool always(const SeparableChain&, const Shape&) { return true; }
bool never(const SeparableChain&, const Shape&) { return false; }

// Nodes on the longest way from the input to each value, the input not counted.
std::vector<int> depths(const Graph& graph) {
  std::vector<int> depths;
  for (const Node& node : graph.nodes) {
    int longest = -1;
    for (const ValueId id : node.inputs) {
      longest = std::max(longest, depths[static_cast<std::size_t>(id)]);
    }
    depths.push_back(longest + 1);
  }
  return depths;
}

// A node of the result computes what the node of its name computed before, but for rounding: a node
// rounds its output on either side, and a fused one its folded weights and its shift.
void check_same_values(Random& random, const TestGraph& made, const Graph& after) {
  constexpr int kRoundings = 4;
  const auto backend = reference_backend();
  const Values images = random.normals(made.input.elements());
  const TestGraph bounds = absolute(made);
  const auto run = [&](const TestGraph& test, const Graph& graph, const Values& input) {
    return run_guarded(*backend, graph, *test.file, test.input, input);
  };
  const std::vector<Values> expected = run(made, made.graph, images);
  const std::vector<Values> magnitudes = run(bounds, bounds.graph, absolute(images));
  const std::vector<Values> actual = run(made, after, images);
  const std::vector<int> depth = depths(made.graph);
  CHECK(after.nodes.back().name == made.graph.nodes.back().name);
  for (std::size_t i = 0; i < actual.size(); ++i) {
    INFO("layer '" << after.nodes[i].name << "', " << describe(after.nodes[i].op));
    const auto before =
        std::find_if(made.graph.nodes.begin(), made.graph.nodes.end(),
                     [&](const Node& node) { return node.name == after.nodes[i].name; });
    REQUIRE(before != made.graph.nodes.end());
    const auto id = static_cast<std::size_t>(before - made.graph.nodes.begin());
    REQUIRE(actual[i].size() == expected[id].size());
    const float rounding = kRounding * static_cast<float>(kRoundings * depth[id]);
    float excess = 0.0F;
    for (std::size_t j = 0; j < actual[i].size(); ++j) {
      const float error = std::abs(actual[i][j] - expected[id][j]);
      excess = std::max(excess, error - rounding * magnitudes[id][j]);
    }
    CHECK(excess <= 0.0F);
  }
}

// The passes one by one, each with what must be there before it is of use, and all together.
struct NamedPass {
  const char* name;
  Graph (*run)(const Graph&);
};
constexpr NamedPass kPasses[] = {{"fold_batch_norm", fold_batch_norm},
                                 {"fuse_relu", fuse_relu},
                                 {"fuse_second_batch_norm", fuse_second_batch_norm},
                                 {"fuse_add", fuse_add},
                                 {"fuse_final_relu", fuse_final_relu},
                                 {"fuse_relu_on_load", fuse_relu_on_load}};

}  // namespace

TEST_CASE("a convolution takes all that follows into one node, in order") {
  XC_RANDOM(random);
  Chain chain(random);
  ValueId x = chain.relu("start", 0);
  x = chain.norm("bn1", chain.conv("conv", x));
  x = chain.norm("bn2", chain.relu("relu1", x));
  x = chain.relu("relu2", chain.add("add", x, 0));
  const TestGraph made = chain.finish();
  const Graph fused = fuse(made.graph);
  CHECK(listing(fused) ==
        Listing{"start: relu (input)", "relu2: conv1x1 +bn +relu +bn +add +relu (start, input)"});
  check_same_values(random, made, fused);
}

TEST_CASE("each pass takes one step of that, and no other") {
  XC_RANDOM(random);
  Chain chain(random);
  ValueId x = chain.norm("bn1", chain.conv("conv", 0, true));
  x = chain.norm("bn2", chain.relu("relu1", x));
  x = chain.relu("relu2", chain.add("add", x, 0));
  const TestGraph made = chain.finish();
  const std::vector<Listing> stages = {
      {"conv: conv1x1 (input)", "bn1: batch_norm (conv)", "relu1: relu (bn1)",
       "bn2: batch_norm (relu1)", "add: add (bn2, input)", "relu2: relu (add)"},
      {"bn1: conv1x1 +bn (input)", "relu1: relu (bn1)", "bn2: batch_norm (relu1)",
       "add: add (bn2, input)", "relu2: relu (add)"},
      {"relu1: conv1x1 +bn +relu (input)", "bn2: batch_norm (relu1)", "add: add (bn2, input)",
       "relu2: relu (add)"},
      {"bn2: conv1x1 +bn +relu +bn (input)", "add: add (bn2, input)", "relu2: relu (add)"},
      {"add: conv1x1 +bn +relu +bn +add (input, input)", "relu2: relu (add)"},
      {"relu2: conv1x1 +bn +relu +bn +add +relu (input, input)"},
      {"relu2: conv1x1 +bn +relu +bn +add +relu (input, input)"}};
  Graph graph = made.graph;
  CHECK(listing(graph) == stages[0]);
  for (std::size_t i = 0; i < std::size(kPasses); ++i) {
    INFO(kPasses[i].name);
    graph = kPasses[i].run(graph);
    CHECK(listing(graph) == stages[i + 1]);
    check_same_values(random, made, graph);
  }
}

TEST_CASE("a folded norm is composed with the bias, and with another norm") {
  XC_RANDOM(random);
  Chain chain(random);
  chain.norm("bn2", chain.norm("bn1", chain.conv("conv", 0, true)));
  const TestGraph made = chain.finish();
  const Graph folded = fold_batch_norm(made.graph);
  CHECK(listing(folded) == Listing{"bn2: conv1x1 +bn (input)"});
  const Affine& bias = *std::get<Conv2d>(made.graph.nodes[1].op).affine;
  const Affine& bn1 = *std::get<BatchNorm>(made.graph.nodes[2].op).affine;
  const Affine& bn2 = *std::get<BatchNorm>(made.graph.nodes[3].op).affine;
  const Affine& all = *std::get<Conv2d>(folded.nodes[1].op).affine;
  for (std::size_t c = 0; c < kChannels; ++c) {
    CHECK(all.scale[c] == Approx(bn2.scale[c] * bn1.scale[c]).epsilon(1e-14));
    const double shift = bn2.scale[c] * (bn1.scale[c] * bias.shift[c] + bn1.shift[c]);
    CHECK(all.shift[c] == Approx(shift + bn2.shift[c]).epsilon(1e-12).margin(1e-14));
  }
  check_same_values(random, made, folded);
}

TEST_CASE("a norm behind a ReLU stays out of the weights") {
  XC_RANDOM(random);
  Chain chain(random);
  chain.norm("bn", chain.relu("relu", chain.conv("conv", 0)));
  const TestGraph made = chain.finish();
  const Graph fused = fuse(made.graph);
  CHECK(listing(fused) == Listing{"bn: conv1x1 +relu +bn (input)"});
  const auto& conv = std::get<Conv2d>(fused.nodes[1].op);
  CHECK_FALSE(conv.folded);
  CHECK(conv.affine == nullptr);
  CHECK(conv.second_affine == std::get<BatchNorm>(made.graph.nodes[3].op).affine);
  check_same_values(random, made, fused);
}

TEST_CASE("a third norm has no place in a convolution") {
  XC_RANDOM(random);
  Chain chain(random);
  ValueId x = chain.norm("bn1", chain.relu("relu1", chain.conv("conv", 0)));
  x = chain.norm("bn2", chain.relu("relu2", x));
  const TestGraph made = chain.finish();
  CHECK(listing(fuse(made.graph)) ==
        Listing{"relu2: conv1x1 +relu +bn +relu (input)", "bn2: batch_norm (relu2)"});
  check_same_values(random, made, fuse(made.graph));
}

TEST_CASE("an add takes the convolution on either side, the first if both can") {
  XC_RANDOM(random);
  Chain chain(random);
  const ValueId start = chain.relu("start", 0);
  SECTION("first") {
    chain.add("add", chain.conv("conv", start), start);
    CHECK(listing(fuse(chain.finish().graph)) ==
          Listing{"start: relu (input)", "add: conv1x1 +add (start, start)"});
  }
  SECTION("second") {
    chain.add("add", 0, chain.conv("conv", start));
    const TestGraph made = chain.finish();
    CHECK(listing(fuse(made.graph)) ==
          Listing{"start: relu (input)", "add: conv1x1 +add (start, input)"});
    check_same_values(random, made, fuse(made.graph));
  }
  SECTION("both, of which the first named runs last") {
    const ValueId main = chain.conv("main", start);
    const ValueId shortcut = chain.conv("shortcut", 0);
    chain.add("add", main, shortcut);
    const TestGraph made = chain.finish();
    CHECK(listing(fuse(made.graph)) == Listing{"start: relu (input)", "shortcut: conv1x1 (input)",
                                               "add: conv1x1 +add (start, shortcut)"});
    check_same_values(random, made, fuse(made.graph));
  }
}

TEST_CASE("a convolution takes one add only") {
  XC_RANDOM(random);
  Chain chain(random);
  const ValueId start = chain.relu("start", 0);
  chain.add("add2", chain.add("add1", chain.conv("conv", 0), start), start);
  const TestGraph made = chain.finish();
  CHECK(listing(fuse(made.graph)) == Listing{"start: relu (input)",
                                             "add1: conv1x1 +add (input, start)",
                                             "add2: add (add1, start)"});
  check_same_values(random, made, fuse(made.graph));
}

TEST_CASE("a depthwise and a 1x1 convolution become one where that is wanted") {
  XC_RANDOM(random);
  Chain chain(random);
  const ValueId start = chain.relu("start", 0);
  ValueId x = chain.relu("relu1", chain.conv("pointwise1", chain.depthwise("depthwise1", start)));
  x = chain.add("add", chain.norm("bn", chain.conv("pointwise2", chain.depthwise("depthwise2", x))),
                start);
  const TestGraph made = chain.finish();
  const Graph graph = fuse(made.graph);
  std::vector<std::string> asked;
  const auto is_pair = [&](const SeparableChain& wanted, const Shape& src) {
    asked.push_back(describe(wanted) + " of " + to_string(src));
    return wanted.convs.size() == 1;
  };
  CHECK(chains(graph, is_pair) ==
        Listing{"start: relu (input)", "relu1: separable: depthwise3x3, conv1x1 +relu (start)",
                "add: separable: depthwise3x3, conv1x1 +bn +add (relu1, start)"});
  CHECK(asked ==
        Listing{"separable: depthwise3x3, conv1x1 +relu of 1x6x5x3",
                "separable: depthwise3x3, conv1x1 +bn +add of 1x6x5x3",
                "separable: depthwise3x3, conv1x1 +relu, depthwise3x3, conv1x1 +bn +add of "
                "1x6x5x3"});
  CHECK(chains(graph, never) == listing(graph));
}

TEST_CASE("separable convolutions become a chain, with the max pool behind the last") {
  XC_RANDOM(random);
  Chain chain(random);
  ValueId x = chain.relu("relu1", chain.conv("pointwise1", chain.depthwise("depthwise1", 0)));
  x = chain.conv("pointwise2", chain.depthwise("depthwise2", x));
  x = chain.conv("pointwise3", chain.depthwise("depthwise3", x));
  x = chain.add("add", chain.pool("pool", x), 0);
  SECTION("all of it") {
    const TestGraph made = chain.finish();
    CHECK(
        chains(fuse(made.graph), always) ==
        Listing{"add: separable: depthwise3x3, conv1x1 +relu, depthwise3x3, conv1x1, depthwise3x3, "
                "conv1x1, max_pool3x3 +add (input, input)"});
  }
  SECTION("nothing behind an add, nothing behind a pool") {
    x = chain.add("sum", chain.conv("pointwise4", chain.depthwise("depthwise4", x)), x);
    x = chain.pool("pool2", x);
    chain.conv("pointwise5", chain.depthwise("depthwise5", x));
    const TestGraph made = chain.finish();
    CHECK(
        chains(fuse(made.graph), always) ==
        Listing{"add: separable: depthwise3x3, conv1x1 +relu, depthwise3x3, conv1x1, depthwise3x3, "
                "conv1x1, max_pool3x3 +add (input, input)",
                "sum: separable: depthwise3x3, conv1x1 +add (add, add)", "pool2: max_pool3x3 (sum)",
                "pointwise5: separable: depthwise3x3, conv1x1 (pool2)"});
  }
  SECTION("what others read too stays") {
    chain.add("sum", x, x - 4);
    const TestGraph made = chain.finish();
    CHECK(made.graph.nodes[static_cast<std::size_t>(x - 4)].name == "pointwise2");
    CHECK(
        chains(fuse(made.graph), always) ==
        Listing{"pointwise2: separable: depthwise3x3, conv1x1 +relu, depthwise3x3, conv1x1 (input)",
                "add: separable: depthwise3x3, conv1x1, max_pool3x3 +add (pointwise2, input)",
                "sum: add (add, pointwise2)"});
  }
}

TEST_CASE("what is no depthwise convolution with one 1x1 convolution behind it stays apart") {
  XC_RANDOM(random);
  Chain chain(random);
  SECTION("read twice") {
    const ValueId x = chain.depthwise("depthwise", 0);
    chain.add("add", chain.relu("relu", chain.conv("pointwise", x)), x);
  }
  SECTION("another depthwise convolution") {
    chain.depthwise("depthwise2", chain.depthwise("depthwise1", 0));
  }
  SECTION("two 1x1 convolutions") { chain.conv("pointwise2", chain.conv("pointwise1", 0)); }
  SECTION("something between") {
    chain.conv("pointwise", chain.pool("pool", chain.depthwise("depthwise", 0)));
  }
  SECTION("a 1x1 convolution with a frame of zeros") {
    chain.padded("pointwise", chain.depthwise("depthwise", 0));
  }
  SECTION("a depthwise convolution that adds") {
    chain.conv("pointwise", chain.add("add", chain.depthwise("depthwise", 0), 0));
  }
  const TestGraph made = chain.finish();
  for (const Graph& graph : {made.graph, fuse(made.graph)}) {
    CHECK(chains(graph, always) == listing(graph));
  }
}

TEST_CASE("nothing but a ReLU follows an add into a convolution") {
  XC_RANDOM(random);
  Chain chain(random);
  ValueId x = chain.add("add1", chain.conv("conv", 0), 0);
  SECTION("no norm") {
    chain.norm("bn", x);
    const TestGraph made = chain.finish();
    CHECK(listing(fuse(made.graph)) ==
          Listing{"add1: conv1x1 +add (input, input)", "bn: batch_norm (add1)"});
    check_same_values(random, made, fuse(made.graph));
  }
  SECTION("no add behind that ReLU") {
    chain.add("add2", chain.relu("relu", x), 0);
    const TestGraph made = chain.finish();
    CHECK(listing(fuse(made.graph)) ==
          Listing{"relu: conv1x1 +add +relu (input, input)", "add2: add (relu, input)"});
    check_same_values(random, made, fuse(made.graph));
  }
}

TEST_CASE("a max pool takes an add, but no norm and no ReLU") {
  XC_RANDOM(random);
  Chain chain(random);
  SECTION("add") {
    const ValueId x = chain.add("add", chain.pool("pool", 0), chain.conv("conv", 0));
    chain.relu("relu", x);
    const TestGraph made = chain.finish();
    CHECK(listing(fuse(made.graph)) == Listing{"conv: conv1x1 (input)",
                                               "add: max_pool3x3 +add (input, conv)",
                                               "relu: relu (add)"});
    check_same_values(random, made, fuse(made.graph));
  }
  SECTION("one add only") {
    chain.add("add2", chain.add("add1", chain.pool("pool", 0), 0), 0);
    const TestGraph made = chain.finish();
    CHECK(listing(fuse(made.graph)) ==
          Listing{"add1: max_pool3x3 +add (input, input)", "add2: add (add1, input)"});
    check_same_values(random, made, fuse(made.graph));
  }
  SECTION("a norm stays between convolution and pool, and behind the pool") {
    ValueId x = chain.conv("conv", 0);
    x = chain.norm("bn", chain.pool("pool", x));
    const TestGraph made = chain.finish();
    CHECK(listing(fuse(made.graph)) ==
          Listing{"conv: conv1x1 (input)", "pool: max_pool3x3 (conv)", "bn: batch_norm (pool)"});
    check_same_values(random, made, fuse(made.graph));
  }
}

TEST_CASE("no pass reaches behind what another one has fused") {
  XC_RANDOM(random);
  Chain chain(random);
  SECTION("a norm is not folded through a fused ReLU") {
    chain.norm("bn", chain.relu("relu", chain.conv("conv", 0)));
    const TestGraph made = chain.finish();
    const Graph graph = fold_batch_norm(fuse_relu(made.graph));
    CHECK(listing(graph) == Listing{"relu: conv1x1 +relu (input)", "bn: batch_norm (relu)"});
    check_same_values(random, made, graph);
  }
  SECTION("nothing is added ahead of a fused last ReLU") {
    ValueId x = chain.norm("bn", chain.relu("relu1", chain.conv("conv", 0)));
    chain.add("add", chain.relu("relu2", x), 0);
    const TestGraph made = chain.finish();
    const Graph graph = fuse_add(fuse(made.graph));
    CHECK(listing(graph) ==
          Listing{"relu2: conv1x1 +relu +bn +relu (input)", "add: add (relu2, input)"});
    check_same_values(random, made, graph);
  }
  SECTION("no second norm ahead of a fused add") {
    chain.norm("bn", chain.add("add", chain.relu("relu", chain.conv("conv", 0)), 0));
    const TestGraph made = chain.finish();
    const Graph graph = fuse_second_batch_norm(fuse_add(fuse_relu(made.graph)));
    CHECK(listing(graph) ==
          Listing{"add: conv1x1 +relu +add (input, input)", "bn: batch_norm (add)"});
    check_same_values(random, made, graph);
  }
}

TEST_CASE("ReLUs in a row are one") {
  XC_RANDOM(random);
  Chain chain(random);
  ValueId x = chain.relu("relu3", chain.relu("relu2", chain.relu("relu1", 0)));
  x = chain.conv("conv", x);
  chain.relu("relu5", chain.relu("relu4", x));
  const TestGraph made = chain.finish();
  CHECK(listing(fuse(made.graph)) ==
        Listing{"relu3: relu (input)", "relu5: conv1x1 +relu (relu3)"});
  check_same_values(random, made, fuse(made.graph));
}

TEST_CASE("a depthwise convolution takes the ReLU before it, where nothing else reads that") {
  XC_RANDOM(random);
  Chain chain(random);
  SECTION("whoever reads what the ReLU reads") {
    const ValueId pool = chain.pool("pool", 0);
    chain.add("add", chain.depthwise("depthwise", chain.relu("relu", pool)), pool);
    const TestGraph made = chain.finish();
    CHECK(listing(fuse(made.graph)) ==
          Listing{"pool: max_pool3x3 (input)", "add: relu+ depthwise3x3 +add (pool, pool)"});
    check_same_values(random, made, fuse(made.graph));
  }
  SECTION("but not that of what it adds") {
    const ValueId main = chain.depthwise("depthwise", 0);
    chain.add("add", main, chain.relu("relu", 0));
    const TestGraph made = chain.finish();
    CHECK(listing(fuse(made.graph)) ==
          Listing{"relu: relu (input)", "add: depthwise3x3 +add (input, relu)"});
    check_same_values(random, made, fuse(made.graph));
  }
  SECTION("and no other ReLU") {
    const ValueId relu = chain.relu("relu", 0);
    chain.add("add", chain.depthwise("depthwise", relu), relu);
    chain.conv("dense", chain.relu("relu2", 3));
    const TestGraph made = chain.finish();
    CHECK(listing(fuse(made.graph)) == Listing{"relu: relu (input)",
                                               "relu2: depthwise3x3 +add +relu (relu, relu)",
                                               "dense: conv1x1 (relu2)"});
    check_same_values(random, made, fuse(made.graph));
  }
}

TEST_CASE("a value that is read twice stays a value") {
  XC_RANDOM(random);
  Chain chain(random);
  SECTION("by two nodes") {
    const ValueId conv = chain.conv("conv", 0);
    chain.add("add", chain.norm("bn", conv), chain.relu("relu", conv));
    const TestGraph made = chain.finish();
    CHECK(listing(fuse(made.graph)) == listing(made.graph));
  }
  SECTION("by one node") {
    const ValueId conv = chain.conv("conv", 0);
    chain.add("add", conv, conv);
    const TestGraph made = chain.finish();
    CHECK(listing(fuse(made.graph)) == listing(made.graph));
  }
  SECTION("after it was merged") {
    const ValueId x = chain.norm("bn", chain.conv("conv", 0));
    chain.add("add", chain.relu("relu", x), x);
    const TestGraph made = chain.finish();
    CHECK(listing(fuse(made.graph)) ==
          Listing{"bn: conv1x1 +bn (input)", "relu: relu (bn)", "add: add (relu, bn)"});
    check_same_values(random, made, fuse(made.graph));
  }
}

TEST_CASE("the input is no producer to be merged") {
  XC_RANDOM(random);
  Chain chain(random);
  chain.add("add", chain.relu("relu", chain.norm("bn", 0)), 0);
  const TestGraph made = chain.finish();
  CHECK(listing(fuse(made.graph)) == listing(made.graph));
}

TEST_CASE("a graph of the input alone passes through") {
  const TestGraph made = GraphMaker(kInput).finish();
  CHECK(fuse(made.graph).nodes.size() == 1);
}

TEST_CASE("random graphs compute the same after every pass") {
  XC_RANDOM(random);
  std::map<std::string, int> seen;
  for (int round = 0; round < 200; ++round) {
    CAPTURE(round);
    const TestGraph made = random_graph(random, random.integer(2, 14));
    const Listing before = listing(made.graph);
    INFO("graph: " << Catch::Detail::stringify(before));
    Graph graph = made.graph;
    for (const NamedPass& pass : kPasses) {
      INFO(pass.name);
      check_same_values(random, made, pass.run(made.graph));  // alone
      const std::size_t nodes = graph.nodes.size();
      graph = pass.run(graph);  // behind the others
      seen[pass.name] += graph.nodes.size() < nodes ? 1 : 0;
    }
    Graph any_order = made.graph;
    for (std::size_t i = 0; i < 2 * std::size(kPasses); ++i) {
      const int drawn = random.integer(0, static_cast<int>(std::size(kPasses)) - 1);
      any_order = kPasses[static_cast<std::size_t>(drawn)].run(any_order);
    }
    check_same_values(random, made, any_order);
    const Graph fused = fuse(made.graph);
    check_same_values(random, made, fused);
    CHECK(listing(fused) == listing(graph));
    CHECK(listing(fuse(fused)) == listing(fused));
    CHECK(listing(made.graph) == before);
  }
  for (const NamedPass& pass : kPasses) {
    INFO(pass.name);
    CHECK(seen[pass.name] >= 3);  // or else the comparison above was of nothing
  }
}

TEST_CASE("steps of the networks before and after fusion") {
  const auto steps = [](const Graph& graph) { return graph.nodes.size() - 1; };
  SECTION("xception") {
    const ZeroModel model("xception");
    CHECK(steps(model.graph()) == 167);
    CHECK(steps(fuse(model.graph())) == 80);
  }
  SECTION("seed_depthwise") {
    const ZeroModel model("seed_depthwise");
    CHECK(steps(model.graph()) == 297);
    CHECK(steps(fuse(model.graph())) == 80);
  }
  SECTION("seed") {
    const ZeroModel model("seed");
    CHECK(steps(model.graph()) == 297);
    CHECK(steps(fuse(model.graph())) == 92);
  }
}

}  // namespace xception
