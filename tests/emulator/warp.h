// A warp while it runs: fragments of lanes that stand at one instruction, and their frames.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/emulator/fault.h"
#include "tests/emulator/ptx.h"
#include "tests/emulator/ptx_statement.h"
#include "tests/emulator/wgmma_warp.h"

namespace xception::emulator {

class Block;

// Bytes at a cache line's start.
class LineBuffer {
 public:
  // At least `bytes`, contents undefined after growth.
  void reserve(std::size_t bytes) {
    const std::size_t lines = (bytes + sizeof(Line) - 1) / sizeof(Line);
    if (lines > lines_.size()) {
      lines_.resize(lines);
    }
  }
  std::byte* data() { return reinterpret_cast<std::byte*>(lines_.data()); }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> lines_;
};

// One call of a function by lanes that called it together.
struct Frame {
  const Function* function = nullptr;
  const Call* call = nullptr;  // null in a kernel's own frame
  const std::byte* constants = nullptr;
  LineBuffer registers;
  LineBuffer parameters;  // function->parameter_bytes a lane, lane by lane
  LineBuffer local;       // function->local_bytes a lane, lane by lane
  Frame* parent = nullptr;
  std::uint32_t return_pc = 0;
  LaneMask lanes = 0;  // that have not returned
  int depth = 1;
};

// Local addresses: the frame's depth, then the place in it.
inline constexpr int kLocalDepthShift = 24;
inline constexpr int kMaximumDepth = 255;

struct Fragment {
  enum class State : std::uint8_t {
    kReady,
    kMembers,  // at a collective instruction, until the lanes of `needed` have come
    kBarrier,  // at a barrier of the block; `pc` is behind it
  };
  std::uint32_t pc = 0;
  LaneMask mask = 0;
  LaneMask needed = 0;
  LaneMask awaited = 0;  // of those that lived when it came there
  Frame* frame = nullptr;
  State state = State::kReady;
};

class Warp {
 public:
  enum class Status : std::uint8_t { kRunnable, kBarrier, kDone, kFault };

  // Lanes of `threads` start at the kernel's first instruction.
  void begin(Block* block, int index, int threads);
  // Runs up to `budget` instructions, or until every lane waits at a barrier or has exited.
  Status run(std::uint64_t budget);
  Status status() const { return status_; }

  // A barrier lets lanes go.
  void release(LaneMask lanes);
  // Where some lanes wait, for a message.
  std::string describe_waiting() const;

  // For the handlers of instructions.
  Block& block() { return *block_; }
  int index() const { return index_; }
  LaneMask live() const { return live_; }
  // Lanes of a dependent launch that have not waited for the kernel before it.
  LaneMask early() const { return early_; }
  void await_previous_kernel(LaneMask lanes) { early_ &= ~lanes; }
  Frame& frame() { return *frame_; }
  LaneMask fragment_mask() const { return fragments_[current_].mask; }
  std::byte* bytes(const Slot& slot) {
    return banks_[static_cast<std::size_t>(slot.bank)] + slot.offset;
  }
  // A predicate operand as one bit a lane.
  LaneMask predicate(const Slot& slot) {
    LaneMask value = 0;
    __builtin_memcpy(&value, bytes(slot), sizeof value);
    return slot.negated ? ~value : value;
  }
  void set_predicate(const Slot& slot, LaneMask value, LaneMask mask) {
    if (!slot.sink) {
      LaneMask old = 0;
      __builtin_memcpy(&old, bytes(slot), sizeof old);
      value = (value & mask) | (old & ~mask);
      __builtin_memcpy(bytes(slot), &value, sizeof value);
    }
  }
  Flow fail(FaultKind kind, const std::string& what, int lane);
  Flow fail(const Fault& fault, int lane) { return fail(fault.kind, fault.message, lane); }
  std::optional<Fault> take_fault() { return std::move(fault_); }

  WgmmaWarp& wgmma() { return wgmma_; }

  // Control flow of the current fragment; each returns Flow::kMoved.
  Flow jump(std::uint32_t pc, LaneMask taken) { return jump_some(pc, taken, 0); }
  // Lanes of `again` stay and execute the instruction again; so in enter().
  Flow jump_some(std::uint32_t pc, LaneMask taken, LaneMask again);
  Flow enter(const Function& function, const Call& call, LaneMask lanes, LaneMask again);
  Flow leave(LaneMask lanes);  // ret
  Flow exit(LaneMask lanes);   // exit, or ret of a kernel
  Flow wait_at_barrier(LaneMask lanes);

 private:
  bool schedule();  // false where no fragment is ready
  void merge();
  void select(std::size_t fragment);
  void split(LaneMask lanes, std::uint32_t pc);
  Frame* new_frame(const Function& function, Frame* parent);
  bool next_turn();
  Flow collective(const Instruction& in, LaneMask mask);
  bool release_warp_barriers();
  void fill_specials();
  Flow fail_stuck();

  Block* block_ = nullptr;
  int index_ = 0;
  LaneMask live_ = 0;
  LaneMask early_ = 0;
  Status status_ = Status::kDone;
  std::array<std::byte*, 3> banks_{};
  Frame* frame_ = nullptr;
  std::uint32_t pc_ = 0;     // of the current fragment, while it runs
  std::uint32_t limit_ = 0;  // where another fragment of this frame waits further on
  std::size_t current_ = 0;
  std::vector<Fragment> fragments_;
  std::vector<std::unique_ptr<Frame>> frames_;
  std::vector<Frame*> free_frames_;
  LineBuffer specials_;
  std::uint64_t executed_ = 0;
  std::uint64_t turn_begin_ = 0;  // when the warp last was together, or gave a turn
  std::optional<Fault> fault_;
  WgmmaWarp wgmma_;
};

}  // namespace xception::emulator
