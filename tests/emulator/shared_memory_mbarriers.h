// The mbarrier objects of a block's shared memory, and the bulk copies that count at them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/emulator/fault.h"
#include "tests/emulator/memory.h"
#include "tests/emulator/shared_memory_cells.h"
#include "tests/split_mix.h"

namespace xception::emulator {

// A run of bytes that a bulk copy moves. What the pieces leave of its target becomes zero.
struct BulkPiece {
  Address source = 0;        // device memory that the caller has checked
  std::uint32_t target = 0;  // offset in shared memory
  std::uint32_t bytes = 0;
};

// Addresses are offsets from the start of the block's shared memory. Phases count from 0: the one
// with number n has the parity n % 2.
//
// What orders what: lanes that arrive hand what they know to the lanes that successfully wait for
// that phase or a later one. Bytes of a bulk copy are in flight until it lands, some time between
// its issue and the end of the phase in which it counts; then they belong to whoever has waited for
// that phase. Nobody else may touch them, having seen them land or not.
class Mbarriers {
 public:
  static constexpr std::uint32_t kMostCount = (1U << 20) - 1;

  void begin_block(SharedCells* cells, std::byte* data, std::uint64_t seed);

  std::optional<Fault> init(int warp, int lane, Address offset, std::uint32_t count);
  std::optional<Fault> invalidate(int warp, int lane, Address offset);
  // Lanes that arrive by one instruction at one object. The bytes of `expect` (null: none) are
  // awaited before the arrival counts; without `counts` there are no arrivals. `states`: the phase
  // that each arrival was part of. All three hold 32 lanes.
  std::optional<Fault> arrive(int warp, std::uint32_t lanes, Address offset,
                              const std::uint32_t* counts, const std::uint32_t* expect,
                              std::uint64_t* states, int* lane);
  // The number of the object's current phase: those below it are complete.
  std::optional<Fault> phase(int warp, int lane, Address offset, std::uint64_t* current);
  // `lanes` have successfully waited at the object.
  void waited(int warp, std::uint32_t lanes, Address offset);

  // Bulk copies may count from now on at what these lanes have initialised.
  void publish(int warp, std::uint32_t lanes);
  // A bulk copy of one lane to [offset, offset + bytes), all of which counts at `mbarrier`.
  std::optional<Fault> copy(int warp, int lane, Address offset, std::size_t bytes, Address mbarrier,
                            std::vector<BulkPiece> pieces);
  std::size_t in_flight() const { return copies_.size(); }
  // Lands one of them.
  std::optional<Fault> land(std::size_t index);

  // Objects whose phase has been completed since this was last asked.
  std::vector<Address> take_completed();
  // Goes on with everything that may end somebody's wait.
  std::uint64_t changes() const { return changes_; }
  // One of `sides`, by the seed.
  bool draw(unsigned sides);
  // What the end of the block leaves undone, if anything.
  std::optional<Fault> at_end() const;
  // Of the copy that is on its way to the place; empty where there is none.
  std::string describe(std::size_t offset) const;

 private:
  struct Object {
    int number = 0;  // in the clocks
    std::uint32_t expected = 0;
    std::uint32_t pending = 0;
    std::int64_t bytes = 0;  // expected less those that have come
    std::uint64_t phase = 0;
    std::uint32_t copies_stamp = 0;  // of the last phase in which a copy counted, 0: none
    AccessRecord begun;
    AccessRecord published;  // when `begun` became known to the proxy of bulk copies; no lanes: not
    std::array<AccessRecord, kMostWarps> uses{};
  };
  struct Copy {
    std::uint32_t offset = 0;
    std::uint32_t bytes = 0;
    Address mbarrier = 0;
    int warp = 0;
    int lane = 0;
    std::vector<BulkPiece> pieces;
    std::vector<std::byte> data;  // where the source has been read already
  };

  std::optional<Fault> find(const char* what, int warp, int lane, Address offset, Object** object);
  std::optional<Fault> check_bytes(const char* what, Address offset, const Object& object) const;
  void complete_if_done(Address offset, Object* object);

  SharedCells* cells_ = nullptr;
  std::byte* data_ = nullptr;
  SplitMix64 random_;
  std::uint64_t changes_ = 0;
  std::map<Address, Object> objects_;
  std::uint32_t numbers_ = 0;    // in use
  std::uint32_t forgotten_ = 0;  // times that the cells have, as far as is known here
  std::vector<Copy> copies_;
  std::vector<Address> completed_;
};

}  // namespace xception::emulator
