// Batch norm, ReLU and addition as kernels of their own, against the reference loops.
#include "kernels/bn_relu.h"

#include <limits>
#include <vector>

#include "device_fixture.h"
#include "kernels/reference.h"
#include "random.h"
#include "testing.h"

namespace xception {
namespace {

Values run(const Shape& shape, Numeric numeric, const Values& src, const DeviceEpilogue& epilogue) {
  const DeviceActivation activation(shape, numeric, src);
  return run_twice(shape, numeric, [&](void* dst) {
    return bn_relu(shape, numeric, device_under_test(), {activation.data(), dst, epilogue},
                   nullptr);
  });
}

// An epilogue behind a depthwise 1x1 convolution with ones is the epilogue itself.
Values expected(const Shape& shape, const Values& src, const Epilogue& epilogue) {
  const ConvProblem copy = {shape, shape.c, {1, 1, {}}, true};
  const Values ones(static_cast<std::size_t>(shape.c), 1.0F);
  Values dst(src.size());
  reference::conv(copy, src.data(), ones.data(), epilogue, dst.data());
  return dst;
}

void check(Random& random, const Shape& shape, Numeric numeric, const EpilogueSteps& steps) {
  INFO(to_string(shape) << " " << numeric_name(numeric));
  for (const bool integers : {true, false}) {
    const Values src = rounded(
        numeric, integers ? random.integers(shape.elements()) : random.normals(shape.elements()));
    const EpilogueCase epilogue(random, steps, shape, numeric, integers);
    const Values actual = run(shape, numeric, src, epilogue.device());
    const Values wanted = expected(shape, src, epilogue.host());
    if (integers) {
      check_equal(actual, wanted, numeric);
    } else {
      check_close(actual, wanted, expected(shape, absolute(src), epilogue.magnitudes()),
                  derived_tolerance(roundings(steps), numeric));
    }
  }
}

TEST_CASE("every epilogue alone") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : kNumerics) {
    for (unsigned steps = 0; steps < 32; ++steps) {
      check(random, {2, 3, 5, 13}, numeric, epilogue_steps(steps));
    }
  }
}

TEST_CASE("batch norms, ReLUs and additions of many shapes") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  const std::vector<Shape> shapes = {{1, 1, 1, 1},   {1, 1, 1, 3},    {3, 2, 1, 4},
                                     {1, 1, 7, 5},   {2, 3, 3, 16},   {1, 5, 1, 17},
                                     {2, 4, 4, 728}, {3, 1, 1, 2048}, {1, 1, 1, 5000}};
  for (const Numeric numeric : kNumerics) {
    for (const Shape& shape : shapes) {
      check(random, shape, numeric, {.second = true});
      check(random, shape, numeric, {.final_relu = true});
      check(random, shape, numeric, {.residual = true});
    }
  }
}

TEST_CASE("a tensor that the grid goes through more than once") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  const Shape shape = {1, 61, 67, 65};  // 10 vectors of a pixel do not divide the threads
  GpuInfo small = device_under_test();
  small.multiprocessors = 1;
  const Values src = random.integers(shape.elements());
  const EpilogueCase epilogue(random, {.second = true, .residual = true}, shape, Numeric::kFp16,
                              true);
  const DeviceActivation activation(shape, Numeric::kFp16, src);
  const Values actual = run_twice(shape, Numeric::kFp16, [&](void* dst) {
    return bn_relu(shape, Numeric::kFp16, small, {activation.data(), dst, epilogue.device()},
                   nullptr);
  });
  check_equal(actual, expected(shape, src, epilogue.host()), Numeric::kFp16);
}

TEST_CASE("bn_relu may write over what it reads") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  const Shape shape = {2, 3, 7, 20};
  for (const Numeric numeric : kNumerics) {
    const Values a = random.integers(shape.elements());
    const Values b = random.integers(shape.elements());
    Values sum(a.size());
    reference::add(shape.elements(), a.data(), b.data(), sum.data());
    const DeviceActivation first(shape, numeric, a);
    const DeviceActivation second(shape, numeric, b);
    DeviceEpilogue add;
    add.residual = second.data();
    REQUIRE(bn_relu(shape, numeric, device_under_test(), {first.data(), first.data(), add}, nullptr)
                .ok());
    check_equal(first.values(), sum, numeric);
    const DeviceActivation again(shape, numeric, a);
    REQUIRE(
        bn_relu(shape, numeric, device_under_test(), {again.data(), second.data(), add}, nullptr)
            .ok());
    check_equal(second.values(), sum, numeric);
  }
}

TEST_CASE("a ReLU keeps a NaN") {
  XC_NEEDS_DEVICE();
  const auto nan = std::numeric_limits<float>::quiet_NaN();
  for (const Numeric numeric : kNumerics) {
    for (const bool last : {false, true}) {
      DeviceEpilogue epilogue;
      (last ? epilogue.final_relu : epilogue.relu) = true;
      const Values actual = run({1, 1, 1, 5}, numeric, {-1, nan, 2, -0.5F, nan}, epilogue);
      CHECK(Values{actual[0], actual[2], actual[3]} == Values{0, 2, 0});
      CHECK(actual[1] != actual[1]);
      CHECK(actual[4] != actual[4]);
    }
  }
}

}  // namespace
}  // namespace xception
