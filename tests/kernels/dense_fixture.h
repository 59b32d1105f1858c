// Cases of the dense convolutions: operands drawn, the kernel run, the reference beside it.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "device_fixture.h"
#include "kernels/implicit_gemm.h"

namespace xception {

inline constexpr EpilogueSteps kNone = {};

// pointwise, conv3x3 or picture_conv.
struct DenseOperation {
  Status (*run)(const ConvProblem&, Numeric, const GpuInfo&, const DenseArgs&, Stream);
  std::vector<std::byte> (*pack)(const ConvProblem&, Numeric, const GpuInfo&, const float*);
  bool reads_pictures = false;
};

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// All numerics but what the device under test refuses: tf32 before sm_80.
std::vector<Numeric> dense_numerics();

// The device under test as one without wgmma, and as it is where it has that.
std::vector<GpuInfo> dense_devices();

// `gpu` with as many multiprocessors, in name, as make the kernels choose tile `tile`; nothing
// where this problem is never cut into it.
std::optional<GpuInfo> gpu_choosing(int tile, GpuInfo gpu, const ConvProblem& problem,
                                    Numeric numeric);

// Source and weights as the kernel has them, in float32.
struct DenseOperands {
  Values src;
  Values weights;
};

// Whole numbers where `integers`: exact in every numeric, sums and epilogue included.
DenseOperands draw_operands(Random& random, const ConvProblem& problem, Numeric numeric,
                            bool integers);

Values run_dense(const DenseOperation& operation, const ConvProblem& problem, Numeric numeric,
                 const GpuInfo& gpu, const DenseOperands& operands, const DeviceEpilogue& epilogue);

Values expected_dense(const ConvProblem& problem, const Values& src, const Values& weights,
                      const Epilogue& epilogue);

// Runs whole numbers, exactly, and unless `exact_only` normal ones, within their roundings.
void check_dense_case(Random& random, const DenseOperation& operation, const ConvProblem& problem,
                      Numeric numeric, const GpuInfo& gpu, const EpilogueSteps& steps,
                      bool exact_only = false);

// Each image of a batch of three gives bit by bit what it gives alone, whatever the tiles are, on
// each of dense_devices().
void check_batch(Random& random, const DenseOperation& operation, ConvProblem problem,
                 Numeric numeric);

}  // namespace xception
