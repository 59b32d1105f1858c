// A thread block while it runs, and what the blocks of a launch share.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "tests/emulator/counters.h"
#include "tests/emulator/launch.h"
#include "tests/emulator/shared_memory.h"
#include "tests/emulator/warp.h"
#include "tests/emulator/wgmma_warp.h"

namespace xception::emulator {

// Read by all host threads of a launch.
struct LaunchContext {
  const LaunchRequest* request = nullptr;
  const DeviceProfile* profile = nullptr;
  DeviceMemory* memory = nullptr;
  const Program* program = nullptr;
  const Function* kernel = nullptr;
  std::size_t parameters_total = 0;
  std::size_t static_shared_bytes = 0;
  std::size_t shared_bytes = 0;  // static and dynamic
  bool partial_barriers = false;
  std::uint64_t most_instructions = 0;            // of a warp: more are taken for an endless loop
  std::vector<std::vector<std::byte>> constants;  // by function, addresses filled in
  std::string kernel_name;                        // demangled
};

// Reused for one block after another by one host thread.
class Block {
 public:
  explicit Block(const LaunchContext* context) : context_(*context) {}

  // Runs block `index` to its end.
  std::optional<Fault> run(std::uint32_t index);
  const LaunchCounters& counters() const { return counters_; }

  // For warps and the handlers of instructions.
  const LaunchContext& context() const { return context_; }
  const Program& program() const { return *context_.program; }
  DeviceMemory& memory() { return *context_.memory; }
  SharedMemory& shared() { return shared_; }
  LaunchCounters& count() { return counters_; }
  WgmmaLog& wgmma_log() { return wgmma_log_; }
  Accessor accessor() const { return {context_.request->launch, index_}; }
  std::uint32_t index() const { return index_; }
  Dim3 position() const { return position_; }
  // "(1, 0, 0)" of the thread at a warp's lane.
  std::string thread_name(int warp, int lane) const;
  Dim3 thread(int warp, int lane) const;

  // bar.sync, bar.arrive, bar.red of `lanes` of a warp. `threads`: how many arrivals complete the
  // barrier, 0 for all threads of the block that have not exited. What `in` says about reduction
  // is done with the bits of `values`.
  Flow barrier(Warp* warp, const Instruction& in, int id, int threads, LaneMask lanes, bool wait,
               LaneMask values);
  void exited(Warp* warp, LaneMask lanes);

 private:
  struct Waiting {
    Warp* warp = nullptr;
    LaneMask lanes = 0;
    const Instruction* instruction = nullptr;
    std::byte* result = nullptr;  // registers of its frame
  };
  struct Barrier {
    bool open = false;
    int expected = 0;
    int arrived = 0;
    int ones = 0;     // of the reduction
    int reduced = 0;  // lanes that brought a value
    std::vector<Waiting> waiting;
  };
  void complete(int id);
  Fault stuck();
  std::optional<Fault> finish() const;

  const LaunchContext& context_;
  std::uint32_t index_ = 0;
  Dim3 position_;
  int live_threads_ = 0;
  SharedMemory shared_;
  WgmmaLog wgmma_log_;
  LaunchCounters counters_;
  std::vector<Warp> warps_;
  std::array<Barrier, 16> barriers_;
};

}  // namespace xception::emulator
