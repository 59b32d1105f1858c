// The depthwise kernels against the reference loops: every edge shape, layer and epilogue.
#include "kernels/depthwise.h"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "device_fixture.h"
#include "kernels/reference.h"
#include "random.h"
#include "shapes.h"
#include "testing.h"

namespace xception {
namespace {

constexpr int kTaps = 9;

// A problem with its operands.
struct Case {
  ConvProblem problem;
  Numeric numeric = Numeric::kFp32;
  Values src;
  Values weights;
};

Case draw_case(Random& random, const ConvProblem& problem, Numeric numeric, bool integers) {
  const std::int64_t taps = std::int64_t{problem.src.c} * kTaps;
  return {problem, numeric,
          rounded(numeric, integers ? random.integers(problem.src.elements())
                                    : random.normals(problem.src.elements())),
          integers ? random.integers(taps, -2, 2) : random.normals(taps, 0.3F)};
}

// By strips as tall as can be where `tall`: those for a GPU of one multiprocessor.
Values run(const Case& test, const DeviceEpilogue& epilogue = {}, bool tall = false) {
  const DeviceActivation src(test.problem.src, test.numeric, test.src);
  const DeviceBuffer weights(pack_depthwise(test.problem, test.weights.data()));
  Result<GpuInfo> gpu = current_gpu();
  REQUIRE(gpu.ok());
  if (tall) {
    gpu->multiprocessors = 1;
  }
  return run_twice(test.problem.dst(), test.numeric, [&](void* dst) {
    return depthwise(test.problem, test.numeric, *gpu, {src.data(), weights.data(), dst, epilogue},
                     nullptr);
  });
}

Values expected(const ConvProblem& problem, const Values& src, const Values& weights,
                const Epilogue& epilogue) {
  Values dst(static_cast<std::size_t>(problem.dst().elements()));
  reference::conv(problem, src.data(), weights.data(), epilogue, dst.data());
  return dst;
}

// One case of whole numbers, exact, and one of normal ones, within the roundings of its sums.
void check(Random& random, const ConvProblem& problem, Numeric numeric,
           const EpilogueSteps& steps) {
  INFO(to_string(problem.src) << " stride " << problem.window.stride << " to "
                              << to_string(problem.dst()) << " " << numeric_name(numeric));
  for (const bool integers : {true, false}) {
    const Case test = draw_case(random, problem, numeric, integers);
    const EpilogueCase epilogue(random, steps, problem.dst(), numeric, integers);
    const Values actual = run(test, epilogue.device());
    CHECK(same_bits(actual, run(test, epilogue.device(), true)));
    const Values wanted = expected(problem, test.src, test.weights, epilogue.host());
    if (integers) {
      check_equal(actual, wanted, numeric);
    } else {
      const Values magnitudes =
          expected(problem, absolute(test.src), absolute(test.weights), epilogue.magnitudes());
      check_close(actual, wanted, magnitudes, derived_tolerance(kTaps + roundings(steps), numeric));
    }
  }
}

bool runs(const ConvProblem& problem) {
  return problem.depthwise && problem.window.size == 3 && problem.dst().elements() > 0;
}

TEST_CASE("depthwise convolutions of edge shapes") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : kNumerics) {
    for (const int n : {1, 3}) {
      for (const ConvProblem& problem : edge_convs(n)) {
        // 728 channels are the subject of other tests: here they cost time alone.
        if (runs(problem) && (problem.src.c < 728 || problem.src.h == 1)) {
          check(random, problem, numeric, {});
        }
      }
    }
  }
}

TEST_CASE("depthwise convolutions of every extent around the strips of a thread") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : kNumerics) {
    for (const Window& window : {kSame, kHalf}) {
      for (int extent = 1; extent <= 23; ++extent) {
        const int c = random.integer(1, 40);
        const int other = random.integer(1, 9);
        const int n = random.integer(1, 2);
        check(random, {{n, extent, other, c}, c, window, true}, numeric, {.shift = true});
        check(random, {{n, other, extent, c}, c, window, true}, numeric, {.relu = true});
      }
    }
  }
}

TEST_CASE("depthwise convolutions that pad more than their window, or on one side") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Padding& pad : {Padding{5, 0, 0, 7}, Padding{0, 6, 5, 0}, Padding{3, 3, 3, 3}}) {
    for (const int stride : {1, 2}) {
      for (const auto& [h, w] : {std::pair(1, 1), std::pair(4, 2), std::pair(2, 9)}) {
        const ConvProblem problem = {{2, h, w, 17}, 17, {3, stride, pad}, true};
        if (runs(problem)) {
          check(random, problem, Numeric::kFp16, {});
        }
      }
    }
  }
}

TEST_CASE("depthwise convolutions with every epilogue") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : kNumerics) {
    for (const Window& window : {kSame, kHalf}) {
      for (unsigned steps = 0; steps < 32; ++steps) {
        check(random, {{2, 5, 7, 13}, 13, window, true}, numeric, epilogue_steps(steps));
      }
    }
  }
}

TEST_CASE("depthwise convolutions read through a ReLU") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : kNumerics) {
    for (const Window& window : {kSame, kHalf}) {
      check(random, {{1, 9, 11, 20}, 20, window, true, true}, numeric, {});
      check(random, {{1, 9, 11, 20}, 20, window, true, true}, numeric,
            {.shift = true, .relu = true});
    }
  }
}

TEST_CASE("a NaN reaches every output whose window holds it, and no other") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : kNumerics) {
    for (const bool relu : {false, true}) {
      Case test = draw_case(random, {{1, 8, 13, 5}, 5, kSame, true, relu}, numeric, false);
      const auto nan = std::numeric_limits<float>::quiet_NaN();
      test.src[static_cast<std::size_t>((3 * 13 + 5) * 5 + 2)] = nan;
      const Values actual = run(test);
      for (int i = 0; i < static_cast<int>(actual.size()); ++i) {
        const int y = i / (13 * 5);
        const int x = i / 5 % 13;
        const bool holds = std::abs(y - 3) <= 1 && std::abs(x - 5) <= 1 && i % 5 == 2;
        CAPTURE(y, x, i % 5);
        REQUIRE((actual[static_cast<std::size_t>(i)] != actual[static_cast<std::size_t>(i)]) ==
                holds);
      }
    }
  }
}

TEST_CASE("depthwise convolutions give a picture the same bits in any batch") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  // A single picture of this size is cut into lower bands than thirty.
  constexpr int kPictures = 30;
  for (const Numeric numeric : kNumerics) {
    const ConvProblem all = {{kPictures, 14, 7, 48}, 48, kSame, true};
    const Case test = draw_case(random, all, numeric, false);
    const Values batch = run(test);
    ConvProblem one = all;
    one.src.n = 1;
    for (const int picture : {0, 1, kPictures - 1}) {
      const Values alone =
          run({one, numeric, images(test.src, kPictures, picture, 1), test.weights});
      CHECK(same_bits(alone, images(batch, kPictures, picture, 1)));
    }
  }
  const GpuInfo gpu;
  ConvProblem one = {{1, 14, 7, 48}, 48, kSame, true};
  ConvProblem many = {{3000, 14, 7, 48}, 48, kSame, true};
  CHECK(pick_depthwise(one, gpu).rows < pick_depthwise(many, gpu).rows);
}

void check_layers(const NamedShapes& shapes, const std::vector<Numeric>& numerics) {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const NamedConv& conv : shapes.convs) {
    if (conv.problem.depthwise) {
      INFO(conv.name);
      for (const Numeric numeric : numerics) {
        check(random, conv.problem, numeric, {});
      }
    }
  }
}

TEST_CASE("depthwise layers of the seed's network") {
  check_layers(seed_shapes(1, true), {Numeric::kFp32, Numeric::kFp16, Numeric::kBf16});
  check_layers(seed_shapes(2, true), {Numeric::kFp16});
}

TEST_CASE("depthwise layers of the paper's network", "[slow]") {
  check_layers(xception_shapes(1), {Numeric::kFp16});
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
      const DepthwiseTile tile = pick_depthwise(conv.problem, gpu);
      CHECK(static_cast<double>(tile.blocks) >= 0.8 * gpu.multiprocessors);
      CHECK(tile.bands * tile.rows >= out.h);
      CHECK((tile.bands - 1) * tile.rows < out.h);
      CHECK(tile.groups * depthwise_columns(conv.problem.window.stride) >= out.w);
      CHECK(tile.blocks * tile.threads >= tile.items * tile.bands * out.n);
    }
  }
  // What the issue asks of this layer: at most 1.6 loads of each element of the input.
  const ConvProblem middle = {{8, 19, 19, 728}, 728, kSame, true};
  CHECK(pick_depthwise(middle, gpu).rows >= 7);
}

TEST_CASE("a depthwise convolution says what it cannot do") {
  const GpuInfo gpu;
  const auto fails = [&](const ConvProblem& problem) {
    return depthwise(problem, Numeric::kFp16, gpu, {}, nullptr);
  };
  const Status dense = fails({{1, 5, 5, 8}, 8, kSame, false});
  CHECK(dense.code() == Code::kInvalidArgument);
  CHECK(dense.message().find("1x5x5x8") != std::string::npos);
  CHECK(fails({{1, 5, 5, 8}, 8, {5, 1, {}}, true}).code() == Code::kInvalidArgument);
  CHECK(fails({{1, 5, 5, 8}, 8, {3, 3, {}}, true}).code() == Code::kInvalidArgument);
  CHECK(fails({{1, 5, 5, 8}, 16, kSame, true}).code() == Code::kInvalidArgument);
  const Status huge = fails({{1 << 30, 64, 64, 64}, 64, kSame, true});
  CHECK(huge.code() == Code::kUnsupported);
}

}  // namespace
}  // namespace xception
