#include "kernels/pointwise.h"

#include "kernels/implicit_gemm.cuh"
#include "kernels/picture_conv.h"

namespace xception {

Status pointwise(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu,
                 const DenseArgs& args, Stream stream) {
  XC_RETURN_IF_ERROR(check_dense("pointwise", problem, 1, numeric, gpu, args));
  if (is_picture(problem)) {
    return picture_conv("pointwise", problem, numeric, gpu, args, stream);
  }
  return launch_implicit_gemm<1>("pointwise", problem, numeric, gpu, args, stream);
}

}  // namespace xception
