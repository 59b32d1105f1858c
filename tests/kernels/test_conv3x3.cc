// Dense 3x3 convolution against the reference loops: every tile at its edges, every padding, every
// epilogue, every layer.
#include "kernels/conv3x3.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "dense_fixture.h"
#include "random.h"
#include "shapes.h"
#include "testing.h"

namespace xception {
namespace {

std::vector<std::byte> pack(const ConvProblem& problem, Numeric numeric, const GpuInfo& /*gpu*/,
                            const float* weights) {
  return pack_conv3x3(problem, numeric, weights);
}
constexpr DenseOperation kConv3x3 = {conv3x3, pack};

}  // namespace

TEST_CASE("conv3x3: every tile at its edges") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : dense_numerics()) {
    for (int tile = 0; tile < kMatrixTileCount; ++tile) {
      const MatrixTile& shape = kMatrixTiles[tile];
      int reached = 0;
      for (const int rows :
           {1, shape.rows + 1, 3 * shape.rows - 1, 3 * shape.rows, 3 * shape.rows + 1}) {
        for (const int k : {shape.columns - 1, shape.columns + 1}) {
          const int c = random.integer(5, 2 * tile_depth(numeric) + 16);
          const ConvProblem problem = {{1, 1, rows, c}, k, kSame};
          if (const auto gpu = gpu_choosing(tile, device_under_test(), problem, numeric)) {
            ++reached;
            check_dense_case(random, kConv3x3, problem, numeric, *gpu, kNone);
          }
        }
      }
      const bool scalar =
          numeric == Numeric::kFp32 || (numeric == Numeric::kBf16 && device_under_test().arch < 80);
      CHECK(reached >= (scalar && tile < kFirstScalarTile ? 0 : 4));
    }
  }
}

TEST_CASE("conv3x3: strides, paddings, batches and channels that fill no vector") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : dense_numerics()) {
    for (const int n : {1, random.integer(2, 3)}) {
      for (const ConvProblem& problem : edge_convs(n)) {
        // The wide ones once; they take longest.
        const bool wide = problem.src.c + problem.k > 100 && (n > 1 || problem.src.h > 7);
        if (problem.depthwise || problem.window.size != 3 || problem.dst().elements() == 0 ||
            wide) {
          continue;
        }
        check_dense_case(random, kConv3x3, problem, numeric, device_under_test(),
                         epilogue_steps(static_cast<unsigned>(random.integer(0, 31))));
      }
    }
    for (const Padding& pad : {Padding{2, 2, 2, 2}, Padding{0, 2, 1, 0}, Padding{2, 0, 0, 1}}) {
      for (const int stride : {1, 2}) {
        check_dense_case(random, kConv3x3, {{2, 5, 4, 20}, 24, {3, stride, pad}}, numeric,
                         device_under_test(), kNone);
        check_dense_case(random, kConv3x3, {{2, 5, 4, 3}, 24, {3, stride, pad}}, numeric,
                         device_under_test(), kNone);
      }
    }
  }
}

TEST_CASE("conv3x3: every epilogue") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : dense_numerics()) {
    for (unsigned index = 0; index < 32; ++index) {
      const int k = std::vector<int>{3, 29, 40, 136}[index % 4];
      const int c = index / 4 % 2 == 0 ? 3 : random.integer(5, 40);
      const ConvProblem problem = {{2, 3, 7, c}, k, index % 3 == 0 ? kHalf : kSame};
      check_dense_case(random, kConv3x3, problem, numeric, device_under_test(),
                       epilogue_steps(index));
    }
  }
}

TEST_CASE("conv3x3: an image's result does not depend on its batch") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : dense_numerics()) {
    check_batch(random, kConv3x3, {{1, 5, 7, 40}, 136, kSame}, numeric);
    check_batch(random, kConv3x3, {{1, 9, 9, 3}, 40, kHalf}, numeric);
  }
}

TEST_CASE("conv3x3: what is not finite reaches the windows that hold it, and no padding") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : dense_numerics()) {
    for (const int c : {3, 20, 40}) {
      const ConvProblem problem = {{1, 5, 6, c}, 21, kSame};
      DenseOperands operands = draw_operands(random, problem, numeric, true);
      // In the last pixel, the ninth tap of the one before it on the row above.
      operands.src[operands.src.size() - static_cast<std::size_t>(c)] = std::nanf("");
      const Values actual =
          run_dense(kConv3x3, problem, numeric, device_under_test(), operands, {});
      for (int p = 0; p < 5; ++p) {
        for (int q = 0; q < 6; ++q) {
          const bool reached = p >= 3 && q >= 4;
          CHECK(std::isnan(actual[static_cast<std::size_t>((p * 6 + q) * 21)]) == reached);
        }
      }
    }
  }
}

TEST_CASE("conv3x3: every layer of the networks") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const NamedShapes& shapes : layers_of_networks(false)) {
    for (const NamedConv& layer : shapes.convs) {
      const bool first = layer.problem.src.c == kPictureColours;  // picture_conv's
      if (layer.problem.window.size == 3 && !layer.problem.depthwise && !first) {
        INFO(layer.name << " of " << layer.problem.src.n);
        check_dense_case(random, kConv3x3, layer.problem, Numeric::kFp16, device_under_test(),
                         {true, true, true, false, true}, /*exact_only=*/true);
      }
    }
  }
}

TEST_CASE("conv3x3: what it cannot do is refused with the shape and the reason") {
  const GpuInfo gpu = {90, 132};
  alignas(16) std::byte memory[64] = {};
  const DenseArgs args = {memory, memory, memory + 32, {}};
  const auto message = [&](const ConvProblem& problem) {
    const Status status = conv3x3(problem, Numeric::kBf16, gpu, args, nullptr);
    CHECK(status.code() == Code::kInvalidArgument);
    return status.message();
  };
  CHECK(contains(message({{1, 4, 4, 16}, 16, {1, 1, {}}}),
                 "conv3x3 1x4x4x16 -> 16, stride 1, bf16: the window must be of size 3"));
  CHECK(contains(message({{1, 2, 4, 16}, 16, {3, 1, {}}}), "does not fit"));
  CHECK(contains(message({{1, 4, 4, 16}, 16, {3, 1, {3, 0, 0, 0}}}), "padding"));
  CHECK(contains(message({{1, 4, 4, 16}, 16, kSame, true}), "dense"));
  CHECK(contains(message({{1 << 14, 1 << 8, 1 << 8, 16}, 1 << 20, kSame}), "too large"));
}

}  // namespace xception
