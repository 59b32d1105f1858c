// What a warp has in flight of wgmma, and what its registers may not be touched for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/emulator/ptx.h"
#include "tests/emulator/shared_memory_clocks.h"
#include "tests/emulator/wgmma.h"

namespace xception::emulator {

class Warp;
struct Frame;

// Results are computed when a wgmma is issued and land in the registers when its group is waited
// for. Its operands in shared memory cannot change in between: SharedMemory reports a write to
// them. Registers of any wgmma have places of their own (ptx_registers.cc), so that what is known
// of a place is known of the register; instructions that touch one are marked `watched`.
class WgmmaWarp {
 public:
  // A new block: nothing in flight, nothing fenced.
  void begin();

  // What `in`, which is no wgmma, does to watched registers: Flow::kFault where one is in flight.
  Flow touch(Warp& warp, const Instruction& in, LaneMask mask);

  Flow fence(Warp& warp);
  Flow issue(Warp& warp, const Instruction& in);
  void commit() { ++committed_; }
  void wait(Warp& warp, std::uint32_t left);

 private:
  struct Register {
    std::uint8_t accumulator = 0;  // in flight as part of D: index into accumulators_, from 1
    std::uint8_t readers = 0;      // wgmmas in flight that have it in A
    bool touched = true;           // since the last wgmma.fence, and
    bool written = true;           // written
  };
  struct Accumulator {
    WgmmaShape shape;
    const Slot* slots = nullptr;  // null: free
    std::uint32_t group = 0;      // of the last wgmma on it
    std::vector<float> sums;      // as wgmma_product() has them
  };
  // What one wgmma reads until its wait.
  struct Reading {
    std::vector<std::uint32_t> chunks;
    const Slot* registers = nullptr;  // four of A, or null
    std::uint32_t group = 0;
    Stamp begin;
  };

  Register& state(const Slot& slot);
  bool enter(Warp& warp);
  std::string waited(std::uint32_t group) const;
  Flow find_accumulator(Warp& warp, const Instruction& in, const WgmmaShape& shape,
                        std::size_t* found);
  Flow check_registers_of_a(Warp& warp, const Slot* slots);
  // What it reads of shared memory is read from here on; `tile_a` is null where A is in registers.
  Flow begin_reading(Warp& warp, const WgmmaShape& shape, const MatrixDescriptor* tile_a,
                     const MatrixDescriptor& tile_b, Reading* reading);
  WgmmaLeft left_of_registers(Warp& warp, const WgmmaShape& shape, bool negated, const Slot* a);
  void load_sums(Warp& warp, const Slot* slots, Accumulator* accumulator);
  void land(Warp& warp, Accumulator* accumulator);

  const Frame* frame_ = nullptr;  // whose registers these are
  const Function* function_ = nullptr;
  std::vector<Register> registers_;  // by place
  std::vector<Accumulator> accumulators_;
  std::vector<Reading> reading_;
  std::vector<std::vector<std::uint32_t>> spare_;  // buffers of chunks
  std::uint32_t committed_ = 0;
};

// Instructions of one kind that the block has executed, warpgroup by warpgroup: its four warps must
// execute the same ones.
class WarpgroupLog {
 public:
  explicit WarpgroupLog(const char* kind) : kind_(kind) {}
  void begin();
  // The next one of a warp, with its descriptors where it has any; says what differs from that of
  // the warps before, or nothing.
  std::string add(int warp, const Instruction& in, std::uint64_t a = 0, std::uint64_t b = 0,
                  bool adds = false);
  // At the block's end: what is missing, or nothing.
  std::string finish() const;

 private:
  struct Entry {
    const Instruction* in;
    std::uint64_t a;
    std::uint64_t b;
    bool adds;
  };
  const char* kind_;
  std::array<std::vector<Entry>, kMostWarps / 4> entries_;
  std::array<std::size_t, kMostWarps> counts_{};
};

}  // namespace xception::emulator
