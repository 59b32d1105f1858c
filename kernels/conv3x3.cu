#include "kernels/conv3x3.h"

#include "kernels/implicit_gemm.cuh"
#include "kernels/picture_conv.h"

namespace xception {

Status conv3x3(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu,
               const DenseArgs& args, Stream stream) {
  XC_RETURN_IF_ERROR(check_dense("conv3x3", problem, 3, numeric, gpu, args));
  if (is_picture(problem)) {
    return picture_conv("conv3x3", problem, numeric, gpu, args, stream);
  }
  return launch_implicit_gemm<3>("conv3x3", problem, numeric, gpu, args, stream);
}

}  // namespace xception
