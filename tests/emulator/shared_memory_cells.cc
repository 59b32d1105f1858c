#include "tests/emulator/shared_memory_cells.h"

#include <algorithm>

namespace xception::emulator {

std::string thread_text(int warp, int lane) {
  return "thread " + std::to_string(warp * kWarpLanes + lane) + " (warp " + std::to_string(warp) +
         ", lane " + std::to_string(lane) + ")";
}

void SharedCells::begin_block(std::size_t bytes, int threads, bool partial_barriers) {
  bytes_ = bytes;
  partial_barriers_ = partial_barriers;
  chunks_ = (bytes + kChunkBytes - 1) / kChunkBytes;
  flags_.resize(std::max(flags_.size(), byte_cell(0)));
  cells_.resize(std::max(cells_.size(), byte_cell(0)));
  std::fill_n(flags_.begin(), chunks_, std::uint8_t{0});
  std::fill_n(cells_.begin(), chunks_, Cell{});
  warps_ = static_cast<std::size_t>(threads + kWarpLanes - 1) / kWarpLanes;
  clocks_.begin_block(threads);
  for (std::vector<ProxyFence>& fences : proxy_fences_) {
    fences.clear();
  }
  wgmma_readers_.clear();
  wgmma_reads_ = 0;
}

std::size_t SharedCells::set_begin(const AccessRecord& record) const {
  static_assert(sizeof(Cell) == 3 * sizeof(AccessRecord));
  const auto* const first = reinterpret_cast<const AccessRecord*>(cells_.data());
  return static_cast<std::size_t>(&record - first) * warps_;
}

std::span<AccessRecord> SharedCells::set_of(const AccessRecord& record) {
  const std::size_t begin = set_begin(record);
  if (sets_.size() < begin + warps_) {
    sets_.resize(begin + warps_);
  }
  return {sets_.data() + begin, warps_};
}

std::span<const AccessRecord> SharedCells::set_of(const AccessRecord& record) const {
  return {sets_.data() + set_begin(record), warps_};
}

bool SharedCells::before(const AccessRecord& record, const Lane& me) const {
  if (record.stamp.warp() != Stamp::kSetOfWarps) {
    return clocks_.before_lane(record, me.warp, me.lane);
  }
  const std::span<const AccessRecord> set = set_of(record);
  return std::all_of(set.begin(), set.end(), [&](const AccessRecord& of_warp) {
    return clocks_.before_lane(of_warp, me.warp, me.lane);
  });
}

// Adds an access to those of the same kind, which do not conflict with each other.
void SharedCells::add(AccessRecord& record, const Lane& me) {
  const Stamp now = clocks_.now(me.warp);
  const std::uint32_t lane = me.bit();
  const int other = record.stamp.warp();
  if (record.stamp == now) {
    record.lanes |= lane;
  } else if (other != Stamp::kSetOfWarps && clocks_.before_warp(record.stamp, me.warp)) {
    record = {now, lane};
  } else if (other == me.warp) {
    // After a __syncwarp of some lanes this clock would be too young for those of the older one, as
    // for those that have told of it since; forgetting them may miss a race and invents none.
    const std::uint32_t others =
        clocks_.partly_synced(me.warp) ? 0 : record.lanes & clocks_.silent_since(record.stamp);
    record = {now, others | lane};
  } else if (other == Stamp::kManyWarps) {
    return;
  } else if (!partial_barriers_) {
    record = {clocks_.now_many(), 0};
  } else {
    const std::span<AccessRecord> set = set_of(record);
    if (other != Stamp::kSetOfWarps) {
      std::fill(set.begin(), set.end(), AccessRecord{});
      set[static_cast<std::size_t>(other)] = record;
      record = {Stamp(Stamp::kSetOfWarps, 1), 0};
    }
    add(set[static_cast<std::size_t>(me.warp)], me);
  }
}

SharedCells::Trouble SharedCells::race(const AccessRecord& record, const char* did,
                                       const Lane& me) const {
  AccessRecord other = record;
  if (record.stamp.warp() == Stamp::kSetOfWarps) {
    for (const AccessRecord& of_warp : set_of(record)) {
      if (!clocks_.before_lane(of_warp, me.warp, me.lane)) {
        other = of_warp;
      }
    }
  }
  if (other.stamp.warp() >= Stamp::kFirstMbarrier) {
    return {FaultKind::kAsyncCopyNotWaited, 0,
            "a bulk copy wrote it, and " + thread_text(me.warp, me.lane) +
                " has not waited for its mbarrier"};
  }
  const std::uint32_t lanes =
      other.stamp.warp() == me.warp ? other.lanes & ~(1U << me.lane) : other.lanes;
  std::string what = "threads of several warps";
  if (lanes != 0) {
    what = thread_text(other.stamp.warp(), __builtin_ctz(lanes));
  } else if (other.stamp.warp() < kMostWarps) {
    what = "a wgmma of warp " + std::to_string(other.stamp.warp());
  }
  what += std::string(" ") + did + " it, and no ";
  what += other.stamp.warp() == me.warp ? "__syncwarp or barrier" : "barrier";
  return {FaultKind::kSharedRace, 0, what + " lies between"};
}

std::optional<SharedCells::Trouble> SharedCells::touch(Cell& cell, const Lane& me) {
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
      cell = {{clocks_.now(me.warp), 1U << me.lane}, {}, {}};
      break;
    case Access::kAtomic:
      add(cell.atomic, me);
      break;
  }
  return std::nullopt;
}

// Has the cell `part` remember what the cell `whole` does.
void SharedCells::share(std::size_t whole, std::size_t part) {
  const Cell& from = cells_[whole];
  Cell& to = cells_[part];
  to = from;
  for (const auto kind : {&Cell::read, &Cell::atomic}) {
    if ((from.*kind).stamp.warp() == Stamp::kSetOfWarps) {
      const std::span<AccessRecord> set = set_of(to.*kind);  // first: it may move all of them
      std::ranges::copy(set_of(from.*kind), set.begin());
    }
  }
}

// A write to all parts of a unit gives them one history again: that of the cell `part`.
void SharedCells::join(std::size_t unit, std::size_t part) {
  cells_[unit] = cells_[part];
  flags_[unit] = kDefinedBits;
}

// Gives each word of a chunk, or byte of a word, a cell with what is remembered of the whole.
void SharedCells::split(std::size_t unit) {
  const std::uint8_t state = flags_[unit];
  flags_[unit] |= kSplitBit;
  if (unit < chunks_) {
    for (std::size_t word = first_unit(unit); word < first_unit(unit + 1); ++word) {
      flags_[word] = state;
      share(unit, word);
    }
    return;
  }
  cells_.resize(std::max(cells_.size(), byte_cell(chunks_ * kChunkBytes)));
  const std::size_t first = byte_cell(unit_begin(unit));
  for (std::size_t cell = first; cell < first + kWordBytes; ++cell) {
    share(unit, cell);
  }
}

// Calls f(unit) for each chunk that lies in [begin, end) as a whole, and for the words of others.
template <class F>
void SharedCells::each_unit(std::size_t begin, std::size_t end, const F& f) {
  while (begin < end) {
    const std::size_t chunk = begin / kChunkBytes;
    if (begin % kChunkBytes == 0 && end - begin >= kChunkBytes) {
      f(chunk);
      begin += kChunkBytes;
      continue;
    }
    if (!is_split(chunk)) {
      split(chunk);
    }
    f(word_unit(begin));
    begin += kWordBytes;
  }
}

SharedCells::Trouble SharedCells::in_the_way(std::size_t unit) const {
  if ((flags_[unit] & kMbarrierBit) != 0) {
    return {FaultKind::kMbarrier, unit_begin(unit), "an mbarrier object lives there"};
  }
  return {FaultKind::kAsyncCopyNotWaited, unit_begin(unit), "a cp.async to it is in flight"};
}

// Bytes [begin, end) of one word, apart from the others; its chunk is split.
std::optional<SharedCells::Trouble> SharedCells::touch_bytes(std::size_t begin, std::size_t end,
                                                             const Lane& me) {
  const std::size_t word = word_unit(begin);
  if ((flags_[word] & kInFlightBit) != 0) {
    return in_the_way(word);
  }
  if (!is_split(word)) {
    split(word);
  }
  for (std::size_t byte = begin; byte < end; ++byte) {
    const auto bit = static_cast<std::uint8_t>(1U << (byte % kWordBytes));
    if (me.kind != Access::kWrite && (flags_[word] & bit) == 0) {
      return Trouble{FaultKind::kUninitialised, byte, "nobody has written it"};
    }
    if (auto trouble = touch(cells_[byte_cell(byte)], me)) {
      return trouble;
    }
    flags_[word] |= bit;
  }
  return std::nullopt;
}

// A word, or a chunk that is not split.
std::optional<SharedCells::Trouble> SharedCells::touch_unit(std::size_t unit, const Lane& me) {
  const std::uint8_t state = flags_[unit];
  if ((state & kInFlightBit) != 0) {
    return in_the_way(unit);
  }
  if ((state & kSplitBit) != 0) {
    const std::size_t begin = unit_begin(unit);
    auto trouble = touch_bytes(begin, begin + kWordBytes, me);
    if (!trouble && me.kind == Access::kWrite) {
      join(unit, byte_cell(begin));
    }
    return trouble;
  }
  if (me.kind == Access::kWrite) {
    flags_[unit] = kDefinedBits;
  } else if (state != kDefinedBits) {
    return Trouble{FaultKind::kUninitialised, unit_begin(unit), "nobody has written it"};
  }
  return touch(cells_[unit], me);
}

void SharedCells::begin_copy(std::size_t begin, std::size_t end) {
  each_unit(begin, end, [&](std::size_t unit) { flags_[unit] = kInFlightBit; });
}

void SharedCells::land(std::size_t begin, std::size_t end, const AccessRecord& write) {
  each_unit(begin, end, [&](std::size_t unit) {
    cells_[unit] = {write, {}, {}};
    flags_[unit] = kDefinedBits;
  });
}

void SharedCells::begin_mbarrier(std::size_t begin) {
  each_unit(begin, begin + kMbarrierBytes,
            [&](std::size_t unit) { flags_[unit] = kInFlightBit | kMbarrierBit; });
}

void SharedCells::end_mbarrier(std::size_t begin) {
  each_unit(begin, begin + kMbarrierBytes, [&](std::size_t unit) { flags_[unit] = 0; });
}

void SharedCells::forget_if_exhausted() {
  if (!clocks_.exhausted()) {
    return;
  }
  ++times_forgotten_;
  clocks_.restart();
  for (std::vector<ProxyFence>& fences : proxy_fences_) {
    fences.clear();
  }
  std::fill(cells_.begin(), cells_.end(), Cell{});
}

}  // namespace xception::emulator
