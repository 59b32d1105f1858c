// How a warp begins, and its calls and returns.
#include <algorithm>
#include <bit>
#include <cstring>

#include "tests/emulator/block.h"
#include "tests/emulator/warp.h"

namespace xception::emulator {
namespace {

// What registers hold before anyone has written them: a NaN, and no valid address.
constexpr int kPoison = 0xFF;

}  // namespace

void Warp::begin(Block* block, int index, int threads) {
  block_ = block;
  index_ = index;
  live_ = threads >= kLanes ? kAllLanes : (LaneMask{1} << threads) - 1;
  early_ = block->context().request->dependent ? live_ : 0;
  executed_ = 0;
  turn_begin_ = 0;
  fault_.reset();
  wgmma_.begin();
  fragments_.clear();
  free_frames_.clear();
  for (const std::unique_ptr<Frame>& frame : frames_) {
    free_frames_.push_back(frame.get());
  }
  fill_specials();
  const Function& kernel = *block->context().kernel;
  Frame* const frame = new_frame(kernel, nullptr);
  frame->call = nullptr;
  frame->lanes = live_;
  fragments_.push_back({.pc = kernel.begin, .mask = live_, .frame = frame});
  status_ = Status::kRunnable;
  select(0);
}

void Warp::fill_specials() {
  specials_.reserve(static_cast<std::size_t>(Special::kCount) * kSpecialBytes);
  const LaunchContext& context = block_->context();
  const LaunchRequest& request = *context.request;
  const auto word = [&](Special special) {
    return specials_.data() + static_cast<std::size_t>(special) * kSpecialBytes;
  };
  const auto put = [&](Special special, int lane, std::uint64_t value) {
    std::memcpy(word(special) + static_cast<std::size_t>(lane) * 4, &value, 4);
  };
  const Dim3 block = block_->position();
  const auto warps = (request.block.x * request.block.y * request.block.z + kLanes - 1) / kLanes;
  const auto processors = static_cast<unsigned>(std::max(context.profile->multiprocessors, 1));
  const std::uint64_t grid_id = request.launch;
  for (int lane = 0; lane < kLanes; ++lane) {
    const Dim3 thread = block_->thread(index_, lane);
    put(Special::kTidX, lane, thread.x);
    put(Special::kTidY, lane, thread.y);
    put(Special::kTidZ, lane, thread.z);
    put(Special::kNtidX, lane, request.block.x);
    put(Special::kNtidY, lane, request.block.y);
    put(Special::kNtidZ, lane, request.block.z);
    put(Special::kCtaidX, lane, block.x);
    put(Special::kCtaidY, lane, block.y);
    put(Special::kCtaidZ, lane, block.z);
    put(Special::kNctaidX, lane, request.grid.x);
    put(Special::kNctaidY, lane, request.grid.y);
    put(Special::kNctaidZ, lane, request.grid.z);
    put(Special::kLaneId, lane, static_cast<unsigned>(lane));
    put(Special::kWarpId, lane, static_cast<unsigned>(index_));
    put(Special::kNwarpId, lane, warps);
    put(Special::kSmId, lane, block_->index() % processors);
    put(Special::kNsmId, lane, processors);
    const LaneMask own = LaneMask{1} << lane;
    put(Special::kMaskEq, lane, own);
    put(Special::kMaskLt, lane, own - 1);
    put(Special::kMaskLe, lane, own | (own - 1));
    put(Special::kMaskGt, lane, ~(own | (own - 1)));
    put(Special::kMaskGe, lane, ~(own - 1));
    put(Special::kDynamicShared, lane, request.dynamic_shared_bytes);
    put(Special::kTotalShared, lane, context.static_shared_bytes + request.dynamic_shared_bytes);
    put(Special::kZero, lane, 0);
    put(Special::kOne, lane, 1);
    std::memcpy(word(Special::kGridId) + static_cast<std::size_t>(lane) * 8, &grid_id, 8);
  }
}

Frame* Warp::new_frame(const Function& function, Frame* parent) {
  if (free_frames_.empty()) {
    frames_.push_back(std::make_unique<Frame>());
    free_frames_.push_back(frames_.back().get());
  }
  Frame* const frame = free_frames_.back();
  free_frames_.pop_back();
  frame->function = &function;
  frame->parent = parent;
  frame->depth = parent == nullptr ? 1 : parent->depth + 1;
  const LaunchContext& context = block_->context();
  const auto index = static_cast<std::size_t>(&function - context.program->functions.data());
  frame->constants = context.constants[index].data();
  frame->registers.reserve(function.register_bytes);
  frame->parameters.reserve(std::size_t{function.parameter_bytes} * kLanes);
  frame->local.reserve(std::size_t{function.local_bytes} * kLanes);
  if (function.register_bytes != 0) {
    std::memset(frame->registers.data(), kPoison, function.register_bytes);
  }
  if (function.local_bytes != 0) {
    std::memset(frame->local.data(), kPoison, std::size_t{function.local_bytes} * kLanes);
  }
  return frame;
}

Flow Warp::enter(const Function& function, const Call& call, LaneMask lanes, LaneMask again) {
  if (frame_->depth >= kMaximumDepth) {
    return fail(FaultKind::kOutOfBounds, "calls too deeply: the stack overflows",
                std::countr_zero(lanes));
  }
  Frame* const caller = frame_;
  Frame* const frame = new_frame(function, caller);
  frame->call = &call;
  frame->lanes = lanes;
  frame->return_pc = pc_ + 1;
  const std::size_t count = std::min(call.arguments.size(), function.parameters.size());
  for (LaneMask rest = lanes; rest != 0; rest &= rest - 1) {
    const auto lane = static_cast<std::size_t>(std::countr_zero(rest));
    const std::byte* const from =
        caller->parameters.data() + lane * caller->function->parameter_bytes;
    std::byte* const to = frame->parameters.data() + lane * function.parameter_bytes;
    for (std::size_t i = 0; i < count; ++i) {
      std::memcpy(to + function.parameters[i].offset, from + call.arguments[i].offset,
                  std::min(function.parameters[i].bytes, call.arguments[i].bytes));
    }
  }
  if (again != 0) {
    split(again, pc_);
  }
  const LaneMask others = fragments_[current_].mask & ~lanes;
  if (others != 0) {
    split(others, pc_ + 1);
  }
  fragments_[current_].pc = function.begin;
  fragments_[current_].frame = frame;
  return Flow::kMoved;
}

Flow Warp::leave(LaneMask lanes) {
  Frame* const frame = frame_;
  if (frame->parent == nullptr) {
    return exit(lanes);
  }
  const Function& function = *frame->function;
  Frame* const caller = frame->parent;
  const Call& call = *frame->call;
  const std::size_t count = std::min(call.returns.size(), function.returns.size());
  for (LaneMask rest = lanes; rest != 0; rest &= rest - 1) {
    const auto lane = static_cast<std::size_t>(std::countr_zero(rest));
    const std::byte* const from = frame->parameters.data() + lane * function.parameter_bytes;
    std::byte* const to = caller->parameters.data() + lane * caller->function->parameter_bytes;
    for (std::size_t i = 0; i < count; ++i) {
      std::memcpy(to + call.returns[i].offset, from + function.returns[i].offset,
                  std::min(function.returns[i].bytes, call.returns[i].bytes));
    }
  }
  if (lanes != fragments_[current_].mask) {
    split(fragments_[current_].mask & ~lanes, pc_ + 1);
  }
  fragments_[current_].pc = frame->return_pc;
  fragments_[current_].frame = caller;
  frame->lanes &= ~lanes;
  if (frame->lanes == 0) {
    free_frames_.push_back(frame);
  }
  return Flow::kMoved;
}

}  // namespace xception::emulator
