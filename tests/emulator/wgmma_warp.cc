#include "tests/emulator/wgmma_warp.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "tests/emulator/block.h"
#include "tests/emulator/execute.h"
#include "tests/emulator/execute_wgmma.h"
#include "tests/emulator/numeric.h"

namespace xception::emulator {
namespace {

constexpr std::size_t kPlaceBytes = 64;  // places of registers are multiples of it
constexpr std::size_t kRegistersOfA = 4;

std::size_t index_of(int value) { return static_cast<std::size_t>(value); }

// The rows of a tile, `rows` of them from `first` on, as they lie in shared memory.
void list_chunks(const MatrixDescriptor& tile, int first, int rows,
                 std::vector<std::uint32_t>* chunks) {
  for (int row = first; row < first + rows; ++row) {
    for (int chunk = 0; chunk < kWgmmaChunks; ++chunk) {
      chunks->push_back(chunk_address(tile, row, chunk));
    }
  }
}

// The same value in every lane, or nothing.
bool same_in_all_lanes(Warp& warp, const Slot& slot, std::uint64_t* value) {
  const auto* const lanes = lanes_of<std::uint64_t>(warp, slot);
  *value = lanes[0];
  return std::all_of(lanes, lanes + kLanes, [&](std::uint64_t lane) { return lane == *value; });
}

}  // namespace

void WgmmaWarp::begin() {
  frame_ = nullptr;
  function_ = nullptr;
  for (Accumulator& accumulator : accumulators_) {
    accumulator.slots = nullptr;
  }
  for (Reading& reading : reading_) {
    spare_.push_back(std::move(reading.chunks));
  }
  reading_.clear();
  committed_ = 0;
}

WgmmaWarp::Register& WgmmaWarp::state(const Slot& slot) {
  return registers_[slot.offset / kPlaceBytes];
}

// The registers are those of the current frame from now on. False where others are in flight.
bool WgmmaWarp::enter(Warp& warp) {
  const Frame& frame = warp.frame();
  if (frame_ == &frame && function_ == frame.function) {
    return true;
  }
  if (!reading_.empty()) {
    return false;
  }
  frame_ = &frame;
  function_ = frame.function;
  registers_.assign(function_->register_bytes / kPlaceBytes, Register{});
  return true;
}

std::string WgmmaWarp::waited(std::uint32_t group) const {
  return group <= committed_ ? "no wgmma.wait_group has covered" : "is not even committed";
}

Flow WgmmaWarp::touch(Warp& warp, const Instruction& in, LaneMask mask) {
  if (frame_ != &warp.frame()) {
    return Flow::kNext;
  }
  const std::size_t count = std::size_t{in.destinations} + in.sources;
  for (std::size_t i = 0; i < count; ++i) {
    const Slot& slot = in.slots[i];
    if (slot.bank != Bank::kRegisters || slot.sink) {
      continue;
    }
    Register& known = state(slot);
    const bool writes = i < in.destinations;
    if (known.accumulator != 0) {
      return warp.fail(FaultKind::kWgmmaNotWaited,
                       std::string(writes ? "overwrites" : "reads") +
                           " a register of the D of a wgmma that " +
                           waited(accumulators_[known.accumulator - 1U].group),
                       std::countr_zero(mask));
    }
    if (writes && known.readers != 0) {
      return warp.fail(FaultKind::kWgmmaNotWaited,
                       "overwrites a register of the A of a wgmma that no wgmma.wait_group has "
                       "covered",
                       std::countr_zero(mask));
    }
    known.touched = true;
    known.written = known.written || writes;
  }
  return Flow::kNext;
}

Flow WgmmaWarp::fence(Warp& warp) {
  if (enter(warp)) {
    for (Register& each : registers_) {
      each.touched = each.written = false;
    }
  }
  return Flow::kNext;
}

// The accumulator in flight that is this D, or a new one of what its registers hold.
Flow WgmmaWarp::find_accumulator(Warp& warp, const Instruction& in, const WgmmaShape& shape,
                                 std::size_t* found) {
  const std::size_t count = in.destinations;
  const std::uint8_t first = state(in.slots[0]).accumulator;
  if (first != 0) {
    const Accumulator& accumulator = accumulators_[first - 1U];
    const bool same = accumulator.shape == shape &&
                      std::equal(in.slots, in.slots + count, accumulator.slots,
                                 [](const Slot& a, const Slot& b) { return a.offset == b.offset; });
    if (!same) {
      return warp.fail(FaultKind::kWgmmaNotWaited,
                       "has registers of the D of another wgmma, of other registers or another "
                       "shape, that " +
                           waited(accumulator.group),
                       -1);
    }
    *found = first - 1U;
    return Flow::kNext;
  }
  *found = 0;
  while (*found < accumulators_.size() && accumulators_[*found].slots != nullptr) {
    ++*found;
  }
  if (*found == accumulators_.size()) {
    accumulators_.emplace_back();
  }
  for (std::size_t i = 0; i < count; ++i) {
    Register& known = state(in.slots[i]);
    if (known.accumulator != 0 || known.readers != 0) {
      return warp.fail(FaultKind::kWgmmaNotWaited,
                       "has in its D a register of another wgmma that no wgmma.wait_group has "
                       "covered, or one twice",
                       -1);
    }
    if (known.touched) {
      return warp.fail(FaultKind::kMissingFence,
                       "comes with no wgmma.fence behind the last access to a register of its D "
                       "(compilers may move one behind the fence)",
                       -1);
    }
    known.accumulator = static_cast<std::uint8_t>(*found + 1);
  }
  Accumulator& accumulator = accumulators_[*found];
  accumulator.shape = shape;
  accumulator.slots = in.slots;
  load_sums(warp, in.slots, &accumulator);
  return Flow::kNext;
}

Flow WgmmaWarp::check_registers_of_a(Warp& warp, const Slot* slots) {
  for (std::size_t i = 0; i < kRegistersOfA; ++i) {
    if (slots[i].bank != Bank::kRegisters) {
      continue;
    }
    const Register& known = state(slots[i]);
    if (known.accumulator != 0) {
      return warp.fail(FaultKind::kWgmmaNotWaited,
                       "has in its A a register of the D of a wgmma that " +
                           waited(accumulators_[known.accumulator - 1U].group),
                       -1);
    }
    if (known.written) {
      return warp.fail(FaultKind::kMissingFence,
                       "comes with no wgmma.fence behind the last write to a register of its A "
                       "(compilers may move one behind the fence)",
                       -1);
    }
  }
  return Flow::kNext;
}

void WgmmaWarp::load_sums(Warp& warp, const Slot* slots, Accumulator* accumulator) {
  accumulator->sums.resize(index_of(accumulator->shape.n * kWgmmaRows));
  for (int i = 0; i < accumulator->shape.n / 2; ++i) {
    const auto* const words = lanes_of<std::uint32_t>(warp, slots[i]);
    for (int lane = 0; lane < kLanes; ++lane) {
      const Position at = wgmma_position_d(lane, i);
      accumulator->sums[index_of(at.column * kWgmmaRows + at.row)] = float_from_bits(words[lane]);
    }
  }
}

void WgmmaWarp::land(Warp& warp, Accumulator* accumulator) {
  for (int i = 0; i < accumulator->shape.n / 2; ++i) {
    LaneWords words;
    for (int lane = 0; lane < kLanes; ++lane) {
      const Position at = wgmma_position_d(lane, i);
      words[index_of(lane)] =
          float_bits(accumulator->sums[index_of(at.column * kWgmmaRows + at.row)]);
    }
    const Slot& slot = accumulator->slots[i];
    std::memcpy(warp.bytes(slot), words.data(), sizeof words);
    state(slot).accumulator = 0;
  }
  accumulator->slots = nullptr;
}

Flow WgmmaWarp::begin_reading(Warp& warp, const WgmmaShape& shape, const MatrixDescriptor* tile_a,
                              const MatrixDescriptor& tile_b, Reading* reading) {
  if (!spare_.empty()) {
    reading->chunks = std::move(spare_.back());
    spare_.pop_back();
  }
  reading->chunks.clear();
  list_chunks(tile_b, 0, shape.n, &reading->chunks);
  if (tile_a != nullptr) {
    list_chunks(*tile_a, kWgmmaRows * (warp.index() % 4), kWgmmaRows, &reading->chunks);
  }
  reading->group = committed_ + 1;
  SharedMemory& shared = warp.block().shared();
  reading->begin = shared.now(warp.index());
  const std::optional<Fault> fault = shared.begin_wgmma(warp.index(), reading->chunks);
  return fault ? warp.fail(*fault, -1) : Flow::kNext;
}

WgmmaLeft WgmmaWarp::left_of_registers(Warp& warp, const WgmmaShape& shape, bool negated,
                                       const Slot* a) {
  std::array<LaneWords, kRegistersOfA> words;
  for (std::size_t i = 0; i < kRegistersOfA; ++i) {
    std::memcpy(words[i].data(), warp.bytes(a[i]), sizeof(LaneWords));
    if (a[i].bank == Bank::kRegisters) {
      ++state(a[i]).readers;
    }
  }
  return wgmma_left(shape.type, negated, words);
}

Flow WgmmaWarp::issue(Warp& warp, const Instruction& in) {
  const WgmmaShape shape = wgmma_shape(in);
  const bool a_in_registers = (in.variant & kWgmmaRegistersOfA) != 0;
  const bool negated = (in.variant & kWgmmaNegated) != 0;
  if (!enter(warp)) {
    return warp.fail(FaultKind::kUnsupported,
                     "comes with wgmmas in flight that another function has issued", -1);
  }
  // Destinations are D; sources are D, A, B, and whether D is added to.
  const Slot* const a = in.slots + 2 * std::size_t{in.destinations};
  const Slot* const b = a + (a_in_registers ? kRegistersOfA : 1);
  const LaneMask adds = warp.predicate(b[1]);
  std::uint64_t bits_a = 0;
  std::uint64_t bits_b = 0;
  if ((adds != 0 && adds != kAllLanes) || !same_in_all_lanes(warp, b[0], &bits_b) ||
      (!a_in_registers && !same_in_all_lanes(warp, a[0], &bits_a))) {
    return warp.fail(FaultKind::kDivergentBarrier,
                     "has descriptors, or a scale-d, that differ among the warp's lanes", -1);
  }
  Block& block = warp.block();
  std::string what = block.wgmma_log().add(warp.index(), in, bits_a, bits_b, adds != 0);
  if (!what.empty()) {
    return warp.fail(FaultKind::kDivergentBarrier, what, -1);
  }
  const MatrixDescriptor tile_b = read_descriptor(bits_b, &what);
  std::string what_a;
  const MatrixDescriptor tile_a = read_descriptor(bits_a, &what_a);
  if (!what.empty() || !what_a.empty()) {
    return warp.fail(
        FaultKind::kUnsupported,
        (what.empty() ? "the descriptor of A " + what_a : "the descriptor of B " + what), -1);
  }
  if (a_in_registers) {
    if (const Flow flow = check_registers_of_a(warp, a); flow != Flow::kNext) {
      return flow;
    }
  }
  std::size_t found = 0;
  if (const Flow flow = find_accumulator(warp, in, shape, &found); flow != Flow::kNext) {
    return flow;
  }

  Reading reading;
  if (const Flow flow =
          begin_reading(warp, shape, a_in_registers ? nullptr : &tile_a, tile_b, &reading);
      flow != Flow::kNext) {
    return flow;
  }

  alignas(64) std::byte rows[(kWgmmaMostN + kWgmmaRows) * kWgmmaRowBytes];
  const std::byte* const data = block.shared().data();
  for (std::size_t i = 0; i < reading.chunks.size(); ++i) {
    std::memcpy(rows + i * kChunkBytes, data + reading.chunks[i], kChunkBytes);
  }
  const std::size_t bytes_b = index_of(shape.n) * kWgmmaRowBytes;
  WgmmaLeft left;
  if (a_in_registers) {
    left = left_of_registers(warp, shape, negated, a);
    reading.registers = a;
  } else {
    left = wgmma_left(shape.type, negated, {rows + bytes_b, kWgmmaRows * kWgmmaRowBytes});
  }
  reading_.push_back(std::move(reading));
  Accumulator& accumulator = accumulators_[found];
  accumulator.group = committed_ + 1;
  if (adds == 0) {
    std::ranges::fill(accumulator.sums, 0.0F);
  }
  wgmma_product(shape, left, {rows, bytes_b}, accumulator.sums.data());
  return Flow::kNext;
}

void WgmmaWarp::wait(Warp& warp, std::uint32_t left) {
  const std::uint32_t done = committed_ > left ? committed_ - left : 0;
  for (Accumulator& accumulator : accumulators_) {
    if (accumulator.slots != nullptr && accumulator.group <= done) {
      land(warp, &accumulator);
    }
  }
  std::size_t kept = 0;
  for (Reading& reading : reading_) {
    if (reading.group > done) {
      std::swap(reading_[kept++], reading);
      continue;
    }
    warp.block().shared().end_wgmma(warp.index(), reading.chunks, reading.begin);
    for (std::size_t i = 0; reading.registers != nullptr && i < kRegistersOfA; ++i) {
      if (reading.registers[i].bank == Bank::kRegisters) {
        --state(reading.registers[i]).readers;
      }
    }
    spare_.push_back(std::move(reading.chunks));
  }
  reading_.resize(kept);
}

void WarpgroupLog::begin() {
  for (std::vector<Entry>& entries : entries_) {
    entries.clear();
  }
  counts_ = {};
}

std::string WarpgroupLog::add(int warp, const Instruction& in, std::uint64_t a, std::uint64_t b,
                              bool adds) {
  std::vector<Entry>& entries = entries_[index_of(warp / 4)];
  const std::size_t at = counts_[index_of(warp)]++;
  if (at == entries.size()) {
    entries.push_back({&in, a, b, adds});
    return "";
  }
  const Entry& before = entries[at];
  if (before.in != &in) {
    return std::string("is the warp's ") + kind_ + " " + std::to_string(at + 1) +
           ", where another warp of its warpgroup came to that of PTX line " +
           std::to_string(before.in->line);
  }
  if (before.a != a || before.b != b || before.adds != adds) {
    return "has descriptors, or a scale-d, that differ from those of another warp of its warpgroup";
  }
  return "";
}

std::string WarpgroupLog::finish() const {
  for (int warp = 0; warp < kMostWarps; ++warp) {
    const std::size_t all = entries_[index_of(warp / 4)].size();
    if (counts_[index_of(warp)] != all) {
      return "warp " + std::to_string(warp) + " has executed " +
             std::to_string(counts_[index_of(warp)]) + " of the " + std::to_string(all) + " " +
             kind_ + " of its warpgroup";
    }
  }
  return "";
}

}  // namespace xception::emulator
