// The shared memory of one block, with what the memory model says of it: who has written where, and
// what barriers order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "tests/emulator/fault.h"
#include "tests/emulator/memory.h"
#include "tests/emulator/shared_memory_clocks.h"
#include "tests/emulator/shared_memory_mbarriers.h"

namespace xception::emulator {

// Used by one host thread. Addresses are offsets from the start of the block's shared memory. Warps
// are numbered from 0, at most 32 of them.
//
// Two threads' accesses to one byte, one of them writing and not both atomic, are a race unless
// something orders them: a barrier between their warps, or within a warp __syncwarp (bar.warp.sync)
// of both lanes. Lanes of a warp are not ordered by running in lockstep: since sm_70 nothing
// promises that they do (CUDA C++ programming guide, "Independent Thread Scheduling"), and shfl,
// vote and mma "do not guarantee any memory ordering". Happens-before is kept as a vector clock of
// warps, so that named barriers and bar.arrive order exactly those that take part.
class SharedMemory {
 public:
  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  struct Options {
    std::size_t bytes = 0;          // static and dynamic
    int threads = 1;                // of the block
    bool partial_barriers = false;  // the kernel has barriers that not every warp waits at
    std::uint64_t seed = 0;         // when cp.async reads its source
  };
  // A new block: everything is undefined. Keeps its buffers from block to block.
  void begin_block(const Options& options);

  std::byte* data();
  std::size_t size() const;

  // One instruction of a warp. Alignment to `request.bytes`, bounds, definedness of reads, copies
  // in flight and races are checked and recorded; the caller then reads or writes data() itself. At
  // a fault `lane` is a lane at fault. `values` of a write: `request.bytes` for each of 32 lanes;
  // with it, lanes that store different values at one place are reported (equal ones are not).
  std::optional<Fault> access(Access kind, const WarpRequest& request, int warp, int* lane,
                              const std::byte* values = nullptr);

  // Barriers. arrive() at bar.sync and bar.arrive, when the warp gets there; release() when the
  // barrier is complete, with the warps that waited (bar.sync) for it. `id` is 0 to 15. `counted`:
  // it is complete with a number of threads, and else when all have come that have not ended.
  void arrive(int id, int warp, bool counted = false);
  void release(int id, std::span<const int> waiting, bool counted = false);
  // bar.warp.sync: orders the lanes of `mask` among themselves.
  void warp_sync(int warp, std::uint32_t mask);
  // fence.proxy.async of the lanes of `mask`.
  void proxy_fence(int warp, std::uint32_t mask);
  // What a wgmma of `warp` reads: 16 bytes at each of `chunks`, multiples of 16. Checked and
  // recorded as the warp's reads; what fence.proxy.async has not handed to the async proxy is
  // reported too. From begin to end, which is the wait, any write to the chunks is a fault.
  std::optional<Fault> begin_wgmma(int warp, std::span<const std::uint32_t> chunks);
  void end_wgmma(int warp, std::span<const std::uint32_t> chunks, Stamp at_begin);
  // When a warp does what it does now.
  Stamp now(int warp) const;
  // Lanes that have ended: barriers do not wait for them.
  void exit(int warp, std::uint32_t lanes);

  // cp.async of one lane: `bytes` (4, 8 or 16) to `offset`, of which `source_bytes` come from
  // `source` (device memory that the caller has checked) and the rest are zero. The source is read
  // now or when the lane waits, by the seed; the copy lands when the lane waits. Until then any
  // access to the target is a fault.
  std::optional<Fault> copy_async(int warp, int lane, Address offset, Address source,
                                  std::size_t bytes, std::size_t source_bytes);
  // cp.async.commit_group and cp.async.wait_group `left`, of the active lanes.
  void commit(int warp, std::uint32_t active);
  void wait(int warp, std::uint32_t active, int left);
  // cp.async.wait_all: all copies, committed or not.
  void wait_all(int warp, std::uint32_t active);

  Mbarriers& mbarriers();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace xception::emulator
