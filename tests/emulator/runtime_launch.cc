// Kernel launches, their limits, and what can be asked of a kernel.

#include <cuda_occupancy.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "tests/emulator/runtime_state.h"

using namespace xception::emulator;  // NOLINT(google-build-using-namespace)

namespace {

constexpr unsigned kWarpSize = 32;
constexpr unsigned kMaxThreads = 1024;

bool within(const dim3& dim, unsigned x, unsigned y, unsigned z) {
  return dim.x >= 1 && dim.y >= 1 && dim.z >= 1 && dim.x <= x && dim.y <= y && dim.z <= z;
}

// Dynamic shared memory that the kernel may have.
std::size_t dynamic_limit(const Device& device, const Kernel& kernel, const KernelInfo& info) {
  const auto found = device.settings.find(&kernel);
  if (found != device.settings.end() && found->second.dynamic_shared_limit != 0) {
    return found->second.dynamic_shared_limit;
  }
  const std::size_t plain = device.profile.shared_bytes_per_block;
  return plain > info.static_shared_bytes ? plain - info.static_shared_bytes : 0;
}

// Registers of a block: warps get theirs in units of 256, as cuda_occupancy.h has it.
std::size_t registers_of_block(const KernelInfo& info, std::uint64_t threads) {
  constexpr std::size_t kUnit = 256;
  const std::size_t warp =
      (static_cast<std::size_t>(info.registers) * kWarpSize + kUnit - 1) / kUnit * kUnit;
  return (threads + kWarpSize - 1) / kWarpSize * warp;
}

int max_threads_of(const Device& device, const KernelInfo& info) {
  int threads = std::min(info.max_threads, static_cast<int>(kMaxThreads));
  while (threads > static_cast<int>(kWarpSize) &&
         registers_of_block(info, static_cast<std::uint64_t>(threads)) >
             static_cast<std::size_t>(device.profile.registers_per_block)) {
    threads -= static_cast<int>(kWarpSize);
  }
  return threads;
}

// What a GPU refuses before the kernel starts.
cudaError_t check_limits(const Device& device, const Kernel& kernel, const KernelInfo& info,
                         const dim3& grid, const dim3& block, std::size_t dynamic_shared_bytes) {
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  if (!within(grid, INT_MAX, 0xFFFF, 0xFFFF) || !within(block, 1024, 1024, 64) ||
      threads > kMaxThreads) {
    return cudaErrorInvalidConfiguration;
  }
  if (threads > static_cast<std::uint64_t>(info.max_threads) ||
      dynamic_shared_bytes > dynamic_limit(device, kernel, info)) {
    return cudaErrorInvalidValue;
  }
  if (registers_of_block(info, threads) >
      static_cast<std::size_t>(device.profile.registers_per_block)) {
    return cudaErrorLaunchOutOfResources;
  }
  return cudaSuccess;
}

cudaError_t launch_kernel(Runtime& runtime, const void* function, const dim3& grid,
                          const dim3& block, void** arguments, std::size_t shared_bytes,
                          cudaStream_t handle, bool dependent, Lock& lock) {
  const Kernel* kernel = find_kernel(function);
  if (kernel == nullptr) {
    return cudaErrorInvalidDeviceFunction;
  }
  const auto stream = find_stream(runtime, handle);
  Device& device = runtime.current();
  if (stream == nullptr || stream->device != &device) {
    return cudaErrorInvalidResourceHandle;
  }
  LoadedKernel loaded;
  XC_RETURN_IF_CUDA(load_kernel(device, *kernel, &loaded));
  const KernelInfo& info = *loaded.info;
  XC_RETURN_IF_CUDA(check_limits(device, *kernel, info, grid, block, shared_bytes));
  if (arguments == nullptr && !info.parameter_bytes.empty()) {
    return cudaErrorInvalidValue;
  }
  KernelOperation operation;
  operation.kernel = kernel;
  operation.grid = {grid.x, grid.y, grid.z};
  operation.block = {block.x, block.y, block.z};
  operation.dynamic_shared_bytes = shared_bytes;
  operation.dependent = dependent;
  operation.parameters.resize(info.parameters_total);
  for (std::size_t i = 0; i < info.parameter_bytes.size(); ++i) {
    std::memcpy(operation.parameters.data() + info.parameter_offsets[i], arguments[i],
                info.parameter_bytes[i]);
  }
  return submit(runtime, *stream, {&device, std::move(operation)}, lock);
}

cudaError_t launch_call(const void* function, const dim3& grid, const dim3& block, void** arguments,
                        std::size_t shared_bytes, cudaStream_t stream) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock& lock) {
    return launch_kernel(runtime, function, grid, block, arguments, shared_bytes, stream, false,
                         lock);
  });
}

// Whether a launch can do without what the attribute asks for.
cudaError_t check_attribute(const cudaLaunchAttribute& attribute) {
  switch (attribute.id) {
    case cudaLaunchAttributeIgnore:
    case cudaLaunchAttributePriority:
    case cudaLaunchAttributeAccessPolicyWindow:
    case cudaLaunchAttributeMemSyncDomain:
    case cudaLaunchAttributeMemSyncDomainMap:
    case cudaLaunchAttributeProgrammaticStreamSerialization:
      return cudaSuccess;
    case cudaLaunchAttributeCooperative:
      return attribute.val.cooperative == 0 ? cudaSuccess : cudaErrorNotSupported;
    case cudaLaunchAttributeClusterDimension:
      return attribute.val.clusterDim.x == 1 && attribute.val.clusterDim.y == 1 &&
                     attribute.val.clusterDim.z == 1
                 ? cudaSuccess
                 : cudaErrorInvalidClusterSize;
    default:
      return cudaErrorNotSupported;
  }
}

// The kernel on the current device.
cudaError_t current_kernel(Runtime& runtime, const void* function, const Kernel** kernel,
                           LoadedKernel* loaded) {
  *kernel = find_kernel(function);
  if (*kernel == nullptr) {
    return cudaErrorInvalidDeviceFunction;
  }
  return load_kernel(runtime.current(), **kernel, loaded);
}

// NVIDIA's own arithmetic, which the toolkit ships as a header.
cudaError_t occupancy_of(const Device& device, const Kernel& kernel, const KernelInfo& info,
                         int block_size, std::size_t dynamic_shared_bytes, int* blocks) {
  const DeviceProfile& profile = device.profile;
  cudaOccDeviceProp properties;
  properties.computeMajor = profile.arch / 10;
  properties.computeMinor = profile.arch % 10;
  properties.maxThreadsPerBlock = static_cast<int>(kMaxThreads);
  properties.maxThreadsPerMultiprocessor = profile.threads_per_multiprocessor;
  properties.regsPerBlock = profile.registers_per_block;
  properties.regsPerMultiprocessor = profile.registers_per_multiprocessor;
  properties.warpSize = static_cast<int>(kWarpSize);
  properties.sharedMemPerBlock = profile.shared_bytes_per_block;
  properties.sharedMemPerMultiprocessor = profile.shared_bytes_per_multiprocessor;
  properties.numSms = profile.multiprocessors;
  properties.sharedMemPerBlockOptin = profile.shared_bytes_per_block_optin;
  properties.reservedSharedMemPerBlock = profile.shared_bytes_reserved;
  cudaOccFuncAttributes attributes;
  attributes.maxThreadsPerBlock = max_threads_of(device, info);
  attributes.numRegs = info.registers;
  attributes.sharedSizeBytes = info.static_shared_bytes;
  attributes.partitionedGCConfig = PARTITIONED_GC_OFF;
  attributes.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
  attributes.maxDynamicSharedSizeBytes = dynamic_limit(device, kernel, info);
  attributes.numBlockBarriers = 1;
  const cudaOccDeviceState state;
  cudaOccResult result;
  if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &properties, &attributes, &state, block_size,
                                              dynamic_shared_bytes) != CUDA_OCC_SUCCESS) {
    return cudaErrorInvalidValue;
  }
  *blocks = result.activeBlocksPerMultiprocessor;
  return cudaSuccess;
}

}  // namespace

extern "C" {

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared_bytes,
                                     CUstream_st* stream) {
  thread_state().configurations.push_back({grid, block, shared_bytes, stream});
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared_bytes,
                                       void* stream) {
  ThreadState& thread = thread_state();
  if (thread.configurations.empty()) {
    return thread.last_error = cudaErrorMissingConfiguration;
  }
  const CallConfiguration configuration = thread.configurations.back();
  thread.configurations.pop_back();
  *grid = configuration.grid;
  *block = configuration.block;
  *shared_bytes = configuration.shared_bytes;
  *static_cast<cudaStream_t*>(stream) = configuration.stream;
  return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                               std::size_t shared_bytes, cudaStream_t stream) {
  return launch_call(kernel, grid, block, arguments, shared_bytes, stream);
}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                             std::size_t shared_bytes, cudaStream_t stream) {
  return launch_call(function, grid, block, arguments, shared_bytes, stream);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* configuration, const void* function,
                                void** arguments) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock& lock) {
    if (configuration == nullptr) {
      return cudaErrorInvalidValue;
    }
    bool dependent = false;
    for (unsigned i = 0; i < configuration->numAttrs; ++i) {
      const cudaLaunchAttribute& attribute = configuration->attrs[i];
      XC_RETURN_IF_CUDA(check_attribute(attribute));
      if (attribute.id == cudaLaunchAttributeProgrammaticStreamSerialization) {
        dependent = attribute.val.programmaticStreamSerializationAllowed != 0;
      }
    }
    return launch_kernel(runtime, function, configuration->gridDim, configuration->blockDim,
                         arguments, configuration->dynamicSmemBytes, configuration->stream,
                         dependent, lock);
  });
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    if (attributes == nullptr) {
      return cudaErrorInvalidValue;
    }
    const Kernel* kernel = nullptr;
    LoadedKernel loaded;
    XC_RETURN_IF_CUDA(current_kernel(runtime, function, &kernel, &loaded));
    const Device& device = runtime.current();
    const KernelInfo& info = *loaded.info;
    *attributes = {};
    attributes->sharedSizeBytes = info.static_shared_bytes;
    attributes->localSizeBytes = info.local_bytes;
    attributes->maxThreadsPerBlock = max_threads_of(device, info);
    attributes->numRegs = info.registers;
    attributes->ptxVersion = loaded.module->ptx->arch;
    attributes->binaryVersion = device.profile.arch;
    attributes->maxDynamicSharedSizeBytes = static_cast<int>(dynamic_limit(device, *kernel, info));
    const auto settings = device.settings.find(kernel);
    attributes->preferredShmemCarveout =
        settings != device.settings.end() ? settings->second.carveout : -1;
    return cudaSuccess;
  });
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    const Kernel* kernel = nullptr;
    LoadedKernel loaded;
    XC_RETURN_IF_CUDA(current_kernel(runtime, function, &kernel, &loaded));
    Device& device = runtime.current();
    if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
      if (value < 0 || static_cast<std::size_t>(value) + loaded.info->static_shared_bytes >
                           device.profile.shared_bytes_per_block_optin) {
        return cudaErrorInvalidValue;
      }
      device.settings[kernel].dynamic_shared_limit = static_cast<std::size_t>(value);
      return cudaSuccess;
    }
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) {
      if (value < -1 || value > 100) {
        return cudaErrorInvalidValue;
      }
      device.settings[kernel].carveout = value;
      return cudaSuccess;
    }
    return cudaErrorNotSupported;
  });
}

cudaError_t cudaFuncSetCacheConfig(const void* function, cudaFuncCache /*preference*/) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    const Kernel* kernel = nullptr;
    LoadedKernel loaded;
    return current_kernel(runtime, function, &kernel, &loaded);
  });
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    int* blocks, const void* function, int block_size, std::size_t shared_bytes, unsigned flags) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    if (blocks == nullptr || block_size < 1 || (flags & ~1U) != 0) {
      return cudaErrorInvalidValue;
    }
    const Kernel* kernel = nullptr;
    LoadedKernel loaded;
    XC_RETURN_IF_CUDA(current_kernel(runtime, function, &kernel, &loaded));
    return occupancy_of(runtime.current(), *kernel, *loaded.info, block_size, shared_bytes, blocks);
  });
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function,
                                                          int block_size,
                                                          std::size_t shared_bytes) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, block_size,
                                                                shared_bytes, cudaOccupancyDefault);
}
}
