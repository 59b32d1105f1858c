#include "tests/emulator/shared_memory_mbarriers.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "tests/emulator/memory_ranges.h"

namespace xception::emulator {
namespace {

constexpr std::size_t kObjectBytes = SharedCells::kMbarrierBytes;

Fault fault_at(FaultKind kind, const std::string& what, Address offset, const std::string& why) {
  return {kind, what + " at shared address " + hex(offset) + ": " + why};
}

const void* host_pointer(Address address) {
  return reinterpret_cast<const void*>(address);  // NOLINT(performance-no-int-to-ptr)
}

}  // namespace

void Mbarriers::begin_block(SharedCells* cells, std::byte* data, std::uint64_t seed) {
  cells_ = cells;
  data_ = data;
  random_ = SplitMix64(seed);
  changes_ = 0;
  objects_.clear();
  numbers_ = 0;
  forgotten_ = cells->times_forgotten();
  copies_.clear();
  completed_.clear();
}

bool Mbarriers::draw(unsigned sides) { return random_() % sides == 0; }

std::optional<Fault> Mbarriers::find(const char* what, int warp, int lane, Address offset,
                                     Object** object) {
  const auto found = objects_.find(offset);
  if (found == objects_.end()) {
    if (offset % kObjectBytes != 0) {
      return fault_at(FaultKind::kMisaligned, what, offset, "the address is no multiple of 8");
    }
    return fault_at(FaultKind::kUninitialised, what, offset,
                    "no mbarrier has been initialised there");
  }
  *object = &found->second;
  if (forgotten_ != cells_->times_forgotten()) {
    forgotten_ = cells_->times_forgotten();
    for (auto& [place, each] : objects_) {
      each.begun = {};
      each.published = {{}, 1};
      each.uses = {};
      each.copies_stamp = 0;
    }
  }
  const SharedCells::Lane me{Access::kAtomic, warp, lane};
  const AccessRecord& begun = found->second.begun;
  if (!cells_->ordered(begun, me)) {
    return fault_at(FaultKind::kSharedRace, what, offset,
                    thread_text(begun.stamp.warp(), __builtin_ctz(begun.lanes)) +
                        " initialised it, and no barrier lies between");
  }
  AccessRecord& use = found->second.uses[static_cast<std::size_t>(warp)];
  const Stamp now = cells_->clocks().now(warp);
  use = {now, use.stamp == now ? use.lanes | 1U << lane : 1U << lane};
  return std::nullopt;
}

std::optional<Fault> Mbarriers::init(int warp, int lane, Address offset, std::uint32_t count) {
  constexpr const char* kWhat = "mbarrier.init";
  if (count == 0 || count > kMostCount) {
    return fault_at(FaultKind::kMbarrier, kWhat, offset,
                    "a count of " + std::to_string(count) + ", which is not 1 to 2^20 - 1");
  }
  if (objects_.contains(offset)) {
    return fault_at(FaultKind::kMbarrier, kWhat, offset, "an mbarrier lives there already");
  }
  if (auto trouble = cells_->write(warp, lane, offset, kObjectBytes)) {
    return fault_at(trouble->kind, kWhat, offset, trouble->what);
  }
  Object object;
  while ((numbers_ >> object.number & 1) != 0) {
    ++object.number;
  }
  if (object.number >= Stamp::kMostMbarriers) {
    return fault_at(FaultKind::kUnsupported, kWhat, offset,
                    "the emulator has no more than " + std::to_string(Stamp::kMostMbarriers) +
                        " mbarriers a block");
  }
  numbers_ |= 1U << object.number;
  object.expected = object.pending = count;
  object.begun = {cells_->clocks().now(warp), 1U << lane};
  cells_->clocks().mbarrier_begin(object.number);
  cells_->begin_mbarrier(static_cast<std::size_t>(offset));
  objects_[offset] = object;
  ++changes_;
  return std::nullopt;
}

std::optional<Fault> Mbarriers::invalidate(int warp, int lane, Address offset) {
  constexpr const char* kWhat = "mbarrier.inval";
  Object* object = nullptr;
  if (auto fault = find(kWhat, warp, lane, offset, &object)) {
    return fault;
  }
  for (int other = 0; other < kMostWarps; ++other) {
    const AccessRecord& use = object->uses[static_cast<std::size_t>(other)];
    if (use.lanes != 0 && !cells_->ordered(use, {Access::kWrite, warp, lane})) {
      return fault_at(FaultKind::kSharedRace, kWhat, offset,
                      thread_text(use.stamp.warp(), __builtin_ctz(use.lanes & ~(1U << lane)
                                                                      ? use.lanes & ~(1U << lane)
                                                                      : use.lanes)) +
                          " used it, and no barrier lies between");
    }
  }
  if (std::ranges::any_of(copies_, [&](const Copy& copy) { return copy.mbarrier == offset; })) {
    return fault_at(FaultKind::kAsyncCopyNotWaited, kWhat, offset,
                    "a bulk copy that counts at it is in flight");
  }
  numbers_ &= ~(1U << object->number);
  objects_.erase(offset);
  cells_->end_mbarrier(static_cast<std::size_t>(offset));
  ++changes_;
  return std::nullopt;
}

std::optional<Fault> Mbarriers::check_bytes(const char* what, Address offset,
                                            const Object& object) const {
  if (object.bytes > std::int64_t{kMostCount} || object.bytes < -std::int64_t{kMostCount}) {
    return fault_at(
        FaultKind::kMbarrier, what, offset,
        "its tx-count becomes " + std::to_string(object.bytes) + ", which is beyond 2^20 - 1");
  }
  return std::nullopt;
}

void Mbarriers::complete_if_done(Address offset, Object* object) {
  ++changes_;
  if (object->pending != 0 || object->bytes != 0) {
    return;
  }
  cells_->clocks().mbarrier_complete(object->number);
  object->pending = object->expected;
  ++object->phase;
  completed_.push_back(offset);
}

std::optional<Fault> Mbarriers::arrive(int warp, std::uint32_t lanes, Address offset,
                                       const std::uint32_t* counts, const std::uint32_t* expect,
                                       std::uint64_t* states, int* lane) {
  const char* const what = counts == nullptr   ? "mbarrier.expect_tx"
                           : expect == nullptr ? "mbarrier.arrive"
                                               : "mbarrier.arrive.expect_tx";
  Object* object = nullptr;
  for (std::uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    *lane = __builtin_ctz(rest);
    if (auto fault = find(what, warp, *lane, offset, &object)) {
      return fault;
    }
  }
  if (counts != nullptr) {
    cells_->clocks().mbarrier_arrive(object->number, warp, lanes);
  }
  for (std::uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    *lane = __builtin_ctz(rest);
    if (expect != nullptr) {
      object->bytes += expect[*lane];
      if (auto fault = check_bytes(what, offset, *object)) {
        return fault;
      }
      ++changes_;
    }
    if (counts == nullptr) {
      continue;
    }
    const std::uint32_t count = counts[*lane];
    if (count == 0 || count > kMostCount) {
      return fault_at(FaultKind::kMbarrier, what, offset,
                      "a count of " + std::to_string(count) + ", which is not 1 to 2^20 - 1");
    }
    if (count > object->pending) {
      return fault_at(FaultKind::kMbarrier, what, offset,
                      "an arrival too many: " + std::to_string(object->pending) + " of " +
                          std::to_string(object->expected) +
                          " are left in this phase, which waits for " +
                          std::to_string(object->bytes) + " bytes");
    }
    states[*lane] = object->phase;
    object->pending -= count;
    const std::uint64_t phase = object->phase;
    complete_if_done(offset, object);
    // Lanes that come after the end of the phase speak for the next one.
    if (object->phase != phase && (rest & (rest - 1)) != 0) {
      cells_->clocks().mbarrier_arrive(object->number, warp, rest & (rest - 1));
    }
  }
  cells_->forget_if_exhausted();
  return std::nullopt;
}

std::optional<Fault> Mbarriers::phase(int warp, int lane, Address offset, std::uint64_t* current) {
  Object* object = nullptr;
  if (auto fault = find("mbarrier wait", warp, lane, offset, &object)) {
    return fault;
  }
  *current = object->phase;
  return std::nullopt;
}

void Mbarriers::waited(int warp, std::uint32_t lanes, Address offset) {
  const auto found = objects_.find(offset);
  if (found != objects_.end()) {
    cells_->clocks().mbarrier_wait(found->second.number, warp, lanes);
  }
}

void Mbarriers::publish(int warp, std::uint32_t lanes) {
  for (auto& [offset, object] : objects_) {
    if (object.published.lanes == 0 && object.begun.stamp.warp() == warp &&
        (object.begun.lanes & ~lanes) == 0) {
      object.published = {cells_->clocks().now(warp), object.begun.lanes};
    }
  }
}

std::optional<Fault> Mbarriers::copy(int warp, int lane, Address offset, std::size_t bytes,
                                     Address mbarrier, std::vector<BulkPiece> pieces) {
  Object* object = nullptr;
  if (auto fault = find("cp.async.bulk's mbarrier", warp, lane, mbarrier, &object)) {
    return fault;
  }
  // The copy needs to come after the fence, as it does after the init.
  if (object->published.lanes == 0 ||
      !cells_->ordered(object->published, {Access::kAtomic, warp, lane})) {
    return fault_at(FaultKind::kMissingFence, "cp.async.bulk's mbarrier", mbarrier,
                    thread_text(object->begun.stamp.warp(), std::countr_zero(object->begun.lanes)) +
                        " initialised it, and has executed no fence.mbarrier_init or "
                        "fence.proxy.async between that and the barrier");
  }
  // To the other threads it is this thread's write, until it lands.
  for (std::size_t at = 0; at < bytes; at += kChunkBytes) {
    if (auto trouble = cells_->write(warp, lane, offset + at, kChunkBytes)) {
      const std::string way = describe(trouble->offset);
      return fault_at(trouble->kind, std::to_string(bytes) + "-byte cp.async.bulk to", offset,
                      "at " + hex(trouble->offset) + " " + (way.empty() ? trouble->what : way));
    }
  }
  Copy copy;
  copy.offset = static_cast<std::uint32_t>(offset);
  copy.bytes = static_cast<std::uint32_t>(bytes);
  copy.mbarrier = mbarrier;
  copy.warp = warp;
  copy.lane = lane;
  copy.pieces = std::move(pieces);
  cells_->begin_copy(copy.offset, copy.offset + bytes);
  if (draw(2)) {
    copy.data.resize(bytes);
    for (const BulkPiece& piece : copy.pieces) {
      std::memcpy(copy.data.data() + (piece.target - copy.offset), host_pointer(piece.source),
                  piece.bytes);
    }
  }
  copies_.push_back(std::move(copy));
  ++changes_;
  return draw(4) ? land(copies_.size() - 1) : std::nullopt;
}

std::optional<Fault> Mbarriers::land(std::size_t index) {
  const Copy copy = std::move(copies_[index]);
  copies_.erase(copies_.begin() + static_cast<std::ptrdiff_t>(index));
  std::byte* const target = data_ + copy.offset;
  if (!copy.data.empty()) {
    std::memcpy(target, copy.data.data(), copy.bytes);
  } else {
    std::memset(target, 0, copy.bytes);
    for (const BulkPiece& piece : copy.pieces) {
      std::memcpy(data_ + piece.target, host_pointer(piece.source), piece.bytes);
    }
  }
  Object& object = objects_.at(copy.mbarrier);
  const Stamp stamp = cells_->clocks().mbarrier_now(object.number);
  object.copies_stamp = stamp.clock();
  cells_->land_bulk(copy.offset, copy.offset + copy.bytes, stamp);
  object.bytes -= copy.bytes;
  if (auto fault = check_bytes("cp.async.bulk's complete_tx", copy.mbarrier, object)) {
    return fault;
  }
  complete_if_done(copy.mbarrier, &object);
  cells_->forget_if_exhausted();
  return std::nullopt;
}

std::vector<Address> Mbarriers::take_completed() { return std::exchange(completed_, {}); }

std::optional<Fault> Mbarriers::at_end() const {
  if (!copies_.empty()) {
    const Copy& copy = copies_.front();
    return Fault{FaultKind::kAsyncCopyNotWaited,
                 "the block ends, and the " + std::to_string(copy.bytes) + "-byte bulk copy of " +
                     thread_text(copy.warp, copy.lane) + " to shared address " + hex(copy.offset) +
                     " is in flight"};
  }
  for (const auto& [offset, object] : objects_) {
    if (object.copies_stamp != 0 &&
        !cells_->clocks().mbarrier_waited(object.number, object.copies_stamp)) {
      return Fault{FaultKind::kAsyncCopyNotWaited,
                   "the block ends, and nobody has waited for the bulk copies of the mbarrier at "
                   "shared address " +
                       hex(offset)};
    }
  }
  return std::nullopt;
}

std::string Mbarriers::describe(std::size_t offset) const {
  for (const Copy& copy : copies_) {
    if (offset - copy.offset < copy.bytes) {
      return "a cp.async.bulk of " + thread_text(copy.warp, copy.lane) +
             " to it is in flight, which counts at the mbarrier at " + hex(copy.mbarrier);
    }
  }
  return "";
}

}  // namespace xception::emulator
