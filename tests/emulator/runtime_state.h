// State of the emulated CUDA runtime: one of it a process, behind one mutex.
//
// It is made by the first call and never destroyed, since the program's own destructors may still
// call when the library's would have run.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "tests/emulator/control.h"
#include "tests/emulator/device_profile.h"
#include "tests/emulator/graph.h"
#include "tests/emulator/memory.h"
#include "tests/emulator/runtime_module.h"
#include "tests/emulator/stream.h"
#include "tests/split_mix.h"

namespace xception::emulator {

// Objects by the handle that the program holds. A handle is no address, and none is given out
// twice: what has been destroyed stays unknown.
template <class T, class Handle>
class HandleTable {
 public:
  Handle add(std::shared_ptr<T> object) {
    static_assert(std::is_pointer_v<Handle>);
    next_ += 16;
    const auto handle = reinterpret_cast<Handle>(next_);
    objects_.emplace(next_, std::move(object));
    return handle;
  }
  T* find(Handle handle) const {
    const auto found = objects_.find(reinterpret_cast<std::uintptr_t>(handle));
    return found == objects_.end() ? nullptr : found->second.get();
  }
  std::shared_ptr<T> share(Handle handle) const {
    const auto found = objects_.find(reinterpret_cast<std::uintptr_t>(handle));
    return found == objects_.end() ? nullptr : found->second;
  }
  void remove(Handle handle) { objects_.erase(reinterpret_cast<std::uintptr_t>(handle)); }
  template <class Predicate>
  void remove_if(Predicate&& predicate) {
    std::erase_if(objects_, [&](const auto& entry) { return predicate(*entry.second); });
  }
  std::size_t size() const { return objects_.size(); }
  void clear() { objects_.clear(); }

 private:
  // In a hole of the address space of x86-64 and AArch64, so that reading through a handle faults.
  std::uintptr_t next_ = std::uintptr_t{0xE0} << 56;
  std::unordered_map<std::uintptr_t, std::shared_ptr<T>> objects_;
};

struct Pool {
  Device* device = nullptr;
  bool is_default = false;
  std::uint64_t release_threshold = 0;
  int reuse[3] = {1, 1, 1};
  std::uint64_t used = 0;
  std::uint64_t used_high = 0;
};

// An allocation of the program, as against what a module's variables take.
struct Allocation {
  std::size_t bytes = 0;
  std::shared_ptr<Pool> pool;  // of cudaMallocAsync; else null
};

struct KernelSettings {
  std::size_t dynamic_shared_limit = 0;  // 0: what is allowed without opt-in
  int carveout = -1;
};

struct Device {
  Device(int device_index, const DeviceProfile& device_profile, std::size_t memory_bytes)
      : index(device_index), profile(device_profile), memory(memory_bytes) {}

  int index;
  DeviceProfile profile;
  DeviceMemory memory;
  cudaError_t sticky = cudaSuccess;  // a kernel's fault, until cudaDeviceReset
  std::uint32_t launches = 0;
  std::vector<std::shared_ptr<Stream>> streams;  // all, with destroyed ones that still have work
  std::shared_ptr<Stream> legacy;
  std::map<std::thread::id, std::shared_ptr<Stream>> per_thread;
  std::map<Address, Allocation> allocations;
  std::map<const Module*, LoadedModule> modules;
  std::map<const Kernel*, KernelSettings> settings;
  std::map<cudaLimit, std::size_t> limits;
  unsigned flags = cudaDeviceScheduleAuto;
  std::shared_ptr<Pool> default_pool;
  cudaMemPool_t default_pool_handle = nullptr;
  cudaMemPool_t current_pool = nullptr;
};

// Pinned host memory.
struct HostRegion {
  std::size_t bytes = 0;
  unsigned flags = 0;
  bool registered = false;  // the program's own memory
  int device = 0;
};

struct CallConfiguration {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;
  cudaStream_t stream = nullptr;
};

struct ThreadState {
  int device = 0;
  cudaError_t last_error = cudaSuccess;
  cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
  std::vector<CallConfiguration> configurations;  // <<< >>> that have not launched yet
  bool in_host_function = false;
};

ThreadState& thread_state();

class Runtime {
 public:
  static Runtime& get();

  std::mutex mutex;

  // Where there is no device to use: returned by every call that needs one.
  cudaError_t startup_error = cudaSuccess;
  std::vector<std::unique_ptr<Device>> devices;
  Registry registry;
  std::map<std::uintptr_t, HostRegion> host_regions;
  HandleTable<Stream, cudaStream_t> streams;
  HandleTable<Event, cudaEvent_t> events;
  HandleTable<Graph, cudaGraph_t> graphs;
  HandleTable<GraphExec, cudaGraphExec_t> graph_execs;
  HandleTable<Pool, cudaMemPool_t> pools;
  std::unordered_map<cudaGraphNode_t, Node*> nodes;
  std::vector<std::shared_ptr<Capture>> captures;
  std::uint64_t next_id = 1;  // of captures, streams and nodes

  std::uint64_t seed = 0;
  SplitMix64 random;
  int threads = 1;
  std::uint64_t last_blocks = 0;  // LaunchRequest's

  // Failure injection: the calls left until the one that fails; 0 for none.
  std::uint64_t calls = 0;
  std::uint64_t allocations = 0;
  std::uint64_t fail_call_in = 0;
  std::uint64_t fail_allocation_in = 0;

  std::deque<std::string> faults;  // all of them: tests hold pointers to their text
  bool fault_since_reset = false;
  std::FILE* counters_file = nullptr;
  bool keep_counters = false;
  std::string counters;

  Device& current() { return *devices[static_cast<std::size_t>(thread_state().device)]; }

  // Reports a fault, and makes it the device's error until it is reset.
  void fail(Device& device, const Fault& fault);
  // Reports without consequences for the device.
  void report(const std::string& message);

  void set_seed(std::uint64_t value);
  XcEmulatorLive live() const;

 private:
  Runtime();
  void choose_devices();
};

// What a runtime call does, as far as every call is treated alike.
struct CallTraits {
  bool counted = true;        // takes part in failure injection
  bool allocates = false;     // cudaErrorMemoryAllocation when it is made to fail
  bool releases = false;      // does its work even where it reports an error
  bool needs_context = true;  // returns the current device's sticky error
};
inline constexpr CallTraits kOrdinary{};
inline constexpr CallTraits kAllocates{.allocates = true};
inline constexpr CallTraits kReleases{.releases = true};
inline constexpr CallTraits kNoContext{.needs_context = false};
inline constexpr CallTraits kUncounted{.counted = false, .needs_context = false};

// Counts the call; the result is not cudaSuccess where it has been chosen to fail.
cudaError_t count_call(Runtime& runtime, const CallTraits& traits);

// Runs the body of a runtime call, body(runtime, lock) -> cudaError_t, under the mutex, and keeps
// its error as the thread's last.
template <class Body>
cudaError_t runtime_call(const CallTraits& traits, Body&& body) noexcept {
  ThreadState& thread = thread_state();
  cudaError_t result = cudaSuccess;
  if (thread.in_host_function) {
    result = cudaErrorNotPermitted;  // CUDA's rule for cudaLaunchHostFunc
  } else {
    try {
      Runtime& runtime = Runtime::get();
      Lock lock(runtime.mutex);
      const cudaError_t injected = count_call(runtime, traits);
      if (runtime.startup_error != cudaSuccess) {
        result = runtime.startup_error;
      } else if (injected != cudaSuccess && !traits.releases) {
        result = injected;
      } else {
        const cudaError_t sticky = traits.needs_context ? runtime.current().sticky : cudaSuccess;
        if (sticky != cudaSuccess && !traits.releases) {
          result = sticky;
        } else {
          result = body(runtime, lock);
          result = result != cudaSuccess ? result : sticky != cudaSuccess ? sticky : injected;
        }
      }
    } catch (const std::bad_alloc&) {
      result = cudaErrorMemoryAllocation;
    }
  }
  if (result != cudaSuccess) {
    thread.last_error = result;
  }
  return result;
}

// Allocates for the program; `pool` may be null. Null and no error for no bytes.
cudaError_t allocate_memory(Device& device, std::size_t bytes, std::shared_ptr<Pool> pool,
                            void** pointer);

// The device that has `address` as an allocation's base; null where none has.
Device* device_of_allocation(const Runtime& runtime, Address address);

// Where a pointer of the program points.
struct Place {
  Device* device = nullptr;  // null: host memory
  bool pinned = false;
  bool freed = false;     // in a device's memory, but in no allocation
  std::size_t bytes = 0;  // from the pointer to the end of the allocation or pinned region
};
Place find_place(const Runtime& runtime, const void* pointer);

// The stream that a handle names, on the current device where it is a default stream; null where
// it names none.
std::shared_ptr<Stream> find_stream(Runtime& runtime, cudaStream_t handle);

// Calls body(runtime, stream, lock) for the stream that the handle names.
template <class Body>
cudaError_t stream_call(const CallTraits& traits, cudaStream_t handle, Body&& body) {
  return runtime_call(traits, [&](Runtime& runtime, Lock& lock) {
    const auto stream = find_stream(runtime, handle);
    return stream == nullptr ? cudaErrorInvalidResourceHandle : body(runtime, *stream, lock);
  });
}

// Queues an operation on the stream, or adds it to the graph that the stream is captured into.
cudaError_t submit(Runtime& runtime, Stream& stream, Operation operation, Lock& lock);

// The error of a call that CUDA calls potentially unsafe while a stream is captured; the capture is
// invalidated then.
cudaError_t check_unsafe_call(Runtime& runtime);
// The error of using the legacy stream while a stream that waits for it is captured.
cudaError_t check_legacy_use(Runtime& runtime, const Stream& stream);
// The error of waiting for, or asking after, a stream that is captured.
cudaError_t check_not_captured(Runtime& runtime, const Stream& stream);

// Waits, and returns what has become of the device.
cudaError_t synchronize(Stream& stream, Lock& lock);
cudaError_t synchronize(Device& device, Lock& lock);

// Empties a device: memory, streams, events, settings, its error.
void reset_device(Runtime& runtime, Device& device);

}  // namespace xception::emulator

#define XC_RETURN_IF_CUDA(expr)                                         \
  do {                                                                  \
    if (const cudaError_t xc_error = (expr); xc_error != cudaSuccess) { \
      return xc_error;                                                  \
    }                                                                   \
  } while (false)
