// The pooling kernels against the reference loops.
#include "kernels/pool.h"

#include <algorithm>
#include <cmath>
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

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

Values expected_max(const PoolProblem& problem, const Values& src, const float* residual) {
  Values dst(static_cast<std::size_t>(problem.dst().elements()));
  reference::max_pool(problem, src.data(), residual, dst.data());
  return dst;
}

Values expected_mean(const PoolProblem& problem, const Values& src) {
  Values dst(static_cast<std::size_t>(problem.dst().elements()));
  reference::avg_pool(problem, src.data(), dst.data());
  return dst;
}

Values run_max(const PoolProblem& problem, Numeric numeric, const Values& src) {
  const DeviceActivation activation(problem.src, numeric, src);
  return run_twice(problem.dst(), numeric, [&](void* dst) {
    return max_pool(problem, numeric, {activation.data(), dst}, nullptr);
  });
}

Values run_max(const PoolProblem& problem, Numeric numeric, const Values& src,
               const Values& residual) {
  const DeviceActivation activation(problem.src, numeric, src);
  const DeviceActivation added(problem.dst(), numeric, residual);
  return run_twice(problem.dst(), numeric, [&](void* dst) {
    return max_pool(problem, numeric, {activation.data(), dst, added.data()}, nullptr);
  });
}

Values run_mean(const PoolProblem& problem, Numeric numeric, const Values& src) {
  const DeviceActivation activation(problem.src, numeric, src);
  return run_twice(problem.dst(), numeric, [&](void* dst) {
    return avg_pool(problem, numeric, {activation.data(), dst}, nullptr);
  });
}

Values run_global(const Shape& shape, Numeric numeric, bool dst_is_float, const Values& src) {
  const DeviceActivation activation(shape, numeric, src);
  return run_twice(
      {shape.n, 1, 1, shape.c}, dst_is_float ? Numeric::kFp32 : numeric, [&](void* dst) {
        return global_avg_pool(shape, numeric, {activation.data(), dst, dst_is_float}, nullptr);
      });
}

// A maximum is exact, and a sum with it is rounded once, as the reference's is.
void check_max(Random& random, const PoolProblem& problem, Numeric numeric) {
  INFO("max_pool of " << to_string(problem.src) << " to " << to_string(problem.dst()) << " "
                      << numeric_name(numeric));
  const Values src = rounded(numeric, random.normals(problem.src.elements()));
  check_equal(run_max(problem, numeric, src), expected_max(problem, src, nullptr), numeric);
  const Values residual = rounded(numeric, random.integers(problem.dst().elements()));
  const Values whole = random.integers(problem.src.elements(), -9, -2);
  check_equal(run_max(problem, numeric, whole, residual),
              expected_max(problem, whole, residual.data()), numeric);
  const Values added = rounded(numeric, random.normals(problem.dst().elements()));
  const Values wanted = expected_max(problem, src, added.data());
  check_close(run_max(problem, numeric, src, added), wanted,
              expected_max(problem, absolute(src), absolute(added).data()),
              derived_tolerance(1, numeric));
}

void check_mean(Random& random, const PoolProblem& problem, Numeric numeric) {
  INFO("avg_pool of " << to_string(problem.src) << " to " << to_string(problem.dst()) << " "
                      << numeric_name(numeric));
  const Values src = rounded(numeric, random.normals(problem.src.elements()));
  const int terms = problem.window.size * problem.window.size;
  check_close(run_mean(problem, numeric, src), expected_mean(problem, src),
              expected_mean(problem, absolute(src)), derived_tolerance(terms + 1, numeric));
  if (problem.window.size == 2 && problem.window.pad == Padding{}) {  // division by 4 is exact
    const Values whole = random.integers(problem.src.elements());
    check_equal(run_mean(problem, numeric, whole), expected_mean(problem, whole), numeric);
  }
}

// The padding of a network's pool: PyTorch's, and TensorFlow's 'same'.
PoolProblem tf_same(PoolProblem problem) {
  const auto total = [&](int extent) {
    return same_padding_total(extent, problem.window.size, problem.window.stride);
  };
  const int rows = total(problem.src.h);
  const int columns = total(problem.src.w);
  problem.window.pad = {rows / 2, columns / 2, rows - rows / 2, columns - columns / 2};
  return problem;
}

TEST_CASE("pools of edge shapes") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : kNumerics) {
    for (const PoolProblem& problem : edge_pools(2)) {
      if (problem.dst().elements() > 0) {
        check_max(random, problem, numeric);
        check_mean(random, problem, numeric);
      }
    }
  }
}

void check_layers(const NamedShapes& shapes, Numeric numeric) {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const NamedPool& pool : shapes.pools) {
    INFO(pool.name << " of " << pool.problem.src.n);
    if (pool.average) {
      check_mean(random, pool.problem, numeric);
    } else {
      check_max(random, pool.problem, numeric);
      check_max(random, tf_same(pool.problem), numeric);
    }
  }
}

TEST_CASE("pools of the networks") {
  for (const NamedShapes& shapes : layers_of_networks(true)) {
    check_layers(shapes, Numeric::kFp16);
  }
  check_layers(seed_shapes(1, true), Numeric::kFp32);
  check_layers(seed_shapes(1, true), Numeric::kBf16);
}

TEST_CASE("max_pool keeps a NaN wherever it stands in the window") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  const PoolProblem problem = {{1, 3, 3, 9}, {3, 1, {}}};
  for (const Numeric numeric : kNumerics) {
    for (std::size_t at = 0; at < 9; ++at) {
      Values src = rounded(numeric, random.normals(problem.src.elements()));
      src[at * 9 + 4] = kNan;
      const Values result = run_max(problem, numeric, src);
      for (std::size_t c = 0; c < result.size(); ++c) {
        CAPTURE(at, c);
        CHECK(std::isnan(result[c]) == (c == 4));
      }
    }
  }
}

TEST_CASE("max_pool of a window in the padding alone is minus infinity") {
  XC_NEEDS_DEVICE();
  const PoolProblem problem = {{1, 2, 2, 3}, {2, 2, {2, 0, 0, 0}}};
  for (const Numeric numeric : kNumerics) {
    const Values result = run_max(problem, numeric, Values(12, 1.0F));
    CHECK(result == Values{-kInfinity, -kInfinity, -kInfinity, 1, 1, 1});
  }
}

TEST_CASE("avg_pool of a window in the padding alone is zero") {
  XC_NEEDS_DEVICE();
  const PoolProblem problem = {{1, 2, 2, 3}, {2, 2, {2, 0, 0, 0}}};
  for (const Numeric numeric : kNumerics) {
    const Values src(12, 1.0F);
    CHECK(run_mean(problem, numeric, src) == expected_mean(problem, src));
  }
}

TEST_CASE("max_pool may add over its residual") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  const PoolProblem problem = {{2, 5, 6, 20}, {3, 2, {1, 1, 1, 1}}};
  for (const Numeric numeric : kNumerics) {
    const Values src = random.integers(problem.src.elements());
    const Values residual = random.integers(problem.dst().elements());
    const DeviceActivation activation(problem.src, numeric, src);
    const DeviceActivation dst(problem.dst(), numeric, residual);
    REQUIRE(max_pool(problem, numeric, {activation.data(), dst.data(), dst.data()}, nullptr).ok());
    check_equal(dst.values(), expected_max(problem, src, residual.data()), numeric);
  }
}

TEST_CASE("global_avg_pool of every size around its groups of pixels") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  const std::vector<Shape> shapes = {{1, 1, 1, 1},   {2, 1, 2, 3},    {1, 31, 1, 13},
                                     {3, 4, 8, 64},  {1, 3, 11, 65},  {2, 8, 8, 128},
                                     {1, 5, 13, 17}, {1, 10, 10, 728}};
  for (const Numeric numeric : kNumerics) {
    for (const Shape& shape : shapes) {
      for (const bool dst_is_float : {false, true}) {
        INFO(to_string(shape) << " " << numeric_name(numeric));
        const Numeric stored = dst_is_float ? Numeric::kFp32 : numeric;
        const auto expected = [&](const Values& src) {
          Values dst(static_cast<std::size_t>(shape.n) * static_cast<std::size_t>(shape.c));
          reference::global_avg_pool(shape, src.data(), dst.data());
          return dst;
        };
        const Values whole = random.integers(shape.elements());
        // The sum is exact; the quotient is rounded to float32 and, where stored so, once more.
        check_equal(run_global(shape, numeric, dst_is_float, whole), expected(whole), stored);
        const Values src = rounded(numeric, random.normals(shape.elements()));
        check_close(run_global(shape, numeric, dst_is_float, src), expected(src),
                    expected(absolute(src)), derived_tolerance(shape.h * shape.w + 1, stored));
      }
    }
  }
}

TEST_CASE("pools give a picture the same bits in any batch") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : kNumerics) {
    const Shape shape = {3, 7, 9, 40};
    Shape one = shape;
    one.n = 1;
    const Window window = {3, 2, {1, 1, 1, 1}};
    const Values src = rounded(numeric, random.normals(shape.elements()));
    const Values largest = run_max({shape, window}, numeric, src);
    const Values mean = run_mean({shape, window}, numeric, src);
    const Values global = run_global(shape, numeric, true, src);
    for (int n = 0; n < 3; ++n) {
      const Values alone = images(src, 3, n, 1);
      CHECK(same_bits(run_max({one, window}, numeric, alone), images(largest, 3, n, 1)));
      CHECK(same_bits(run_mean({one, window}, numeric, alone), images(mean, 3, n, 1)));
      CHECK(same_bits(run_global(one, numeric, true, alone), images(global, 3, n, 1)));
    }
  }
}

TEST_CASE("offsets of tensors of more than 2^31 elements") {
  // 4 GB in 16 bits: the last pixel of the last picture, and the padding before the first.
  constexpr Shape kShape = {40, 299, 299, 728};
  STATIC_REQUIRE(device_elements(kShape) == std::int64_t{40} * 299 * 299 * 736);
  STATIC_REQUIRE(device_elements(kShape) > std::numeric_limits<std::int32_t>::max());
  STATIC_REQUIRE((pixel_index(39, 298, 298, 299, 299) + 1) * channel_stride(728) ==
                 device_elements(kShape));
  STATIC_REQUIRE(pixel_index(70000, 0, 0, 299, 299) == std::int64_t{70000} * 299 * 299);
  STATIC_REQUIRE(pixel_index(0, -1, -2, 299, 299) == -301);
}

TEST_CASE("a pool says what it cannot do") {
  const PoolProblem large = {{1, 9, 9, 8}, {5, 1, {}}};
  const Status status = max_pool(large, Numeric::kFp16, {}, nullptr);
  CHECK(status.code() == Code::kInvalidArgument);
  CHECK(status.message().find("max_pool5x5 s1 of 1x9x9x8") != std::string::npos);
  CHECK(avg_pool(large, Numeric::kFp16, {}, nullptr).code() == Code::kInvalidArgument);
  const PoolProblem many = {{1 << 30, 64, 64, 64}, {2, 1, {}}};
  CHECK(max_pool(many, Numeric::kFp16, {}, nullptr).code() == Code::kInvalidArgument);
}

}  // namespace
}  // namespace xception
