// A thread block while it runs, and what the blocks of a launch share.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tests/emulator/counters.h"
#include "tests/emulator/launch.h"
#include "tests/emulator/shared_memory.h"
#include "tests/emulator/warp.h"
#include "tests/emulator/wgmma_warp.h"
#include "tests/split_mix.h"

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
  std::size_t shared_bytes = 0;  // to the end of the dynamic ones
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
  WarpgroupLog& wgmma_log() { return wgmma_log_; }
  WarpgroupLog& registers_log() { return registers_log_; }
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
  // mbarrier.try_wait: `lanes`, which the caller has made to wait, do so for the end of the
  // object's current phase. Their predicate becomes true then, and false where nothing else can go
  // on, as when the instruction's time is over.
  void wait_at_mbarrier(Warp* warp, const Instruction& in, LaneMask lanes, Address mbarrier);
  // After whatever may have completed a phase: lets the waiting lanes go.
  void settle_mbarriers();
  // mbarrier.test_wait has found an incomplete phase.
  void polled() { ++polls_; }

 private:
  struct MbarrierWaiting {
    Warp* warp = nullptr;
    LaneMask lanes = 0;
    const Instruction* instruction = nullptr;
    std::byte* result = nullptr;  // registers of its frame
    Address mbarrier = 0;
  };
  void release(const MbarrierWaiting& waiting, bool complete);
  bool end_time_of_waits();
  std::uint64_t progress() { return shared_.mbarriers().changes() + counters_.barriers + exits_; }
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
  // All of it as it is before the first instruction. What is drawn for the block from then on.
  SplitMix64 begin(std::uint32_t index);
  void complete(int id);
  Fault stuck();
  std::optional<Fault> finish() const;
  Fault fault_of_block(const Fault& fault) const;

  const LaunchContext& context_;
  std::uint32_t index_ = 0;
  Dim3 position_;
  int live_threads_ = 0;
  SharedMemory shared_;
  WarpgroupLog wgmma_log_{"wgmma"};
  WarpgroupLog registers_log_{"setmaxnreg"};
  LaunchCounters counters_;
  std::vector<Warp> warps_;
  std::array<Barrier, 16> barriers_;
  std::vector<MbarrierWaiting> mbarrier_waiting_;
  std::uint64_t exits_ = 0;
  std::uint64_t polls_ = 0;       // of mbarriers in vain
  std::uint64_t idle_turns_ = 0;  // of warps, with polls and nothing else
  std::uint64_t progress_at_time_out_ = 0;
  int time_outs_ = 0;  // without any progress between
};

}  // namespace xception::emulator
