// Device memory with its shadow: what is allocated, what has been written, and by whom.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tests/emulator/fault.h"

namespace xception::emulator {

// Where a byte of device memory stands: the host's own address of it.
using Address = std::uint64_t;

inline constexpr std::size_t kSectorBytes = 32;  // what DRAM delivers and takes at once

enum class Access { kRead, kWrite, kAtomic };

// In the place of a block: a read of what nobody may write while the kernel runs, neither the block
// that reads. It is as if several blocks read it.
inline constexpr std::uint32_t kUnchanging = ~std::uint32_t{0};

// Whose access it is: blocks of one launch race with each other, launches do not.
struct Accessor {
  std::uint32_t launch = 0;  // counts from 1, for the life of the memory
  std::uint32_t block = 0;   // linear index in the grid, below begin_launch()'s `blocks`
};

constexpr int kWarpLanes = 32;

inline constexpr std::size_t kChunkBytes = 16;  // the most that one lane touches at once

// The lanes of one memory instruction: addresses of active lanes and bytes each.
struct WarpRequest {
  std::uint32_t active = 0;            // bit a lane
  std::span<const Address> addresses;  // 32; those of inactive lanes are not looked at
  std::size_t bytes = 0;               // 1, 2, 4, 8 or 16
};

// Distinct bytes that a launch touched, in whole 32-byte sectors: what DRAM must deliver and take
// at least. A sector counts as read where bytes were read that the same launch had not written.
struct DistinctBytes {
  std::uint64_t read = 0;
  std::uint64_t written = 0;
};

// Safe to use from the threads that run blocks of one launch, for access() and
// find_written_before(); everything else is called with no launch running on this memory.
class DeviceMemory {
 public:
  // Reserves address space, not memory: pages are taken as they are first touched.
  explicit DeviceMemory(std::size_t capacity);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // 256-byte aligned (and not more, so that nobody comes to rely on more), contents undefined,
  // with bands around it that belong to nobody; 0 where `capacity` is used up. Freed addresses are
  // not given out again while that is possible, so that a use after free is seen.
  Address allocate(std::size_t bytes);
  // Null is fine, as it is to cudaFree.
  std::optional<Fault> free(Address address);
  std::size_t used() const;
  std::size_t capacity() const;
  std::size_t live_allocations() const;
  // The allocation that holds `address`: its base and size; nothing where there is none.
  struct Range {
    Address base = 0;
    std::size_t bytes = 0;
    std::uint64_t number = 0;  // allocations are numbered from 1 in the order of allocate()
  };
  std::optional<Range> find(Address address) const;
  // Whether `address` lies in what this memory hands out, allocated or not.
  bool contains(Address address) const;
  // What has not been freed, in the order of allocate().
  std::vector<Range> live_ranges() const;
  // "64 bytes past the end of allocation 3 (0x7f0000000100, 1024 bytes)".
  std::string describe(Address address) const;

  // Copies and fills of the runtime, whose bytes are then the runtime's, whoever wrote them before:
  // a stream orders them fully. They check bounds; copying undefined bytes within the device
  // copies that they are undefined, and reading them to the host is allowed, as on a GPU: they
  // arrive as 0xFF, a NaN in every floating type.
  std::optional<Fault> copy_in(Address dst, const void* src, std::size_t bytes);
  std::optional<Fault> copy_out(void* dst, Address src, std::size_t bytes);
  std::optional<Fault> copy(Address dst, Address src, std::size_t bytes);
  std::optional<Fault> fill(Address dst, int value, std::size_t bytes);

  // Comes before the first access() of a launch. `threads` is how many of the host's threads will
  // call access(); `launch` is larger than that of the launch before.
  void begin_launch(std::uint32_t launch, std::uint32_t blocks, int threads);
  // What has been touched since begin_launch().
  DistinctBytes distinct() const;

  // One lane's access from a kernel. Alignment to `bytes` (1 to 16), bounds, definedness of reads
  // and races between blocks are checked and recorded; the caller then reads or writes at
  // `address` itself. The fault's message says what is wrong with the address; who and where is for
  // the caller to put in front.
  //
  // A race is two blocks of one launch at one byte, one of them writing, unless both are atomic.
  // There is no telling here that a fence and a flag order them: kernels whose blocks hand data
  // to each other within a launch are reported.
  std::optional<Fault> access(Access kind, Address address, std::size_t bytes, Accessor accessor);
  // The same for the active lanes of a warp; neighbours in memory are checked together. At a fault
  // `lane` is a lane at fault.
  std::optional<Fault> access(Access kind, const WarpRequest& request, Accessor accessor,
                              int* lane);

  // Of lanes whose bytes are allocated: the first byte that a kernel of an earlier launch wrote
  // last, and not the running one, a copy or a fill; nothing where there is none.
  struct LaneByte {
    int lane = 0;
    Address address = 0;
  };
  std::optional<LaneByte> find_written_before(const WarpRequest& request) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace xception::emulator
