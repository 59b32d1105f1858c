// Places of a function's registers in the memory of a warp, by liveness.
//
// A warp's registers are 32 lanes each: thousands of virtual registers would not fit the host's
// caches, those alive at once do. Lanes stand in columns, so that registers of one width may share
// a place in lanes that are at different instructions.
#include <algorithm>
#include <bit>
#include <map>
#include <vector>

#include "tests/emulator/execute.h"
#include "tests/emulator/ptx_parser.h"

namespace xception::emulator {
namespace {

using Bits = std::vector<std::uint64_t>;

bool test(const Bits& bits, std::uint32_t index) {
  return ((bits[index / 64] >> (index % 64)) & 1) != 0;
}
void set(Bits* bits, std::uint32_t index) {
  (*bits)[index / 64] |= std::uint64_t{1} << (index % 64);
}
void clear(Bits* bits, std::uint32_t index) {
  (*bits)[index / 64] &= ~(std::uint64_t{1} << (index % 64));
}

// Few of thousands of registers are alive at once: words of zeros are passed over.
template <class F>
void for_each(const Bits& bits, F f) {
  for (std::size_t w = 0; w < bits.size(); ++w) {
    for (std::uint64_t left = bits[w]; left != 0; left &= left - 1) {
      f(static_cast<std::uint32_t>(w * 64 + static_cast<std::size_t>(std::countr_zero(left))));
    }
  }
}

struct BasicBlock {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  std::vector<std::size_t> successors;
  Bits live_out;
};

// Liveness of one function, instructions counted from its first.
class Liveness {
 public:
  Liveness(const Program& program, const Function& function,
           const std::vector<std::uint8_t>& widths, const std::vector<std::vector<Slot>>& slots)
      : code_(program.instructions.data() + function.begin),
        count_(function.end - function.begin),
        function_(function),
        widths_(widths),
        slots_(slots),
        words_((widths.size() + 63) / 64),
        first_(widths.size(), ~0U),
        last_(widths.size(), 0) {
    find_blocks();
    solve();
    measure();
  }

  // The span of instructions in which a register is alive; first > last: nowhere.
  const std::vector<std::uint32_t>& first() const { return first_; }
  const std::vector<std::uint32_t>& last() const { return last_; }
  int most_alive() const { return most_alive_; }

 private:
  bool ends_block(const Instruction& in) const {
    return in.handler == execute_branch || in.handler == execute_branch_indexed ||
           in.handler == execute_return || in.handler == execute_exit;
  }

  std::vector<std::uint32_t> targets(const Instruction& in) const {
    if (in.handler == execute_branch) {
      return {in.target - function_.begin};
    }
    std::vector<std::uint32_t> result;
    if (in.handler == execute_branch_indexed) {
      for (const std::uint32_t target : function_.branch_targets[in.target]) {
        result.push_back(target - function_.begin);
      }
    }
    return result;
  }

  void find_blocks() {
    std::vector<bool> leader(count_ + 1, false);
    leader[0] = true;
    for (std::uint32_t i = 0; i < count_; ++i) {
      if (ends_block(code_[i])) {
        leader[i + 1] = true;
        for (const std::uint32_t target : targets(code_[i])) {
          leader[target] = true;
        }
      }
    }
    std::vector<std::size_t> block_of(count_ + 1, 0);
    for (std::uint32_t i = 0; i < count_; ++i) {
      if (leader[i]) {
        blocks_.push_back({i, i, {}, Bits(words_)});
      }
      blocks_.back().end = i + 1;
      block_of[i] = blocks_.size() - 1;
    }
    for (BasicBlock& block : blocks_) {
      const Instruction& end = code_[block.end - 1];
      for (const std::uint32_t target : targets(end)) {
        block.successors.push_back(block_of[target]);
      }
      if (block.end < count_ && (!ends_block(end) || end.guarded)) {
        block.successors.push_back(block_of[block.end]);
      }
    }
  }

  // Turns what is alive behind instruction `i` into what is alive before it.
  void step(std::uint32_t i, Bits* live) const {
    const Instruction& in = code_[i];
    const std::vector<Slot>& slots = slots_[i];
    if (!in.guarded) {  // else the lanes whose guard is false keep their value
      for (std::size_t s = 0; s < in.destinations; ++s) {
        if (!slots[s].sink) {
          clear(live, slots[s].offset);
        }
      }
    } else {
      set(live, in.guard.offset);
      for (std::size_t s = 0; s < in.destinations; ++s) {
        if (!slots[s].sink) {
          set(live, slots[s].offset);
        }
      }
    }
    for (std::size_t s = in.destinations; s < slots.size(); ++s) {
      if (slots[s].bank == Bank::kRegisters) {
        set(live, slots[s].offset);
      }
    }
  }

  void solve() {
    std::vector<Bits> live_in(blocks_.size(), Bits(words_));
    for (bool changed = true; changed;) {
      changed = false;
      for (std::size_t b = blocks_.size(); b-- > 0;) {
        BasicBlock& block = blocks_[b];
        for (const std::size_t successor : block.successors) {
          for (std::size_t w = 0; w < words_; ++w) {
            block.live_out[w] |= live_in[successor][w];
          }
        }
        Bits live = block.live_out;
        for (std::uint32_t i = block.end; i-- > block.begin;) {
          step(i, &live);
        }
        if (live != live_in[b]) {
          live_in[b] = std::move(live);
          changed = true;
        }
      }
    }
  }

  void note(std::uint32_t index, std::uint32_t i) {
    first_[index] = std::min(first_[index], i);
    last_[index] = std::max(last_[index], i);
  }

  // 32-bit registers in one of so many bytes; predicates have their own.
  static int units(std::uint8_t width) { return width == 0 ? 0 : width == 8 ? 2 : 1; }
  int units(const Bits& live) const {
    int result = 0;
    for_each(live, [&](std::uint32_t r) { result += units(widths_[r]); });
    return result;
  }

  void measure() {
    for (const BasicBlock& block : blocks_) {
      Bits live = block.live_out;
      int alive = units(live);
      note_all(live, block.end - 1);
      for (std::uint32_t i = block.end; i-- > block.begin;) {
        for (std::size_t s = 0; s < slots_[i].size(); ++s) {
          if (slots_[i][s].bank == Bank::kRegisters && !slots_[i][s].sink) {
            note(slots_[i][s].offset, i);
          }
        }
        if (code_[i].guarded) {
          note(code_[i].guard.offset, i);
        }
        most_alive_ = std::max(most_alive_, alive);
        // Only registers of this instruction change: count those before and after.
        int before = units_of(i, live);
        step(i, &live);
        alive += units_of(i, live) - before;
      }
      most_alive_ = std::max(most_alive_, alive);
      note_all(live, block.begin);
    }
  }

  void note_all(const Bits& live, std::uint32_t i) {
    for_each(live, [&](std::uint32_t r) { note(r, i); });
  }

  // 32-bit registers among those of instruction `i` that are alive, each once.
  int units_of(std::uint32_t i, const Bits& live) const {
    int result = 0;
    const std::vector<Slot>& slots = slots_[i];
    for (std::size_t s = 0; s < slots.size(); ++s) {
      if (slots[s].bank != Bank::kRegisters || slots[s].sink || !test(live, slots[s].offset)) {
        continue;
      }
      bool again = false;
      for (std::size_t t = 0; t < s; ++t) {
        again = again || (slots[t].bank == Bank::kRegisters && !slots[t].sink &&
                          slots[t].offset == slots[s].offset);
      }
      result += again ? 0 : units(widths_[slots[s].offset]);
    }
    return result;
  }

  const Instruction* code_;
  std::uint32_t count_;
  const Function& function_;
  const std::vector<std::uint8_t>& widths_;
  const std::vector<std::vector<Slot>>& slots_;
  std::size_t words_;
  std::vector<BasicBlock> blocks_;
  std::vector<std::uint32_t> first_;
  std::vector<std::uint32_t> last_;
  int most_alive_ = 0;
};

// Registers that are in the D or the A of a wgmma.
std::vector<bool> wgmma_registers(const Program& program, const Function& function,
                                  const std::vector<std::uint8_t>& widths,
                                  const std::vector<std::vector<Slot>>& slots) {
  std::vector<bool> result(widths.size(), false);
  for (std::uint32_t i = 0; i < slots.size(); ++i) {
    if (program.instructions[function.begin + i].handler != execute_wgmma) {
      continue;
    }
    for (const Slot& slot : slots[i]) {
      if (slot.bank == Bank::kRegisters && slot.width == 4) {
        result[slot.offset] = true;
      }
    }
  }
  return result;
}

}  // namespace

void assign_registers(Program* program, Function* function, const std::vector<std::uint8_t>& widths,
                      std::vector<std::vector<Slot>>* slots) {
  const Liveness liveness(*program, *function, widths, *slots);
  std::vector<std::uint32_t> begins = liveness.first();
  std::vector<std::uint32_t> ends = liveness.last();
  const std::vector<bool> of_wgmma = wgmma_registers(*program, *function, widths, *slots);
  for (std::uint32_t r = 0; r < widths.size(); ++r) {
    if (of_wgmma[r]) {
      // A wgmma has them until its wait, which liveness does not know: nobody shares their places.
      begins[r] = 0;
      ends[r] = ~0U;
    }
  }
  std::vector<std::uint32_t> order;
  for (std::uint32_t r = 0; r < widths.size(); ++r) {
    if (begins[r] <= ends[r]) {
      order.push_back(r);
    }
  }
  std::ranges::sort(order, {}, [&](std::uint32_t r) { return begins[r]; });

  // Linear scan: a place is free again behind the last instruction of who held it.
  std::vector<std::uint32_t> places(widths.size(), 0);
  std::map<std::uint8_t, std::multimap<std::uint32_t, std::uint32_t>> held;  // by last instruction
  std::uint32_t bytes = 0;
  for (const std::uint32_t r : order) {
    const std::uint8_t width = widths[r];
    auto& of_width = held[width];
    const auto free = of_width.begin();
    if (free != of_width.end() && free->first < begins[r]) {
      places[r] = free->second;
      of_width.erase(free);
    } else {
      // Rows of lanes start at cache lines; a predicate is a word, but takes a line's alignment
      // from nobody: its row is 64 bytes too.
      places[r] = bytes;
      bytes += std::max<std::uint32_t>(std::uint32_t{width} * kLanes, 64);
    }
    of_width.emplace(ends[r], places[r]);
  }
  function->register_bytes = bytes;
  function->live_registers = liveness.most_alive();

  std::size_t total = 0;
  for (const std::vector<Slot>& list : *slots) {
    total += list.size();
  }
  auto storage = std::make_unique<Slot[]>(total);
  Slot* next = storage.get();
  for (std::uint32_t i = 0; i < slots->size(); ++i) {
    Instruction& in = program->instructions[function->begin + i];
    in.slots = next;
    for (Slot slot : (*slots)[i]) {
      if (slot.bank == Bank::kRegisters && !slot.sink) {
        in.watched = in.watched || (of_wgmma[slot.offset] && in.handler != execute_wgmma);
        slot.offset = places[slot.offset];
      }
      *next++ = slot;
    }
    if (in.guarded) {
      in.guard.offset = places[in.guard.offset];
    }
  }
  program->slots.push_back(std::move(storage));
}

}  // namespace xception::emulator
