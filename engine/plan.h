// The static plan of one inference: when each value lives, and where in one block of memory.
#pragma once

#include <cstddef>
#include <vector>

#include "engine/graph.h"

namespace xception {

// A piece of memory that is needed from step `first` to step `last`, both included.
struct Lifetime {
  std::size_t bytes = 0;
  int first = 0;
  int last = 0;
};

struct ArenaMap {
  std::vector<std::size_t> offsets;  // one a lifetime, multiples of kArenaAlignment
  std::size_t bytes = 0;             // of the whole arena
};

inline constexpr std::size_t kArenaAlignment = 64;

inline std::size_t arena_aligned(std::size_t bytes) {
  return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

// Places every lifetime so that no two that overlap in time overlap in memory: biggest first, each
// at the lowest offset that is free.
ArenaMap map_arena(const std::vector<Lifetime>& lifetimes);

// Steps at which each node's output is written first and read last. The input is written before
// step 0, and the last value is read after the last step.
std::vector<Lifetime> value_lifetimes(const Graph& graph, const std::vector<std::size_t>& bytes);

// Whether `node` has a second input that is not its first too and that no later node reads: it may
// write its output over it.
bool reads_second_last(const Graph& graph, ValueId node);

// What the step of a node needs of the arena.
struct StepNeeds {
  std::size_t workspace_bytes = 0;
  bool overwrites_second = false;
};

// The arena of a graph: offsets of every node's output, then of every step's workspace. `needs[i]`
// is that of the step that makes node i + 1.
ArenaMap map_graph(const Graph& graph, const std::vector<std::size_t>& value_bytes,
                   const std::vector<StepNeeds>& needs);

}  // namespace xception
