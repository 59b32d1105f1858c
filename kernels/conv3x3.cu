// Dense 3x3 convolution: dst[n][p][q][k] = epilogue(sum over taps and c of src * weights).
// Maths, mapping, shared memory and limits stand in implicit_gemm.cuh. k runs over nine taps and
// the channels of each; whether a tap of a pixel lies inside the picture is a bit of a mask made
// once.
#include "kernels/conv3x3.h"

#include "kernels/implicit_gemm_launch.cuh"

namespace xception {

Status conv3x3(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu,
               const DenseArgs& args, Stream stream) {
  XC_RETURN_IF_ERROR(check_dense("conv3x3", problem, 3, numeric, gpu, args));
  return launch_implicit_gemm<3>("conv3x3", problem, numeric, gpu, args, stream);
}

}  // namespace xception
