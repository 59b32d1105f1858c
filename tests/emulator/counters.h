// Exact counts of what a launch did: the project's evidence about speed where no GPU is at hand.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "tests/emulator/memory.h"

namespace xception::emulator {

// Warp instructions by class. A wgmma counts as the mma.m16n8k16 (of tf32 m16n8k8) that do a warp's
// part of it, N / 8 of them, so that the share of mma is one of work. Its reads of shared memory
// are no wavefronts below: the tensor cores read each tile once for four warps, by a path of their
// own.
enum class InstructionClass { kMma, kFma, kMath, kMemory, kControl, kCount };

struct LaunchCounters {
  std::array<std::uint64_t, static_cast<std::size_t>(InstructionClass::kCount)> instructions{};
  std::uint64_t lane_instructions = 0;  // active lanes, summed over warp instructions
  std::uint64_t wgmma_more = 0;         // mma that are counted for a wgmma, beyond itself
  std::uint64_t mma_macs = 0;           // multiply-adds of all mma and wgmma
  // Global memory, each request of a warp apart: bytes that lanes asked for (a byte that several
  // lanes of one request ask for counts once), and bytes of the 32-byte sectors they lie in.
  std::uint64_t load_bytes = 0;
  std::uint64_t load_sector_bytes = 0;
  std::uint64_t store_bytes = 0;
  std::uint64_t store_sector_bytes = 0;
  std::uint64_t lane_load_bytes = 0;  // every lane's bytes, the same byte counted again
  // Distinct bytes of the whole launch, in sectors: DeviceMemory::distinct().
  std::uint64_t distinct_read_bytes = 0;
  std::uint64_t distinct_written_bytes = 0;
  // Shared memory: wavefronts of 32 banks x 4 bytes, and as many as there would be without
  // conflicts.
  std::uint64_t shared_wavefronts = 0;
  std::uint64_t shared_wavefronts_ideal = 0;
  std::uint64_t barriers = 0;  // a warp's arrival at bar.sync

  std::uint64_t warp_instructions() const;
  std::uint64_t issued() const { return warp_instructions() - wgmma_more; }
  LaunchCounters& operator+=(const LaunchCounters& other);
};

// Bytes that the lanes ask for, each once, and 32-byte sectors that they lie in.
struct GlobalCost {
  std::uint64_t bytes = 0;
  std::uint64_t sectors = 0;
};
GlobalCost global_cost(const WarpRequest& request);

// Wavefronts of a shared-memory request, and the fewest that its bytes allow. A wavefront delivers
// one 4-byte word of each of 32 banks, to any number of lanes. A request of 8 bytes a lane is
// served half a warp at a time and one of 16 bytes a quarter at a time, which is how NVIDIA
// describes 64-bit and 128-bit accesses ("Shared Memory" of compute capability 2.x and 3.x in the
// CUDA C++ programming guide) and what the wavefront counters of Nsight Compute show on later GPUs:
// a warp's 16-byte accesses to 512 contiguous bytes take 4 wavefronts. ldmatrix is a quarter warp
// of 16-byte rows for each of its matrices.
struct SharedCost {
  std::uint64_t wavefronts = 0;
  std::uint64_t ideal = 0;
};
SharedCost shared_cost(const WarpRequest& request);

// A JSON object of one launch, on one line.
std::string to_json(const std::string& kernel, const LaunchCounters& counters);

}  // namespace xception::emulator
