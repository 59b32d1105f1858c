#include "kernels/pointwise.h"

#include "kernels/warpgroup_gemm.h"

namespace xception {

std::vector<std::byte> pack_pointwise(const ConvProblem& problem, Numeric numeric,
                                      const GpuInfo& gpu, const float* weights) {
  return is_warpgroup_product(problem, numeric, gpu) ? pack_warpgroup(problem, numeric, weights)
                                                     : pack_dense(problem, numeric, weights);
}

std::string describe_pointwise(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu) {
  return "pointwise " + to_string(pick_matrix_tile(problem, numeric, gpu), gpu.arch);
}

}  // namespace xception
