// Work that is queued on streams, and who runs it when.
//
// Nothing runs on its own: an operation is queued, and is executed by the host thread that waits
// for it (or, with some seeds, a little before). Whatever a stream, an event or the legacy default
// stream orders is kept; everything else is run in an order that the seed draws. So a result that
// is read before it was waited for, or a dependency that was forgotten, shows.
//
// All of this is called with the runtime's mutex held.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <variant>
#include <vector>

#include "tests/emulator/launch.h"

namespace xception::emulator {

struct Capture;
struct Device;
struct GraphPlan;
struct Kernel;
struct Node;

using Lock = std::unique_lock<std::mutex>;

struct KernelOperation {
  const Kernel* kernel = nullptr;
  Dim3 grid;
  Dim3 block;
  std::size_t dynamic_shared_bytes = 0;
  bool dependent = false;  // has the attribute of a programmatic dependent launch
  std::vector<std::byte> parameters;
};

// Rows of `width` bytes between host and device memory, whichever the addresses are in when it
// runs.
struct CopyOperation {
  void* dst = nullptr;
  std::size_t dst_pitch = 0;
  const void* src = nullptr;  // not looked at where `staged` has the rows
  std::size_t src_pitch = 0;
  std::size_t width = 0;
  std::size_t height = 1;
  std::vector<std::byte> staged;
};

struct FillOperation {
  Address dst = 0;
  std::size_t pitch = 0;
  int value = 0;
  std::size_t width = 0;
  std::size_t height = 1;
};

struct HostOperation {
  cudaHostFn_t function = nullptr;
  void* data = nullptr;
};

struct FreeOperation {
  Address address = 0;
};

struct EmptyOperation {};  // an event, a join of streams

struct GraphOperation {
  std::shared_ptr<const GraphPlan> plan;
};

struct Operation {
  Device* device = nullptr;  // whose error a fault is
  std::variant<EmptyOperation, KernelOperation, CopyOperation, FillOperation, HostOperation,
               FreeOperation, GraphOperation>
      what;
};

struct Stream;

// One queued operation.
struct Work {
  Operation operation;
  Stream* stream = nullptr;
  std::vector<std::shared_ptr<Work>> waits;  // of other streams; emptied when done
  bool wanted = false;                       // somebody waits for it
  bool running = false;
  bool done = false;
  std::chrono::steady_clock::time_point finished;
};

struct Stream {
  enum class Kind { kLegacy, kPerThread, kCreated };

  Kind kind = Kind::kCreated;
  Device* device = nullptr;
  unsigned flags = cudaStreamDefault;
  int priority = 0;
  std::uint64_t id = 0;
  std::deque<std::shared_ptr<Work>> queue;  // not done, in order
  std::shared_ptr<Work> last;               // queued last, maybe done; null where nothing was
  bool destroyed = false;                   // by the program; stays until its queue is empty

  // While the stream is captured: what its next node depends on.
  std::shared_ptr<Capture> capture;
  std::vector<Node*> capture_nodes;

  // Whether it waits for the legacy default stream and is waited for by it.
  bool blocking() const { return (flags & cudaStreamNonBlocking) == 0; }
};

struct Event {
  Device* device = nullptr;
  unsigned flags = cudaEventDefault;
  std::shared_ptr<Work> recorded;  // null where it never was
  // Recorded in a captured stream: stands for these nodes.
  std::shared_ptr<Capture> capture;
  std::vector<Node*> capture_nodes;
};

// Queues an operation behind everything that `stream` must wait for, and behind `waits`.
std::shared_ptr<Work> enqueue(Stream& stream, Operation operation,
                              std::vector<std::shared_ptr<Work>> waits = {});

// Runs what is needed until all of `targets` is done. Host functions run with the lock released.
void finish(std::span<const std::shared_ptr<Work>> targets, Lock& lock);
void finish_stream(const Stream& stream, Lock& lock);
void finish_device(Device& device, Lock& lock);

// Runs one operation that `target` needs, where it is not done.
void advance(const std::shared_ptr<Work>& target, Lock& lock);

// Runs queued work that nobody has asked for yet, as much as the seed says.
void run_ahead(Lock& lock);

// Drops everything that is queued on the device: after a fault, and for cudaDeviceReset.
void discard_work(Device& device);

}  // namespace xception::emulator
