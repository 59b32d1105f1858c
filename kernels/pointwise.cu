// 1x1 convolution: dst[n][p][q][k] = epilogue(sum over taps and c of src * weights).
// Maths, mapping, shared memory and limits stand in warpgroup_gemm.cuh, and for other GPUs,
// numerics and a stride of 2 in implicit_gemm.cuh and direct_gemm.cuh. With one tap a row of the
// product is one pixel of the source; without a stride even the same one, and no division finds it.
#include "kernels/pointwise.h"

#include <limits>

#include "kernels/implicit_gemm_launch.cuh"
#include "kernels/warpgroup_gemm_launch.cuh"

namespace xception {

Status pointwise(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu,
                 const DenseArgs& args, Stream stream) {
  XC_RETURN_IF_ERROR(check_dense("pointwise", problem, 1, numeric, gpu, args));
  if (is_warpgroup_product(problem, numeric, gpu)) {
    const MatrixChoice choice = pick_matrix_tile(problem, numeric, gpu);
    if (choice.blocks() > std::numeric_limits<int>::max()) {
      return too_large_for_launch(dense_name("pointwise", problem, numeric));
    }
    return numeric == Numeric::kFp16
               ? launch_warpgroup_gemm<__half>("pointwise", problem, numeric, gpu, choice, args,
                                               stream)
               : launch_warpgroup_gemm<__nv_bfloat16>("pointwise", problem, numeric, gpu, choice,
                                                      args, stream);
  }
  return launch_implicit_gemm<1>("pointwise", problem, numeric, gpu, args, stream);
}

}  // namespace xception
