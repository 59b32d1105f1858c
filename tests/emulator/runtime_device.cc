// Devices: which there are, their properties, limits and flags.

#include <cstdio>
#include <cstring>

#include "tests/emulator/runtime_state.h"

using namespace xception::emulator;  // NOLINT(google-build-using-namespace)

namespace {

constexpr int kWarpSize = 32;
constexpr int kMaxThreads = 1024;
constexpr int kPciBus = 0x10;
constexpr int kDriverVersion = CUDART_VERSION;
// Greatest priority of a stream; 0 is the least.
constexpr int kGreatestPriority = -5;

bool is_device(const Runtime& runtime, int index) {
  return index >= 0 && static_cast<std::size_t>(index) < runtime.devices.size();
}

cudaDeviceProp properties_of(const Device& device) {
  const DeviceProfile& profile = device.profile;
  cudaDeviceProp properties;
  std::memset(&properties, 0, sizeof(properties));
  std::snprintf(properties.name, sizeof(properties.name), "%s", profile.name.c_str());
  std::snprintf(properties.uuid.bytes, sizeof(properties.uuid.bytes), "emulated-%d", device.index);
  properties.totalGlobalMem = device.memory.capacity();
  properties.sharedMemPerBlock = profile.shared_bytes_per_block;
  properties.regsPerBlock = profile.registers_per_block;
  properties.warpSize = kWarpSize;
  properties.memPitch = 0x7FFFFFFF;
  properties.maxThreadsPerBlock = kMaxThreads;
  properties.maxThreadsDim[0] = 1024;
  properties.maxThreadsDim[1] = 1024;
  properties.maxThreadsDim[2] = 64;
  properties.maxGridSize[0] = 0x7FFFFFFF;
  properties.maxGridSize[1] = 0xFFFF;
  properties.maxGridSize[2] = 0xFFFF;
  properties.totalConstMem = 64 << 10;
  properties.major = profile.arch / 10;
  properties.minor = profile.arch % 10;
  properties.textureAlignment = 512;
  properties.texturePitchAlignment = 32;
  properties.multiProcessorCount = profile.multiprocessors;
  properties.concurrentKernels = 1;
  properties.pciBusID = kPciBus + device.index;
  properties.asyncEngineCount = 2;
  properties.unifiedAddressing = 1;
  properties.l2CacheSize = static_cast<int>(profile.l2_bytes);
  properties.maxThreadsPerMultiProcessor = profile.threads_per_multiprocessor;
  properties.streamPrioritiesSupported = 1;
  properties.globalL1CacheSupported = 1;
  properties.localL1CacheSupported = 1;
  properties.sharedMemPerMultiprocessor = profile.shared_bytes_per_multiprocessor;
  properties.regsPerMultiprocessor = profile.registers_per_multiprocessor;
  properties.computePreemptionSupported = 1;
  properties.sharedMemPerBlockOptin = profile.shared_bytes_per_block_optin;
  properties.maxBlocksPerMultiProcessor = profile.blocks_per_multiprocessor;
  properties.reservedSharedMemPerBlock = profile.shared_bytes_reserved;
  properties.hostRegisterSupported = 1;
  properties.memoryPoolsSupported = 1;
#if CUDART_VERSION < 13000
  properties.deviceOverlap = 1;
#endif
  return properties;
}

std::size_t default_limit(cudaLimit limit) {
  switch (limit) {
    case cudaLimitStackSize:
      return 1 << 10;
    case cudaLimitPrintfFifoSize:
      return 1 << 20;
    case cudaLimitMallocHeapSize:
      return 8 << 20;
    default:
      return 0;
  }
}

bool is_limit(cudaLimit limit) {
  return limit == cudaLimitStackSize || limit == cudaLimitPrintfFifoSize ||
         limit == cudaLimitMallocHeapSize || limit == cudaLimitMaxL2FetchGranularity ||
         limit == cudaLimitPersistingL2CacheSize;
}

struct Attribute {
  cudaDeviceAttr attribute;
  int (*value)(const cudaDeviceProp& all);
};

int none(const cudaDeviceProp& /*all*/) { return 0; }

// Others are cudaErrorNotSupported: a 0 would be a claim.
constexpr Attribute kAttributes[] = {
    {cudaDevAttrMaxThreadsPerBlock,
     [](const cudaDeviceProp& all) { return all.maxThreadsPerBlock; }},
    {cudaDevAttrMaxBlockDimX, [](const cudaDeviceProp& all) { return all.maxThreadsDim[0]; }},
    {cudaDevAttrMaxBlockDimY, [](const cudaDeviceProp& all) { return all.maxThreadsDim[1]; }},
    {cudaDevAttrMaxBlockDimZ, [](const cudaDeviceProp& all) { return all.maxThreadsDim[2]; }},
    {cudaDevAttrMaxGridDimX, [](const cudaDeviceProp& all) { return all.maxGridSize[0]; }},
    {cudaDevAttrMaxGridDimY, [](const cudaDeviceProp& all) { return all.maxGridSize[1]; }},
    {cudaDevAttrMaxGridDimZ, [](const cudaDeviceProp& all) { return all.maxGridSize[2]; }},
    {cudaDevAttrMaxSharedMemoryPerBlock,
     [](const cudaDeviceProp& all) { return static_cast<int>(all.sharedMemPerBlock); }},
    {cudaDevAttrTotalConstantMemory,
     [](const cudaDeviceProp& all) { return static_cast<int>(all.totalConstMem); }},
    {cudaDevAttrWarpSize, [](const cudaDeviceProp& all) { return all.warpSize; }},
    {cudaDevAttrMaxPitch, [](const cudaDeviceProp& all) { return static_cast<int>(all.memPitch); }},
    {cudaDevAttrMaxRegistersPerBlock, [](const cudaDeviceProp& all) { return all.regsPerBlock; }},
    {cudaDevAttrMultiProcessorCount,
     [](const cudaDeviceProp& all) { return all.multiProcessorCount; }},
    {cudaDevAttrConcurrentKernels, [](const cudaDeviceProp& all) { return all.concurrentKernels; }},
    {cudaDevAttrPciBusId, [](const cudaDeviceProp& all) { return all.pciBusID; }},
    {cudaDevAttrL2CacheSize, [](const cudaDeviceProp& all) { return all.l2CacheSize; }},
    {cudaDevAttrMaxThreadsPerMultiProcessor,
     [](const cudaDeviceProp& all) { return all.maxThreadsPerMultiProcessor; }},
    {cudaDevAttrAsyncEngineCount, [](const cudaDeviceProp& all) { return all.asyncEngineCount; }},
    {cudaDevAttrUnifiedAddressing, [](const cudaDeviceProp& all) { return all.unifiedAddressing; }},
    {cudaDevAttrComputeCapabilityMajor, [](const cudaDeviceProp& all) { return all.major; }},
    {cudaDevAttrComputeCapabilityMinor, [](const cudaDeviceProp& all) { return all.minor; }},
    {cudaDevAttrStreamPrioritiesSupported,
     [](const cudaDeviceProp& all) { return all.streamPrioritiesSupported; }},
    {cudaDevAttrMaxSharedMemoryPerMultiprocessor,
     [](const cudaDeviceProp& all) { return static_cast<int>(all.sharedMemPerMultiprocessor); }},
    {cudaDevAttrMaxRegistersPerMultiprocessor,
     [](const cudaDeviceProp& all) { return all.regsPerMultiprocessor; }},
    {cudaDevAttrMaxSharedMemoryPerBlockOptin,
     [](const cudaDeviceProp& all) { return static_cast<int>(all.sharedMemPerBlockOptin); }},
    {cudaDevAttrHostRegisterSupported,
     [](const cudaDeviceProp& all) { return all.hostRegisterSupported; }},
    {cudaDevAttrMaxBlocksPerMultiprocessor,
     [](const cudaDeviceProp& all) { return all.maxBlocksPerMultiProcessor; }},
    {cudaDevAttrReservedSharedMemoryPerBlock,
     [](const cudaDeviceProp& all) { return static_cast<int>(all.reservedSharedMemPerBlock); }},
    {cudaDevAttrMemoryPoolsSupported,
     [](const cudaDeviceProp& all) { return all.memoryPoolsSupported; }},
    {cudaDevAttrClockRate, none},  // nothing here has a clock
    {cudaDevAttrMemoryClockRate, none},
    {cudaDevAttrGlobalMemoryBusWidth, none},
    {cudaDevAttrPciDeviceId, none},
    {cudaDevAttrPciDomainId, none},
    {cudaDevAttrIntegrated, none},
    {cudaDevAttrCanMapHostMemory, none},
    {cudaDevAttrComputeMode, none},
    {cudaDevAttrManagedMemory, none},
    {cudaDevAttrConcurrentManagedAccess, none},
    {cudaDevAttrPageableMemoryAccess, none},
    {cudaDevAttrCooperativeLaunch, none},
    {cudaDevAttrClusterLaunch, none},
    {cudaDevAttrEccEnabled, none},
    {cudaDevAttrTccDriver, none},
    {cudaDevAttrKernelExecTimeout, none},
};

cudaError_t attribute_of(const Device& device, cudaDeviceAttr attribute, int* value) {
  for (const Attribute& known : kAttributes) {
    if (known.attribute == attribute) {
      *value = known.value(properties_of(device));
      return cudaSuccess;
    }
  }
  return cudaErrorNotSupported;
}

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  return runtime_call(kNoContext, [&](Runtime& runtime, Lock&) {
    if (count == nullptr) {
      return cudaErrorInvalidValue;
    }
    *count = static_cast<int>(runtime.devices.size());
    return cudaSuccess;
  });
}

cudaError_t cudaGetDevice(int* device) {
  return runtime_call(kNoContext, [&](Runtime&, Lock&) {
    if (device == nullptr) {
      return cudaErrorInvalidValue;
    }
    *device = thread_state().device;
    return cudaSuccess;
  });
}

cudaError_t cudaSetDevice(int device) {
  return runtime_call(kNoContext, [&](Runtime& runtime, Lock&) {
    if (!is_device(runtime, device)) {
      return cudaErrorInvalidDevice;
    }
    thread_state().device = device;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return runtime_call(kNoContext, [&](Runtime& runtime, Lock&) {
    if (properties == nullptr || !is_device(runtime, device)) {
      return properties == nullptr ? cudaErrorInvalidValue : cudaErrorInvalidDevice;
    }
    *properties = properties_of(*runtime.devices[static_cast<std::size_t>(device)]);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return runtime_call(kNoContext, [&](Runtime& runtime, Lock&) {
    if (value == nullptr || !is_device(runtime, device)) {
      return value == nullptr ? cudaErrorInvalidValue : cudaErrorInvalidDevice;
    }
    return attribute_of(*runtime.devices[static_cast<std::size_t>(device)], attribute, value);
  });
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  return runtime_call(kNoContext, [&](Runtime& runtime, Lock&) {
    if (!is_device(runtime, device)) {
      return cudaErrorInvalidDevice;
    }
    constexpr int kTextBytes = 13;  // "0000:10:00.0"
    if (text == nullptr || length < kTextBytes) {
      return cudaErrorInvalidValue;
    }
    std::snprintf(text, static_cast<std::size_t>(length), "0000:%02X:00.0",
                  static_cast<unsigned>(kPciBus + device) & 0xFFU);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceSynchronize() {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock& lock) {
    Device& device = runtime.current();
    for (const auto& capture : runtime.captures) {
      if (capture->origin->device == &device) {
        capture->invalidated = true;
        return cudaErrorStreamCaptureUnsupported;
      }
    }
    XC_RETURN_IF_CUDA(check_unsafe_call(runtime));
    return synchronize(device, lock);
  });
}

// On a GPU a context that a fault has broken stays so until the process ends, whatever the reset;
// here it clears the fault, so that one test program can meet several.
cudaError_t cudaDeviceReset() {
  return runtime_call(kNoContext, [&](Runtime& runtime, Lock&) {
    reset_device(runtime, runtime.current());
    runtime.fault_since_reset = false;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return runtime_call(kOrdinary, [&](Runtime&, Lock&) {
    if (least != nullptr) {
      *least = 0;
    }
    if (greatest != nullptr) {
      *greatest = kGreatestPriority;
    }
    return cudaSuccess;
  });
}

cudaError_t cudaSetDeviceFlags(unsigned flags) {
  return runtime_call(kNoContext, [&](Runtime& runtime, Lock&) {
    if ((flags & ~unsigned{cudaDeviceMask}) != 0) {
      return cudaErrorInvalidValue;
    }
    runtime.current().flags = flags;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceFlags(unsigned* flags) {
  return runtime_call(kNoContext, [&](Runtime& runtime, Lock&) {
    if (flags == nullptr) {
      return cudaErrorInvalidValue;
    }
    *flags = runtime.current().flags;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceSetLimit(cudaLimit limit, std::size_t value) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    if (!is_limit(limit)) {
      return cudaErrorUnsupportedLimit;
    }
    runtime.current().limits[limit] = value;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetLimit(std::size_t* value, cudaLimit limit) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    if (value == nullptr || !is_limit(limit)) {
      return value == nullptr ? cudaErrorInvalidValue : cudaErrorUnsupportedLimit;
    }
    const auto& limits = runtime.current().limits;
    const auto found = limits.find(limit);
    *value = found != limits.end() ? found->second : default_limit(limit);
    return cudaSuccess;
  });
}

// Unlike the rest these work without a driver, which has no version then.
cudaError_t cudaDriverGetVersion(int* version) {
  if (version == nullptr) {
    return cudaErrorInvalidValue;
  }
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  *version = runtime.startup_error == cudaErrorInsufficientDriver ? 0 : kDriverVersion;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  if (version == nullptr) {
    return cudaErrorInvalidValue;
  }
  *version = CUDART_VERSION;
  return cudaSuccess;
}
}
