#include "kernels/conv3x3.h"

#include "kernels/picture_conv.h"

namespace xception {

std::vector<std::byte> pack_conv3x3(const ConvProblem& problem, Numeric numeric,
                                    const float* weights) {
  return is_picture(problem) ? pack_picture(problem, numeric, weights)
                             : pack_dense(problem, numeric, weights);
}

std::string describe_conv3x3(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu) {
  return "conv3x3 " + (is_picture(problem)
                           ? describe_picture(problem, numeric, gpu)
                           : to_string(pick_matrix_tile(problem, numeric, gpu), gpu.arch));
}

}  // namespace xception
