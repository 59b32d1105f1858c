#include "tests/emulator/runtime_state.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

namespace xception::emulator {
namespace {

Runtime* instance = nullptr;  // for the report at exit: a process that made no call has none

constexpr int kLeakExitStatus = 99;

// The number that an environment variable holds; nothing where it is unset. What is no number is
// said and taken for unset.
std::optional<std::uint64_t> number_from_environment(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) {
    return std::nullopt;
  }
  std::uint64_t value = 0;
  const char* end = text + std::strlen(text);
  const auto [stopped, error] = std::from_chars(text, end, value);
  if (error != std::errc() || stopped != end) {
    std::fprintf(stderr, "xception emulator: %s=%s is no number\n", name, text);
    return std::nullopt;
  }
  return value;
}

cudaError_t error_of(const Fault& fault) {
  switch (fault.kind) {
    case FaultKind::kOutOfBounds:
    case FaultKind::kUseAfterFree:
      return cudaErrorIllegalAddress;
    case FaultKind::kMisaligned:
      return cudaErrorMisalignedAddress;
    case FaultKind::kUnsupported:
      return cudaErrorIllegalInstruction;
    case FaultKind::kDeadlock:
      return cudaErrorLaunchTimeout;
    case FaultKind::kTrap:
      return fault.message.find("assertion `") != std::string::npos ? cudaErrorAssert
                                                                    : cudaErrorLaunchFailure;
    case FaultKind::kLaunch:
      return cudaErrorLaunchOutOfResources;
    default:
      // What a GPU does not see.
      return cudaErrorLaunchFailure;
  }
}

// "2 streams, "; nothing for none.
std::string counted(std::uint64_t count, const char* what) {
  return count == 0 ? "" : std::to_string(count) + " " + what + (count == 1 ? "" : "s") + ", ";
}

__attribute__((destructor)) void report_leaks() {
  const char* choice = std::getenv("XC_EMULATOR_LEAKS");
  const std::string_view leaks = choice != nullptr ? choice : "report";
  if (instance == nullptr || leaks == "ignore") {
    return;
  }
  const XcEmulatorLive live = instance->live();
  std::string list = counted(live.device_allocations, "device allocation");
  if (!list.empty()) {
    list.insert(list.size() - 2, " (" + std::to_string(live.device_bytes) + " bytes)");
  }
  list += counted(live.host_allocations, "pinned region") + counted(live.streams, "stream") +
          counted(live.events, "event") + counted(live.graphs, "graph") +
          counted(live.graph_execs, "instantiated graph");
  if (list.empty()) {
    return;
  }
  list.resize(list.size() - 2);
  std::fprintf(stderr, "xception emulator: left at exit: %s\n", list.c_str());
  if (leaks == "error") {
    std::fflush(nullptr);
    _exit(kLeakExitStatus);
  }
}

// Every capture that a call of this thread may not disturb.
template <class Predicate>
bool invalidate_captures(Runtime& runtime, Predicate&& predicate) {
  bool any = false;
  for (const auto& capture : runtime.captures) {
    if (predicate(*capture)) {
      capture->invalidated = true;
      any = true;
    }
  }
  return any;
}

}  // namespace

ThreadState& thread_state() {
  thread_local ThreadState state;
  return state;
}

Runtime& Runtime::get() {
  static Runtime* runtime = [] {
    instance = new Runtime;
    return instance;
  }();
  return *runtime;
}

Runtime::Runtime() {
  set_seed(number_from_environment("XC_EMULATOR_SEED").value_or(0));
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  threads = static_cast<int>(std::clamp<std::uint64_t>(
      number_from_environment("XC_EMULATOR_THREADS").value_or(cores), 1, 1024));
  fail_call_in = number_from_environment("XC_EMULATOR_FAIL_CALL").value_or(0);
  fail_allocation_in = number_from_environment("XC_EMULATOR_FAIL_ALLOC").value_or(0);
  if (const char* path = std::getenv("XC_EMULATOR_COUNTERS"); path != nullptr) {
    counters_file = std::fopen(path, "a");
    if (counters_file == nullptr) {
      report("XC_EMULATOR_COUNTERS=" + std::string(path) + " cannot be written");
    }
  }
  choose_devices();
}

void Runtime::choose_devices() {
  const char* text = std::getenv("XC_EMULATOR_DEVICE");
  std::string_view list = text != nullptr ? text : "sm_80";
  if (list == "none") {
    startup_error = cudaErrorNoDevice;
    return;
  }
  if (list == "no-driver") {
    startup_error = cudaErrorInsufficientDriver;
    return;
  }
  const auto limit = number_from_environment("XC_EMULATOR_MEMORY");
  while (true) {
    const std::string_view name = list.substr(0, list.find(','));
    const auto profile = find_profile(name);
    if (!profile.has_value()) {
      std::string known;
      for (const std::string& each : profile_names()) {
        known += " " + each;
      }
      report("XC_EMULATOR_DEVICE names '" + std::string(name) + "'; there are" + known +
             ", none and no-driver");
      devices.clear();
      startup_error = cudaErrorInitializationError;
      return;
    }
    auto device = std::make_unique<Device>(static_cast<int>(devices.size()), *profile,
                                           limit.value_or(profile->global_bytes));
    reset_device(*this, *device);
    devices.push_back(std::move(device));
    if (name.size() == list.size()) {
      return;
    }
    list.remove_prefix(name.size() + 1);
  }
}

void Runtime::set_seed(std::uint64_t value) {
  seed = value;
  random = SplitMix64(value);
}

void Runtime::report(const std::string& message) {
  std::fprintf(stderr, "xception emulator: %s\n", message.c_str());
}

void Runtime::fail(Device& device, const Fault& fault) {
  faults.push_back(std::string(fault_name(fault.kind)) + ": " + fault.message);
  report(faults.back());
  fault_since_reset = true;
  device.sticky = error_of(fault);
}

XcEmulatorLive Runtime::live() const {
  XcEmulatorLive live{};
  for (const auto& device : devices) {
    live.device_allocations += device->allocations.size();
    for (const auto& [address, allocation] : device->allocations) {
      live.device_bytes += allocation.bytes;
    }
  }
  live.host_allocations = host_regions.size();
  live.streams = streams.size();
  live.events = events.size();
  live.graphs = graphs.size();
  live.graph_execs = graph_execs.size();
  return live;
}

cudaError_t count_call(Runtime& runtime, const CallTraits& traits) {
  if (!traits.counted) {
    return cudaSuccess;
  }
  ++runtime.calls;
  bool fails = runtime.fail_call_in != 0 && --runtime.fail_call_in == 0;
  if (traits.allocates) {
    ++runtime.allocations;
    fails |= runtime.fail_allocation_in != 0 && --runtime.fail_allocation_in == 0;
  }
  if (!fails) {
    return cudaSuccess;
  }
  return traits.allocates ? cudaErrorMemoryAllocation : cudaErrorUnknown;
}

Place find_place(const Runtime& runtime, const void* pointer) {
  const auto address = reinterpret_cast<Address>(pointer);
  for (const auto& device : runtime.devices) {
    if (device->memory.contains(address)) {
      const auto range = device->memory.find(address);
      return {device.get(), false, !range.has_value(),
              range.has_value() ? range->base + range->bytes - address : 0};
    }
  }
  auto after = runtime.host_regions.upper_bound(address);
  if (after != runtime.host_regions.begin()) {
    --after;
    if (address - after->first < after->second.bytes) {
      return {nullptr, true, false, after->first + after->second.bytes - address};
    }
  }
  return {};
}

cudaError_t allocate_memory(Device& device, std::size_t bytes, std::shared_ptr<Pool> pool,
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

Device* device_of_allocation(const Runtime& runtime, Address address) {
  for (const auto& device : runtime.devices) {
    if (device->allocations.count(address) != 0) {
      return device.get();
    }
  }
  return nullptr;
}

std::shared_ptr<Stream> find_stream(Runtime& runtime, cudaStream_t handle) {
  Device& device = runtime.current();
  if (handle == nullptr || handle == cudaStreamLegacy) {
    return device.legacy;
  }
  if (handle == cudaStreamPerThread) {
    auto& stream = device.per_thread[std::this_thread::get_id()];
    if (stream == nullptr) {
      stream = std::make_shared<Stream>();
      stream->kind = Stream::Kind::kPerThread;
      stream->device = &device;
      stream->id = runtime.next_id++;
      device.streams.push_back(stream);
    }
    return stream;
  }
  return runtime.streams.share(handle);
}

cudaError_t submit(Runtime& runtime, Stream& stream, Operation operation, Lock& lock) {
  if (stream.capture != nullptr) {
    return add_captured(stream, std::move(operation));
  }
  XC_RETURN_IF_CUDA(check_legacy_use(runtime, stream));
  enqueue(stream, std::move(operation));
  run_ahead(lock);
  return cudaSuccess;
}

cudaError_t check_unsafe_call(Runtime& runtime) {
  const ThreadState& thread = thread_state();
  if (thread.capture_mode == cudaStreamCaptureModeRelaxed) {
    return cudaSuccess;
  }
  const bool global = thread.capture_mode == cudaStreamCaptureModeGlobal;
  const auto here = std::this_thread::get_id();
  const bool forbidden = invalidate_captures(runtime, [&](const Capture& capture) {
    return capture.thread == here ? capture.mode != cudaStreamCaptureModeRelaxed
                                  : global && capture.mode == cudaStreamCaptureModeGlobal;
  });
  return forbidden ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

cudaError_t check_legacy_use(Runtime& runtime, const Stream& stream) {
  if (stream.kind != Stream::Kind::kLegacy) {
    return cudaSuccess;
  }
  const bool forbidden = invalidate_captures(runtime, [&](const Capture& capture) {
    return std::any_of(capture.streams.begin(), capture.streams.end(), [&](const Stream* other) {
      return other->blocking() && other->device == stream.device;
    });
  });
  return forbidden ? cudaErrorStreamCaptureImplicit : cudaSuccess;
}

cudaError_t check_not_captured(Runtime& runtime, const Stream& stream) {
  if (stream.capture != nullptr) {
    stream.capture->invalidated = true;
    return cudaErrorStreamCaptureUnsupported;
  }
  XC_RETURN_IF_CUDA(check_legacy_use(runtime, stream));
  return check_unsafe_call(runtime);
}

cudaError_t synchronize(Stream& stream, Lock& lock) {
  Device& device = *stream.device;
  if (stream.kind == Stream::Kind::kLegacy) {
    // The legacy stream has finished when those that it waits for have.
    std::vector<std::shared_ptr<Work>> targets;
    for (const auto& other : device.streams) {
      if (other->blocking() && !other->queue.empty()) {
        targets.push_back(other->queue.back());
      }
    }
    finish(targets, lock);
  } else {
    finish_stream(stream, lock);
  }
  return device.sticky;
}

cudaError_t synchronize(Device& device, Lock& lock) {
  finish_device(device, lock);
  return device.sticky;
}

void reset_device(Runtime& runtime, Device& device) {
  discard_work(device);
  for (const auto& stream : device.streams) {
    if (stream->capture != nullptr) {
      const std::shared_ptr<Capture> capture = stream->capture;
      std::erase(runtime.captures, capture);
      leave_capture(*capture);
    }
  }
  for (const auto& [address, allocation] : device.allocations) {
    device.memory.free(address);
  }
  for (const auto& [module, loaded] : device.modules) {
    for (const GlobalAddress& global : loaded.globals) {
      device.memory.free(global.address);
    }
  }
  device.allocations.clear();
  device.modules.clear();
  device.settings.clear();
  device.limits.clear();
  device.per_thread.clear();
  runtime.streams.remove_if([&](const Stream& stream) { return stream.device == &device; });
  runtime.events.remove_if([&](const Event& event) { return event.device == &device; });
  runtime.pools.remove_if([&](const Pool& pool) { return pool.device == &device; });
  device.streams.clear();
  device.legacy = std::make_shared<Stream>();
  device.legacy->kind = Stream::Kind::kLegacy;
  device.legacy->device = &device;
  device.legacy->id = runtime.next_id++;
  device.streams.push_back(device.legacy);
  device.default_pool = std::make_shared<Pool>();
  device.default_pool->device = &device;
  device.default_pool->is_default = true;
  device.default_pool_handle = runtime.pools.add(device.default_pool);
  device.current_pool = device.default_pool_handle;
  device.flags = cudaDeviceScheduleAuto;
  device.sticky = cudaSuccess;
}

}  // namespace xception::emulator
