// The fully connected layer and softmax against the reference loops.
#include "kernels/linear.h"

#include <cmath>
#include <string>
#include <vector>

#include "device_fixture.h"
#include "kernels/reference.h"
#include "kernels/softmax.h"
#include "random.h"
#include "testing.h"

namespace xception {
namespace {

struct Case {
  LinearProblem problem;
  Numeric numeric = Numeric::kFp32;
  Values src;
  Values weights;
  Values bias;
};

Case draw_case(Random& random, const LinearProblem& problem, Numeric numeric, bool integers) {
  const std::int64_t n = problem.n;
  const std::int64_t c = problem.c;
  const std::int64_t k = problem.k;
  const auto draw = [&](std::int64_t count) {
    return rounded(numeric, integers ? random.integers(count, -2, 2) : random.normals(count));
  };
  return {problem, numeric, draw(n * c), draw(k * c), draw(k)};
}

Values run(const Case& test, bool biased) {
  const auto& [problem, numeric, src, weights, bias] = test;
  const DeviceActivation activation({problem.n, 1, 1, problem.c}, numeric, src);
  const DeviceBuffer packed(pack_linear(problem, numeric, weights.data()));
  const DeviceBuffer device_bias = device_vector(bias);
  return run_twice({problem.n, 1, 1, problem.k}, Numeric::kFp32, [&](void* dst) {
    return linear(test.problem, test.numeric,
                  {activation.data(), packed.data(), biased ? device_bias.floats() : nullptr,
                   static_cast<float*>(dst)},
                  nullptr);
  });
}

Values expected(const LinearProblem& problem, const Values& src, const Values& weights,
                const float* bias) {
  Values dst(static_cast<std::size_t>(problem.n) * static_cast<std::size_t>(problem.k));
  reference::linear(problem.n, problem.c, problem.k, src.data(), weights.data(), bias, dst.data());
  return dst;
}

const std::vector<LinearProblem> kProblems = {
    {1, 1, 1},   {2, 3, 4},    {3, 4, 5},     {7, 17, 15},   {8, 31, 16},
    {9, 64, 17}, {17, 33, 31}, {1, 255, 100}, {2, 257, 101}, {1, 2048, 100}};

TEST_CASE("linear layers of edge shapes") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : kNumerics) {
    for (const LinearProblem& problem : kProblems) {
      INFO(problem.n << "x" << problem.c << " to " << problem.k << " " << numeric_name(numeric));
      for (const bool biased : {false, true}) {
        const Case whole = draw_case(random, problem, numeric, true);
        check_equal(
            run(whole, biased),
            expected(problem, whole.src, whole.weights, biased ? whole.bias.data() : nullptr),
            Numeric::kFp32);
      }
      const Case test = draw_case(random, problem, numeric, false);
      check_close(
          run(test, true), expected(problem, test.src, test.weights, test.bias.data()),
          expected(problem, absolute(test.src), absolute(test.weights), absolute(test.bias).data()),
          derived_tolerance(problem.c + 1, Numeric::kFp32));
    }
  }
}

TEST_CASE("a linear layer gives a vector the same bits in any batch") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  constexpr int kBatch = 11;
  for (const Numeric numeric : kNumerics) {
    const Case test = draw_case(random, {kBatch, 333, 21}, numeric, false);
    const Values batch = run(test, true);
    for (const int n : {0, 7, 8, kBatch - 1}) {
      const Values alone = run(
          {{1, 333, 21}, numeric, images(test.src, kBatch, n, 1), test.weights, test.bias}, true);
      CHECK(same_bits(alone, images(batch, kBatch, n, 1)));
    }
  }
}

TEST_CASE("a linear layer says what it cannot do") {
  const Status status = linear({1 << 30, 8, 8}, Numeric::kFp16, {}, nullptr);
  CHECK(status.code() == Code::kInvalidArgument);
  CHECK(status.message().find("linear 1073741824x8 to 8") != std::string::npos);
}

// Largest error of expf in units of the last place; source: CUDA C++ Programming Guide,
// "Mathematical Functions", single precision.
constexpr int kExpUlps = 2;

Values run_softmax(int rows, int columns, const Values& logits) {
  const DeviceActivation src({rows, 1, 1, columns}, Numeric::kFp32, logits);
  return run_twice({rows, 1, 1, columns}, Numeric::kFp32, [&](void* dst) {
    return softmax(rows, columns, static_cast<const float*>(src.data()), static_cast<float*>(dst),
                   nullptr);
  });
}

TEST_CASE("softmax of rows") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const int columns : {1, 2, 3, 31, 32, 33, 100, 1000}) {
    for (const int rows : {1, 4, 5}) {
      INFO(rows << " rows of " << columns);
      const std::int64_t count = std::int64_t{rows} * columns;
      const Values logits = random.normals(count, 5.0F);
      const Values actual = run_softmax(rows, columns, logits);
      Values expected(static_cast<std::size_t>(count));
      reference::softmax(rows, columns, logits.data(), expected.data());
      // x - m is rounded: its absolute error is that of the exponential, relatively. Then come the
      // exponential itself, of which an ulp is two roundings, sum and quotient.
      float spread = 0;
      for (const float value : logits) {
        spread = std::max(spread, 2 * std::abs(value));
      }
      const double roundings = 2 * (static_cast<double>(spread) + 2 * kExpUlps) + columns + 1;
      Tolerance tolerance = derived_tolerance(0, Numeric::kFp32);
      tolerance.of_value += roundings * 0x1p-24;
      check_close(actual, expected, expected, tolerance);
    }
  }
}

TEST_CASE("softmax neither overflows nor vanishes, and may write over what it reads") {
  XC_NEEDS_DEVICE();
  for (const float offset : {0.0F, 1000.0F, -1000.0F}) {
    const DeviceActivation values({1, 1, 1, 3}, Numeric::kFp32,
                                  {offset, offset + std::log(2.0F), offset + std::log(5.0F)});
    auto* data = static_cast<float*>(values.data());
    REQUIRE(softmax(1, 3, data, data, nullptr).ok());
    const Values result = values.values();
    // An offset of 1000 rounds the logits by up to 2^-15.
    CHECK(result[0] == Approx(1.0 / 8).epsilon(1e-4));
    CHECK(result[1] == Approx(2.0 / 8).epsilon(1e-4));
    CHECK(result[2] == Approx(5.0 / 8).epsilon(1e-4));
  }
}

TEST_CASE("softmax gives a row the same bits in any batch") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  const Values logits = random.normals(7 * 77);
  const Values batch = run_softmax(7, 77, logits);
  for (int row = 0; row < 7; ++row) {
    CHECK(same_bits(run_softmax(1, 77, images(logits, 7, row, 1)), images(batch, 7, row, 1)));
  }
}

}  // namespace
}  // namespace xception
