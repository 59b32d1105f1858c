// The depthwise kernels against the reference loops: every edge shape, layer and epilogue.
#include "kernels/depthwise.h"

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "device_fixture.h"
#include "kernels/reference.h"
#include "random.h"
#include "shapes.h"
#include "testing.h"

namespace xception {
namespace {

constexpr int kTaps = 9;
constexpr int kMany = 1'000'000;  // multiprocessors, for which no tile is small enough

// A problem with its operands.
struct Case {
  ConvProblem problem;
  Numeric numeric = Numeric::kFp32;
  Values src;
  Values weights;
};

bool is_product(const ConvProblem& problem, Numeric numeric) {
  return is_depthwise_product(problem, numeric, device_under_test());
}

Case draw_case(Random& random, const ConvProblem& problem, Numeric numeric, bool integers) {
  const std::int64_t taps = std::int64_t{problem.src.c} * kTaps;
  Values weights = integers ? random.integers(taps, -2, 2) : random.normals(taps, 0.3F);
  if (is_product(problem, numeric)) {
    weights = rounded(numeric, std::move(weights));
  }
  return {problem, numeric,
          rounded(numeric, integers ? random.integers(problem.src.elements())
                                    : random.normals(problem.src.elements())),
          std::move(weights)};
}

// In the tiles for a GPU of so many multiprocessors: the fewer, the larger. Of the device where
// none are said.
Values run(const Case& test, const DeviceEpilogue& epilogue = {}, int multiprocessors = 0) {
  const DeviceActivation src(test.problem.src, test.numeric, test.src);
  GpuInfo gpu = device_under_test();
  if (multiprocessors > 0) {
    gpu.multiprocessors = multiprocessors;
  }
  const DeviceBuffer weights(pack_depthwise(test.problem, test.numeric, gpu, test.weights.data()));
  return run_twice(test.problem.dst(), test.numeric, [&](void* dst) {
    return depthwise(test.problem, test.numeric, gpu, {src.data(), weights.data(), dst, epilogue},
                     nullptr);
  });
}

Values expected(const ConvProblem& problem, const Values& src, const Values& weights,
                const Epilogue& epilogue) {
  Values dst(static_cast<std::size_t>(problem.dst().elements()));
  reference::conv(problem, src.data(), weights.data(), epilogue, dst.data());
  return dst;
}

// On the way of one product into its sum. Tensor cores may cut off where others round to nearest,
// which is off by up to two half units.
int sum_roundings(const ConvProblem& problem, Numeric numeric) {
  return is_product(problem, numeric) ? 2 * kTaps + 1 : kTaps;
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
    for (const int multiprocessors : {1, kMany}) {
      CHECK(same_bits(actual, run(test, epilogue.device(), multiprocessors)));
    }
    const Values wanted = expected(problem, test.src, test.weights, epilogue.host());
    if (integers) {
      check_equal(actual, wanted, numeric);
    } else {
      const Values magnitudes =
          expected(problem, absolute(test.src), absolute(test.weights), epilogue.magnitudes());
      check_close(actual, wanted, magnitudes,
                  derived_tolerance(sum_roundings(problem, numeric) + roundings(steps), numeric));
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

TEST_CASE("depthwise convolutions of every extent around the strips") {
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

TEST_CASE("depthwise convolutions of small maps, computed as a whole") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : {Numeric::kFp16, Numeric::kBf16}) {
    for (int h = 1; h <= 5; ++h) {
      for (int w = 1; w <= 5; ++w) {
        const int c = random.integer(1, 80);
        const bool relu = random.integer(0, 1) != 0;
        check(random, {{random.integer(1, 3), h, w, c}, c, kSame, true, relu}, numeric,
              epilogue_steps(static_cast<unsigned>(random.integer(0, 31))));
      }
    }
    for (const int side : {2, 4}) {  // what networks have: code of its own
      for (const bool relu : {false, true}) {
        check(random, {{2, side, side, 45}, 45, kSame, true, relu}, numeric,
              {.shift = true, .relu = true});
      }
    }
  }
}

TEST_CASE("depthwise convolutions that pad more than their window, or on one side") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  const std::vector<Padding> pads = {
      {5, 0, 0, 7}, {0, 6, 5, 0}, {3, 3, 3, 3}, {2, 1, 1, 1}, {1, 1, 2, 1}};
  for (const Numeric numeric : kNumerics) {
    for (const Padding& pad : pads) {
      for (const int stride : {1, 2}) {
        for (const auto& [h, w] :
             {std::pair(1, 1), std::pair(4, 2), std::pair(2, 9), std::pair(13, 6)}) {
          const ConvProblem problem = {{2, h, w, 17}, 17, {3, stride, pad}, true};
          if (runs(problem)) {
            check(random, problem, numeric, {});
          }
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

// Poison at pixel (y0, x0) of one channel of an h x w picture; `relu` on load, and shift and ReLU
// behind it where `steps` say so.
void check_poison(Random& random, Numeric numeric, int h, int w, int y0, int x0, float poison,
                  bool relu, const EpilogueSteps& steps) {
  constexpr int kChannels = 45;  // part of a second chunk of a product
  const int channel = random.integer(0, kChannels - 1);
  Case test =
      draw_case(random, {{1, h, w, kChannels}, kChannels, kSame, true, relu}, numeric, false);
  const bool product = is_product(test.problem, numeric) &&
                       !pick_depthwise_maps(test.problem, device_under_test()).has_value();
  test.src[static_cast<std::size_t>((y0 * w + x0) * kChannels + channel)] = poison;
  const bool harmless = relu && poison == -std::numeric_limits<float>::infinity();
  const EpilogueCase epilogue(random, steps, test.problem.dst(), numeric, false);
  const Values actual = run(test, epilogue.device());  // checks that the padding is zero
  for (int i = 0; i < static_cast<int>(actual.size()); ++i) {
    const int c = i % kChannels;
    const int y = i / (w * kChannels);
    const int x = i / kChannels % w;
    const bool holds = std::abs(y - y0) <= 1 && std::abs(x - x0) <= 1 && !harmless;
    const bool same_product = product && c / 32 == channel / 32 && c % 8 / 2 == channel % 8 / 2;
    CAPTURE(numeric_name(numeric), h, w, poison, relu, channel, y, x, c);
    const float value = actual[static_cast<std::size_t>(i)];
    if (holds && c == channel && !std::isnan(poison)) {
      REQUIRE((std::isinf(value) || (steps.relu && value == 0.0F)));
    } else {
      REQUIRE(std::isnan(value) == (holds && (c == channel || same_product)));
    }
  }
}

TEST_CASE("a NaN and an infinity reach every output whose window holds them, and no other pixel") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const Numeric numeric : kNumerics) {
    for (const float poison : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
      for (const bool relu : {false, true}) {
        for (const EpilogueSteps& steps :
             {EpilogueSteps{}, EpilogueSteps{.shift = true, .relu = true}}) {
          check_poison(random, numeric, 8, 13, 3, 5, poison, relu, steps);
          check_poison(random, numeric, 4, 3, 2, 0, poison, relu, steps);
          check_poison(random, numeric, 2, 2, 0, 1, poison, relu, steps);
        }
      }
    }
  }
}

TEST_CASE("depthwise convolutions: the residual may be the destination") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  const auto check_in_place = [&](Numeric numeric, int h, int w) {
    const Case test = draw_case(random, {{2, h, w, 40}, 40, kSame, true}, numeric, true);
    const Values residual = random.integers(test.problem.dst().elements());
    const DeviceActivation src(test.problem.src, numeric, test.src);
    const DeviceActivation dst(test.problem.dst(), numeric, residual);
    const GpuInfo gpu = device_under_test();
    const DeviceBuffer weights(pack_depthwise(test.problem, numeric, gpu, test.weights.data()));
    DepthwiseArgs args = {src.data(), weights.data(), dst.data(), {}};
    args.epilogue.residual = dst.data();
    REQUIRE(depthwise(test.problem, numeric, gpu, args, nullptr).ok());
    const std::string error = device_error();
    INFO(error);
    REQUIRE(error.empty());
    Epilogue epilogue;
    epilogue.residual = residual.data();
    check_equal(dst.values(), expected(test.problem, test.src, test.weights, epilogue), numeric);
  };
  for (const Numeric numeric : kNumerics) {
    check_in_place(numeric, 9, 11);
    check_in_place(numeric, 4, 4);
    check_in_place(numeric, 2, 3);
  }
}

TEST_CASE("depthwise convolutions wider than a block") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : {Numeric::kFp16, Numeric::kBf16}) {
    for (const int w : {33, 40, 41, random.integer(42, 90)}) {
      check(random, {{1, 12, w, 37}, 37, kSame, true, true}, numeric, {.shift = true});
    }
  }
}

TEST_CASE("depthwise convolutions give a picture the same bits in any batch") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  // A single picture of this size is cut into lower bands than thirty.
  constexpr int kPictures = 30;
  const auto check_alone = [&](Numeric numeric, int h, int w) {
    const ConvProblem all = {{kPictures, h, w, 48}, 48, kSame, true};
    const Case test = draw_case(random, all, numeric, false);
    const Values batch = run(test);
    ConvProblem one = all;
    one.src.n = 1;
    for (const int picture : {0, 1, kPictures - 1}) {
      const Values alone =
          run({one, numeric, images(test.src, kPictures, picture, 1), test.weights});
      CHECK(same_bits(alone, images(batch, kPictures, picture, 1)));
    }
  };
  for (const Numeric numeric : kNumerics) {
    check_alone(numeric, 14, 7);
    check_alone(numeric, 4, 4);
    check_alone(numeric, 2, 2);
  }
  const GpuInfo gpu;
  ConvProblem one = {{1, 14, 7, 48}, 48, kSame, true};
  ConvProblem many = {{3000, 14, 7, 48}, 48, kSame, true};
  CHECK(pick_depthwise_strips(one, gpu).rows < pick_depthwise_strips(many, gpu).rows);
  CHECK(pick_depthwise_tile(one, gpu).strip_rows < pick_depthwise_tile(many, gpu).strip_rows);
}

void check_layers(const NamedShapes& shapes, Numeric numeric) {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const NamedConv& conv : shapes.convs) {
    if (conv.problem.depthwise) {
      INFO(conv.name << " of " << conv.problem.src.n);
      check(random, conv.problem, numeric, {});
    }
  }
}

TEST_CASE("depthwise layers of the networks") {
  for (const NamedShapes& shapes : layers_of_networks(true)) {
    check_layers(shapes, Numeric::kFp16);
  }
  check_layers(seed_shapes(1, true), Numeric::kFp32);
  check_layers(seed_shapes(1, true), Numeric::kBf16);
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
  for (const Numeric numeric : kNumerics) {
    const ConvProblem huge = {{1 << 30, 64, 64, 64}, 64, kSame, true};
    CHECK(depthwise(huge, numeric, gpu, {}, nullptr).code() == Code::kInvalidArgument);
    // One picture more than a grid has blocks in its third dimension.
    const ConvProblem many = {{65536, 32, 32, 8}, 8, kSame, true};
    CHECK(depthwise(many, numeric, gpu, {}, nullptr).message().find("too large") !=
          std::string::npos);
  }
}

}  // namespace
}  // namespace xception
