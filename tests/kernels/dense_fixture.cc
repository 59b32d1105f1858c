#include "dense_fixture.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "kernels/numeric.h"
#include "kernels/reference.h"

namespace xception {
namespace {

std::string describe(const ConvProblem& problem, Numeric numeric) {
  const Padding& pad = problem.window.pad;
  return dense_name("case", problem, numeric) + ", padding " + std::to_string(pad.top) + " " +
         std::to_string(pad.left) + " " + std::to_string(pad.bottom) + " " +
         std::to_string(pad.right);
}

// What the kernel multiplies: operands of tf32 are rounded on the way, but for pictures, which are
// computed in float32.
Values multiplied(const DenseOperation& operation, Numeric numeric, Values values) {
  if (numeric == Numeric::kTf32 && !operation.reads_pictures) {
    std::transform(values.begin(), values.end(), values.begin(), round_to_tf32);
  }
  return rounded(numeric, std::move(values));
}

// Roundings on the way of one product into its sum. Tensor cores need not round what they add to
// nearest, only cut off what lies below the last place, which is off by up to two half units; the
// products themselves are exact, but for those of float32.
int sum_roundings(const ConvProblem& problem) {
  const int products = problem.src.c * problem.window.size * problem.window.size;
  return 2 * products + 1;
}

}  // namespace

std::vector<Numeric> dense_numerics() {
  std::vector<Numeric> result;
  for (const Numeric numeric : {Numeric::kFp32, Numeric::kTf32, Numeric::kFp16, Numeric::kBf16}) {
    if (pick_matrix_math(numeric, device_under_test().arch).has_value()) {
      result.push_back(numeric);
    }
  }
  return result;
}

std::vector<GpuInfo> dense_devices() {
  const GpuInfo device = device_under_test();
  std::vector<GpuInfo> devices = {device};
  if (device.has_wgmma) {
    devices.front().has_wgmma = false;
    devices.push_back(device);
  }
  return devices;
}

std::optional<GpuInfo> gpu_choosing(int tile, GpuInfo gpu, const ConvProblem& problem,
                                    Numeric numeric) {
  // More multiprocessors never mean a larger tile; each step skips none that has two blocks.
  for (int count = 1; count < 1'000'000; count += 1 + count / 16) {
    gpu.multiprocessors = count;
    const MatrixChoice choice = pick_matrix_tile(problem, numeric, gpu);
    if (choice.tile == tile) {
      return gpu;
    }
  }
  return std::nullopt;
}

DenseOperands draw_operands(Random& random, const ConvProblem& problem, Numeric numeric,
                            bool integers) {
  const std::int64_t products =
      std::int64_t{problem.src.c} * problem.window.size * problem.window.size;
  const std::int64_t elements = problem.src.elements();
  if (integers) {
    return {random.integers(elements), random.integers(problem.k * products)};
  }
  // He scale, so that sums are of the size of their terms.
  const float deviation = std::sqrt(2.0F / static_cast<float>(products));
  return {rounded(numeric, random.normals(elements)),
          random.normals(problem.k * products, deviation)};
}

Values run_dense(const DenseOperation& operation, const ConvProblem& problem, Numeric numeric,
                 const GpuInfo& gpu, const DenseOperands& operands,
                 const DeviceEpilogue& epilogue) {
  const DeviceBuffer src = operation.reads_pictures
                               ? device_pictures(problem.src, numeric, operands.src)
                               : device_activation(problem.src, numeric, operands.src);
  const DeviceBuffer weights(operation.pack(problem, numeric, gpu, operands.weights.data()));
  return run_twice(problem.dst(), numeric, [&](void* dst) {
    return operation.run(problem, numeric, gpu, {src.data(), weights.data(), dst, epilogue},
                         nullptr);
  });
}

Values expected_dense(const ConvProblem& problem, const Values& src, const Values& weights,
                      const Epilogue& epilogue) {
  Values dst(static_cast<std::size_t>(problem.dst().elements()));
  reference::conv(problem, src.data(), weights.data(), epilogue, dst.data());
  return dst;
}

void check_dense_case(Random& random, const DenseOperation& operation, const ConvProblem& problem,
                      Numeric numeric, const GpuInfo& gpu, const EpilogueSteps& steps,
                      bool exact_only) {
  INFO(describe(problem, numeric));
  for (const bool integers : {true, false}) {
    if (!integers && exact_only) {
      continue;
    }
    const DenseOperands operands = draw_operands(random, problem, numeric, integers);
    const EpilogueCase epilogue(random, steps, problem.dst(), numeric, integers);
    const Values actual = run_dense(operation, problem, numeric, gpu, operands, epilogue.device());
    const Values src = multiplied(operation, numeric, operands.src);
    const Values weights = multiplied(operation, numeric, operands.weights);
    const Values wanted = expected_dense(problem, src, weights, epilogue.host());
    if (integers) {
      check_equal(actual, wanted, numeric);
    } else {
      const Values magnitudes =
          expected_dense(problem, absolute(src), absolute(weights), epilogue.magnitudes());
      check_close(actual, wanted, magnitudes,
                  derived_tolerance(sum_roundings(problem) + roundings(steps), numeric));
    }
  }
}

namespace {

void check_batch_on(const GpuInfo& device, Random& random, const DenseOperation& operation,
                    ConvProblem problem, Numeric numeric) {
  constexpr int kBatch = 3;
  problem.src.n = kBatch;
  INFO(describe(problem, numeric));
  const EpilogueSteps steps = {true, true, false, false, false};
  const EpilogueCase epilogue(random, steps, problem.dst(), numeric, false);
  const DenseOperands operands = draw_operands(random, problem, numeric, false);
  const auto run = [&](const ConvProblem& p, int multiprocessors, const DenseOperands& own) {
    GpuInfo gpu = device;
    gpu.multiprocessors = multiprocessors;
    return run_dense(operation, p, numeric, gpu, own, epilogue.device());
  };
  const Values together = run(problem, 1, operands);  // in the largest tile
  for (int tile = 0; tile < kMatrixTileCount; ++tile) {
    if (const auto gpu = gpu_choosing(tile, device, problem, numeric)) {
      CHECK(same_bits(run(problem, gpu->multiprocessors, operands), together));
    }
  }
  ConvProblem single = problem;
  single.src.n = 1;
  for (int n = 0; n < kBatch; ++n) {
    const DenseOperands own = {images(operands.src, kBatch, n, 1), operands.weights};
    const Values alone = run(single, 1'000'000, own);  // in the smallest
    CHECK(same_bits(alone, images(together, kBatch, n, 1)));
  }
}

}  // namespace

void check_batch(Random& random, const DenseOperation& operation, ConvProblem problem,
                 Numeric numeric) {
  for (const GpuInfo& device : dense_devices()) {
    if (!device.has_wgmma || is_warpgroup_product(problem, numeric, device)) {
      check_batch_on(device, random, operation, problem, numeric);
    }
  }
}

}  // namespace xception
