// 1x1 convolution: dst[n][p][q][k] = epilogue(sum over taps and c of src * weights).
// Maths, mapping, shared memory and limits stand in implicit_gemm.cuh and direct_gemm.cuh. With one
// tap a row of the product is one pixel of the source; without a stride even the same one, and no
// division finds it.
#include "kernels/pointwise.h"

#include "kernels/implicit_gemm_launch.cuh"

namespace xception {

Status pointwise(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu,
                 const DenseArgs& args, Stream stream) {
  XC_RETURN_IF_ERROR(check_dense("pointwise", problem, 1, numeric, gpu, args));
  return launch_implicit_gemm<1>("pointwise", problem, numeric, gpu, args, stream);
}

}  // namespace xception
