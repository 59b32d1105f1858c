#include "tests/emulator/stream.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>

#include "tests/emulator/runtime_state.h"

namespace xception::emulator {
namespace {

// Told when work is done that ran with the lock released.
std::condition_variable& work_done() {
  static auto* condition = new std::condition_variable;
  return *condition;
}

std::size_t draw(Runtime& runtime, std::size_t count) {
  return count <= 1 ? 0 : static_cast<std::size_t>(runtime.random() % count);
}

void execute_kernel(Runtime& runtime, Device& device, const KernelOperation& operation) {
  LoadedKernel loaded;
  if (const cudaError_t error = load_kernel(device, *operation.kernel, &loaded);
      error != cudaSuccess) {
    device.sticky = error;  // loaded when it was launched, so only a device that was reset
    return;
  }
  LaunchRequest request;
  request.program = loaded.module->ptx->program;
  request.kernel = operation.kernel->name;
  request.grid = operation.grid;
  request.block = operation.block;
  request.dynamic_shared_bytes = operation.dynamic_shared_bytes;
  // Older devices start every kernel behind the one before it, and pass the attribute over.
  request.dependent = operation.dependent && device.profile.arch >= 90;
  request.parameters = operation.parameters;
  request.globals = loaded.module->globals;
  request.launch = ++device.launches;
  request.seed = runtime.random();
  // Not with the seed 0: the counters of a kernel that waits are exact then.
  request.waits_end_early = runtime.seed != 0;
  request.threads = runtime.threads;
  request.last_blocks = runtime.last_blocks;
  const LaunchResult result = launch(request, device.profile, device.memory);

  if (runtime.counters_file != nullptr || runtime.keep_counters) {
    std::string line = to_json(operation.kernel->name, result.counters);
    line.resize(line.rfind('}'));
    const auto triple = [](const Dim3& dim) {
      return std::string("[").append(std::to_string(dim.x)) + ", " + std::to_string(dim.y) + ", " +
             std::to_string(dim.z) + "]";
    };
    line += ", \"device\": \"" + device.profile.name + "\", \"grid\": " + triple(operation.grid) +
            ", \"block\": " + triple(operation.block) +
            ", \"registers\": " + std::to_string(loaded.info->registers) +
            ", \"static_shared_bytes\": " + std::to_string(loaded.info->static_shared_bytes) +
            ", \"dynamic_shared_bytes\": " + std::to_string(operation.dynamic_shared_bytes) + "}\n";
    if (runtime.counters_file != nullptr) {
      std::fputs(line.c_str(), runtime.counters_file);
      std::fflush(runtime.counters_file);
    }
    if (runtime.keep_counters) {
      runtime.counters += line;
    }
  }
  if (result.fault.has_value()) {
    runtime.fail(device, *result.fault);
  }
}

// One row of a copy, between whichever memories the addresses are in.
std::optional<Fault> copy_row(const Runtime& runtime, void* dst, const void* src,
                              std::size_t bytes) {
  const Place to = find_place(runtime, dst);
  const Place from = find_place(runtime, src);
  const auto dst_address = reinterpret_cast<Address>(dst);
  const auto src_address = reinterpret_cast<Address>(src);
  if (to.device == nullptr && from.device == nullptr) {
    std::memmove(dst, src, bytes);
    return std::nullopt;
  }
  if (to.device == nullptr) {
    return from.device->memory.copy_out(dst, src_address, bytes);
  }
  if (from.device == nullptr) {
    return to.device->memory.copy_in(dst_address, src, bytes);
  }
  if (to.device == from.device) {
    return to.device->memory.copy(dst_address, src_address, bytes);
  }
  std::vector<std::byte> between(bytes);
  if (auto fault = from.device->memory.copy_out(between.data(), src_address, bytes)) {
    return fault;
  }
  return to.device->memory.copy_in(dst_address, between.data(), bytes);
}

void execute_copy(Runtime& runtime, Device& device, const CopyOperation& copy) {
  const auto* src = static_cast<const std::byte*>(copy.src);
  std::size_t src_pitch = copy.src_pitch;
  if (!copy.staged.empty()) {
    src = copy.staged.data();
    src_pitch = copy.width;
  }
  auto* dst = static_cast<std::byte*>(copy.dst);
  for (std::size_t row = 0; row < copy.height; ++row) {
    if (auto fault =
            copy_row(runtime, dst + row * copy.dst_pitch, src + row * src_pitch, copy.width)) {
      fault->message = "copy: " + fault->message;
      runtime.fail(device, *fault);
      return;
    }
  }
}

void execute_fill(Runtime& runtime, Device& device, const FillOperation& fill) {
  for (std::size_t row = 0; row < fill.height; ++row) {
    const Address address = fill.dst + row * fill.pitch;
    const Place place = find_place(runtime, reinterpret_cast<const void*>(address));
    if (place.device == nullptr) {
      std::memset(reinterpret_cast<void*>(address), fill.value, fill.width);
    } else if (auto fault = place.device->memory.fill(address, fill.value, fill.width)) {
      fault->message = "memset: " + fault->message;
      runtime.fail(device, *fault);
      return;
    }
  }
}

void execute_free(Runtime& runtime, Device& device, Address address) {
  const auto found = device.allocations.find(address);
  if (found != device.allocations.end()) {
    if (found->second.pool != nullptr) {
      found->second.pool->used -= found->second.bytes;
    }
    device.allocations.erase(found);
  }
  if (auto fault = device.memory.free(address)) {
    fault->message = "cudaFreeAsync: " + fault->message;
    runtime.fail(device, *fault);
  }
}

void execute(Runtime& runtime, const Operation& operation, Lock& lock);

// The steps of a graph in an order that the seed draws among those that its edges allow.
void execute_graph(Runtime& runtime, const GraphPlan& plan, Lock& lock) {
  std::vector<std::size_t> missing(plan.steps.size());
  std::vector<std::vector<std::size_t>> followers(plan.steps.size());
  std::vector<std::size_t> ready;
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    missing[i] = plan.steps[i].waits.size();
    for (const std::size_t before : plan.steps[i].waits) {
      followers[before].push_back(i);
    }
    if (missing[i] == 0) {
      ready.push_back(i);
    }
  }
  while (!ready.empty()) {
    const std::size_t at = draw(runtime, ready.size());
    const std::size_t step = ready[at];
    ready[at] = ready.back();
    ready.pop_back();
    execute(runtime, plan.steps[step].operation, lock);
    for (const std::size_t after : followers[step]) {
      if (--missing[after] == 0) {
        ready.push_back(after);
      }
    }
  }
}

void execute_host(const HostOperation& host, Lock& lock) {
  // The function may take a mutex whose owner waits for ours.
  lock.unlock();
  thread_state().in_host_function = true;
  host.function(host.data);
  thread_state().in_host_function = false;
  lock.lock();
}

void execute(Runtime& runtime, const Operation& operation, Lock& lock) {
  Device& device = *operation.device;
  if (device.sticky != cudaSuccess) {
    return;
  }
  if (const auto* kernel = std::get_if<KernelOperation>(&operation.what)) {
    execute_kernel(runtime, device, *kernel);
  } else if (const auto* copy = std::get_if<CopyOperation>(&operation.what)) {
    execute_copy(runtime, device, *copy);
  } else if (const auto* fill = std::get_if<FillOperation>(&operation.what)) {
    execute_fill(runtime, device, *fill);
  } else if (const auto* host = std::get_if<HostOperation>(&operation.what)) {
    execute_host(*host, lock);
  } else if (const auto* release = std::get_if<FreeOperation>(&operation.what)) {
    execute_free(runtime, device, release->address);
  } else if (const auto* graph = std::get_if<GraphOperation>(&operation.what)) {
    execute_graph(runtime, *graph->plan, lock);
  }
}

void mark_done(Work& work) {
  work.done = true;
  work.running = false;
  work.finished = std::chrono::steady_clock::now();
  work.operation = {};
  work.waits.clear();
}

// Runs the first operation of `stream`, which is ready. The stream may be gone afterwards.
void run_first(Runtime& runtime, Stream& stream, Lock& lock) {
  const std::shared_ptr<Work> work = stream.queue.front();
  Device& device = *stream.device;
  work->running = true;
  // Its own copy: a reset by another thread, while a host function runs, empties the work.
  const Operation operation = std::move(work->operation);
  execute(runtime, operation, lock);
  if (work->done) {
    return;  // dropped meanwhile, by a reset of the device
  }
  mark_done(*work);
  stream.queue.pop_front();
  if (device.sticky != cudaSuccess) {
    discard_work(device);
  }
  std::erase_if(device.streams, [](const std::shared_ptr<Stream>& candidate) {
    return candidate->destroyed && candidate->queue.empty();
  });
  work_done().notify_all();
}

bool is_ready(const Work& work) {
  return !work.running && std::all_of(work.waits.begin(), work.waits.end(),
                                      [](const auto& before) { return before->done; });
}

std::vector<Stream*> ready_streams(const Runtime& runtime, bool wanted_only) {
  std::vector<Stream*> ready;
  for (const auto& device : runtime.devices) {
    for (const auto& stream : device->streams) {
      if (!stream->queue.empty() && is_ready(*stream->queue.front()) &&
          (stream->queue.front()->wanted || !wanted_only)) {
        ready.push_back(stream.get());
      }
    }
  }
  return ready;
}

// Marks the work and everything that comes before it.
void want(const std::shared_ptr<Work>& target) {
  std::vector<Work*> open = {target.get()};
  while (!open.empty()) {
    Work* last = open.back();
    open.pop_back();
    if (last->done || last->wanted) {
      continue;
    }
    for (const auto& work : last->stream->queue) {
      if (!work->wanted) {
        work->wanted = true;
        for (const auto& before : work->waits) {
          open.push_back(before.get());
        }
      }
      if (work.get() == last) {
        break;
      }
    }
  }
}

}  // namespace

std::shared_ptr<Work> enqueue(Stream& stream, Operation operation,
                              std::vector<std::shared_ptr<Work>> waits) {
  auto work = std::make_shared<Work>();
  work->operation = std::move(operation);
  work->stream = &stream;
  work->waits = std::move(waits);
  if (stream.kind == Stream::Kind::kLegacy) {
    for (const auto& other : stream.device->streams) {
      if (other->blocking() && other.get() != &stream && !other->queue.empty()) {
        work->waits.push_back(other->queue.back());
      }
    }
  } else if (stream.blocking() && !stream.device->legacy->queue.empty()) {
    work->waits.push_back(stream.device->legacy->queue.back());
  }
  std::erase_if(work->waits, [](const auto& before) { return before->done; });
  stream.queue.push_back(work);
  stream.last = work;
  return work;
}

void finish(std::span<const std::shared_ptr<Work>> targets, Lock& lock) {
  Runtime& runtime = Runtime::get();
  for (const auto& target : targets) {
    want(target);
  }
  const auto all_done = [&] {
    return std::all_of(targets.begin(), targets.end(),
                       [](const auto& target) { return target->done; });
  };
  while (!all_done()) {
    const auto ready = ready_streams(runtime, true);
    if (ready.empty()) {
      work_done().wait(lock);  // another thread is in a host function
    } else {
      run_first(runtime, *ready[draw(runtime, ready.size())], lock);
    }
  }
}

void finish_stream(const Stream& stream, Lock& lock) {
  if (!stream.queue.empty()) {
    const std::shared_ptr<Work> target = stream.queue.back();
    finish({&target, 1}, lock);
  }
}

void finish_device(Device& device, Lock& lock) {
  std::vector<std::shared_ptr<Work>> targets;
  for (const auto& stream : device.streams) {
    if (!stream->queue.empty()) {
      targets.push_back(stream->queue.back());
    }
  }
  finish(targets, lock);
}

void advance(const std::shared_ptr<Work>& target, Lock& lock) {
  Runtime& runtime = Runtime::get();
  want(target);
  const auto ready = ready_streams(runtime, true);
  if (!target->done && !ready.empty()) {
    run_first(runtime, *ready[draw(runtime, ready.size())], lock);
  }
}

void run_ahead(Lock& lock) {
  Runtime& runtime = Runtime::get();
  constexpr std::uint64_t kLazy = 0;
  constexpr std::uint64_t kSometimes = 1;
  const std::uint64_t manner = runtime.seed % 3;
  // One in four now and then; else seven in eight, so that a queue does build up.
  while (manner != kLazy &&
         (manner == kSometimes ? draw(runtime, 4) == 0 : draw(runtime, 8) != 0)) {
    const auto ready = ready_streams(runtime, false);
    if (ready.empty()) {
      return;
    }
    run_first(runtime, *ready[draw(runtime, ready.size())], lock);
  }
}

void discard_work(Device& device) {
  for (const auto& stream : device.streams) {
    for (const auto& work : stream->queue) {
      mark_done(*work);
    }
    stream->queue.clear();
  }
  work_done().notify_all();
}

}  // namespace xception::emulator
