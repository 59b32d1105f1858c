#include "tests/emulator/block.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "tests/emulator/execute.h"

namespace xception::emulator {
namespace {

// Rounds in which every wait ends in vain and nothing else happens, until they are taken for a
// deadlock.
constexpr int kMostTimeOuts = 4;
// Instructions of a turn that is more than a few.
constexpr std::uint64_t kLongTurn = 4096;
// As many turns of each warp with mbarrier.test_wait in vain, and no turn of anybody without it
// between: one that has other work would have been drawn.
constexpr std::uint64_t kMostIdleTurns = 64;

}  // namespace

Dim3 Block::thread(int warp, int lane) const {
  const Dim3& size = context_.request->block;
  const auto linear = static_cast<unsigned>(warp * kLanes + lane);
  return {linear % size.x, linear / size.x % size.y, linear / size.x / size.y};
}

std::string Block::thread_name(int warp, int lane) const {
  const Dim3 at = thread(warp, lane);
  return std::to_string(at.x) + "," + std::to_string(at.y) + "," + std::to_string(at.z);
}

SplitMix64 Block::begin(std::uint32_t index) {
  const LaunchRequest& request = *context_.request;
  index_ = index;
  position_ = {index % request.grid.x, index / request.grid.x % request.grid.y,
               index / request.grid.x / request.grid.y};
  const int threads = static_cast<int>(request.block.x * request.block.y * request.block.z);
  live_threads_ = threads;
  barriers_ = {};
  mbarrier_waiting_.clear();
  exits_ = 0;
  polls_ = 0;
  idle_turns_ = 0;
  progress_at_time_out_ = ~std::uint64_t{0};
  time_outs_ = 0;
  SplitMix64 random(SplitMix64(request.seed)() + index);
  shared_.begin_block({.bytes = context_.shared_bytes,
                       .threads = threads,
                       .partial_barriers = context_.partial_barriers,
                       .seed = random()});
  wgmma_log_.begin();
  registers_log_.begin();
  const auto warps = static_cast<std::size_t>((threads + kLanes - 1) / kLanes);
  warps_.resize(warps);
  for (std::size_t w = 0; w < warps; ++w) {
    warps_[w].begin(this, static_cast<int>(w), threads - static_cast<int>(w) * kLanes);
  }
  return random;
}

std::optional<Fault> Block::run(std::uint32_t index) {
  SplitMix64 random = begin(index);
  const std::size_t warps = warps_.size();
  // Which warp runs, and how long, is drawn: mostly to its next barrier, now and then a few
  // instructions only.
  std::vector<std::size_t> runnable;
  for (;;) {
    runnable.clear();
    bool done = true;
    for (std::size_t w = 0; w < warps; ++w) {
      if (warps_[w].status() == Warp::Status::kRunnable) {
        runnable.push_back(w);
      }
      done = done && warps_[w].status() == Warp::Status::kDone;
    }
    if (done) {
      const std::optional<Fault> fault = shared_.mbarriers().at_end();
      return fault ? std::optional(fault_of_block(*fault)) : finish();
    }
    // A bulk copy is like one more warp, which lands it.
    const std::size_t in_flight = shared_.mbarriers().in_flight();
    if (in_flight != 0 && (runnable.empty() || random() % (runnable.size() + 1) == 0)) {
      if (const std::optional<Fault> fault = shared_.mbarriers().land(random() % in_flight)) {
        return fault_of_block(*fault);
      }
      settle_mbarriers();
      continue;
    }
    if (runnable.empty()) {
      if (end_time_of_waits()) {
        continue;
      }
      return stuck();
    }
    Warp& warp = warps_[runnable[random() % runnable.size()]];
    const std::uint64_t draw = random();
    const std::uint64_t budget = draw % 8 == 0 ? 1 + draw / 8 % 256 : kLongTurn + draw / 8 % 65536;
    const std::uint64_t polls = polls_;
    const std::uint64_t before = progress();
    if (warp.run(budget) == Warp::Status::kFault) {
      return warp.take_fault();
    }
    if (progress() != before || (polls_ == polls && budget >= kLongTurn)) {
      idle_turns_ = 0;
    } else {
      idle_turns_ += polls_ != polls ? 1 : 0;
    }
    if (idle_turns_ > kMostIdleTurns * warps && in_flight == 0) {
      return stuck();
    }
  }
}

Flow Block::barrier(Warp* warp, const Instruction& in, int id, int threads, LaneMask lanes,
                    bool wait, LaneMask values) {
  const int lane = std::countr_zero(lanes);
  if (id < 0 || id >= static_cast<int>(barriers_.size())) {
    return warp->fail(FaultKind::kDivergentBarrier, "barrier " + std::to_string(id) + " of 16",
                      lane);
  }
  Barrier& barrier = barriers_[static_cast<std::size_t>(id)];
  const bool aligned = in.collective == Collective::kLive;
  if (threads < 0 || (threads != 0 && threads % kLanes != 0)) {
    return warp->fail(FaultKind::kDivergentBarrier,
                      "a barrier of " + std::to_string(threads) +
                          " threads, which is no multiple of the warp's size",
                      lane);
  }
  if (barrier.open && barrier.expected != threads) {
    return warp->fail(FaultKind::kDivergentBarrier,
                      "comes to barrier " + std::to_string(id) + " with " +
                          std::to_string(threads) + " threads, where others came with " +
                          std::to_string(barrier.expected),
                      lane);
  }
  barrier.open = true;
  barrier.expected = threads;
  // With a count, whole warps are counted, whatever lanes are left of them.
  barrier.arrived += threads != 0 && aligned ? kLanes : std::popcount(lanes);
  barrier.ones += std::popcount(values & lanes);
  barrier.reduced += std::popcount(lanes);
  ++counters_.barriers;
  shared_.arrive(id, warp->index(), threads != 0);
  Flow flow = Flow::kNext;
  if (wait) {
    barrier.waiting.push_back({warp, lanes, &in, warp->frame().registers.data()});
    flow = warp->wait_at_barrier(lanes);
  }
  const int expected = threads != 0 ? threads : live_threads_;
  if (barrier.arrived > expected) {
    return warp->fail(FaultKind::kDivergentBarrier,
                      "is one thread too many at barrier " + std::to_string(id), lane);
  }
  if (barrier.arrived == expected) {
    complete(id);
  }
  return flow;
}

void Block::complete(int id) {
  Barrier barrier = std::move(barriers_[static_cast<std::size_t>(id)]);
  barriers_[static_cast<std::size_t>(id)] = {};
  std::vector<int> warps;
  for (const Waiting& waiting : barrier.waiting) {
    warps.push_back(waiting.warp->index());
  }
  std::ranges::sort(warps);
  warps.erase(std::ranges::unique(warps).begin(), warps.end());
  shared_.release(id, warps, barrier.expected != 0);
  for (const Waiting& waiting : barrier.waiting) {
    const Instruction& in = *waiting.instruction;
    if (in.destinations != 0) {
      const auto reduction = static_cast<BarrierReduction>(in.variant >> kBarrierReduceShift);
      const Slot& slot = in.slots[0];
      if (reduction == BarrierReduction::kCount) {
        for (LaneMask rest = waiting.lanes; rest != 0; rest &= rest - 1) {
          std::memcpy(waiting.result + slot.offset + 4 * std::countr_zero(rest), &barrier.ones, 4);
        }
      } else {
        const bool value = reduction == BarrierReduction::kAnd ? barrier.ones == barrier.reduced
                                                               : barrier.ones != 0;
        LaneMask word = 0;
        std::memcpy(&word, waiting.result + slot.offset, 4);
        word = value ? word | waiting.lanes : word & ~waiting.lanes;
        std::memcpy(waiting.result + slot.offset, &word, 4);
      }
    }
    waiting.warp->release(waiting.lanes);
  }
}

void Block::exited(Warp* warp, LaneMask lanes) {
  live_threads_ -= std::popcount(lanes);
  ++exits_;
  shared_.exit(warp->index(), lanes);
  for (std::size_t id = 0; id < barriers_.size(); ++id) {
    const Barrier& barrier = barriers_[id];
    if (barrier.open && barrier.expected == 0 && barrier.arrived == live_threads_) {
      complete(static_cast<int>(id));
    }
  }
}

std::optional<Fault> Block::finish() const {
  std::string what = wgmma_log_.finish();
  what = what.empty() ? registers_log_.finish() : what;
  return what.empty() ? std::nullopt
                      : std::optional(fault_of_block({FaultKind::kDivergentBarrier, what}));
}

void Block::wait_at_mbarrier(Warp* warp, const Instruction& in, LaneMask lanes, Address mbarrier) {
  mbarrier_waiting_.push_back({warp, lanes, &in, warp->frame().registers.data(), mbarrier});
}

void Block::settle_mbarriers() {
  for (const Address completed : shared_.mbarriers().take_completed()) {
    std::vector<MbarrierWaiting> waiting;
    std::swap(waiting, mbarrier_waiting_);
    for (const MbarrierWaiting& one : waiting) {
      // It waits for the phase that was current when it came, which this is the end of.
      if (one.mbarrier == completed) {
        release(one, true);
      } else {
        mbarrier_waiting_.push_back(one);
      }
    }
  }
}

void Block::release(const MbarrierWaiting& waiting, bool complete) {
  const Slot& slot = waiting.instruction->slots[0];
  if (!slot.sink) {
    LaneMask word = 0;
    std::memcpy(&word, waiting.result + slot.offset, sizeof word);
    word = complete ? word | waiting.lanes : word & ~waiting.lanes;
    std::memcpy(waiting.result + slot.offset, &word, sizeof word);
  }
  if (complete) {
    shared_.mbarriers().waited(waiting.warp->index(), waiting.lanes, waiting.mbarrier);
  }
  waiting.warp->release(waiting.lanes);
}

bool Block::end_time_of_waits() {
  if (mbarrier_waiting_.empty()) {
    return false;
  }
  time_outs_ = progress() == progress_at_time_out_ ? time_outs_ + 1 : 0;
  progress_at_time_out_ = progress();
  if (time_outs_ == kMostTimeOuts) {
    return false;
  }
  const std::vector<MbarrierWaiting> waiting = std::move(mbarrier_waiting_);
  mbarrier_waiting_.clear();
  for (const MbarrierWaiting& one : waiting) {
    release(one, false);
  }
  return true;
}

Fault Block::fault_of_block(const Fault& fault) const {
  return {fault.kind, context_.kernel_name + ", block " + std::to_string(position_.x) + "," +
                          std::to_string(position_.y) + "," + std::to_string(position_.z) + ": " +
                          fault.message};
}

Fault Block::stuck() {
  std::string text = "no warp can go on";
  for (const Warp& warp : warps_) {
    if (warp.status() != Warp::Status::kDone) {
      text += "; " + warp.describe_waiting();
    }
  }
  return fault_of_block({FaultKind::kDeadlock, text});
}

}  // namespace xception::emulator
