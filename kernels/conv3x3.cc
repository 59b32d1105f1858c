#include "kernels/conv3x3.h"

namespace xception {

std::vector<std::byte> pack_conv3x3(const ConvProblem& problem, Numeric numeric,
                                    const float* weights) {
  return pack_dense(problem, numeric, weights);
}

std::string describe_conv3x3(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu) {
  return "conv3x3 " + to_string(pick_matrix_tile(problem, numeric, gpu), gpu.arch);
}

}  // namespace xception
