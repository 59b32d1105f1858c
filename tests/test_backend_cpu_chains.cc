// Separable convolutions that the CPU backend computes in one step: that they give the bits of
// their parts, and where they are joined at all.
#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "engine/openmp.h"
#include "engine/passes.h"
#include "engine/plan.h"
#include "graph_fixture.h"
#include "step_fixture.h"
#include "testing.h"

namespace xception {
namespace {

// With every chain in one step.
Graph joined(const Graph& graph, const Shape& input) {
  auto chains = fuse_chains(graph, input, [](const SeparableChain&, const Shape&) { return true; });
  REQUIRE(chains.ok());
  return *std::move(chains);
}

const SeparableChain& only_chain(const Graph& graph) {
  const SeparableChain* found = nullptr;
  for (const Node& node : graph.nodes) {
    if (const auto* chain = std::get_if<SeparableChain>(&node.op)) {
      REQUIRE(found == nullptr);
      found = chain;
    }
  }
  REQUIRE(found != nullptr);
  return *found;
}

Conv2d drawn_conv(Random& random, int out_channels, bool depthwise) {
  Conv2d op;
  op.out_channels = out_channels;
  op.depthwise = depthwise;
  op.size = depthwise ? 3 : 1;
  op.pad = depthwise ? 1 : 0;
  const auto chance = [&] { return random.integer(0, 1) == 1; };
  op.stride = depthwise && random.integer(0, 3) == 0 ? 2 : 1;
  op.relu_on_load = depthwise && chance();
  op.affine = chance() ? random_norm(random, out_channels) : nullptr;
  op.folded = op.affine != nullptr;
  op.relu = chance();
  op.second_affine = chance() ? random_norm(random, out_channels) : nullptr;
  op.final_relu = chance();
  return op;
}

// A separable convolution for each of `channels`, and a max pool behind them where that is wanted.
// The last of them may add every pixel of what the first one reads, or every second, or fourth,
// whichever makes a shape that fits. In bf16 what they read is float32 where it is a sum, and what
// they make where nobody reads it or it is a sum.
TestGraph drawn_chain(Random& random, const Shape& input, const std::vector<int>& channels,
                      bool pools) {
  const auto chance = [&] { return random.integer(0, 1) == 1; };
  const auto weights = [&](int count) { return random.normals(count, 0.3F); };
  const bool adds = chance();
  MaxPool pool;
  if (chance()) {
    pool = {random.integer(1, 3), random.integer(1, 2), 0, PadMode::kSame};
  }
  pool.add = adds;
  std::vector<SeparableConv> convs;
  int stride = pools ? pool.stride : 1;
  int in = input.c;
  for (const int out : channels) {
    convs.push_back({drawn_conv(random, in, true), drawn_conv(random, out, false)});
    Conv2d& depthwise = convs.back().depthwise;
    depthwise.size = random.integer(0, 3) == 0 ? 5 : 3;
    depthwise.pad = depthwise.size / 2;
    stride *= convs.back().depthwise.stride;
    in = out;
  }
  convs.back().pointwise.add = adds && !pools;

  GraphMaker maker(input);
  const MaxPool twice = {1, 1, 0, PadMode::kExplicit, true};
  const ValueId src = chance() ? maker.append("sum", twice, {0, 0}) : 0;
  std::vector<ValueId> shortcuts;
  if (adds) {
    Conv2d shortcut;
    shortcut.out_channels = in;
    shortcut.stride = stride;
    shortcuts.push_back(maker.conv("shortcut", shortcut, weights(in * input.c), {src}));
  }
  ValueId made = src;
  in = input.c;
  for (const SeparableConv& conv : convs) {
    const std::string name = std::to_string(maker.last());
    const int out = conv.pointwise.out_channels;
    std::vector<ValueId> inputs = {
        maker.conv("depthwise" + name, conv.depthwise,
                   weights(in * conv.depthwise.size * conv.depthwise.size), {made})};
    if (conv.pointwise.add) {
      inputs.push_back(shortcuts[0]);
    }
    made = maker.conv("pointwise" + name, conv.pointwise, weights(in * out), inputs);
    in = out;
  }
  if (pools) {
    std::vector<ValueId> inputs = shortcuts;
    inputs.insert(inputs.begin(), made);
    made = maker.append("pool", pool, inputs);
  }
  if (chance()) {
    maker.append("twice", Add{}, {made, made});
  }
  return maker.finish();
}

// Two separable convolutions, a max pool, and what it adds, as a network's first blocks are.
TestGraph drawn_block(Random& random, const Shape& input, int channels) {
  GraphMaker maker(input);
  Conv2d shortcut;
  shortcut.out_channels = channels;
  shortcut.stride = 2;
  const auto weights = [&](int count) { return random.normals(count, 0.1F); };
  const ValueId added = maker.conv("shortcut", shortcut, weights(channels * input.c), {0});
  ValueId made = 0;
  for (const int in : {input.c, channels}) {
    const std::string name = std::to_string(in);
    Conv2d depthwise;
    depthwise.out_channels = in;
    depthwise.size = 3;
    depthwise.pad = 1;
    depthwise.depthwise = true;
    made = maker.conv("depthwise" + name, depthwise, weights(in * 9), {made});
    Conv2d pointwise;
    pointwise.out_channels = channels;
    pointwise.relu = in == input.c;
    made = maker.conv("pointwise" + name, pointwise, weights(in * channels), {made});
  }
  maker.append("pool", MaxPool{3, 2, 1, PadMode::kExplicit, true}, {made, added});
  return maker.finish();
}

// Whether a drawn chain gives the same to the bit in one step as operation by operation, on one
// thread and on several, with every value in a buffer of its own and in one arena.
void check_joined(Random& random, const std::vector<std::unique_ptr<Backend>>& backends,
                  const TestGraph& made, const SeparableChain& chain, const Graph& graph) {
  INFO(describe(chain) << " of " << to_string(made.input));
  const Values images = random.normals(made.input.elements());
  const Values apart = run_guarded(*backends[0], made.graph, *made.file, made.input, images).back();
  for (const auto& backend : backends) {
    INFO("threads " << backend->threads());
    CHECK(same_bits(run_guarded(*backend, graph, *made.file, made.input, images).back(), apart));
    CHECK(same_bits(run_in_arena(*backend, graph, *made.file, made.input, images), apart));
  }
}

// For several numbers of threads; none where this machine cannot compute in `precision`.
std::vector<std::unique_ptr<Backend>> backends_of(Precision precision,
                                                  const std::vector<int>& threads_of) {
  std::vector<std::unique_ptr<Backend>> backends;
  for (const int threads : threads_of) {
    if (auto backend = cpu_backend(threads, precision)) {
      backends.push_back(std::move(backend));
    }
  }
  return backends;
}

}  // namespace

TEST_CASE("a separable convolution is its two convolutions, bit by bit") {
  XC_RANDOM(random);
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    const auto backends = backends_of(precision, {1, 2, 7});
    // Strips of several rows in two lengths and in one, of a row that is longer than a strip, and
    // of as many rows as threads.
    for (const auto& [n, h, w, c, k] : std::vector<std::array<int, 5>>{{1, 61, 37, 16, 40},
                                                                       {3, 20, 23, 24, 16},
                                                                       {1, 9, 300, 8, 16},
                                                                       {2, 2, 4, 40, 8},
                                                                       {1, 4, 7, 13, 11},
                                                                       {2, 17, 19, 92, 24}}) {
      for (int round = 0; round < 16 && !backends.empty(); ++round) {
        const TestGraph made = drawn_chain(random, {n, h, w, c}, {k}, false);
        const Graph graph = joined(made.graph, made.input);
        const SeparableChain& chain = only_chain(graph);
        CHECK(chain.convs.size() == 1);
        CHECK_FALSE(chain.pool);
        check_joined(random, backends, made, chain, graph);
      }
    }
  }
}

TEST_CASE("a chain of separable convolutions and a max pool is its operations, bit by bit") {
  XC_RANDOM(random);
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    const auto backends = backends_of(precision, {1, 2, 3, 7});
    // The ends of pictures within a thread's part and at its seams. A row of one pixel, which no
    // chain has, goes another way in oneDNN.
    for (const auto& [n, h, w, c] : std::vector<std::array<int, 4>>{
             {1, 37, 20, 16}, {3, 19, 23, 24}, {4, 5, 9, 13}, {7, 3, 9, 8}, {2, 1, 40, 8}}) {
      for (int round = 0; round < 16 && !backends.empty(); ++round) {
        const bool pools = round % 4 != 0;
        std::vector<int> channels;
        for (int i = pools ? random.integer(0, 2) : 1; i >= 0; --i) {
          channels.push_back(std::array{8, 13, 40}[static_cast<std::size_t>(random.integer(0, 2))]);
        }
        const TestGraph made = drawn_chain(random, {n, h, w, c}, channels, pools);
        const Graph graph = joined(made.graph, made.input);
        const SeparableChain& chain = only_chain(graph);
        CHECK(chain.convs.size() == channels.size());
        CHECK(chain.pool.has_value() == pools);
        check_joined(random, backends, made, chain, graph);
      }
    }
  }
}

TEST_CASE("a separable convolution counts its weights in every format that it has them in") {
  // 257 rows in two strips. For 128 pixels oneDNN 2.6 wants these weights in another format than
  // for 129, where it has AVX-512.
  constexpr int kChannels = 728;
  constexpr int kOutChannels = 1024;
  const auto backend = cpu_backend(1);
  GraphMaker maker({1, 257, 1, kChannels});
  Conv2d depthwise;
  depthwise.out_channels = kChannels;
  depthwise.size = 3;
  depthwise.pad = 1;
  depthwise.depthwise = true;
  Conv2d pointwise;
  pointwise.out_channels = kOutChannels;
  const ValueId between = maker.conv("depthwise", depthwise, Values(kChannels * 9), {0});
  maker.conv("pointwise", pointwise, Values(kChannels * kOutChannels), {between});
  const TestGraph made = maker.finish();
  WeightCache cache;
  const auto prepare = [&](const Node& node, int rows, int out_channels) {
    auto step = backend->prepare({node, {{1, rows, 1, kChannels}}, {1, rows, 1, out_channels}},
                                 *made.file, cache);
    REQUIRE(step.ok());
    return *std::move(step);
  };
  const Graph graph = joined(made.graph, made.input);
  const auto step = prepare(graph.nodes[1], 257, kOutChannels);
  const auto shorter = prepare(made.graph.nodes[2], 128, kOutChannels);
  const auto longer = prepare(made.graph.nodes[2], 129, kOutChannels);
  const bool shared = shorter->parameters() == longer->parameters();
  CHECK(step->parameter_bytes() == prepare(made.graph.nodes[1], 257, kChannels)->parameter_bytes() +
                                       shorter->parameter_bytes() +
                                       (shared ? 0 : longer->parameter_bytes()));
}

TEST_CASE("convolutions are joined where much lies between, and weights are read seldom") {
  const auto one = cpu_backend(1);
  const auto two = cpu_backend(2);
  Conv2d depthwise;
  depthwise.out_channels = 256;
  depthwise.size = 3;
  depthwise.pad = 1;
  depthwise.depthwise = true;
  Conv2d pointwise;
  pointwise.out_channels = 32;
  SeparableChain chain = {{{depthwise, pointwise}}};
  CHECK_FALSE(two->joins(chain, {1, 32, 32, 256}));  // 1 MiB
  CHECK(two->joins(chain, {1, 32, 33, 256}));
  CHECK(two->joins(chain, {2, 32, 32, 256}));
  CHECK_FALSE(two->joins(chain, {1, 3, 352, 256}));  // rows for two threads, two and one
  CHECK(one->joins(chain, {1, 3, 352, 256}));
  CHECK_FALSE(reference_backend()->joins(chain, {1, 32, 33, 256}));
  CHECK(cpu_backend(35)->joins(chain, {1, 32, 33, 256}));  // a tenth more threads than rows
  CHECK_FALSE(cpu_backend(36)->joins(chain, {1, 32, 33, 256}));
  // 1056 pixels, in three strips a thread or in five.
  for (const auto& [backend, channels] : {std::pair(two.get(), 1056), {one.get(), 634}}) {
    chain.convs[0].pointwise.out_channels = channels;
    CHECK_FALSE(backend->joins(chain, {1, 32, 33, 256}));
    chain.convs[0].pointwise.out_channels = channels - 1;
    CHECK(backend->joins(chain, {1, 32, 33, 256}));
  }
}

TEST_CASE("blocks of the paper's network that are chains, in both precisions") {
  XC_RANDOM(random);
  // On two threads block1 is one of one picture, the others in larger batches. One shows the bits.
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    const auto backends = backends_of(precision, {1, 2});
    for (const auto& [n, side, c, k] :
         std::vector<std::array<int, 4>>{{1, 147, 64, 128}, {3, 74, 128, 256}, {8, 37, 256, 728}}) {
      if (backends.empty()) {
        continue;
      }
      const TestGraph made = drawn_block(random, {1, side, side, c}, k);
      const auto graph = fuse_chains(made.graph, {n, side, side, c},
                                     [&](const SeparableChain& chain, const Shape& src) {
                                       return backends.back()->joins(chain, src);
                                     });
      REQUIRE(graph.ok());
      const SeparableChain& chain = only_chain(*graph);
      CHECK(chain.convs.size() == 2);
      CHECK(chain.pool.has_value());
      check_joined(random, backends, made, chain, *graph);
    }
  }
}

TEST_CASE("threads without a row, and a smaller team than was asked for") {
  XC_RANDOM(random);
  const auto backends = backends_of(Precision::kFp32, {1, 20});
  const TestGraph made = drawn_chain(random, {1, 19, 19, 24}, {16}, false);
  const Graph graph = joined(made.graph, made.input);
  check_joined(random, backends, made, only_chain(graph), graph);

  const TestGraph block = drawn_block(random, {2, 9, 9, 8}, 16);
  const Graph chain = joined(block.graph, block.input);
  const auto seven = cpu_backend(7);
  const Values images = random.normals(block.input.elements());
  const std::vector<Values> values = run_guarded(*seven, chain, *block.file, block.input, images);
  WeightCache cache;
  const Shape dst = {2, 5, 5, 16};
  const Node& node = chain.nodes.back();
  auto step = seven->prepare({node, {block.input, dst}, dst, true}, *block.file, cache);
  REQUIRE(step.ok());
  Values src = values[0];
  Values added = values[1];
  Values result(values[2].size());
  std::vector<std::byte> workspace((*step)->workspace_bytes() + kArenaAlignment);
  void* aligned = workspace.data();
  std::size_t space = workspace.size();
  REQUIRE(std::align(kArenaAlignment, (*step)->workspace_bytes(), aligned, space) != nullptr);
  const auto bytes = [](Values& of) { return reinterpret_cast<std::byte*>(of.data()); };
  REQUIRE((*step)
              ->bind({{bytes(src), bytes(added)}, bytes(result), static_cast<std::byte*>(aligned)})
              .ok());
  for (const int threads : {1, 3, 7}) {
    INFO("threads " << threads);
    const ThreadScope scope(threads);
    std::fill(result.begin(), result.end(), 0.0F);
    REQUIRE((*step)->run().ok());
    CHECK(same_bits(result, values[2]));
  }
}

TEST_CASE("chains go row by row where rows are long, much lies between, and seams are few") {
  const auto one = cpu_backend(1);
  const auto two = cpu_backend(2);
  const auto conv = [](int in, int out) {
    SeparableConv made;
    made.depthwise.out_channels = in;
    made.depthwise.size = 3;
    made.depthwise.pad = 1;
    made.depthwise.depthwise = true;
    made.pointwise.out_channels = out;
    return made;
  };
  SeparableChain chain = {{conv(64, 64), conv(64, 64)}};
  CHECK(two->joins(chain, {1, 80, 64, 64}));
  CHECK(two->joins(chain, {1, 160, 32, 64}));
  CHECK_FALSE(two->joins(chain, {1, 160, 31, 64}));  // too short a row
  CHECK_FALSE(one->joins(chain, {1, 64, 64, 64}));   // 1 MiB
  CHECK(one->joins(chain, {1, 65, 64, 64}));
  // Of 76 rows a thread makes 38 and two more, of 80 it makes 40 and two.
  CHECK_FALSE(two->joins(chain, {1, 76, 64, 64}));
  CHECK(one->joins(chain, {1, 76, 64, 64}));

  chain.pool = MaxPool{};
  CHECK_FALSE(two->joins(chain, {1, 80, 64, 64}));  // 20 rows of it, 41 and 43 of the others
  CHECK(two->joins(chain, {1, 120, 64, 64}));
  CHECK(two->joins(chain, {2, 80, 64, 64}));
  chain.convs.pop_back();
  CHECK(two->joins(chain, {1, 80, 64, 64}));

  // 768 KiB of rows and 256 of what lies within, and a pixel more.
  CHECK(one->joins({{conv(256, 256), conv(256, 256)}}, {1, 64, 256, 256}));
  CHECK_FALSE(one->joins({{conv(256, 256), conv(256, 256)}}, {1, 64, 257, 256}));
  // 3 MiB of weights, and a channel more.
  CHECK(one->joins({{conv(512, 512), conv(512, 1024)}}, {1, 64, 32, 512}));
  CHECK_FALSE(one->joins({{conv(512, 512), conv(512, 1025)}}, {1, 64, 32, 512}));
}

TEST_CASE("random graphs, fused and not, in buffers apart and in one arena") {
  XC_RANDOM(random);
  const auto reference = reference_backend();
  const auto cpu = cpu_backend(2);
  for (int round = 0; round < 40; ++round) {
    CAPTURE(round);
    const TestGraph made = random_graph(random, random.integer(1, 14));
    const TestGraph bounds = absolute(made);
    const Values images = random.normals(made.input.elements());
    const auto run = [&](Backend& backend, const Graph& graph) {
      return run_guarded(backend, graph, *made.file, made.input, images).back();
    };
    const Values expected = run(*reference, made.graph);
    const Values magnitudes =
        run_guarded(*reference, bounds.graph, *bounds.file, bounds.input, absolute(images)).back();
    for (const Graph& graph :
         {made.graph, fuse(made.graph), joined(fuse(made.graph), made.input)}) {
      const Values apart = run(*cpu, graph);
      // A node sums at most 9 * 9 products here, or the pixels of a picture of 11 x 11.
      const int most = static_cast<int>(made.graph.nodes.size()) * (11 * 11 + 8);
      CHECK(excess(apart, expected, magnitudes, most) <= 0.0F);
      CHECK(same_bits(run_in_arena(*cpu, graph, *made.file, made.input, images), apart));
    }
  }
}

}  // namespace xception
