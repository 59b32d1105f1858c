#include "tests/emulator/shared_memory_clocks.h"

#include <algorithm>

namespace xception::emulator {

namespace {

std::size_t at(int number) { return static_cast<std::size_t>(number); }

}  // namespace

void ClockKnowledge::join(const ClockKnowledge& other) {
  for (std::size_t i = 0; i < warps.size(); ++i) {
    warps[i] = std::max(warps[i], other.warps[i]);
  }
  if (other.lanes == nullptr) {
    return;
  }
  if (lanes == nullptr) {
    lanes = std::make_unique<Lanes>(*other.lanes);
    return;
  }
  for (std::size_t i = 0; i < lanes->size(); ++i) {
    for (std::size_t j = 0; j < (*lanes)[i].size(); ++j) {
      (*lanes)[i][j] = std::max((*lanes)[i][j], (*other.lanes)[i][j]);
    }
  }
}

void ClockKnowledge::join_lane(int warp, int lane, std::uint32_t clock) {
  if (lanes == nullptr) {
    lanes = std::make_unique<Lanes>();
  }
  std::uint32_t& known = (*lanes)[at(warp)][at(lane)];
  known = std::max(known, clock);
}

std::uint32_t ClockKnowledge::of_lane(int warp, int lane) const {
  return lanes == nullptr ? 0 : (*lanes)[at(warp)][at(lane)];
}

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
  for (Barrier& barrier : barriers_) {
    barrier = {};
  }
  for (Mbarrier& mbarrier : mbarriers_) {
    mbarrier = {};
  }
  if (lanes_speak_) {
    known_lanes_ = {};
    alone_ = {};
    lanes_speak_ = false;
  }
  told_alone_ = {};
  partly_synced_ = {};
  ended_apart_ = {};
  lane_clocks_.clear();
  phase_ = 1;
  exhausted_ = false;
}

void WarpClocks::tick(int warp) {
  exhausted_ = ++clock_[index(warp)] >= Stamp::kLastClock || exhausted_;
}

void WarpClocks::arrive(int id, int warp, bool counted) {
  if (!counted) {
    // A barrier of the block takes threads that have ended for threads that have come.
    ended_apart_[index(warp)] = false;
  }
  tell(warp, live_lanes_[index(warp)], &barriers_[at(id)].known);
  tick(warp);
}

void WarpClocks::release(int id, std::span<const int> waiting, bool counted) {
  Barrier& barrier = barriers_[static_cast<std::size_t>(id)];
  std::uint32_t absent = 0;
  for (int warp = 0; warp < warps_; ++warp) {
    absent |= live_lanes_[index(warp)] != 0 ? 1U << warp : 0;
  }
  for (const int warp : waiting) {
    absent &= ~(1U << warp);
  }
  // One with a count waits for nobody else to end, even where those that came are all that live.
  const bool whole_block = absent == 0 && !counted;
  if (whole_block) {
    // A barrier of the block is complete only when the others have ended.
    for (int warp = 0; warp < warps_; ++warp) {
      if (live_lanes_[index(warp)] == 0) {
        barrier.known.warps[index(warp)] = clock_[index(warp)];
      }
    }
  }
  for (const int warp : waiting) {
    learn(warp, live_lanes_[index(warp)], barrier.known);
    gather_lanes(warp, live_lanes_[index(warp)]);
    if (whole_block) {
      known_[index(warp)][Stamp::kManyWarps] = phase_;
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
  gather_lanes(warp, mask);
  if ((live_lanes_[index(warp)] & ~mask) == 0) {
    known_[index(warp)][index(warp)] = now;
    partly_synced_[index(warp)] = false;
    ended_apart_[index(warp)] = false;
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

// What `lanes` of a warp know, themselves included.
void WarpClocks::tell(int warp, std::uint32_t lanes, ClockKnowledge* whom) {
  const auto& known = known_[index(warp)];
  for (std::size_t i = 0; i < known.size(); ++i) {
    // The block's phases are no knowledge to hand on: a barrier of the block gives it to all.
    if (i != at(Stamp::kManyWarps)) {
      whom->warps[i] = std::max(whom->warps[i], known[i]);
    }
  }
  if (lanes_speak_) {
    whom->join(known_lanes_[index(warp)]);
    for (std::uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
      const auto& alone = alone_[at(warp * kWarpLanes + __builtin_ctz(rest))];
      if (alone != nullptr) {
        whom->join(*alone);
      }
    }
  }
  if (whole(warp, lanes) && !ended_apart_[index(warp)]) {
    whom->warps[index(warp)] = clock_[index(warp)];
    return;
  }
  for (std::uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    whom->join_lane(warp, lane, clock_[index(warp)]);
    told_alone_[index(warp)][at(lane)] = clock_[index(warp)];
    for (int other = 0; partly_synced_[index(warp)] && other < kWarpLanes; ++other) {
      whom->join_lane(warp, other, lane_clocks_[index(warp)][at(lane)][at(other)]);
    }
  }
}

std::uint32_t WarpClocks::silent_since(Stamp stamp) const {
  std::uint32_t lanes = 0;
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const bool silent = told_alone_[index(stamp.warp())][at(lane)] < stamp.clock();
    lanes |= static_cast<std::uint32_t>(silent) << lane;
  }
  return lanes;
}

void WarpClocks::learn(int warp, std::uint32_t lanes, const ClockKnowledge& from) {
  if (whole(warp, lanes)) {
    auto& known = known_[index(warp)];
    for (std::size_t i = 0; i < known.size(); ++i) {
      known[i] = std::max(known[i], from.warps[i]);
    }
    if (from.lanes != nullptr) {
      known_lanes_[index(warp)].join(from);
      lanes_speak_ = true;
    }
    return;
  }
  lanes_speak_ = true;
  for (std::uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    auto& alone = alone_[at(warp * kWarpLanes + __builtin_ctz(rest))];
    if (alone == nullptr) {
      alone = std::make_unique<ClockKnowledge>();
    }
    alone->join(from);
  }
}

// Lanes that synchronise share what each of them has learnt alone.
void WarpClocks::gather_lanes(int warp, std::uint32_t mask) {
  if (!lanes_speak_) {
    return;
  }
  ClockKnowledge all;
  bool any = false;
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    auto& alone = alone_[at(warp * kWarpLanes + __builtin_ctz(rest))];
    if (alone != nullptr) {
      all.join(*alone);
      any = true;
      if (whole(warp, mask)) {
        alone.reset();
      }
    }
  }
  if (any) {
    learn(warp, mask, all);
  }
}

void WarpClocks::mbarrier_begin(int mbarrier) {
  mbarriers_[index(mbarrier)].arriving = {};
  mbarriers_[index(mbarrier)].completed = {};
}

void WarpClocks::mbarrier_arrive(int mbarrier, int warp, std::uint32_t lanes) {
  tell(warp, lanes, &mbarriers_[index(mbarrier)].arriving);
  tick(warp);
}

void WarpClocks::mbarrier_complete(int mbarrier) {
  Mbarrier& m = mbarriers_[index(mbarrier)];
  m.arriving.warps[at(Stamp::kFirstMbarrier + mbarrier)] = m.phase;
  m.completed.join(m.arriving);
  m.arriving = {};
  exhausted_ = ++m.phase >= Stamp::kLastClock || exhausted_;
}

void WarpClocks::mbarrier_wait(int mbarrier, int warp, std::uint32_t lanes) {
  learn(warp, lanes, mbarriers_[index(mbarrier)].completed);
}

bool WarpClocks::mbarrier_waited(int mbarrier, std::uint32_t phase) const {
  const std::size_t component = at(Stamp::kFirstMbarrier + mbarrier);
  return std::ranges::any_of(known_,
                             [&](const auto& known) { return known[component] >= phase; }) ||
         std::ranges::any_of(alone_, [&](const auto& alone) {
           return alone != nullptr && alone->warps[component] >= phase;
         });
}

void WarpClocks::exit(int warp, std::uint32_t lanes) {
  live_lanes_[index(warp)] &= ~lanes;
  ended_apart_[index(warp)] = true;
}

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

// What lanes have said, or this one has heard, apart from their warps.
bool WarpClocks::before_lane_alone(const AccessRecord& record, int warp, int lane) const {
  const int other = record.stamp.warp();
  const auto& alone = alone_[at(warp * kWarpLanes + lane)];
  if (alone != nullptr && record.stamp.clock() <= alone->warps[at(other)]) {
    return true;
  }
  std::uint32_t rest = record.lanes;
  if (other == warp) {
    rest &= ~(1U << lane);
  }
  if (other >= kMostWarps || rest == 0) {
    return false;
  }
  for (; rest != 0; rest &= rest - 1) {
    const int from = __builtin_ctz(rest);
    std::uint32_t known = known_lanes_[index(warp)].of_lane(other, from);
    known = alone != nullptr ? std::max(known, alone->of_lane(other, from)) : known;
    if (other == warp && partly_synced_[index(warp)]) {
      known = std::max(known, lane_clocks_[index(warp)][at(lane)][at(from)]);
    }
    if (record.stamp.clock() > known) {
      return false;
    }
  }
  return true;
}

}  // namespace xception::emulator
