#include "kernels/gpu.h"

#include <cuda_runtime_api.h>

#include "kernels/launch.cuh"

namespace xception {

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
  int major = 0;
  int minor = 0;
  int multiprocessors = 0;
  int shared_block = 0;
  int shared_multiprocessor = 0;
  XC_RETURN_IF_ERROR(attribute(cudaDevAttrComputeCapabilityMajor, major));
  XC_RETURN_IF_ERROR(attribute(cudaDevAttrComputeCapabilityMinor, minor));
  XC_RETURN_IF_ERROR(attribute(cudaDevAttrMultiProcessorCount, multiprocessors));
  XC_RETURN_IF_ERROR(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, shared_block));
  XC_RETURN_IF_ERROR(attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, shared_multiprocessor));
  return GpuInfo{10 * major + minor, multiprocessors, static_cast<std::size_t>(shared_block),
                 static_cast<std::size_t>(shared_multiprocessor)};
}

}  // namespace xception
