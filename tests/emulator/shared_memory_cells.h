// What is remembered of each byte of a block's shared memory: whether it has been written, by whom
// it was touched last, and whether a cp.async to it is in flight.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/emulator/fault.h"
#include "tests/emulator/memory.h"
#include "tests/emulator/shared_memory_clocks.h"

namespace xception::emulator {

// "thread 69 (warp 2, lane 5)".
std::string thread_text(int warp, int lane);

class SharedCells {
 public:
  // One lane's access.
  struct Lane {
    Access kind = Access::kRead;
    int warp = 0;
    int lane = 0;
  };
  // What stands against it, and at which byte.
  struct Trouble {
    FaultKind kind = FaultKind::kSharedRace;
    std::size_t offset = 0;
    std::string what;
  };

  // Everything is undefined again. `partial_barriers`: see SharedMemory::Options.
  void begin_block(std::size_t bytes, int threads, bool partial_barriers);

  // Checks and records the access of lane `me` of the request. `values`: see SharedMemory::access.
  std::optional<Trouble> access(const WarpRequest& request, const Lane& me,
                                const std::byte* values);
  // The whole words of [begin, end) become the target of a copy, and what the copy has written: by
  // that lane, now.
  void begin_copy(std::size_t begin, std::size_t end);
  void land_copy(std::size_t begin, std::size_t end, int warp, int lane);

  WarpClocks& clocks() { return clocks_; }
  // To be called after a synchronisation: a clock that has come to its end (after 67 million
  // synchronisations of a warp) starts anew, with nothing remembered of who has touched what.
  void forget_if_exhausted();

  static constexpr std::size_t kWordBytes = 4;

 private:
  // Of four bytes, or of one where threads have touched them apart. A write makes what came before
  // it needless: whoever is ordered after the write is ordered after that too.
  struct Cell {
    AccessRecord write;
    AccessRecord read;
    AccessRecord atomic;
  };
  using Set = std::array<AccessRecord, kMostWarps>;

  bool touch_ordered(std::size_t word, const Lane& me, Stamp now);
  bool before(const AccessRecord& record, const Lane& me) const;
  void add(AccessRecord& record, const Lane& me);
  Trouble race(const AccessRecord& record, const char* did, const Lane& me) const;
  std::optional<Trouble> touch(Cell& cell, const Lane& me);
  std::optional<Trouble> touch_word(std::size_t word, const Lane& me);
  std::optional<Trouble> touch_bytes(std::size_t begin, std::size_t end, const Lane& me);
  void split(std::size_t word);
  bool same_instruction(const WarpRequest& request, const Lane& me, std::size_t begin,
                        std::size_t end, const std::byte* values) const;

  std::size_t bytes_ = 0;
  bool partial_barriers_ = false;
  std::vector<std::uint8_t> flags_;  // a word each
  std::vector<Cell> cells_;          // a word each
  std::vector<Cell> byte_cells_;     // a byte each, empty until a word is split
  // Where several warps are remembered one by one.
  std::unordered_map<const AccessRecord*, Set> sets_;
  WarpClocks clocks_;
};

}  // namespace xception::emulator
