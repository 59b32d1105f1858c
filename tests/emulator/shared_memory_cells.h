// What is remembered of each byte of a block's shared memory: whether it has been written, by whom
// it was touched last, and whether a cp.async to it is in flight.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tests/emulator/fault.h"
#include "tests/emulator/memory.h"
#include "tests/emulator/shared_memory_clocks.h"

namespace xception::emulator {

// "thread 69 (warp 2, lane 5)".
std::string thread_text(int warp, int lane);

class SharedCells {
 public:
  // A lane of the block, and what it does.
  struct Lane {
    Access kind = Access::kRead;
    int warp = 0;
    int lane = 0;
    // A read by the warp's wgmma, which its lanes wait for together: it does not stand against
    // what they do later.
    bool of_wgmma = false;
    std::uint32_t bit() const { return of_wgmma ? 0 : 1U << lane; }
  };
  // What stands against it, and at which byte.
  struct Trouble {
    FaultKind kind = FaultKind::kSharedRace;
    std::size_t offset = 0;
    std::string what;
  };

  // Everything is undefined again. `partial_barriers`: see SharedMemory::Options.
  void begin_block(std::size_t bytes, int threads, bool partial_barriers);

  // Checks and records one instruction of a warp. `lane` is the one in trouble. `values`: see
  // SharedMemory::access.
  std::optional<Trouble> access(Access kind, const WarpRequest& request, int warp, int* lane,
                                const std::byte* values);
  // A write by one lane.
  std::optional<Trouble> write(int warp, int lane, Address offset, std::size_t bytes);
  // The words of [begin, end) become the target of a copy, and what the copy has written: by that
  // lane, now.
  void begin_copy(std::size_t begin, std::size_t end);
  void land_copy(std::size_t begin, std::size_t end, int warp, int lane) {
    land(begin, end, {clocks_.now(warp), 1U << lane});
  }

  // A wgmma of `warp` reads 16 bytes at each of `chunks`. Besides what any read must keep to,
  // their writers must have executed fence.proxy.async between the write and the barrier that led
  // here. Until end_wgmma() a write to the chunks is a fault.
  std::optional<Trouble> begin_wgmma(int warp, std::span<const std::uint32_t> chunks);
  // Its wait. `at_begin`: clocks().now(warp) at its begin.
  void end_wgmma(int warp, std::span<const std::uint32_t> chunks, Stamp at_begin);
  // fence.proxy.async of some lanes.
  void proxy_fence(int warp, std::uint32_t lanes);
  // The words of [begin, end) have been written by a bulk copy, as of `stamp`.
  void land_bulk(std::size_t begin, std::size_t end, Stamp stamp) { land(begin, end, {stamp, 0}); }
  // An mbarrier object lives at the kMbarrierBytes of `begin`, which no other access may touch; or
  // no longer, and what is there is undefined.
  void begin_mbarrier(std::size_t begin);
  void end_mbarrier(std::size_t begin);
  // Whether the access to the place lies before what the lane does now.
  bool ordered(const AccessRecord& record, const Lane& me) const { return before(record, me); }

  WarpClocks& clocks() { return clocks_; }
  // To be called after a synchronisation: a clock that has come to its end (after 67 million
  // synchronisations of a warp) starts anew, with nothing remembered of who has touched what.
  void forget_if_exhausted();
  // How often that has happened.
  std::uint32_t times_forgotten() const { return times_forgotten_; }

  static constexpr std::size_t kWordBytes = 4;
  static constexpr std::size_t kMbarrierBytes = 8;

 private:
  // What is remembered of a place. A write makes what came before it needless: whoever is ordered
  // after the write is ordered after that too.
  struct Cell {
    AccessRecord write;
    AccessRecord read;
    AccessRecord atomic;
  };
  // Most instructions touch chunks of 16 bytes: one cell stands for a chunk, or where its words
  // have been touched apart one for each word, or of a word's bytes. Cells and flags are those of
  // all chunks, then of all words (chunks and words are units), then the cells of all bytes.
  static constexpr std::size_t kChunkWords = kChunkBytes / kWordBytes;
  std::size_t first_unit(std::size_t chunk) const { return chunks_ + chunk * kChunkWords; }
  std::size_t word_unit(std::size_t offset) const { return chunks_ + offset / kWordBytes; }
  std::size_t unit_begin(std::size_t unit) const {
    return unit < chunks_ ? unit * kChunkBytes : (unit - chunks_) * kWordBytes;
  }
  std::size_t byte_cell(std::size_t offset) const { return chunks_ * (1 + kChunkWords) + offset; }
  // Flags of a unit. Of one that is not split all bytes are defined or none.
  static constexpr std::uint8_t kDefinedBits = 0x0F;  // of a split word one a byte
  static constexpr std::uint8_t kSplitBit = 0x10;     // the cells of its parts count, not its own
  static constexpr std::uint8_t kInFlightBit = 0x20;  // the target of a copy not waited for
  static constexpr std::uint8_t kMbarrierBit = 0x40;  // with kInFlightBit: of an mbarrier object

  // What is remembered of each warp, where a record stands for a set of warps. Valid until the next
  // call.
  std::span<AccessRecord> set_of(const AccessRecord& record);
  std::span<const AccessRecord> set_of(const AccessRecord& record) const;
  std::size_t set_begin(const AccessRecord& record) const;

  struct ProxyFence {
    std::uint32_t clock = 0;  // writes of an earlier clock lie before it
    std::uint32_t lanes = 0;
  };
  // The lanes of the writer whose fences after the write all lanes of `reader` know of.
  std::uint32_t fenced_lanes(Stamp write, int reader) const;
  // One wgmma while its reads are checked.
  struct WgmmaReader {
    int warp = 0;
    Stamp now;
    Stamp now_many;
    // Of each warp: writes of this time lie before it, and those of these lanes have been fenced.
    std::array<AccessRecord, 1 << Stamp::kWarpBits> fenced{};
  };
  bool read_fenced(std::size_t unit, const WgmmaReader& reader);
  std::optional<Trouble> read_of_wgmma(std::size_t unit, WgmmaReader* reader);
  std::optional<Trouble> unfenced(const AccessRecord& write, int reader) const;

  std::optional<Trouble> access_lane(const WarpRequest& request, const Lane& me,
                                     const std::byte* values);
  bool access_ordered(Address address, std::size_t bytes, const Lane& me, Stamp now);
  bool touch_ordered(std::size_t unit, const Lane& me, Stamp now);
  bool before(const AccessRecord& record, const Lane& me) const;
  void add(AccessRecord& record, const Lane& me);
  Trouble race(const AccessRecord& record, const char* did, const Lane& me) const;
  std::optional<Trouble> touch(Cell& cell, const Lane& me);
  std::optional<Trouble> touch_unit(std::size_t unit, const Lane& me);
  std::optional<Trouble> touch_bytes(std::size_t begin, std::size_t end, const Lane& me);
  Trouble in_the_way(std::size_t unit) const;
  void split(std::size_t unit);
  void share(std::size_t whole, std::size_t part);
  void join(std::size_t unit, std::size_t part);
  // What stands for a chunk now: itself or its words.
  struct Units {
    std::size_t first;
    std::size_t count;
  };
  Units units_of(std::size_t chunk) const {
    return is_split(chunk) ? Units{first_unit(chunk), kChunkWords} : Units{chunk, 1};
  }
  bool is_split(std::size_t unit) const { return (flags_[unit] & kSplitBit) != 0; }
  void land(std::size_t begin, std::size_t end, const AccessRecord& write);
  template <class F>
  void each_unit(std::size_t begin, std::size_t end, const F& f);
  const Cell& cell_of(std::size_t offset) const;
  bool same_instruction(const WarpRequest& request, const Lane& me, std::size_t begin,
                        std::size_t end, const std::byte* values) const;

  std::size_t bytes_ = 0;
  bool partial_barriers_ = false;
  std::size_t chunks_ = 0;
  // Flags of words and cells of words and bytes are left over from before until there is a split.
  std::vector<std::uint8_t> flags_;
  std::vector<Cell> cells_;
  // For each record of cells_ one of each warp, as far as it was needed: see set_of(). What no
  // record stands for is left over from before.
  std::vector<AccessRecord> sets_;
  std::size_t warps_ = 0;
  WarpClocks clocks_;
  std::array<std::vector<ProxyFence>, kMostWarps> proxy_fences_;  // of each warp, in order
  struct WgmmaReaders {
    std::uint16_t count = 0;
    std::uint8_t warp = 0;  // one of them
  };
  std::vector<WgmmaReaders> wgmma_readers_;  // of each 16 bytes, empty until there is one
  std::size_t wgmma_reads_ = 0;              // in flight, all together
  std::uint32_t times_forgotten_ = 0;
};

}  // namespace xception::emulator
