// The reference loops against cases small enough to work out by hand, and against identities that
// tie one operation to another. Inputs are small integers wherever that allows tolerance zero.
#include "kernels/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "random.h"
#include "shapes.h"
#include "testing.h"

namespace xception {
namespace {

using Values = std::vector<float>;

// Runs `compute(dst)` into a poisoned buffer of `count` elements.
template <class Compute>
Values result_of(std::int64_t count, Compute compute) {
  GuardedBuffer<float> dst(count);
  compute(dst.data());
  CHECK(dst.guards_intact());
  CHECK(dst.fully_written());
  return dst.copy();
}

Values conv(const ConvProblem& problem, const Values& src, const Values& weights,
            const Epilogue& epilogue = {}) {
  REQUIRE(src.size() == static_cast<std::size_t>(problem.src.elements()));
  REQUIRE(weights.size() == static_cast<std::size_t>(weight_elements(problem)));
  return result_of(problem.dst().elements(), [&](float* dst) {
    reference::conv(problem, src.data(), weights.data(), epilogue, dst);
  });
}

Values max_pool(const PoolProblem& problem, const Values& src, const float* residual = nullptr) {
  return result_of(problem.dst().elements(),
                   [&](float* dst) { reference::max_pool(problem, src.data(), residual, dst); });
}

Values avg_pool(const PoolProblem& problem, const Values& src) {
  return result_of(problem.dst().elements(),
                   [&](float* dst) { reference::avg_pool(problem, src.data(), dst); });
}

Values one_to(int last) {
  Values values;
  for (int i = 1; i <= last; ++i) {
    values.push_back(static_cast<float>(i));
  }
  return values;
}

// `src` with `pad` zeros around it.
Values padded(const Shape& shape, const Padding& pad, const Values& src) {
  const Shape out = {shape.n, shape.h + pad.top + pad.bottom, shape.w + pad.left + pad.right,
                     shape.c};
  Values dst(static_cast<std::size_t>(out.elements()), 0.0F);
  std::size_t from = 0;
  for (int n = 0; n < shape.n; ++n) {
    for (int y = 0; y < shape.h; ++y) {
      for (int i = 0; i < shape.w * shape.c; ++i) {
        const int row = (n * out.h + y + pad.top) * out.w + pad.left;
        dst[static_cast<std::size_t>(row * out.c + i)] = src[from++];
      }
    }
  }
  return dst;
}

constexpr Padding kAround = {1, 1, 1, 1};

}  // namespace

TEST_CASE("guarded buffers tell a write beside them and an element left out") {
  GuardedBuffer<float> buffer(3);
  CHECK(std::isnan(buffer.data()[1]));
  buffer.data()[0] = buffer.data()[2] = 1.0F;
  CHECK_FALSE(buffer.fully_written());
  buffer.data()[1] = 2.0F;
  CHECK(buffer.fully_written());
  CHECK(buffer.guards_intact());
  buffer.data()[3] = 0.0F;
  CHECK_FALSE(buffer.guards_intact());
  buffer.data()[3] = buffer.data()[4];
  CHECK(buffer.guards_intact());
  buffer.data()[-1] = 0.0F;
  CHECK_FALSE(buffer.guards_intact());
}

TEST_CASE("conv: one channel by hand") {
  const Values src = one_to(9);
  const Values weights = one_to(9);
  // The corner: 5*1 + 6*2 + 8*4 + 9*5; the centre: 1*1 + 2*2 + ... + 9*9.
  CHECK(conv({{1, 3, 3, 1}, 1, {3, 1, kAround}, false}, src, weights) ==
        Values{94, 154, 106, 186, 285, 186, 106, 154, 94});
  CHECK(conv({{1, 3, 3, 1}, 1, {3, 1, {}}, false}, src, weights) == Values{285});
  CHECK(conv({{1, 3, 3, 1}, 1, {3, 2, kAround}, false}, src, weights) == Values{94, 106, 106, 94});
  // Padding at the end only: the windows begin at (0, 0), (0, 2), ... and run over the edge.
  CHECK(conv({{1, 3, 3, 1}, 1, {3, 2, {0, 0, 2, 2}}, false}, src, weights) ==
        Values{285, 1 * 3 + 4 * 6 + 7 * 9, 1 * 7 + 2 * 8 + 3 * 9, 9});
}

TEST_CASE("conv: the axes of weights and pictures are where PyTorch has them") {
  // Two channels in, two out, one row of two pixels; weights [k][c][1][1].
  CHECK(conv({{1, 1, 2, 2}, 2, {1, 1, {}}, false}, {1, 2, 3, 4}, {10, 20, 30, 40}) ==
        Values{1 * 10 + 2 * 20, 1 * 30 + 2 * 40, 3 * 10 + 4 * 20, 3 * 30 + 4 * 40});
  // A kernel with a one at row 0, column 2 reads one up and one to the right.
  Values up_right(9, 0.0F);
  up_right[2] = 1.0F;
  CHECK(conv({{1, 2, 3, 1}, 1, {3, 1, kAround}, false}, {1, 2, 3, 4, 5, 6}, up_right) ==
        Values{0, 0, 0, 2, 3, 0});
}

TEST_CASE("conv: 1x1 is a matrix product") {
  XC_RANDOM(random);
  const int c = 13;
  const int k = 8;
  const Values src = random.integers(2 * 5 * 3 * c);
  const Values weights = random.integers(k * c);
  const Values product = result_of(2 * 5 * 3 * k, [&](float* dst) {
    reference::linear(2 * 5 * 3, c, k, src.data(), weights.data(), nullptr, dst);
  });
  CHECK(conv({{2, 5, 3, c}, k, {1, 1, {}}, false}, src, weights) == product);
}

TEST_CASE("conv: depthwise is dense with weights on the diagonal") {
  XC_RANDOM(random);
  for (const ConvProblem& depthwise : edge_convs(2)) {
    if (!depthwise.depthwise || depthwise.src.c > 13) {
      continue;
    }
    const std::int64_t c = depthwise.src.c;
    const std::int64_t taps = std::int64_t{depthwise.window.size} * depthwise.window.size;
    const Values src = random.integers(depthwise.src.elements());
    const Values weights = random.integers(c * taps);
    Values diagonal(static_cast<std::size_t>(c * c * taps), 0.0F);
    for (std::int64_t i = 0; i < c * taps; ++i) {
      const std::int64_t channel = i / taps;
      diagonal[static_cast<std::size_t>((channel * c + channel) * taps + i % taps)] =
          weights[static_cast<std::size_t>(i)];
    }
    ConvProblem dense = depthwise;
    dense.depthwise = false;
    CHECK(conv(depthwise, src, weights) == conv(dense, src, diagonal));
  }
}

TEST_CASE("conv: a ReLU on load is a ReLU before it") {
  XC_RANDOM(random);
  ConvProblem problem = {{2, 5, 4, 6}, 6, {3, 1, {1, 1, 1, 1}}, true};
  const Values src = random.normals(problem.src.elements());
  const Values weights = random.normals(weight_elements(problem));
  Values clamped(src.size());
  reference::relu(problem.src.elements(), src.data(), clamped.data());
  Values expected(src.size());
  reference::conv(problem, clamped.data(), weights.data(), {}, expected.data());
  problem.relu_on_load = true;
  Values actual(src.size());
  reference::conv(problem, src.data(), weights.data(), {}, actual.data());
  CHECK(actual == expected);
}

TEST_CASE("conv: padding is a frame of zeros, and a stride skips outputs") {
  XC_RANDOM(random);
  for (const ConvProblem& problem : edge_convs(2)) {
    if (problem.src.c > 13 || problem.k > 13) {
      continue;
    }
    const Values src = random.integers(problem.src.elements());
    const Values weights = random.integers(weight_elements(problem));
    const Padding& pad = problem.window.pad;
    ConvProblem framed = problem;
    framed.src.h += pad.top + pad.bottom;
    framed.src.w += pad.left + pad.right;
    framed.window.pad = {};
    const Values result = conv(problem, src, weights);
    CHECK(result == conv(framed, padded(problem.src, pad, src), weights));

    ConvProblem every = problem;
    every.window.stride = 1;
    const Values dense = conv(every, src, weights);
    const Shape out = problem.dst();
    const Shape all = every.dst();
    Values picked;
    for (int row = 0; row < out.n * out.h; ++row) {
      const int y = row / out.h * all.h + row % out.h * problem.window.stride;
      for (int q = 0; q < out.w; ++q) {
        const int pixel = y * all.w + q * problem.window.stride;
        for (int k = 0; k < out.c; ++k) {
          picked.push_back(dense[static_cast<std::size_t>(pixel * out.c + k)]);
        }
      }
    }
    CHECK(result == picked);
  }
}

TEST_CASE("conv: a window that does not fit gives no output") {
  const ConvProblem problem{{1, 2, 2, 1}, 1, {3, 1, {}}, false};
  CHECK(problem.dst().elements() == 0);
  CHECK(conv(problem, {1, 2, 3, 4}, one_to(9)).empty());
}

TEST_CASE("conv: sums are in double") {
  // In float, 2^24 + 1 is 2^24 again.
  const Values src = {16777216.0F, 1.0F, 1.0F, -16777216.0F};
  CHECK(conv({{1, 1, 1, 4}, 1, {1, 1, {}}, false}, src, {1, 1, 1, 1}) == Values{2});
}

TEST_CASE("conv: the epilogue's steps come in their order") {
  const ConvProblem problem{{1, 1, 2, 1}, 2, {1, 1, {}}, false};
  const Values src = {3, -2};
  const Values weights = {2, 4};
  const Values shift = {-1, 1};
  const Values second_scale = {-3, 5};
  const Values second_shift = {7, -60};
  const Values residual = {10, 20, 30, 40};
  Epilogue epilogue;
  CHECK(conv(problem, src, weights, epilogue) == Values{6, 12, -4, -8});
  epilogue.shift = shift.data();
  CHECK(conv(problem, src, weights, epilogue) == Values{5, 13, -5, -7});
  epilogue.relu = true;
  CHECK(conv(problem, src, weights, epilogue) == Values{5, 13, 0, 0});
  epilogue.second_scale = second_scale.data();
  epilogue.second_shift = second_shift.data();
  CHECK(conv(problem, src, weights, epilogue) == Values{-8, 5, 7, -60});
  epilogue.residual = residual.data();
  CHECK(conv(problem, src, weights, epilogue) == Values{2, 25, 37, -20});
  epilogue.final_relu = true;
  CHECK(conv(problem, src, weights, epilogue) == Values{2, 25, 37, 0});
  epilogue = {};
  epilogue.shift = shift.data();
  epilogue.final_relu = true;
  CHECK(conv(problem, src, weights, epilogue) == Values{5, 13, 0, 0});
}

TEST_CASE("batch_norm: by hand, and as an affine epilogue") {
  const Values gamma = {2, -1};
  const Values beta = {1, 5};
  const Values mean = {3, -2};
  const Values variance = {3, 15};
  const Values src = {5, 2, 3, -2};
  // (x - mean) / sqrt(variance + 1) * gamma + beta
  CHECK(result_of(4, [&](float* dst) {
          reference::batch_norm(2, 2, 1.0, gamma.data(), beta.data(), mean.data(), variance.data(),
                                src.data(), dst);
        }) == Values{3, 4, 1, 5});
  Values in_place = src;
  reference::batch_norm(2, 2, 1.0, gamma.data(), beta.data(), mean.data(), variance.data(),
                        in_place.data(), in_place.data());
  CHECK(in_place == Values{3, 4, 1, 5});

  const Values scale = {1, -0.25F};  // gamma / sqrt(variance + 1)
  const Values shift = {-2, 4.5F};   // beta - mean * scale
  Epilogue epilogue;
  epilogue.shift = shift.data();
  CHECK(conv({{1, 1, 2, 2}, 2, {1, 1, {}}, true}, src, scale, epilogue) == Values{3, 4, 1, 5});
}

TEST_CASE("relu and add") {
  Values values = {-1, 0, 2, -0.5F, std::numeric_limits<float>::quiet_NaN()};
  reference::relu(5, values.data(), values.data());
  CHECK(Values(values.begin(), values.begin() + 4) == Values{0, 0, 2, 0});
  CHECK(std::isnan(values[4]));  // a poisoned input must not become a clean zero
  const Values a = {1, -2};
  const Values b = {0.5F, 7};
  CHECK(result_of(2, [&](float* dst) { reference::add(2, a.data(), b.data(), dst); }) ==
        Values{1.5F, 5});
}

TEST_CASE("max_pool: padding is minus infinity, never zero") {
  const Values src = {-9, -8, -7, -6, -5, -4, -3, -2, -1};
  CHECK(max_pool({{1, 3, 3, 1}, {3, 2, kAround}}, src) == Values{-5, -4, -2, -1});
  CHECK(max_pool({{1, 3, 3, 1}, {3, 2, {0, 0, 2, 2}}}, src) == Values{-1, -1, -1, -1});
  CHECK(max_pool({{1, 2, 2, 1}, {3, 2, {0, 0, 1, 1}}}, {-4, -3, -2, -1}) == Values{-1});
  const Values residual = {1, 2, 3, 4};
  CHECK(max_pool({{1, 3, 3, 1}, {3, 2, kAround}}, src, residual.data()) == Values{-4, -2, 1, 3});
  // Channels stay apart.
  CHECK(max_pool({{1, 1, 2, 2}, {2, 1, {0, 0, 1, 0}}}, {1, -5, -2, 4}) == Values{1, 4});
}

TEST_CASE("max_pool: a NaN stays, wherever it stands in the window") {
  for (std::size_t at = 0; at < 4; ++at) {
    Values src = {1, 2, 3, 4};
    src[at] = std::numeric_limits<float>::quiet_NaN();
    CHECK(std::isnan(max_pool({{1, 2, 2, 1}, {2, 1, {}}}, src)[0]));
  }
}

TEST_CASE("avg_pool: only pixels of the picture count") {
  const Values src = one_to(9);
  CHECK(avg_pool({{1, 3, 3, 1}, {2, 1, {}}}, src) == Values{3, 4, 6, 7});
  CHECK(avg_pool({{1, 3, 3, 1}, {3, 2, kAround}}, src) == Values{3, 4, 6, 7});
  CHECK(avg_pool({{1, 1, 1, 2}, {3, 1, kAround}}, {5, -3}) == Values{5, -3});
}

TEST_CASE("pools of edge shapes lie between the picture's extremes") {
  XC_RANDOM(random);
  for (const PoolProblem& problem : edge_pools(3)) {
    const Values src = random.integers(problem.src.elements(), -9, -2);
    for (const Values& result : {max_pool(problem, src), avg_pool(problem, src)}) {
      CHECK(std::all_of(result.begin(), result.end(),
                        [](float value) { return value >= -9.0F && value <= -2.0F; }));
    }
  }
}

TEST_CASE("global_avg_pool: the mean of each picture and channel") {
  const Values src = {1, 10, 2, 20, 3, 30, 6, 60, 0, 0, 4, 8, 0, 0, 0, 0};
  CHECK(result_of(4, [&](float* dst) {
          reference::global_avg_pool({2, 2, 2, 2}, src.data(), dst);
        }) == Values{3, 30, 1, 2});
}

TEST_CASE("linear: rows times rows, and a bias") {
  const Values src = {1, 2, 3, 4};
  const Values weights = {1, 0, 0, 1, 1, -1};
  const Values bias = {10, 20, 30};
  const auto linear = [&](const float* b) {
    return result_of(
        6, [&](float* dst) { reference::linear(2, 2, 3, src.data(), weights.data(), b, dst); });
  };
  CHECK(linear(nullptr) == Values{1, 2, -1, 3, 4, -1});
  CHECK(linear(bias.data()) == Values{11, 22, 29, 13, 24, 29});
}

TEST_CASE("softmax: ratios of exponentials that neither overflow nor vanish") {
  const float log2 = std::log(2.0F);
  const float log5 = std::log(5.0F);
  for (const float offset : {0.0F, 1000.0F, -1000.0F}) {
    Values values = {offset, offset + log2, offset + log5, offset, offset, offset};
    reference::softmax(2, 3, values.data(), values.data());
    // An offset of 1000 rounds the logits by up to 2^-15.
    CHECK(values[0] == Approx(1.0 / 8).epsilon(1e-4));
    CHECK(values[1] == Approx(2.0 / 8).epsilon(1e-4));
    CHECK(values[2] == Approx(5.0 / 8).epsilon(1e-4));
    CHECK(values[3] == Approx(1.0 / 3).epsilon(1e-6));
    CHECK(values[0] + values[1] + values[2] == Approx(1.0).epsilon(1e-6));
  }
}

TEST_CASE("normalize: bytes to (x / 255 - mean) / std") {
  const std::vector<std::uint8_t> src = {0, 255, 51, 255, 0, 204};
  const Values mean = {0.5F, 0.0F, 0.25F};
  const Values std = {0.5F, 1.0F, 2.0F};
  const Values result = result_of(
      6, [&](float* dst) { reference::normalize(2, 3, mean.data(), std.data(), src.data(), dst); });
  const Values expected = {-1, 1, (0.2F - 0.25F) / 2, 1, 0, (0.8F - 0.25F) / 2};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(result[i] == Approx(expected[i]).margin(1e-7));
  }
}

// Published for the networks at 32 and 299 pixels, to the digits given: 3.197, 0.375 and 8.4 GMAC.
TEST_CASE("the named shapes add up to the networks") {
  const auto giga = [](const NamedShapes& shapes, std::int64_t last_layer) {
    std::int64_t sum = last_layer;
    for (const NamedConv& conv : shapes.convs) {
      sum += multiplications(conv.problem) * conv.times;
    }
    return static_cast<double>(sum) / 1e9;
  };
  CHECK(giga(seed_shapes(1, false), 2048 * 100) == Approx(3.197).margin(0.0005));
  CHECK(giga(seed_shapes(1, true), 2048 * 100) == Approx(0.375).margin(0.0005));
  CHECK(giga(xception_shapes(1), 2048 * 1000) == Approx(8.4).margin(0.05));

  // The paper's network repeats shapes, never weights; a batch norm (gamma, beta) follows every
  // convolution but the depthwise ones.
  std::int64_t parameters = 2048 * 1000 + 1000;
  for (const NamedConv& conv : xception_shapes(1).convs) {
    const int batch_norm = conv.problem.depthwise ? 0 : 2 * conv.problem.k;
    parameters += (weight_elements(conv.problem) + batch_norm) * conv.times;
  }
  CHECK(parameters == 22'855'952);
}

TEST_CASE("the named shapes follow one from another") {
  for (const NamedShapes& shapes :
       {seed_shapes(3, false), seed_shapes(3, true), xception_shapes(3)}) {
    for (const NamedConv& conv : shapes.convs) {
      INFO(conv.name);
      CHECK(conv.problem.src.n == 3);
      CHECK(conv.problem.dst().elements() > 0);
      CHECK((!conv.problem.depthwise || conv.problem.src.c == conv.problem.k));
    }
  }
  CHECK(xception_shapes(1).convs[0].problem.dst() == Shape{1, 149, 149, 32});
  CHECK(xception_shapes(1).convs[1].problem.dst() == Shape{1, 147, 147, 64});
  CHECK(xception_shapes(1).pools.back().problem.dst() == Shape{1, 10, 10, 1024});
  CHECK(seed_shapes(1, true).pools.back().problem.dst() == Shape{1, 1, 1, 2048});
}

}  // namespace xception
