#include "kernels/gpu.h"

#include <cuda_runtime_api.h>

#include "kernels/launch.h"
#include "kernels/ptx.cuh"

namespace xception {
namespace {

// How many threads it may have says what its code was compiled for.
constexpr int kWithWgmma = 128;
constexpr int kWithout = 256;
__global__ void __launch_bounds__(kHasWgmma ? kWithWgmma : kWithout) no_kernel() {}

}  // namespace

Result<GpuInfo> current_gpu() {
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) {
    return cuda_failure("asking which GPU is current", error);
  }
  // Not the GPU's own: what a kernel does not do for an older architecture must not be chosen.
  cudaFuncAttributes code;
  if (const cudaError_t error =
          cudaFuncGetAttributes(&code, reinterpret_cast<const void*>(no_kernel));
      error != cudaSuccess) {
    return cuda_failure("asking what code the GPU runs", error);
  }
  int multiprocessors = 0;  // by itself: cudaGetDeviceProperties() takes milliseconds
  if (const cudaError_t error =
          cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
      error != cudaSuccess) {
    return cuda_failure("asking for an attribute of the GPU", error);
  }
  return GpuInfo{code.ptxVersion, multiprocessors, code.maxThreadsPerBlock == kWithWgmma};
}

}  // namespace xception
