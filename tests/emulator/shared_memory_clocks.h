// Happens-before among the warps of a block, and among the lanes of a warp.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "tests/emulator/memory.h"

namespace xception::emulator {

constexpr int kMostWarps = 32;

// When an access took place: by which warp, at which reading of that warp's clock. Everything
// before the block's start is kNever, which lies before everything.
class Stamp {
 public:
  constexpr Stamp() = default;
  constexpr Stamp(int warp, std::uint32_t clock)
      : value_(static_cast<std::uint32_t>(warp) | clock << kWarpBits) {}
  int warp() const { return static_cast<int>(value_ & ((1U << kWarpBits) - 1)); }
  std::uint32_t clock() const { return value_ >> kWarpBits; }
  bool operator==(const Stamp&) const = default;

  static constexpr int kWarpBits = 6;
  static constexpr std::uint32_t kLastClock = (1U << (32 - kWarpBits)) - 1;
  // In the place of a warp: several warps since the last barrier of the whole block, of which the
  // clock counts; and several warps of which each is remembered.
  static constexpr int kManyWarps = kMostWarps;
  static constexpr int kSetOfWarps = kMostWarps + 1;
  // Bulk copies that count at one mbarrier; the clock counts its phases. One such "warp" for each
  // of the mbarriers that may live at once.
  static constexpr int kFirstMbarrier = kMostWarps + 2;
  static constexpr int kMostMbarriers = (1 << kWarpBits) - kFirstMbarrier;

 private:
  std::uint32_t value_ = 0;
};

// The latest accesses of one kind to one place: the lanes that made them, of the stamp's warp.
struct AccessRecord {
  Stamp stamp;
  std::uint32_t lanes = 0;
};

// What somebody knows of the clocks: of whole warps (and phases of mbarriers), and besides of
// single lanes, which have told of themselves without their warp.
struct ClockKnowledge {
  using Lanes = std::array<std::array<std::uint32_t, kWarpLanes>, kMostWarps>;
  std::array<std::uint32_t, 1 << Stamp::kWarpBits> warps{};
  std::unique_ptr<Lanes> lanes;  // null: nothing of single lanes

  void join(const ClockKnowledge& other);
  void join_lane(int warp, int lane, std::uint32_t clock);
  std::uint32_t of_lane(int warp, int lane) const;
};

// Vector clocks, one component a warp. A warp's own clock goes on at each of its synchronisations;
// barriers join clocks. Within a warp, lanes know what the whole warp's last synchronisation
// covers, and after a __syncwarp of some of the lanes a clock of each other lane besides.
class WarpClocks {
 public:
  void begin_block(int threads);

  // `counted`: the barrier waits for a number of threads, not for all that live.
  void arrive(int id, int warp, bool counted);
  void release(int id, std::span<const int> waiting, bool counted);
  void sync_lanes(int warp, std::uint32_t mask);
  void exit(int warp, std::uint32_t lanes);
  // Moves a warp's clock on, to tell what it did before this from what follows: the new reading.
  std::uint32_t advance(int warp) {
    tick(warp);
    return clock_[index(warp)];
  }
  // What `reader` has been told of a warp's clock by barriers; of its own it knows everything.
  std::uint32_t known_to(int reader, int warp) const {
    return reader == warp ? clock_[index(warp)]
                          : known_[index(reader)][static_cast<std::size_t>(warp)];
  }

  // Mbarriers, by number below Stamp::kMostMbarriers. What lanes tell one when they arrive is
  // handed to the lanes that wait for the phase which their arrivals complete, or for a later one.
  // A lane speaks and learns for itself, all live lanes together for their warp, unless others of
  // it have ended apart.
  void mbarrier_begin(int mbarrier);
  void mbarrier_arrive(int mbarrier, int warp, std::uint32_t lanes);
  void mbarrier_complete(int mbarrier);
  void mbarrier_wait(int mbarrier, int warp, std::uint32_t lanes);
  // Of bytes that a copy has written and counted at the mbarrier's current phase: known to those
  // who have waited for it.
  Stamp mbarrier_now(int mbarrier) const {
    return {Stamp::kFirstMbarrier + mbarrier, mbarriers_[index(mbarrier)].phase};
  }
  // Whether anybody has waited for the last phase that had copies, or there was none.
  bool mbarrier_waited(int mbarrier, std::uint32_t phase) const;

  Stamp now(int warp) const { return {warp, clock_[index(warp)]}; }
  // Several warps, since the last barrier that the whole block waited at.
  Stamp now_many() const { return {Stamp::kManyWarps, phase_}; }
  // Whether the stamp lies before everything that `warp` does now, whichever lanes do it.
  bool before_warp(Stamp stamp, int warp) const {
    return stamp.clock() <= known_[index(warp)][static_cast<std::size_t>(stamp.warp())];
  }
  // Whether every access of the record lies before what this lane does now.
  bool before_lane(const AccessRecord& record, int warp, int lane) const {
    return before_warp(record.stamp, warp) ||
           (record.stamp.warp() == warp && before_lane_of_warp(record, warp, lane)) ||
           (lanes_speak_ && before_lane_alone(record, warp, lane));
  }
  bool before_every_lane(const AccessRecord& record, int warp) const {
    int lane = 0;
    while (lane < kWarpLanes && before_lane(record, warp, lane)) {
      ++lane;
    }
    return lane == kWarpLanes;
  }
  // The lanes of its warp that have not told of themselves without their warp since.
  std::uint32_t silent_since(Stamp stamp) const;
  // Some lane has told of itself, or has heard of others, without its warp.
  bool lanes_speak() const { return lanes_speak_; }
  // Some of the warp's lanes have synchronised without the others since all of them last did.
  bool partly_synced(int warp) const { return partly_synced_[index(warp)]; }
  // A clock is at its end: whoever keeps stamps must forget them and begin anew.
  bool exhausted() const { return exhausted_; }
  void restart();

 private:
  static std::size_t index(int warp) { return static_cast<std::size_t>(warp); }
  bool before_lane_of_warp(const AccessRecord& record, int warp, int lane) const;
  bool before_lane_alone(const AccessRecord& record, int warp, int lane) const;
  void tick(int warp);
  void tell(int warp, std::uint32_t lanes, ClockKnowledge* whom);
  void learn(int warp, std::uint32_t lanes, const ClockKnowledge& from);
  void gather_lanes(int warp, std::uint32_t mask);
  // All that live; they are to learn for their warp.
  bool whole(int warp, std::uint32_t lanes) const {
    return (live_lanes_[index(warp)] & ~lanes) == 0;
  }

  struct Barrier {
    ClockKnowledge known;
  };
  struct Mbarrier {
    ClockKnowledge arriving;
    ClockKnowledge completed;
    std::uint32_t phase = 1;
  };
  using LaneClocks = std::array<std::array<std::uint32_t, kWarpLanes>, kWarpLanes>;

  std::array<std::uint32_t, kMostWarps> clock_{};
  // What each warp knows of each other one's clock, of its own as the last synchronisation of all
  // its lanes left it, and of the block's phase.
  std::array<std::array<std::uint32_t, 1 << Stamp::kWarpBits>, kMostWarps> known_{};
  // What each warp knows of single lanes, and what single lanes know beside their warp: see
  // ClockKnowledge. Null, and lanes_speak_ false, until a lane has spoken or learnt alone.
  std::array<ClockKnowledge, kMostWarps> known_lanes_{};
  std::array<std::unique_ptr<ClockKnowledge>, std::size_t{kMostWarps} * kWarpLanes> alone_;
  bool lanes_speak_ = false;
  // When each lane last told of itself without its warp.
  std::array<std::array<std::uint32_t, kWarpLanes>, kMostWarps> told_alone_{};
  std::array<Mbarrier, Stamp::kMostMbarriers> mbarriers_{};
  std::array<Barrier, 16> barriers_{};
  std::array<std::uint32_t, kMostWarps> live_lanes_{};
  // Some of a warp's lanes have ended, and since then there was no __syncwarp of the others and no
  // barrier of the block, which take them for lanes that have come.
  std::array<bool, kMostWarps> ended_apart_{};
  std::array<bool, kMostWarps> partly_synced_{};
  std::vector<LaneClocks> lane_clocks_;  // of each warp, empty until a warp is partly synchronised
  std::uint32_t phase_ = 1;              // counts barriers that every warp waited at
  int warps_ = 0;
  bool exhausted_ = false;
};

}  // namespace xception::emulator
