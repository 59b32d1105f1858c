// What a block's shared memory remembers of the reads of wgmma, and of the fences that they need.
#include <algorithm>

#include "tests/emulator/memory_ranges.h"
#include "tests/emulator/shared_memory_cells.h"

namespace xception::emulator {

void SharedCells::proxy_fence(int warp, std::uint32_t lanes) {
  proxy_fences_[static_cast<std::size_t>(warp)].push_back({clocks_.advance(warp), lanes});
}

std::uint32_t SharedCells::fenced_lanes(Stamp write, int reader) const {
  if (write.warp() >= kMostWarps) {
    return 0;  // a bulk copy's, which is of no lane
  }
  const auto& fences = proxy_fences_[static_cast<std::size_t>(write.warp())];
  const std::uint32_t known = clocks_.known_to(reader, write.warp());
  std::uint32_t lanes = 0;
  for (auto at = std::ranges::upper_bound(fences, write.clock(), {}, &ProxyFence::clock);
       at != fences.end() && ~lanes != 0; ++at) {
    if (at->clock <= known) {
      lanes |= at->lanes;
      continue;
    }
    if (!clocks_.lanes_speak()) {
      break;
    }
    // Lanes that have told of their fence without their warp.
    for (std::uint32_t rest = at->lanes & ~lanes; rest != 0; rest &= rest - 1) {
      const std::uint32_t lane = rest & (~rest + 1);
      if (clocks_.before_every_lane({{write.warp(), at->clock}, lane}, reader)) {
        lanes |= lane;
      }
    }
  }
  return lanes;
}

std::optional<SharedCells::Trouble> SharedCells::unfenced(const AccessRecord& write,
                                                          int reader) const {
  // Nothing is known of a write before the clocks began anew.
  if (write.stamp.clock() == 0 || (write.lanes & ~fenced_lanes(write.stamp, reader)) == 0) {
    return std::nullopt;
  }
  return Trouble{FaultKind::kMissingFence, 0,
                 thread_text(write.stamp.warp(), __builtin_ctz(write.lanes)) +
                     " wrote it, and has executed no fence.proxy.async between that and the "
                     "barrier"};
}

// The common case: a unit written as part of a tile that is known, and since then only read. False
// where the case is another one, with nothing recorded.
inline bool SharedCells::read_fenced(std::size_t unit, const WgmmaReader& reader) {
  Cell& cell = cells_[unit];
  const AccessRecord& fenced = reader.fenced[static_cast<std::size_t>(cell.write.stamp.warp())];
  if (flags_[unit] != kDefinedBits || !(cell.write.stamp == fenced.stamp) ||
      (cell.write.lanes & ~fenced.lanes) != 0 || !(cell.atomic.stamp == Stamp())) {
    return false;
  }
  if (!(cell.read.stamp == reader.now) && !(cell.read.stamp == reader.now_many)) {
    add(cell.read, Lane{Access::kRead, reader.warp, 0, true});
  }
  return true;
}

std::optional<SharedCells::Trouble> SharedCells::read_of_wgmma(std::size_t unit,
                                                               WgmmaReader* reader) {
  // It reads for every lane of its warp, and each has to come after the writes by itself where not
  // all of the warp does.
  const bool by_warp = !is_split(unit) &&
                       clocks_.before_warp(cells_[unit].write.stamp, reader->warp) &&
                       clocks_.before_warp(cells_[unit].atomic.stamp, reader->warp);
  for (int lane = 0; lane < (by_warp ? 1 : kWarpLanes); ++lane) {
    if (auto trouble = touch_unit(unit, {Access::kRead, reader->warp, lane, true})) {
      return trouble;
    }
  }
  if (is_split(unit)) {
    const std::size_t first = byte_cell(unit_begin(unit));
    for (std::size_t cell = first; cell < first + kWordBytes; ++cell) {
      if (auto trouble = unfenced(cells_[cell].write, reader->warp)) {
        return trouble;
      }
    }
    return std::nullopt;
  }
  const AccessRecord& write = cells_[unit].write;
  if (auto trouble = unfenced(write, reader->warp)) {
    return trouble;
  }
  // Others of that time lie before it too where the warp knows of its whole clock, and else if they
  // are of the same lanes.
  reader->fenced[static_cast<std::size_t>(write.stamp.warp())] = {
      write.stamp, clocks_.before_warp(write.stamp, reader->warp)
                       ? fenced_lanes(write.stamp, reader->warp)
                       : write.lanes};
  return std::nullopt;
}

std::optional<SharedCells::Trouble> SharedCells::begin_wgmma(
    int warp, std::span<const std::uint32_t> chunks) {
  wgmma_readers_.resize(chunks_);
  WgmmaReader reader;
  reader.warp = warp;
  reader.now = clocks_.now(warp);
  reader.now_many = clocks_.now_many();
  for (const std::uint32_t chunk : chunks) {
    if (chunk >= bytes_ || bytes_ - chunk < kChunkBytes) {
      return Trouble{FaultKind::kOutOfBounds, chunk,
                     "the block has " + bytes_text(bytes_) + " of shared memory"};
    }
    const Units units = units_of(chunk / kChunkBytes);
    for (std::size_t unit = units.first; unit < units.first + units.count; ++unit) {
      if (read_fenced(unit, reader)) {
        continue;
      }
      if (auto trouble = read_of_wgmma(unit, &reader)) {
        trouble->offset = std::max(trouble->offset, unit_begin(unit));
        return trouble;
      }
    }
    WgmmaReaders& readers = wgmma_readers_[chunk / kChunkBytes];
    ++readers.count;
    readers.warp = static_cast<std::uint8_t>(warp);
  }
  wgmma_reads_ += chunks.size();
  return std::nullopt;
}

void SharedCells::end_wgmma(int warp, std::span<const std::uint32_t> chunks, Stamp at_begin) {
  // It has been reading until now, and nobody can have written in the meantime.
  const Lane me{Access::kRead, warp, 0, true};
  const bool later = !(clocks_.now(warp) == at_begin);
  for (const std::uint32_t chunk : chunks) {
    --wgmma_readers_[chunk / kChunkBytes].count;
    const Units units = units_of(chunk / kChunkBytes);
    for (std::size_t unit = units.first; later && unit < units.first + units.count; ++unit) {
      if (is_split(unit)) {
        (void)touch_unit(unit, me);
      } else {
        add(cells_[unit].read, me);
      }
    }
  }
  wgmma_reads_ -= chunks.size();
}

}  // namespace xception::emulator
