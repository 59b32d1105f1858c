#include "kernels/pointwise.h"

namespace xception {

std::vector<std::byte> pack_pointwise(const ConvProblem& problem, Numeric numeric,
                                      const float* weights) {
  return pack_dense(problem, numeric, weights);
}

std::string describe_pointwise(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu) {
  return "pointwise " + to_string(pick_matrix_tile(problem, numeric, gpu), gpu.arch);
}

}  // namespace xception
