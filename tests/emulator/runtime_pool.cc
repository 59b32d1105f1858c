// Memory that is allocated and freed in stream order, and its pools.

#include "tests/emulator/runtime_state.h"

using namespace xception::emulator;  // NOLINT(google-build-using-namespace)

namespace {

cudaError_t allocate_async(Runtime& runtime, void** pointer, std::size_t bytes,
                           const std::shared_ptr<Pool>& pool, cudaStream_t handle, Lock& lock) {
  const auto stream = find_stream(runtime, handle);
  if (pointer == nullptr || stream == nullptr || pool == nullptr) {
    return stream == nullptr ? cudaErrorInvalidResourceHandle : cudaErrorInvalidValue;
  }
  if (stream->capture != nullptr) {
    return cudaErrorNotSupported;  // a graph that owns memory
  }
  cudaError_t error = allocate_memory(*pool->device, bytes, pool, pointer);
  if (error == cudaErrorMemoryAllocation) {
    // Memory that is freed on the stream before this call is there for it.
    XC_RETURN_IF_CUDA(synchronize(*stream, lock));
    error = allocate_memory(*pool->device, bytes, pool, pointer);
  }
  return error;
}

}  // namespace

extern "C" {

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
