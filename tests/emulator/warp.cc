#include "tests/emulator/warp.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "tests/emulator/block.h"
#include "tests/emulator/execute.h"

namespace xception::emulator {
namespace {

// Lanes that spin for other lanes of their warp must not starve them: after so many instructions
// in a row of a diverged warp, another fragment has its turn.
constexpr std::uint64_t kTurn = 1 << 20;

std::string lane_list(LaneMask lanes) {
  std::string text;
  for (; lanes != 0; lanes &= lanes - 1) {
    text += (text.empty() ? "" : ", ") + std::to_string(std::countr_zero(lanes));
  }
  return text;
}

// Lanes whose end keeps the others from executing an instruction: of a member mask those that lived
// when the others came, `awaited`, and not those that had ended before.
LaneMask lacked(const Instruction& in, LaneMask needed, LaneMask awaited) {
  if (in.collective != Collective::kMembers) {
    return needed;
  }
  return in.handler == execute_warp_barrier ? 0 : awaited;
}

}  // namespace

// Makes a fragment the current one. `limit_` is the nearest place further on in its frame where
// others stand: there they join.
void Warp::select(std::size_t fragment) {
  current_ = fragment;
  const Fragment& chosen = fragments_[fragment];
  pc_ = chosen.pc;
  limit_ = ~0U;
  for (const Fragment& other : fragments_) {
    if (&other != &chosen && other.frame == chosen.frame && other.pc > pc_) {
      limit_ = std::min(limit_, other.pc);
    }
  }
  frame_ = chosen.frame;
  banks_ = {frame_->registers.data(), const_cast<std::byte*>(frame_->constants), specials_.data()};
}

// Lanes at one instruction of one frame become one fragment again.
void Warp::merge() {
  for (std::size_t i = 0; i < fragments_.size(); ++i) {
    for (std::size_t j = i + 1; j < fragments_.size();) {
      Fragment& into = fragments_[i];
      const Fragment& from = fragments_[j];
      if (into.pc == from.pc && into.frame == from.frame &&
          (into.state == Fragment::State::kBarrier) == (from.state == Fragment::State::kBarrier)) {
        into.mask |= from.mask;
        into.awaited |= from.awaited;
        if (into.state != Fragment::State::kBarrier) {
          into.state = Fragment::State::kReady;
        }
        fragments_.erase(fragments_.begin() + static_cast<std::ptrdiff_t>(j));
      } else {
        ++j;
      }
    }
  }
}

// The deepest call first, then the smallest program counter: lanes that are behind catch up with
// those that wait further on, as compilers lay out code.
bool Warp::schedule() {
  merge();
  const Fragment* best = nullptr;
  for (Fragment& fragment : fragments_) {
    if (fragment.state == Fragment::State::kMembers &&
        (fragment.needed & live_ & ~fragment.mask) == 0) {
      fragment.state = Fragment::State::kReady;
    }
    if (fragment.state == Fragment::State::kReady &&
        (best == nullptr || fragment.frame->depth > best->frame->depth ||
         (fragment.frame->depth == best->frame->depth && fragment.pc < best->pc))) {
      best = &fragment;
    }
  }
  if (best == nullptr) {
    return release_warp_barriers();
  }
  select(static_cast<std::size_t>(best - fragments_.data()));
  return true;
}

// bar.warp.sync may be executed at different places by the lanes of one mask.
bool Warp::release_warp_barriers() {
  for (const Fragment& fragment : fragments_) {
    if (fragment.state != Fragment::State::kMembers ||
        block_->program().instructions[fragment.pc].handler != execute_warp_barrier) {
      continue;
    }
    const auto joins = [&](const Fragment& other) {
      return other.state == Fragment::State::kMembers && other.needed == fragment.needed &&
             block_->program().instructions[other.pc].handler == execute_warp_barrier;
    };
    LaneMask arrived = 0;
    for (const Fragment& other : fragments_) {
      arrived |= joins(other) ? other.mask : 0;
    }
    const LaneMask needed = fragment.needed;
    if ((needed & live_ & ~arrived) != 0) {
      continue;
    }
    for (Fragment& other : fragments_) {
      if (other.state == Fragment::State::kMembers && other.needed == needed &&
          block_->program().instructions[other.pc].handler == execute_warp_barrier) {
        other.state = Fragment::State::kReady;
        ++other.pc;
      }
    }
    block_->shared().warp_sync(index_, needed);
    return schedule();
  }
  return false;
}

Warp::Status Warp::run(std::uint64_t budget) {
  if (status_ != Status::kRunnable) {
    return status_;
  }
  if (!schedule()) {
    fail_stuck();
    return status_ = Status::kFault;
  }
  const Instruction* const code = block_->program().instructions.data();
  LaunchCounters& counters = block_->count();
  const std::uint64_t most = block_->context().most_instructions;
  while (budget-- > 0) {
    const Instruction& in = code[pc_];
    LaneMask mask = fragments_[current_].mask;
    if (in.guarded) {
      mask &= predicate(in.guard);
    }
    ++executed_;
    ++counters.instructions[static_cast<std::size_t>(in.kind)];
    counters.lane_instructions +=
        mask == kAllLanes ? kLanes : static_cast<std::uint64_t>(std::popcount(mask));
    Flow flow = Flow::kNext;
    if (in.watched && mask != 0) {
      flow = wgmma_.touch(*this, in, mask);
    }
    if (mask != 0 && flow == Flow::kNext) {
      flow =
          in.collective == Collective::kNone ? in.handler(*this, in, mask) : collective(in, mask);
    }
    if (flow == Flow::kNext || flow == Flow::kYield) {
      fragments_[current_].pc = ++pc_;
      if (flow == Flow::kNext && pc_ < limit_) {
        continue;
      }
    } else if (flow == Flow::kFault) {
      return status_ = Status::kFault;
    }
    // Below: a branch, a call, a wait, an exit, or lanes that meet others.
    if (executed_ > most) {
      fail(FaultKind::kDeadlock,
           "has run " + std::to_string(most) + " instructions: an endless loop", -1);
      return status_ = Status::kFault;
    }
    if (fragments_.empty()) {
      return status_ = Status::kDone;
    }
    if (flow == Flow::kYield) {
      turn_begin_ = executed_;
      if (fragments_.size() > 1 && next_turn()) {
        continue;
      }
      return status_;
    }
    if (fragments_.size() == 1 && fragments_[0].state == Fragment::State::kReady) {
      select(0);
      turn_begin_ = executed_;
      continue;
    }
    if (executed_ - turn_begin_ > kTurn) {
      turn_begin_ = executed_;
      if (next_turn()) {
        continue;
      }
    }
    if (!schedule()) {
      if (std::ranges::any_of(fragments_, [](const Fragment& fragment) {
            return fragment.state == Fragment::State::kBarrier;
          })) {
        return status_ = Status::kBarrier;
      }
      fail_stuck();
      return status_ = Status::kFault;
    }
  }
  return status_;
}

// Another fragment's turn, out of order, where one is ready.
bool Warp::next_turn() {
  merge();
  for (std::size_t i = 1; i < fragments_.size(); ++i) {
    const std::size_t next = (current_ + i) % fragments_.size();
    if (fragments_[next].state == Fragment::State::kReady) {
      select(next);
      return true;
    }
  }
  return false;
}

// Applies the rule of a collective instruction: its lanes come together before the handler runs,
// and those that never come are a fault.
Flow Warp::collective(const Instruction& in, LaneMask mask) {
  Fragment& fragment = fragments_[current_];
  if (mask != fragment.mask) {
    // Lanes whose guard is false go on by themselves.
    split(fragment.mask & ~mask, pc_ + 1);
  }
  LaneMask needed = in.collective == Collective::kWarp ? kAllLanes : live_;
  if (in.collective == Collective::kMembers) {
    LaneMask masks[kLanes];
    std::memcpy(masks, bytes(in.slots[in.member_mask]), sizeof masks);
    needed = masks[std::countr_zero(mask)];
    LaneMask same = 0;
    for (LaneMask rest = mask; rest != 0; rest &= rest - 1) {
      const int lane = std::countr_zero(rest);
      same |= masks[lane] == needed ? LaneMask{1} << lane : 0;
      if (((masks[lane] >> lane) & 1) == 0) {
        return fail(FaultKind::kDivergentBarrier, "executes with a member mask without itself",
                    lane);
      }
    }
    if (same != mask) {
      // Groups with masks of their own go one after another; they meet again behind.
      split(mask & ~same, pc_);
      mask = same;
      if ((needed & live_ & ~mask) == 0) {
        const Flow flow = in.handler(*this, in, mask);
        if (flow != Flow::kFault) {
          fragments_[current_].pc = pc_ + 1;
          return Flow::kMoved;
        }
        return flow;
      }
    }
  }
  if ((needed & live_ & ~mask) != 0) {
    Fragment& waiting = fragments_[current_];
    waiting.state = Fragment::State::kMembers;
    waiting.needed = needed;
    waiting.awaited |= needed & live_;
    // It is counted when it runs.
    --block_->count().instructions[static_cast<std::size_t>(in.kind)];
    block_->count().lane_instructions -= static_cast<std::uint64_t>(std::popcount(mask));
    return Flow::kMoved;
  }
  const LaneMask ended = lacked(in, needed, fragments_[current_].awaited) & ~live_;
  fragments_[current_].awaited = 0;
  if (ended != 0) {
    return fail(FaultKind::kDivergentBarrier,
                "waits for lanes that have exited or do not exist: " + lane_list(ended),
                std::countr_zero(mask));
  }
  const Flow flow = in.handler(*this, in, mask);
  if (flow == Flow::kNext && fragments_.size() > 1) {
    fragments_[current_].pc = pc_ + 1;
    return Flow::kMoved;
  }
  return flow;
}

// Takes `lanes` out of the current fragment into one of their own at `pc`.
void Warp::split(LaneMask lanes, std::uint32_t pc) {
  fragments_[current_].mask &= ~lanes;
  fragments_.push_back({.pc = pc, .mask = lanes, .frame = fragments_[current_].frame});
}

Flow Warp::jump_some(std::uint32_t pc, LaneMask taken, LaneMask again) {
  if (again != 0) {
    split(again, pc_);
  }
  const LaneMask others = fragments_[current_].mask & ~taken;
  if (others != 0) {
    split(others, pc_ + 1);
  }
  fragments_[current_].pc = pc;
  return Flow::kMoved;
}

Flow Warp::exit(LaneMask lanes) {
  if ((lanes & early_) != 0) {
    return fail(FaultKind::kDependentLaunch,
                "exits without griddepcontrol.wait: the next kernel would not wait for the one "
                "before this, which may still run",
                std::countr_zero(lanes & early_));
  }
  live_ &= ~lanes;
  for (Frame* frame = frame_; frame != nullptr; frame = frame->parent) {
    frame->lanes &= ~lanes;
  }
  Fragment& fragment = fragments_[current_];
  fragment.mask &= ~lanes;
  fragment.pc = pc_ + 1;
  if (fragment.mask == 0) {
    fragments_.erase(fragments_.begin() + static_cast<std::ptrdiff_t>(current_));
    current_ = 0;
  }
  block_->exited(this, lanes);
  return Flow::kMoved;
}

Flow Warp::wait_at_barrier(LaneMask lanes) {
  Fragment& fragment = fragments_[current_];
  if (lanes != fragment.mask) {
    split(fragment.mask & ~lanes, pc_ + 1);
  }
  fragments_[current_].pc = pc_ + 1;
  fragments_[current_].state = Fragment::State::kBarrier;
  return Flow::kMoved;
}

void Warp::release(LaneMask lanes) {
  for (std::size_t i = 0; i < fragments_.size(); ++i) {
    Fragment& fragment = fragments_[i];
    if (fragment.state != Fragment::State::kBarrier || (fragment.mask & lanes) == 0) {
      continue;
    }
    if ((fragment.mask & ~lanes) != 0) {
      Fragment rest = fragment;
      rest.mask &= ~lanes;
      fragment.mask &= lanes;
      fragment.state = Fragment::State::kReady;
      fragments_.push_back(rest);
    } else {
      fragment.state = Fragment::State::kReady;
    }
  }
  if (status_ == Status::kBarrier) {
    status_ = Status::kRunnable;
  }
}

std::string Warp::describe_waiting() const {
  std::string text;
  for (const Fragment& fragment : fragments_) {
    const Instruction& in =
        block_->program()
            .instructions[fragment.pc - (fragment.state == Fragment::State::kBarrier ? 1 : 0)];
    text += (text.empty() ? "" : "; ") + std::string("lanes ") + lane_list(fragment.mask) +
            " of warp " + std::to_string(index_) + " wait at PTX line " + std::to_string(in.line) +
            " (" + block_->program().texts[in.text] + ")";
    if (fragment.state == Fragment::State::kMembers) {
      text += " for lanes " + lane_list(fragment.needed & live_ & ~fragment.mask);
    }
  }
  return text;
}

Flow Warp::fail_stuck() {
  for (std::size_t i = 0; i < fragments_.size(); ++i) {
    if (fragments_[i].state == Fragment::State::kMembers) {
      select(i);
      break;
    }
  }
  return fail(FaultKind::kDivergentBarrier, "waits for ever: " + describe_waiting(),
              std::countr_zero(fragments_[current_].mask));
}

Flow Warp::fail(FaultKind kind, const std::string& what, int lane) {
  const Program& program = block_->program();
  const Instruction& in = program.instructions[pc_];
  const SourceLine& source = program.sources[in.source];
  std::string text =
      block_->context().kernel_name + ", block " + std::to_string(block_->position().x) + "," +
      std::to_string(block_->position().y) + "," + std::to_string(block_->position().z);
  text += lane < 0 ? ", warp " + std::to_string(index_)
                   : ", thread " + block_->thread_name(index_, lane);
  text += ": " + what + " (PTX line " + std::to_string(in.line) + ": " + program.texts[in.text];
  if (!source.file.empty()) {
    text += "; " + source.file + ":" + std::to_string(source.line);
  }
  if (!source.inlined_file.empty()) {
    text += ", inlined at " + source.inlined_file + ":" + std::to_string(source.inlined_line);
  }
  text += ")";
  fault_ = Fault{kind, text};
  return Flow::kFault;
}

}  // namespace xception::emulator
