// The arena's map: by hand, by properties, and by running graphs in it. And which values of the
// networks stay float32 beside bf16.
#include "engine/plan.h"

#include <algorithm>
#include <numeric>

#include "engine/passes.h"
#include "engine/wide_values.h"
#include "graph_fixture.h"
#include "testing.h"
#include "zero_model.h"

namespace xception {
namespace {

using Sizes = std::vector<std::size_t>;

std::size_t aligned(std::size_t bytes) {
  return bytes % kArenaAlignment == 0 ? bytes : bytes + kArenaAlignment - bytes % kArenaAlignment;
}

bool meet(std::size_t a_first, std::size_t a_end, std::size_t b_first, std::size_t b_end) {
  return std::max(a_first, b_first) < std::min(a_end, b_end);
}

void check_map(const std::vector<Lifetime>& lifetimes) {
  const ArenaMap map = map_arena(lifetimes);
  REQUIRE(map.offsets.size() == lifetimes.size());
  std::size_t sum = 0;
  std::size_t end = 0;
  int last = 0;
  for (std::size_t i = 0; i < lifetimes.size(); ++i) {
    CHECK(map.offsets[i] % kArenaAlignment == 0);
    sum += aligned(lifetimes[i].bytes);
    end = std::max(end, map.offsets[i] + lifetimes[i].bytes);
    last = std::max(last, lifetimes[i].last);
    for (std::size_t j = 0; j < i; ++j) {
      const bool in_time =
          lifetimes[i].first <= lifetimes[j].last && lifetimes[j].first <= lifetimes[i].last;
      const bool in_memory = meet(map.offsets[i], map.offsets[i] + lifetimes[i].bytes,
                                  map.offsets[j], map.offsets[j] + lifetimes[j].bytes);
      CHECK_FALSE((in_time && in_memory));
    }
  }
  CHECK(end <= map.bytes);
  CHECK(map.bytes == aligned(end));
  CHECK(map.bytes <= sum);
  for (int step = 0; step <= last; ++step) {
    std::size_t live = 0;
    for (const Lifetime& lifetime : lifetimes) {
      live += lifetime.first <= step && step <= lifetime.last ? aligned(lifetime.bytes) : 0;
    }
    CHECK(map.bytes >= live);
  }
}

}  // namespace

TEST_CASE("an arena of nothing") {
  const ArenaMap map = map_arena({});
  CHECK(map.offsets.empty());
  CHECK(map.bytes == 0);
}

TEST_CASE("a value alone lies at the start, its size rounded up") {
  CHECK(map_arena({{1, 0, 0}}).bytes == 64);
  CHECK(map_arena({{64, 0, 0}}).bytes == 64);
  CHECK(map_arena({{65, 3, 9}}).bytes == 128);
  CHECK(map_arena({{65, 3, 9}}).offsets == Sizes{0});
}

TEST_CASE("a chain takes turns") {
  // Each value lives from its step to the next: neighbours meet, others do not.
  const ArenaMap map = map_arena({{64, 0, 1}, {64, 1, 2}, {64, 2, 3}, {64, 3, 4}});
  CHECK(map.offsets == Sizes{0, 64, 0, 64});
  CHECK(map.bytes == 128);
}

TEST_CASE("the biggest is placed first") {
  const ArenaMap map = map_arena({{100, 0, 1}, {200, 1, 2}, {100, 2, 3}});
  CHECK(map.offsets == Sizes{256, 0, 256});
  CHECK(map.bytes == 384);
}

TEST_CASE("the lowest gap that is wide enough is used") {
  // Placed in the order of size: 0 at 0; 1 behind it; 2, which meets only 1, below it.
  CHECK(map_arena({{640, 0, 0}, {320, 0, 1}, {128, 1, 1}}).offsets == Sizes{0, 640, 0});
  // The gap below 1 fits 2 of 640 bytes exactly, but not 3, which meets both of them.
  const ArenaMap map = map_arena({{640, 0, 0}, {640, 0, 1}, {640, 1, 1}, {64, 1, 1}});
  CHECK(map.offsets == Sizes{0, 640, 0, 1280});
  CHECK(map.bytes == 1344);
}

TEST_CASE("values that share memory with one another are passed over together") {
  // 0 and 1 never meet and lie at 0 both; 2 meets both, the larger of them counts.
  const ArenaMap map = map_arena({{256, 0, 0}, {192, 1, 1}, {128, 0, 1}});
  CHECK(map.offsets == Sizes{0, 0, 256});
}

TEST_CASE("values of no bytes take no room") {
  const ArenaMap map = map_arena({{0, 0, 5}, {128, 0, 5}, {0, 2, 2}, {64, 3, 3}});
  CHECK(map.bytes == 192);
  CHECK(map.offsets[1] == 0);
  CHECK(map.offsets[3] == 128);
  CHECK(map_arena({{0, 0, 0}, {0, 0, 0}}).bytes == 0);
}

TEST_CASE("no two values that live at once share memory") {
  XC_RANDOM(random);
  for (int round = 0; round < 300; ++round) {
    std::vector<Lifetime> lifetimes;
    const int count = random.integer(1, 25);
    const int steps = random.integer(1, 15);
    // Small sizes in one round, so that equal ones and the limits of alignment come up.
    const int largest = random.integer(0, 1) == 0 ? 200 : 100000;
    for (int i = 0; i < count; ++i) {
      const int first = random.integer(0, steps);
      lifetimes.push_back({static_cast<std::size_t>(random.integer(0, largest)), first,
                           random.integer(first, steps)});
    }
    check_map(lifetimes);
  }
}

TEST_CASE("lifetimes run from the writing step to the last reading one") {
  GraphMaker maker({1, 4, 4, 3});
  maker.append("a", Relu{}, {0});
  maker.append("b", Relu{}, {1});
  maker.append("unread", Relu{}, {1});
  maker.append("c", Add{}, {2, 1});
  const TestGraph made = maker.finish();
  const std::vector<Lifetime> lifetimes = value_lifetimes(made.graph, {10, 20, 30, 40, 50});
  const auto as_rows = [&] {
    std::vector<std::vector<std::size_t>> rows;
    for (const Lifetime& lifetime : lifetimes) {
      rows.push_back({lifetime.bytes, static_cast<std::size_t>(lifetime.first),
                      static_cast<std::size_t>(lifetime.last)});
    }
    return rows;
  };
  CHECK(as_rows() == std::vector<std::vector<std::size_t>>{
                         {10, 0, 1}, {20, 1, 4}, {30, 2, 4}, {40, 3, 3}, {50, 4, 5}});
}

TEST_CASE("a second input that is read last may be written over") {
  GraphMaker maker({1, 4, 4, 3});
  maker.append("a", Relu{}, {0});
  maker.append("sum of input and a", Add{}, {0, 1});
  maker.append("twice", Add{}, {2, 2});
  maker.append("a again", Add{}, {3, 1});
  maker.append("end", Add{}, {4, 3});
  const TestGraph made = maker.finish();
  std::vector<bool> free;
  for (ValueId node = 0; node < 6; ++node) {
    free.push_back(reads_second_last(made.graph, node));
  }
  CHECK(free == std::vector<bool>{false, false, false, false, true, true});

  const Sizes bytes(6, 64);
  // Value 4 stands where 1 stood; the last step reads it and 3, and has a workspace.
  const ArenaMap map = map_graph(made.graph, bytes, {{}, {}, {}, {0, true}, {64, false}});
  CHECK(map.offsets[4] == map.offsets[1]);
  for (const std::size_t alive : {map.offsets[3], map.offsets[5], map.offsets[6 + 4]}) {
    CHECK(alive != map.offsets[4]);
  }
  CHECK(map.bytes == 256);
}

TEST_CASE("a graph computes the same in an arena as with a buffer for every value") {
  XC_RANDOM(random);
  std::vector<std::unique_ptr<Backend>> backends;
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    backends.push_back(reference_backend(precision));
    backends.push_back(cpu_backend(2, precision));
  }
  for (int round = 0; round < 60; ++round) {
    CAPTURE(round);
    const auto& backend = backends[static_cast<std::size_t>(round % 4)];
    if (backend == nullptr) {
      continue;  // no such CPU
    }
    const TestGraph made = random_graph(random, random.integer(1, 14));
    const Graph graph = random.integer(0, 1) == 0 ? made.graph : fuse(made.graph);
    const Values images = random.normals(made.input.elements());
    const Values apart = run_guarded(*backend, graph, *made.file, made.input, images).back();
    CHECK(same_bits(run_in_arena(*backend, graph, *made.file, made.input, images), apart));
  }
}

namespace {

// Names of the values that are float32, of a graph that reads `input`.
std::vector<std::string> wide_names(const Graph& graph, const Shape& input) {
  const auto shapes = infer_shapes(graph, input);
  REQUIRE(shapes.ok());
  const std::vector<bool> wide = wide_values(graph, *shapes);
  std::vector<std::string> names;
  for (std::size_t i = 0; i < wide.size(); ++i) {
    if (wide[i]) {
      names.push_back(graph.nodes[i].name);
    }
  }
  return names;
}

}  // namespace

TEST_CASE("sums and shortcuts of small maps stay float32, and the stem where it is small") {
  std::vector<std::string> expected = {"input", "feature.2", "feature.5", "conv3", "add1",
                                       "conv4", "add2",      "conv5",     "add3",  "block4.add"};
  for (int k = 1; k < 8; ++k) {
    expected.push_back("block4.add#" + std::to_string(k));
  }
  for (const char* name : {"conv7", "add5", "fc"}) {
    expected.emplace_back(name);
  }
  const ZeroModel depthwise("seed_depthwise");
  const Graph graph = fuse(depthwise.graph());
  CHECK(wide_names(graph, {1, 32, 32, 3}) == expected);
  CHECK(wide_names(graph, {32, 32, 32, 3}) == expected);
  CHECK(wide_names(graph, {1, 17, 32, 3}) == expected);

  // A product of 64 channels reads what the stem makes.
  expected.erase(std::find(expected.begin(), expected.end(), "feature.5"));
  CHECK(wide_names(fuse(ZeroModel("seed").graph()), {1, 32, 32, 3}) == expected);

  const ZeroModel paper("xception");
  CHECK(wide_names(fuse(paper.graph()), {1, 299, 299, 3}) == std::vector<std::string>{"fc"});
}

TEST_CASE("values that an operation of one type reads or makes are bf16, and large ones") {
  // Shapes up to 256 KiB of float32 a picture, and one that is larger.
  for (const auto& [side, wide] : {std::pair(32, true), {33, false}}) {
    GraphMaker maker({2, side, side, 64});
    MaxPool pool = {1, 1, 0};
    const ValueId pooled = maker.append("pool", pool, {0});
    pool.add = true;
    maker.append("sum", pool, {0, pooled});
    maker.append("average", AvgPool{}, {maker.append("again", pool, {0, pooled})});
    const TestGraph made = maker.finish();
    const auto shapes = infer_shapes(made.graph, made.input);
    REQUIRE(shapes.ok());
    CHECK(wide_values(made.graph, *shapes) == std::vector<bool>{false, wide, wide, false, true});
  }
}

}  // namespace xception
