#include "tests/emulator/shared_memory.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/emulator/memory_ranges.h"
#include "tests/emulator/shared_memory_clocks.h"

namespace xception::emulator {
namespace {

// What is remembered of four bytes, or of one where threads have touched them apart. A write makes
// what came before it needless: whoever is ordered after the write is ordered after that too.
struct Cell {
  AccessRecord write;
  AccessRecord read;
  AccessRecord atomic;
};

constexpr std::size_t kCellBytes = 4;
constexpr std::uint8_t kDefinedBits = 0x0F;  // one a byte
constexpr std::uint8_t kSplitBit = 0x10;     // the bytes have cells of their own
constexpr std::uint8_t kInFlightBit = 0x20;  // the target of a cp.async not waited for

struct AsyncCopy {
  Address source = 0;
  std::uint32_t offset = 0;
  std::uint32_t group = 0;  // of its lane, counting from 1
  std::uint8_t lane = 0;
  std::uint8_t bytes = 0;
  std::uint8_t source_bytes = 0;
  bool read_late = false;
  std::array<std::byte, 16> data{};
};

// The finalizer of SplitMix64: spreads a count over all bits.
std::uint64_t mix(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9U;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebU;
  return value ^ (value >> 31);
}

const void* host_pointer(Address address) {
  return reinterpret_cast<const void*>(address);  // NOLINT(performance-no-int-to-ptr)
}

std::string thread_text(int warp, int lane) {
  return "thread " + std::to_string(warp * kWarpLanes + lane) + " (warp " + std::to_string(warp) +
         ", lane " + std::to_string(lane) + ")";
}

const char* verb(Access kind) {
  switch (kind) {
    case Access::kRead:
      return "read";
    case Access::kWrite:
      return "write";
    case Access::kAtomic:
      return "atomic access";
  }
  return "access";
}

}  // namespace

struct SharedMemory::Impl {
  // What stands against an access of a lane.
  struct Trouble {
    FaultKind kind = FaultKind::kSharedRace;
    std::string what;
  };
  struct Lane {
    Access kind = Access::kRead;
    int warp = 0;
    int lane = 0;
  };
  struct AsyncWarp {
    std::vector<AsyncCopy> copies;  // in the order of issue
    std::array<std::uint32_t, kWarpLanes> committed{};
  };
  using Set = std::array<AccessRecord, kMostWarps>;

  bool touch_ordered(std::size_t word, const Lane& me, Stamp now);
  bool before(const AccessRecord& record, const Lane& me) const;
  void add(AccessRecord& record, const Lane& me);
  std::optional<Trouble> touch(Cell& cell, const Lane& me);
  std::optional<Trouble> touch_word(std::size_t word, const Lane& me);
  std::optional<Trouble> touch_bytes(std::size_t begin, std::size_t end, const Lane& me);
  std::optional<Trouble> in_flight(std::size_t word) const;
  Trouble race(const AccessRecord& record, const char* did, const Lane& me) const;
  void split(std::size_t word);
  bool same_instruction(const WarpRequest& request, const Lane& me, std::size_t begin,
                        std::size_t end, const std::byte* values) const;
  std::optional<Trouble> check_lane(const WarpRequest& request, const Lane& me,
                                    const std::byte* values);
  template <class Done>
  void land(int warp, Done done);
  void land_one(int warp, const AsyncCopy& copy);
  void forget_if_exhausted();

  Options options;
  std::vector<std::byte> data;
  std::vector<std::uint8_t> flags;  // a cell each
  std::vector<Cell> cells;
  std::vector<Cell> byte_cells;  // empty until a cell is split
  std::unordered_map<const AccessRecord*, Set> sets;
  WarpClocks clocks;
  std::array<AsyncWarp, kMostWarps> async{};
  std::uint64_t async_count = 0;
};

// The common case, in which everything before lies beyond a synchronisation of the whole warp or
// belongs to readers beside this one. False where the case is another one, with nothing recorded.
inline bool SharedMemory::Impl::touch_ordered(std::size_t word, const Lane& me, Stamp now) {
  Cell& cell = cells[word];
  const std::uint8_t state = flags[word];
  if (!clocks.before_warp(cell.write.stamp, me.warp) ||
      !clocks.before_warp(cell.atomic.stamp, me.warp)) {
    return false;
  }
  const bool reads_before = clocks.before_warp(cell.read.stamp, me.warp);
  const std::uint32_t lane = 1U << me.lane;
  if (me.kind == Access::kRead) {
    if (state != kDefinedBits) {
      return false;
    }
    if (cell.read.stamp == now) {
      cell.read.lanes |= lane;
    } else if (reads_before) {
      cell.read = {now, lane};
    } else {
      return cell.read.stamp.warp() == Stamp::kManyWarps;
    }
    return true;
  }
  if (me.kind != Access::kWrite || !reads_before || (state & (kSplitBit | kInFlightBit)) != 0) {
    return false;
  }
  flags[word] = kDefinedBits;
  cell = {{now, lane}, {}, {}};
  return true;
}

bool SharedMemory::Impl::before(const AccessRecord& record, const Lane& me) const {
  if (record.stamp.warp() != Stamp::kSetOfWarps) {
    return clocks.before_lane(record, me.warp, me.lane);
  }
  const Set& set = sets.at(&record);
  return std::all_of(set.begin(), set.end(), [&](const AccessRecord& of_warp) {
    return clocks.before_lane(of_warp, me.warp, me.lane);
  });
}

// Adds an access to those of the same kind, which do not conflict with each other.
void SharedMemory::Impl::add(AccessRecord& record, const Lane& me) {
  const Stamp now = clocks.now(me.warp);
  const std::uint32_t lane = 1U << me.lane;
  const int other = record.stamp.warp();
  if (record.stamp == now) {
    record.lanes |= lane;
  } else if (other != Stamp::kSetOfWarps && clocks.before_warp(record.stamp, me.warp)) {
    record = {now, lane};
  } else if (other == me.warp) {
    // After a __syncwarp of some lanes the older clock would be too young for its lanes; forgetting
    // them may miss a race and invents none.
    record = {now, clocks.partly_synced(me.warp) ? lane : record.lanes | lane};
  } else if (other == Stamp::kManyWarps) {
    return;
  } else if (!options.partial_barriers) {
    record = {clocks.now_many(), 0};
  } else {
    Set& set = sets[&record];
    if (other != Stamp::kSetOfWarps) {
      set = {};
      set[static_cast<std::size_t>(other)] = record;
      record = {Stamp(Stamp::kSetOfWarps, 1), 0};
    }
    add(set[static_cast<std::size_t>(me.warp)], me);
  }
}

SharedMemory::Impl::Trouble SharedMemory::Impl::race(const AccessRecord& record, const char* did,
                                                     const Lane& me) const {
  AccessRecord other = record;
  if (record.stamp.warp() == Stamp::kSetOfWarps) {
    for (const AccessRecord& of_warp : sets.at(&record)) {
      if (!clocks.before_lane(of_warp, me.warp, me.lane)) {
        other = of_warp;
      }
    }
  }
  const std::uint32_t lanes =
      other.stamp.warp() == me.warp ? other.lanes & ~(1U << me.lane) : other.lanes;
  std::string what = lanes == 0 ? "threads of several warps"
                                : thread_text(other.stamp.warp(), __builtin_ctz(lanes));
  what += std::string(" ") + did + " it, and no ";
  what += other.stamp.warp() == me.warp ? "__syncwarp or barrier" : "barrier";
  return {FaultKind::kSharedRace, what + " lies between"};
}

std::optional<SharedMemory::Impl::Trouble> SharedMemory::Impl::touch(Cell& cell, const Lane& me) {
  if (!before(cell.write, me)) {
    return race(cell.write, "wrote", me);
  }
  if (me.kind != Access::kAtomic && !before(cell.atomic, me)) {
    return race(cell.atomic, "updated", me);
  }
  if (me.kind != Access::kRead && !before(cell.read, me)) {
    return race(cell.read, "read", me);
  }
  switch (me.kind) {
    case Access::kRead:
      add(cell.read, me);
      break;
    case Access::kWrite:
      cell = {{clocks.now(me.warp), 1U << me.lane}, {}, {}};
      break;
    case Access::kAtomic:
      add(cell.atomic, me);
      break;
  }
  return std::nullopt;
}

std::optional<SharedMemory::Impl::Trouble> SharedMemory::Impl::in_flight(std::size_t word) const {
  for (int warp = 0; warp < kMostWarps; ++warp) {
    for (const AsyncCopy& copy : async[static_cast<std::size_t>(warp)].copies) {
      if (word * kCellBytes - copy.offset < copy.bytes) {
        const bool committed =
            copy.group <=
            async[static_cast<std::size_t>(warp)].committed[static_cast<std::size_t>(copy.lane)];
        return Trouble{FaultKind::kAsyncCopyNotWaited,
                       "a cp.async of " + thread_text(warp, copy.lane) +
                           " to it is in flight, which that thread has " +
                           (committed ? "not waited for" : "not even committed")};
      }
    }
  }
  return Trouble{FaultKind::kAsyncCopyNotWaited, "a cp.async to it is in flight"};
}

// Gives each byte of a word a cell with what is remembered of the word.
void SharedMemory::Impl::split(std::size_t word) {
  if (byte_cells.empty()) {
    byte_cells.resize(cells.size() * kCellBytes);
  }
  const Cell& whole = cells[word];
  for (std::size_t byte = 0; byte < kCellBytes; ++byte) {
    Cell& cell = byte_cells[word * kCellBytes + byte];
    cell = whole;
    if (whole.read.stamp.warp() == Stamp::kSetOfWarps) {
      sets[&cell.read] = Set(sets.at(&whole.read));
    }
    if (whole.atomic.stamp.warp() == Stamp::kSetOfWarps) {
      sets[&cell.atomic] = Set(sets.at(&whole.atomic));
    }
  }
  flags[word] |= kSplitBit;
}

// Bytes [begin, end) of one word, apart from the others.
std::optional<SharedMemory::Impl::Trouble> SharedMemory::Impl::touch_bytes(std::size_t begin,
                                                                           std::size_t end,
                                                                           const Lane& me) {
  const std::size_t word = begin / kCellBytes;
  if ((flags[word] & kInFlightBit) != 0) {
    return in_flight(word);
  }
  if ((flags[word] & kSplitBit) == 0) {
    split(word);
  }
  for (std::size_t byte = begin; byte < end; ++byte) {
    const auto bit = static_cast<std::uint8_t>(1U << (byte % kCellBytes));
    if (me.kind != Access::kWrite && (flags[word] & bit) == 0) {
      return Trouble{FaultKind::kUninitialised, "nobody has written it"};
    }
    if (auto trouble = touch(byte_cells[byte], me)) {
      return trouble;
    }
    flags[word] |= bit;
  }
  return std::nullopt;
}

std::optional<SharedMemory::Impl::Trouble> SharedMemory::Impl::touch_word(std::size_t word,
                                                                          const Lane& me) {
  const std::uint8_t state = flags[word];
  if ((state & (kSplitBit | kInFlightBit)) != 0) {
    auto trouble = touch_bytes(word * kCellBytes, (word + 1) * kCellBytes, me);
    if (!trouble && me.kind == Access::kWrite) {
      // All four bytes have one history again.
      cells[word] = byte_cells[word * kCellBytes];
      flags[word] = kDefinedBits;
    }
    return trouble;
  }
  if (me.kind == Access::kWrite) {
    flags[word] = kDefinedBits;
  } else if (state != kDefinedBits) {
    return Trouble{FaultKind::kUninitialised, "nobody has written it"};
  }
  return touch(cells[word], me);
}

// Whether what stands against the lane's write of [begin, end) is a write of the same value by an
// earlier lane of the same instruction.
bool SharedMemory::Impl::same_instruction(const WarpRequest& request, const Lane& me,
                                          std::size_t begin, std::size_t end,
                                          const std::byte* values) const {
  const std::size_t word = begin / kCellBytes;
  const Cell& cell = (flags[word] & kSplitBit) != 0 ? byte_cells[begin] : cells[word];
  if (me.kind != Access::kWrite || cell.write.stamp != clocks.now(me.warp)) {
    return false;
  }
  const int other = __builtin_ctz(cell.write.lanes);
  if (other >= me.lane || (request.active >> other & 1) == 0) {
    return false;
  }
  const auto mine = static_cast<std::size_t>(request.addresses[static_cast<std::size_t>(me.lane)]);
  const auto theirs = static_cast<std::size_t>(request.addresses[static_cast<std::size_t>(other)]);
  if (begin < theirs || end > theirs + request.bytes) {
    return false;
  }
  const auto value_of = [&](int lane, std::size_t address) {
    return values + static_cast<std::size_t>(lane) * request.bytes + (begin - address);
  };
  return values == nullptr ||
         std::memcmp(value_of(me.lane, mine), value_of(other, theirs), end - begin) == 0;
}

std::optional<SharedMemory::Impl::Trouble> SharedMemory::Impl::check_lane(
    const WarpRequest& request, const Lane& me, const std::byte* values) {
  const Address address = request.addresses[static_cast<std::size_t>(me.lane)];
  if ((address & (request.bytes - 1)) != 0) {
    return Trouble{FaultKind::kMisaligned,
                   "the address is no multiple of " + std::to_string(request.bytes)};
  }
  if (address >= options.bytes || options.bytes - address < request.bytes) {
    return Trouble{FaultKind::kOutOfBounds,
                   "the block has " + bytes_text(options.bytes) + " of shared memory"};
  }
  const auto begin = static_cast<std::size_t>(address);
  const std::size_t end = begin + request.bytes;
  const Stamp now = clocks.now(me.warp);
  for (std::size_t at = begin; at < end;) {
    const std::size_t stop = std::min(end, (at / kCellBytes + 1) * kCellBytes);
    if (stop - at == kCellBytes && touch_ordered(at / kCellBytes, me, now)) {
      at = stop;
      continue;
    }
    auto trouble =
        stop - at == kCellBytes ? touch_word(at / kCellBytes, me) : touch_bytes(at, stop, me);
    if (trouble && (trouble->kind != FaultKind::kSharedRace ||
                    !same_instruction(request, me, at, stop, values))) {
      return trouble;
    }
    at = stop;
  }
  return std::nullopt;
}

void SharedMemory::Impl::land_one(int warp, const AsyncCopy& copy) {
  if (copy.read_late && copy.source_bytes > 0) {
    std::memcpy(data.data() + copy.offset, host_pointer(copy.source), copy.source_bytes);
    std::memset(data.data() + copy.offset + copy.source_bytes, 0,
                static_cast<std::size_t>(copy.bytes - copy.source_bytes));
  } else {
    std::memcpy(data.data() + copy.offset, copy.data.data(), copy.bytes);
  }
  const AccessRecord written{clocks.now(warp), 1U << copy.lane};
  for (std::size_t at = copy.offset; at < copy.offset + std::size_t{copy.bytes}; at += kCellBytes) {
    cells[at / kCellBytes] = {written, {}, {}};
    flags[at / kCellBytes] = kDefinedBits;
  }
}

// Lands the copies of a warp for which `done` is true, in the order of issue.
template <class Done>
void SharedMemory::Impl::land(int warp, Done done) {
  auto& copies = async[static_cast<std::size_t>(warp)].copies;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < copies.size(); ++i) {
    if (done(copies[i])) {
      land_one(warp, copies[i]);
    } else {
      if (kept != i) {
        copies[kept] = copies[i];
      }
      ++kept;
    }
  }
  copies.resize(kept);
}

// After 67 million synchronisations of a warp: forgets who has touched what.
void SharedMemory::Impl::forget_if_exhausted() {
  if (!clocks.exhausted()) {
    return;
  }
  clocks.restart();
  std::fill(cells.begin(), cells.end(), Cell{});
  std::fill(byte_cells.begin(), byte_cells.end(), Cell{});
  sets.clear();
}

SharedMemory::SharedMemory() : impl_(std::make_unique<Impl>()) {}

SharedMemory::~SharedMemory() = default;

void SharedMemory::begin_block(const Options& options) {
  Impl& m = *impl_;
  m.options = options;
  const std::size_t words = (options.bytes + kCellBytes - 1) / kCellBytes;
  m.data.resize(words * kCellBytes);
  m.flags.assign(words, 0);
  m.cells.assign(words, Cell{});
  m.byte_cells.clear();
  m.sets.clear();
  m.clocks.begin_block(options.threads);
  for (Impl::AsyncWarp& warp : m.async) {
    warp.copies.clear();
    warp.committed = {};
  }
  m.async_count = 0;
}

std::byte* SharedMemory::data() { return impl_->data.data(); }

std::size_t SharedMemory::size() const { return impl_->options.bytes; }

std::optional<Fault> SharedMemory::access(Access kind, const WarpRequest& request, int warp,
                                          int* lane, const std::byte* values) {
  for (std::uint32_t rest = request.active; rest != 0; rest &= rest - 1) {
    const int at = __builtin_ctz(rest);
    auto trouble = impl_->check_lane(request, {kind, warp, at}, values);
    if (trouble) {
      *lane = at;
      return Fault{trouble->kind,
                   std::to_string(request.bytes) + "-byte " + verb(kind) + " at shared address " +
                       hex(request.addresses[static_cast<std::size_t>(at)]) + ": " + trouble->what};
    }
  }
  return std::nullopt;
}

void SharedMemory::arrive(int id, int warp) { impl_->clocks.arrive(id, warp); }

void SharedMemory::release(int id, std::span<const int> waiting) {
  impl_->clocks.release(id, waiting);
  impl_->forget_if_exhausted();
}

void SharedMemory::warp_sync(int warp, std::uint32_t mask) {
  impl_->clocks.sync_lanes(warp, mask);
  impl_->forget_if_exhausted();
}

void SharedMemory::exit(int warp, std::uint32_t lanes) { impl_->clocks.exit(warp, lanes); }

std::optional<Fault> SharedMemory::copy_async(int warp, int lane, Address offset, Address source,
                                              std::size_t bytes, std::size_t source_bytes) {
  assert(source_bytes <= bytes && bytes <= 16);
  Impl& m = *impl_;
  std::array<Address, kWarpLanes> addresses{};
  addresses[static_cast<std::size_t>(lane)] = offset;
  // To the other threads it is this thread's write, from now until its wait.
  auto trouble =
      m.check_lane({1U << lane, addresses, bytes}, {Access::kWrite, warp, lane}, nullptr);
  if (trouble) {
    return Fault{trouble->kind, std::to_string(bytes) + "-byte cp.async to shared address " +
                                    hex(offset) + ": " + trouble->what};
  }
  Impl::AsyncWarp& mine = m.async[static_cast<std::size_t>(warp)];
  AsyncCopy copy;
  copy.source = source;
  copy.offset = static_cast<std::uint32_t>(offset);
  copy.group = mine.committed[static_cast<std::size_t>(lane)] + 1;
  copy.lane = static_cast<std::uint8_t>(lane);
  copy.bytes = static_cast<std::uint8_t>(bytes);
  copy.source_bytes = static_cast<std::uint8_t>(source_bytes);
  copy.read_late = (mix(m.options.seed + ++m.async_count) & 1) != 0;
  if (!copy.read_late && source_bytes > 0) {
    std::memcpy(copy.data.data(), host_pointer(source), source_bytes);
  }
  mine.copies.push_back(copy);
  for (std::size_t at = copy.offset; at < copy.offset + bytes; at += kCellBytes) {
    m.flags[at / kCellBytes] = kInFlightBit;
  }
  return std::nullopt;
}

void SharedMemory::commit(int warp, std::uint32_t active) {
  for (std::uint32_t rest = active; rest != 0; rest &= rest - 1) {
    ++impl_->async[static_cast<std::size_t>(warp)]
          .committed[static_cast<std::size_t>(__builtin_ctz(rest))];
  }
}

void SharedMemory::wait(int warp, std::uint32_t active, int left) {
  const auto& committed = impl_->async[static_cast<std::size_t>(warp)].committed;
  impl_->land(warp, [&](const AsyncCopy& copy) {
    return (active >> copy.lane & 1) != 0 &&
           copy.group + static_cast<std::uint32_t>(left) <= committed[copy.lane];
  });
}

void SharedMemory::wait_all(int warp, std::uint32_t active) {
  impl_->land(warp, [&](const AsyncCopy& copy) { return (active >> copy.lane & 1) != 0; });
}

}  // namespace xception::emulator
