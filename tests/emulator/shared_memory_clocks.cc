#include "tests/emulator/shared_memory_clocks.h"

#include <algorithm>

namespace xception::emulator {

void WarpClocks::begin_block(int threads) {
  warps_ = (threads + kWarpLanes - 1) / kWarpLanes;
  for (int warp = 0; warp < warps_; ++warp) {
    const int lanes = std::min(threads - warp * kWarpLanes, kWarpLanes);
    live_lanes_[index(warp)] = ~std::uint32_t{0} >> (kWarpLanes - lanes);
  }
  restart();
}

void WarpClocks::restart() {
  clock_.fill(1);
  known_ = {};
  barriers_ = {};
  partly_synced_ = {};
  lane_clocks_.clear();
  phase_ = 1;
  exhausted_ = false;
}

void WarpClocks::tick(int warp) {
  exhausted_ = ++clock_[index(warp)] >= Stamp::kLastClock || exhausted_;
}

void WarpClocks::arrive(int id, int warp) {
  auto& clock = barriers_[static_cast<std::size_t>(id)].clock;
  const auto& known = known_[index(warp)];
  for (int other = 0; other < warps_; ++other) {
    const std::uint32_t brought = other == warp ? clock_[index(warp)] : known[index(other)];
    clock[index(other)] = std::max(clock[index(other)], brought);
  }
  tick(warp);
}

void WarpClocks::release(int id, std::span<const int> waiting) {
  Barrier& barrier = barriers_[static_cast<std::size_t>(id)];
  std::uint32_t absent = 0;
  for (int warp = 0; warp < warps_; ++warp) {
    absent |= live_lanes_[index(warp)] != 0 ? 1U << warp : 0;
  }
  for (const int warp : waiting) {
    absent &= ~(1U << warp);
  }
  const bool whole_block = absent == 0;
  if (whole_block) {
    // A barrier of the block is complete only when the others have ended.
    for (int warp = 0; warp < warps_; ++warp) {
      if (live_lanes_[index(warp)] == 0) {
        barrier.clock[index(warp)] = clock_[index(warp)];
      }
    }
  }
  for (const int warp : waiting) {
    auto& known = known_[index(warp)];
    for (int other = 0; other < warps_; ++other) {
      known[index(other)] = std::max(known[index(other)], barrier.clock[index(other)]);
    }
    if (whole_block) {
      known[Stamp::kManyWarps] = phase_;
    }
    partly_synced_[index(warp)] = false;
  }
  if (whole_block) {
    exhausted_ = ++phase_ >= Stamp::kLastClock || exhausted_;
  }
  barrier = {};
}

void WarpClocks::sync_lanes(int warp, std::uint32_t mask) {
  const std::uint32_t now = clock_[index(warp)];
  tick(warp);
  if ((live_lanes_[index(warp)] & ~mask) == 0) {
    known_[index(warp)][index(warp)] = now;
    partly_synced_[index(warp)] = false;
    return;
  }
  lane_clocks_.resize(index(kMostWarps));
  LaneClocks& lanes = lane_clocks_[index(warp)];
  if (!partly_synced_[index(warp)]) {
    lanes = {};
    partly_synced_[index(warp)] = true;
  }
  std::array<std::uint32_t, kWarpLanes> joined{};
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const auto lane = static_cast<std::size_t>(__builtin_ctz(rest));
    for (std::size_t other = 0; other < joined.size(); ++other) {
      joined[other] = std::max(joined[other], lanes[lane][other]);
    }
    joined[lane] = now;
  }
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    lanes[static_cast<std::size_t>(__builtin_ctz(rest))] = joined;
  }
}

void WarpClocks::exit(int warp, std::uint32_t lanes) { live_lanes_[index(warp)] &= ~lanes; }

bool WarpClocks::before_lane_of_warp(const AccessRecord& record, int warp, int lane) const {
  const std::uint32_t others = record.lanes & ~(1U << lane);
  if (others == 0) {
    return true;
  }
  if (!partly_synced_[index(warp)]) {
    return false;
  }
  const auto& known = lane_clocks_[index(warp)][static_cast<std::size_t>(lane)];
  for (std::uint32_t rest = others; rest != 0; rest &= rest - 1) {
    if (record.stamp.clock() > known[static_cast<std::size_t>(__builtin_ctz(rest))]) {
      return false;
    }
  }
  return true;
}

}  // namespace xception::emulator
