// 1x1 convolution against the reference loops: every tile at its edges, every epilogue, every
// layer.
#include "kernels/pointwise.h"

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "dense_fixture.h"
#include "kernels/warpgroup_gemm.h"
#include "random.h"
#include "shapes.h"
#include "testing.h"

namespace xception {
namespace {

constexpr DenseOperation kPointwise = {pointwise, pack_pointwise};

ConvProblem pointwise_problem(const Shape& src, int k, int stride = 1) {
  return {src, k, {1, stride, {}}};
}

}  // namespace

TEST_CASE("pointwise: every tile at its edges") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  const GpuInfo plain = dense_devices().front();
  for (const Numeric numeric : dense_numerics()) {
    for (int tile = 0; tile < kMatrixTileCount; ++tile) {
      const MatrixTile& shape = kMatrixTiles[tile];
      const int depth = tile_depth(numeric);
      int reached = 0;
      for (const int rows : {1, shape.rows - 1, shape.rows, shape.rows + 1, 3 * shape.rows - 1,
                             3 * shape.rows, 3 * shape.rows + 1}) {
        for (const int k :
             {shape.columns - 1, shape.columns + 1, 3 * shape.columns - kBlockColumns}) {
          const int c = random.integer(5, 3 * depth);
          const ConvProblem problem = pointwise_problem({1, 1, rows, c}, k);
          if (const auto gpu = gpu_choosing(tile, plain, problem, numeric)) {
            ++reached;
            check_dense_case(random, kPointwise, problem, numeric, *gpu, kNone);
          }
        }
      }
      // Tiles along k: fewer and more than are fetched ahead, groups that are not full, a tile that
      // is not full.
      const int slots = shape.group * shape.groups;
      for (const int c : {1, 2, depth, depth + 1, (slots - 1) * depth, slots * depth,
                          (slots + 1) * depth, (slots + 1) * depth + 16}) {
        const ConvProblem problem = pointwise_problem({1, 1, 3 * shape.rows - 1, c}, shape.columns);
        if (const auto gpu = gpu_choosing(tile, plain, problem, numeric)) {
          ++reached;
          check_dense_case(random, kPointwise, problem, numeric, *gpu, kNone);
        }
      }
      const bool scalar =
          numeric == Numeric::kFp32 || (numeric == Numeric::kBf16 && device_under_test().arch < 80);
      CHECK(reached >= (scalar && tile < kFirstScalarTile ? 0 : 10));
    }
  }
}

// direct_gemm() keeps its pipeline in registers: its beginning, its loop and its end, with a last
// tile that is whole and, in 16 bits, one that is not. Its warps do the same in each of its tiles.
TEST_CASE("pointwise: every number of tiles along k") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  const GpuInfo plain = dense_devices().front();
  for (const Numeric numeric : dense_numerics()) {
    for (int c = 16; c <= 20 * tile_depth(numeric); c += 16) {
      const int stride = 1 + c / tile_depth(numeric) % 2;
      const ConvProblem problem = pointwise_problem({1, 1, 33 * stride, c}, 33, stride);
      const auto gpu = gpu_choosing(kDirectTile + 1, plain, problem, numeric);
      REQUIRE(gpu.has_value());
      check_dense_case(random, kPointwise, problem, numeric, *gpu, kNone, true);
    }
  }
}

TEST_CASE("pointwise: warpgroups, every tile at its edges") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  const GpuInfo device = device_under_test();
  if (!device.has_wgmma) {
    WARN("skipped: it needs code of sm_90a");
    return;
  }
  for (const Numeric numeric : {Numeric::kFp16, Numeric::kBf16}) {
    for (int tile = 0; tile < kWarpgroupTileCount; ++tile) {
      const WarpgroupTile& shape = kWarpgroupTiles[tile];
      int reached = 0;
      const auto check = [&](int rows, int c, int k) {
        const ConvProblem problem = pointwise_problem({1, 1, rows, c}, k);
        if (const auto gpu = gpu_choosing(tile, device, problem, numeric)) {
          ++reached;
          check_dense_case(random, kPointwise, problem, numeric, *gpu, kNone);
        }
      };
      for (const int rows : {1, shape.rows - 1, shape.rows + 1, 3 * shape.rows}) {
        for (const int k : {shape.columns - 1, shape.columns, 3 * shape.columns + 1}) {
          check(rows, random.integer(5, 2 * kWarpgroupDepth), k);
        }
      }
      // Tiles of k: fewer and more than there are slots, twice around the ring, and last ones of
      // one to four steps.
      for (const int tiles : {1, shape.stages, shape.stages + 1, 2 * shape.stages + 1}) {
        for (int steps = 1; steps <= 4; ++steps) {
          check(shape.rows + 1, (tiles - 1) * kWarpgroupDepth + 16 * steps, shape.columns);
        }
      }
      check(1, 1, 1);
      check(65, 17, 17);
      CHECK(reached >= 10);
    }
  }
}

TEST_CASE("pointwise: every epilogue") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const GpuInfo& device : dense_devices()) {
    for (const Numeric numeric : dense_numerics()) {
      if (device.has_wgmma && element_bytes(numeric) != 2) {
        continue;  // as without
      }
      for (unsigned index = 0; index < 32; ++index) {
        const int k = std::vector<int>{3, 29, 40, 136}[index % 4];
        const ConvProblem problem = pointwise_problem({2, 3, 7, random.integer(5, 40)}, k);
        check_dense_case(random, kPointwise, problem, numeric, device, epilogue_steps(index));
      }
    }
  }
}

TEST_CASE("pointwise: strides, batches and channels that fill no vector") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : dense_numerics()) {
    for (const int n : {1, random.integer(2, 3)}) {
      for (const ConvProblem& problem : edge_convs(n)) {
        if (problem.depthwise || problem.window.size != 1) {
          continue;
        }
        check_dense_case(random, kPointwise, problem, numeric, device_under_test(),
                         epilogue_steps(static_cast<unsigned>(random.integer(0, 31))));
      }
      for (const int size : {1, 2, 9, 10}) {
        check_dense_case(random, kPointwise, pointwise_problem({n, size, size + 1, 24}, 40, 2),
                         numeric, device_under_test(), {true, false, false, true, false});
      }
    }
  }
}

TEST_CASE("pointwise: an image's result does not depend on its batch") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : dense_numerics()) {
    check_batch(random, kPointwise, pointwise_problem({1, 7, 9, 100}, 136), numeric);
    check_batch(random, kPointwise, pointwise_problem({1, 5, 5, 3}, 40, 2), numeric);
  }
}

TEST_CASE("pointwise: the residual may be the destination") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  const ConvProblem problem = pointwise_problem({1, 5, 7, 24}, 40);
  const DenseOperands operands = draw_operands(random, problem, Numeric::kFp16, true);
  const Values residual = random.integers(problem.dst().elements());
  const DeviceActivation src(problem.src, Numeric::kFp16, operands.src);
  const DeviceActivation dst(problem.dst(), Numeric::kFp16, residual);
  const DeviceBuffer weights(
      pack_pointwise(problem, Numeric::kFp16, device_under_test(), operands.weights.data()));
  DenseArgs args = {src.data(), weights.data(), dst.data(), {}};
  args.epilogue.residual = dst.data();
  REQUIRE(pointwise(problem, Numeric::kFp16, device_under_test(), args, nullptr).ok());
  const std::string error = device_error();
  INFO(error);
  REQUIRE(error.empty());
  Epilogue epilogue;
  epilogue.residual = residual.data();
  check_equal(dst.values(), expected_dense(problem, operands.src, operands.weights, epilogue),
              Numeric::kFp16);
}

TEST_CASE("pointwise: what is not finite stays with its pixel and out of the padding") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const Numeric numeric : dense_numerics()) {
    for (const int c : {3, 20, 40}) {
      // 40 channels of 16 bits end in the middle of a tile of k; the next pixel follows there.
      const ConvProblem problem = pointwise_problem({1, 3, 3, c}, 21);
      DenseOperands operands = draw_operands(random, problem, numeric, true);
      for (float& weight : operands.weights) {
        weight = 1.0F;
      }
      const std::size_t pixel = 4;
      operands.src[pixel * static_cast<std::size_t>(c)] = kInfinity;
      operands.src[(pixel + 2) * static_cast<std::size_t>(c)] = std::nanf("");
      DeviceEpilogue epilogue;
      epilogue.relu = true;
      epilogue.final_relu = true;
      // That the padding is zero is checked where the result is fetched.
      const Values actual =
          run_dense(kPointwise, problem, numeric, device_under_test(), operands, epilogue);
      for (std::size_t i = 0; i < actual.size(); ++i) {
        const std::size_t at = i / 21;
        if (at == pixel) {
          CHECK(actual[i] == kInfinity);
        } else if (at == pixel + 2) {
          CHECK(std::isnan(actual[i]));
        } else {
          CHECK(std::isfinite(actual[i]));
        }
      }
    }
  }
}

TEST_CASE("pointwise: every layer of the networks") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const NamedShapes& shapes : layers_of_networks(true)) {
    for (const NamedConv& layer : shapes.convs) {
      if (layer.problem.window.size == 1) {
        INFO(layer.name << " of " << layer.problem.src.n);
        check_dense_case(random, kPointwise, layer.problem, Numeric::kFp16, device_under_test(),
                         {true, true, true, false, true}, /*exact_only=*/true);
      }
    }
  }
}

TEST_CASE("pointwise: what it cannot do is refused with the shape and the reason") {
  const GpuInfo gpu = {90, 132};
  alignas(16) std::byte memory[64] = {};
  const DenseArgs args = {memory, memory, memory + 32, {}};
  const ConvProblem good = pointwise_problem({1, 4, 4, 16}, 16);
  const auto message = [&](const ConvProblem& problem, const DenseArgs& with,
                           Numeric numeric = Numeric::kFp16, int arch = 90) {
    GpuInfo other = gpu;
    other.arch = arch;
    const Status status = pointwise(problem, numeric, other, with, nullptr);
    CHECK(!status.ok());
    return status.message();
  };
  ConvProblem problem = good;
  problem.relu_on_load = true;
  CHECK(contains(message(problem, args), "pointwise 1x4x4x16 -> 16, stride 1, fp16"));
  problem = good;
  problem.window.stride = 3;
  CHECK(contains(message(problem, args), "stride 1 or 2"));
  problem = good;
  problem.window.pad.top = 1;
  CHECK(contains(message(problem, args), "padding"));
  problem = good;
  problem.k = 0;
  CHECK(contains(message(problem, args), "at least 1"));
  problem.k = (1 << 24) + 1;
  CHECK(contains(message(problem, args), "2^24 channels"));
  problem = pointwise_problem({1 << 15, 1 << 8, 1 << 8, 16}, 16);
  CHECK(contains(message(problem, args), "2^31"));
  CHECK(contains(message(good, args, Numeric::kTf32, 75), "sm_75 has no tf32"));
  DenseArgs bad = args;
  bad.weights = nullptr;
  CHECK(contains(message(good, bad), "missing"));
  bad = args;
  bad.epilogue.second_scale = reinterpret_cast<const float*>(memory);
  CHECK(contains(message(good, bad), "second shift"));
  // More blocks than a grid has, of either kernel.
  problem = pointwise_problem({1 << 14, 1 << 8, 1 << 8, 16}, 1 << 20);
  CHECK(contains(message(problem, args), "too large for one launch"));
  CHECK(contains(message(problem, args, Numeric::kFp16, 80), "too large for one launch"));
}

TEST_CASE("pointwise: each of its buffers starts at a multiple of 16 bytes") {
  alignas(16) std::byte memory[64] = {};
  float* const odd = reinterpret_cast<float*>(memory + 8);
  float* const even = reinterpret_cast<float*>(memory + 16);
  const DenseArgs args = {memory, memory, memory + 32, {}};
  std::array<DenseArgs, 7> with;
  with.fill(args);
  with[0].src = odd;
  with[1].weights = odd;
  with[2].dst = memory + 8;
  with[3].epilogue.residual = odd;
  with[4].epilogue.shift = odd;
  with[5].epilogue.second_scale = odd;
  with[5].epilogue.second_shift = even;
  with[6].epilogue.second_scale = even;
  with[6].epilogue.second_shift = odd;
  for (const DenseArgs& bad : with) {
    const Status status =
        pointwise(pointwise_problem({1, 4, 4, 16}, 16), Numeric::kFp16, {90, 132}, bad, nullptr);
    CHECK(status.code() == Code::kInvalidArgument);
    CHECK(contains(status.message(), "multiple of 16"));
  }
}

}  // namespace xception
