// How depthwise convolutions are cut into blocks and threads, without a device.
#include <algorithm>

#include "kernels/depthwise.h"
#include "shapes.h"
#include "testing.h"

namespace xception {
namespace {

constexpr Padding kPixelAround = {1, 1, 1, 1};
constexpr Window kSamePadding = {3, 1, kPixelAround};

TEST_CASE("which maps are computed as a whole") {
  GpuInfo gpu;
  gpu.arch = 90;
  gpu.multiprocessors = 132;
  const auto pick = [&](int n, int h, int w, int c, const Padding& pad) {
    return pick_depthwise_maps({{n, h, w, c}, c, {3, 1, pad}, true}, gpu);
  };
  CHECK(pick(8, 4, 4, 728, kPixelAround).value().side == 4);
  CHECK(pick(8, 1, 3, 728, kPixelAround).value().side == 4);
  CHECK(pick(8, 2, 1, 728, kPixelAround).value().side == 2);
  CHECK(!pick(8, 5, 4, 728, kPixelAround));
  CHECK(!pick(8, 4, 5, 728, kPixelAround));
  for (const Padding& pad : {Padding{0, 1, 1, 1}, Padding{1, 0, 1, 1}, Padding{1, 1, 2, 1},
                             Padding{1, 1, 1, 0}, Padding{0, 0, 0, 0}}) {
    CHECK(!pick(8, 4, 4, 728, pad));
  }
  // 736 channels are kept of 728: 184 threads.
  CHECK(pick(1, 4, 4, 728, kPixelAround).value().blocks == 6);     // of one warp
  CHECK(pick(44, 4, 4, 728, kPixelAround).value().blocks == 132);  // of two
  CHECK(pick(1, 2, 2, 1024, kPixelAround).value().items == 256);
  CHECK(describe_depthwise({{44, 4, 4, 728}, 728, kSamePadding, true}, Numeric::kFp16, gpu) ==
        "depthwise map 4x4 fma fp16, 132 blocks of 64");
}

TEST_CASE("the tile of a depthwise convolution gives every multiprocessor work") {
  GpuInfo gpu;
  gpu.multiprocessors = 132;
  for (const int n : {1, 8, 128}) {
    for (const NamedConv& conv : xception_shapes(n).convs) {
      if (!conv.problem.depthwise) {
        continue;
      }
      INFO(conv.name << " batch " << n);
      const Shape out = conv.problem.dst();
      const DepthwiseStrips strips = pick_depthwise_strips(conv.problem, gpu);
      CHECK(static_cast<double>(strips.blocks) >= 0.8 * gpu.multiprocessors);
      CHECK(strips.bands * strips.rows >= out.h);
      CHECK((strips.bands - 1) * strips.rows < out.h);
      CHECK(strips.groups * strip_columns(conv.problem.window.stride) >= out.w);
      CHECK(strips.blocks * strips.threads >= strips.items * strips.bands * out.n);
      const DepthwiseTile tile = pick_depthwise_tile(conv.problem, gpu);
      CHECK(static_cast<double>(tile.blocks) >= 0.8 * gpu.multiprocessors);
      CHECK(tile.warps <= kProductWarps);
      CHECK(tile.bands * 2 * tile.strip_rows >= out.h);
      CHECK((tile.bands - 1) * 2 * tile.strip_rows < out.h);
      const int columns = tile.warps * kProductColumns;
      CHECK(tile.groups * columns >= out.w);
      CHECK((tile.groups - 1) * columns < out.w);
      CHECK(tile.chunks * kProductChannels >= out.c);
    }
  }
}

// How many times an element of the input is loaded, on average over its rows and columns.
double loads(const ConvProblem& problem, const DepthwiseTile& tile) {
  const auto along = [](int extent, int before, int positions, int step) {
    int loaded = 0;
    for (int first = 0; first < positions; first += step) {
      loaded += std::min(first - before + step + 2, extent) - std::max(first - before, 0);
    }
    return static_cast<double>(loaded) / extent;
  };
  const Shape out = problem.dst();
  return along(problem.src.h, problem.window.pad.top, out.h, 2 * tile.strip_rows) *
         along(problem.src.w, problem.window.pad.left, out.w, tile.warps * kProductColumns);
}

TEST_CASE("a depthwise product loads no element of the middle layers more than 1.6 times") {
  for (const int multiprocessors : {40, 108, 132, 170}) {
    for (const int n : {1, 2, 3, 8, 32}) {
      INFO(multiprocessors << " multiprocessors, batch " << n);
      GpuInfo gpu;
      gpu.multiprocessors = multiprocessors;
      const ConvProblem middle = {{n, 19, 19, 728}, 728, kSamePadding, true};
      CHECK(loads(middle, pick_depthwise_tile(middle, gpu)) <= 1.6);
    }
  }
}

}  // namespace
}  // namespace xception
