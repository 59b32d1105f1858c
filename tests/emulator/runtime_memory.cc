// Allocation of device memory, pinned host memory and memory pools.

#include <cstdlib>
#include <cstring>

#include "tests/emulator/runtime_state.h"

using namespace xception::emulator;  // NOLINT(google-build-using-namespace)

namespace {

constexpr std::size_t kPageBytes = 4096;
// What pinned memory holds before anybody writes it: a NaN in every floating type.
constexpr int kPoison = 0xFF;

cudaError_t allocate(Device& device, std::size_t bytes, std::shared_ptr<Pool> pool,
                     void** pointer) {
  *pointer = nullptr;
  if (bytes == 0) {
    return cudaSuccess;
  }
  const Address address = device.memory.allocate(bytes);
  if (address == 0) {
    return cudaErrorMemoryAllocation;
  }
  if (pool != nullptr) {
    pool->used += bytes;
    pool->used_high = std::max(pool->used_high, pool->used);
  }
  device.allocations[address] = {bytes, std::move(pool)};
  *pointer = reinterpret_cast<void*>(address);
  return cudaSuccess;
}

// The device that has `address` as an allocation's base; null where none has.
Device* device_of_allocation(const Runtime& runtime, Address address) {
  for (const auto& device : runtime.devices) {
    if (device->allocations.count(address) != 0) {
      return device.get();
    }
  }
  return nullptr;
}

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

cudaError_t allocate_async(Runtime& runtime, void** pointer, std::size_t bytes,
                           const std::shared_ptr<Pool>& pool, cudaStream_t handle, Lock& lock) {
  const auto stream = find_stream(runtime, handle);
  if (pointer == nullptr || stream == nullptr || pool == nullptr) {
    return stream == nullptr ? cudaErrorInvalidResourceHandle : cudaErrorInvalidValue;
  }
  if (stream->capture != nullptr) {
    return cudaErrorNotSupported;  // a graph that owns memory
  }
  cudaError_t error = allocate(*pool->device, bytes, pool, pointer);
  if (error == cudaErrorMemoryAllocation) {
    // Memory that is freed on the stream before this call is there for it.
    XC_RETURN_IF_CUDA(synchronize(*stream, lock));
    error = allocate(*pool->device, bytes, pool, pointer);
  }
  return error;
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  return runtime_call(kAllocates, [&](Runtime& runtime, Lock&) {
    if (pointer == nullptr) {
      return cudaErrorInvalidValue;
    }
    XC_RETURN_IF_CUDA(check_unsafe_call(runtime));
    return allocate(runtime.current(), bytes, nullptr, pointer);
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
    return allocate(runtime.current(), *pitch * height, nullptr, pointer);
  });
}

cudaError_t cudaMallocManaged(void** /*pointer*/, std::size_t /*bytes*/, unsigned /*flags*/) {
  return runtime_call(kAllocates, [](Runtime&, Lock&) { return cudaErrorNotSupported; });
}

cudaError_t cudaMallocAsync(void** pointer, std::size_t bytes, cudaStream_t stream) {
  return runtime_call(kAllocates, [&](Runtime& runtime, Lock& lock) {
    return allocate_async(runtime, pointer, bytes,
                          runtime.pools.share(runtime.current().current_pool), stream, lock);
  });
}

cudaError_t cudaMallocFromPoolAsync(void** pointer, std::size_t bytes, cudaMemPool_t pool,
                                    cudaStream_t stream) {
  return runtime_call(kAllocates, [&](Runtime& runtime, Lock& lock) {
    return allocate_async(runtime, pointer, bytes, runtime.pools.share(pool), stream, lock);
  });
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t handle) {
  return runtime_call(kReleases, [&](Runtime& runtime, Lock& lock) {
    const auto stream = find_stream(runtime, handle);
    if (stream == nullptr) {
      return cudaErrorInvalidResourceHandle;
    }
    if (pointer == nullptr) {
      return cudaSuccess;
    }
    const auto address = reinterpret_cast<Address>(pointer);
    Device* device = device_of_allocation(runtime, address);
    if (device == nullptr) {
      return cudaErrorInvalidValue;
    }
    if (stream->capture != nullptr) {
      return cudaErrorNotSupported;
    }
    if (device->sticky != cudaSuccess) {
      // The queue takes nothing more, but the program has let go.
      device->allocations.erase(address);
      device->memory.free(address);
      return device->sticky;
    }
    return submit(runtime, *stream, {device, FreeOperation{address}}, lock);
  });
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

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  return runtime_call(kNoContext, [&](Runtime& runtime, Lock&) {
    if (pool == nullptr || device < 0 || device >= static_cast<int>(runtime.devices.size())) {
      return pool == nullptr ? cudaErrorInvalidValue : cudaErrorInvalidDevice;
    }
    *pool = runtime.devices[static_cast<std::size_t>(device)]->default_pool_handle;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* pool, int device) {
  return runtime_call(kNoContext, [&](Runtime& runtime, Lock&) {
    if (pool == nullptr || device < 0 || device >= static_cast<int>(runtime.devices.size())) {
      return pool == nullptr ? cudaErrorInvalidValue : cudaErrorInvalidDevice;
    }
    *pool = runtime.devices[static_cast<std::size_t>(device)]->current_pool;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceSetMemPool(int device, cudaMemPool_t pool) {
  return runtime_call(kNoContext, [&](Runtime& runtime, Lock&) {
    const Pool* found = runtime.pools.find(pool);
    if (found == nullptr || found->device->index != device) {
      return cudaErrorInvalidValue;
    }
    found->device->current_pool = pool;
    return cudaSuccess;
  });
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  return runtime_call(kAllocates, [&](Runtime& runtime, Lock&) {
    if (pool == nullptr || properties == nullptr ||
        properties->allocType != cudaMemAllocationTypePinned ||
        properties->location.type != cudaMemLocationTypeDevice) {
      return cudaErrorInvalidValue;
    }
    const int device = properties->location.id;
    if (device < 0 || device >= static_cast<int>(runtime.devices.size())) {
      return cudaErrorInvalidDevice;
    }
    auto created = std::make_shared<Pool>();
    created->device = runtime.devices[static_cast<std::size_t>(device)].get();
    *pool = runtime.pools.add(std::move(created));
    return cudaSuccess;
  });
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  return runtime_call(kReleases, [&](Runtime& runtime, Lock&) {
    const Pool* found = runtime.pools.find(pool);
    if (found == nullptr || found->is_default) {
      return cudaErrorInvalidValue;
    }
    if (found->device->current_pool == pool) {
      found->device->current_pool = found->device->default_pool_handle;
    }
    runtime.pools.remove(pool);
    return cudaSuccess;
  });
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, std::size_t /*bytes_to_keep*/) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    // Freed memory is never held back, so there is nothing to give up.
    return runtime.pools.find(pool) != nullptr ? cudaSuccess : cudaErrorInvalidValue;
  });
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    Pool* found = runtime.pools.find(pool);
    if (found == nullptr || value == nullptr) {
      return cudaErrorInvalidValue;
    }
    switch (attribute) {
      case cudaMemPoolReuseFollowEventDependencies:
      case cudaMemPoolReuseAllowOpportunistic:
      case cudaMemPoolReuseAllowInternalDependencies:
        found->reuse[attribute - cudaMemPoolReuseFollowEventDependencies] =
            *static_cast<const int*>(value);
        return cudaSuccess;
      case cudaMemPoolAttrReleaseThreshold:
        found->release_threshold = *static_cast<const std::uint64_t*>(value);
        return cudaSuccess;
      case cudaMemPoolAttrReservedMemHigh:
      case cudaMemPoolAttrUsedMemHigh:
        if (*static_cast<const std::uint64_t*>(value) != 0) {
          return cudaErrorInvalidValue;
        }
        found->used_high = found->used;
        return cudaSuccess;
      default:
        return cudaErrorInvalidValue;
    }
  });
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    const Pool* found = runtime.pools.find(pool);
    if (found == nullptr || value == nullptr) {
      return cudaErrorInvalidValue;
    }
    switch (attribute) {
      case cudaMemPoolReuseFollowEventDependencies:
      case cudaMemPoolReuseAllowOpportunistic:
      case cudaMemPoolReuseAllowInternalDependencies:
        *static_cast<int*>(value) =
            found->reuse[attribute - cudaMemPoolReuseFollowEventDependencies];
        return cudaSuccess;
      case cudaMemPoolAttrReleaseThreshold:
        *static_cast<std::uint64_t*>(value) = found->release_threshold;
        return cudaSuccess;
      case cudaMemPoolAttrReservedMemCurrent:
      case cudaMemPoolAttrUsedMemCurrent:
        *static_cast<std::uint64_t*>(value) = found->used;
        return cudaSuccess;
      case cudaMemPoolAttrReservedMemHigh:
      case cudaMemPoolAttrUsedMemHigh:
        *static_cast<std::uint64_t*>(value) = found->used_high;
        return cudaSuccess;
      default:
        return cudaErrorInvalidValue;
    }
  });
}
}
