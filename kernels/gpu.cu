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
  // Attributes one by one: cudaGetDeviceProperties() takes milliseconds.
  const auto attribute = [&](cudaDeviceAttr which, int& value) {
    const cudaError_t error = cudaDeviceGetAttribute(&value, which, device);
    return error == cudaSuccess ? Status()
                                : cuda_failure("asking for an attribute of the GPU", error);
  };
  // Not the GPU's own: what a kernel does not do for an older architecture must not be chosen.
  cudaFuncAttributes code;
  if (const cudaError_t error =
          cudaFuncGetAttributes(&code, reinterpret_cast<const void*>(no_kernel));
      error != cudaSuccess) {
    return cuda_failure("asking what code the GPU runs", error);
  }
  int multiprocessors = 0;
  int shared_block = 0;
  int shared_multiprocessor = 0;
  XC_RETURN_IF_ERROR(attribute(cudaDevAttrMultiProcessorCount, multiprocessors));
  XC_RETURN_IF_ERROR(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, shared_block));
  XC_RETURN_IF_ERROR(attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, shared_multiprocessor));
  return GpuInfo{code.ptxVersion, multiprocessors, static_cast<std::size_t>(shared_block),
                 static_cast<std::size_t>(shared_multiprocessor),
                 code.maxThreadsPerBlock == kWithWgmma};
}

}  // namespace xception
