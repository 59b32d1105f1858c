// Allocation of device memory and of pinned host memory.

#include <cstdlib>
#include <cstring>

#include "tests/emulator/runtime_state.h"

using namespace xception::emulator;  // NOLINT(google-build-using-namespace)

namespace {

constexpr std::size_t kPageBytes = 4096;
// What pinned memory holds before anybody writes it: a NaN in every floating type.
constexpr int kPoison = 0xFF;

cudaError_t allocate_host(Runtime& runtime, void** pointer, std::size_t bytes, unsigned flags) {
  constexpr unsigned kKnown = cudaHostAllocPortable | cudaHostAllocWriteCombined;
  if (pointer == nullptr || (flags & ~kKnown) != 0) {
    // cudaHostAllocMapped: device code would use the pointer.
    return pointer != nullptr && (flags & cudaHostAllocMapped) != 0 ? cudaErrorNotSupported
                                                                    : cudaErrorInvalidValue;
  }
  XC_RETURN_IF_CUDA(check_unsafe_call(runtime));
  *pointer = nullptr;
  if (bytes == 0) {
    return cudaSuccess;
  }
  if (bytes > SIZE_MAX - kPageBytes) {
    return cudaErrorMemoryAllocation;
  }
  const std::size_t whole = (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  void* memory = std::aligned_alloc(kPageBytes, whole);
  if (memory == nullptr) {
    return cudaErrorMemoryAllocation;
  }
  std::memset(memory, kPoison, bytes);
  runtime.host_regions[reinterpret_cast<std::uintptr_t>(memory)] = {bytes, flags, false,
                                                                    thread_state().device};
  *pointer = memory;
  return cudaSuccess;
}

// Waits for all devices: copies may still have to read or write host memory.
void finish_everything(Runtime& runtime, Lock& lock) {
  for (const auto& device : runtime.devices) {
    finish_device(*device, lock);
  }
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  return runtime_call(kAllocates, [&](Runtime& runtime, Lock&) {
    if (pointer == nullptr) {
      return cudaErrorInvalidValue;
    }
    XC_RETURN_IF_CUDA(check_unsafe_call(runtime));
    return allocate_memory(runtime.current(), bytes, nullptr, pointer);
  });
}

cudaError_t cudaFree(void* pointer) {
  return runtime_call(kReleases, [&](Runtime& runtime, Lock& lock) {
    if (pointer == nullptr) {
      return cudaSuccess;
    }
    XC_RETURN_IF_CUDA(check_unsafe_call(runtime));
    const auto address = reinterpret_cast<Address>(pointer);
    Device* device = device_of_allocation(runtime, address);
    if (device == nullptr) {
      return cudaErrorInvalidValue;
    }
    finish_device(*device, lock);
    const auto found = device->allocations.find(address);
    if (found == device->allocations.end()) {
      return cudaErrorInvalidValue;  // freed meanwhile, by what was queued
    }
    if (found->second.pool != nullptr) {
      found->second.pool->used -= found->second.bytes;
    }
    device->allocations.erase(found);
    device->memory.free(address);
    return device->sticky;
  });
}

cudaError_t cudaMallocPitch(void** pointer, std::size_t* pitch, std::size_t width,
                            std::size_t height) {
  return runtime_call(kAllocates, [&](Runtime& runtime, Lock&) {
    constexpr std::size_t kPitch = 512;  // textureAlignment
    if (pointer == nullptr || pitch == nullptr || width > SIZE_MAX - kPitch) {
      return cudaErrorInvalidValue;
    }
    XC_RETURN_IF_CUDA(check_unsafe_call(runtime));
    *pitch = (width + kPitch - 1) / kPitch * kPitch;
    if (height != 0 && *pitch > SIZE_MAX / height) {
      return cudaErrorMemoryAllocation;
    }
    return allocate_memory(runtime.current(), *pitch * height, nullptr, pointer);
  });
}

cudaError_t cudaMallocManaged(void** /*pointer*/, std::size_t /*bytes*/, unsigned /*flags*/) {
  return runtime_call(kAllocates, [](Runtime&, Lock&) { return cudaErrorNotSupported; });
}

cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) {
  return runtime_call(kAllocates, [&](Runtime& runtime, Lock&) {
    return allocate_host(runtime, pointer, bytes, cudaHostAllocDefault);
  });
}

cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned flags) {
  return runtime_call(kAllocates, [&](Runtime& runtime, Lock&) {
    return allocate_host(runtime, pointer, bytes, flags);
  });
}

cudaError_t cudaFreeHost(void* pointer) {
  return runtime_call(kReleases, [&](Runtime& runtime, Lock& lock) {
    if (pointer == nullptr) {
      return cudaSuccess;
    }
    XC_RETURN_IF_CUDA(check_unsafe_call(runtime));
    finish_everything(runtime, lock);
    const auto found = runtime.host_regions.find(reinterpret_cast<std::uintptr_t>(pointer));
    if (found == runtime.host_regions.end() || found->second.registered) {
      return cudaErrorInvalidValue;
    }
    runtime.host_regions.erase(found);
    std::free(pointer);
    return runtime.current().sticky;
  });
}

cudaError_t cudaHostRegister(void* pointer, std::size_t bytes, unsigned flags) {
  return runtime_call(kAllocates, [&](Runtime& runtime, Lock&) {
    constexpr unsigned kKnown = cudaHostRegisterPortable | cudaHostRegisterReadOnly;
    if (pointer == nullptr || bytes == 0 || (flags & ~kKnown) != 0) {
      return pointer != nullptr && (flags & cudaHostRegisterMapped) != 0 ? cudaErrorNotSupported
                                                                         : cudaErrorInvalidValue;
    }
    XC_RETURN_IF_CUDA(check_unsafe_call(runtime));
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    const auto after = runtime.host_regions.lower_bound(address);
    const bool meets_next = after != runtime.host_regions.end() && after->first - address < bytes;
    if (meets_next || find_place(runtime, pointer).pinned) {
      return cudaErrorHostMemoryAlreadyRegistered;
    }
    runtime.host_regions[address] = {bytes, flags, true, thread_state().device};
    return cudaSuccess;
  });
}

cudaError_t cudaHostUnregister(void* pointer) {
  return runtime_call(kReleases, [&](Runtime& runtime, Lock& lock) {
    XC_RETURN_IF_CUDA(check_unsafe_call(runtime));
    finish_everything(runtime, lock);
    const auto found = runtime.host_regions.find(reinterpret_cast<std::uintptr_t>(pointer));
    if (found == runtime.host_regions.end() || !found->second.registered) {
      return cudaErrorHostMemoryNotRegistered;
    }
    runtime.host_regions.erase(found);
    return runtime.current().sticky;
  });
}

// Kernels cannot reach host memory here, as cudaDevAttrCanMapHostMemory says.
cudaError_t cudaHostGetDevicePointer(void** /*device_pointer*/, void* /*pointer*/,
                                     unsigned /*flags*/) {
  return runtime_call(kOrdinary, [](Runtime&, Lock&) { return cudaErrorNotSupported; });
}

cudaError_t cudaHostGetFlags(unsigned* flags, void* pointer) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    const auto found = runtime.host_regions.find(reinterpret_cast<std::uintptr_t>(pointer));
    if (flags == nullptr || found == runtime.host_regions.end()) {
      return cudaErrorInvalidValue;
    }
    *flags = found->second.flags;
    return cudaSuccess;
  });
}

cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    const DeviceMemory& memory = runtime.current().memory;
    if (free_bytes != nullptr) {
      *free_bytes = memory.capacity() - memory.used();
    }
    if (total_bytes != nullptr) {
      *total_bytes = memory.capacity();
    }
    return cudaSuccess;
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    if (attributes == nullptr) {
      return cudaErrorInvalidValue;
    }
    *attributes = {};
    const Place place = find_place(runtime, pointer);
    if (place.device != nullptr && !place.freed) {
      attributes->type = cudaMemoryTypeDevice;
      attributes->device = place.device->index;
      attributes->devicePointer = const_cast<void*>(pointer);
    } else {
      attributes->type = place.pinned ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
      attributes->device = place.pinned ? thread_state().device : cudaInvalidDeviceId;
      attributes->hostPointer = const_cast<void*>(pointer);
    }
    return cudaSuccess;
  });
}
}
