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

// Places every lifetime so that no two that overlap in time overlap in memory: biggest first, each
// at the lowest offset that is free.
ArenaMap map_arena(const std::vector<Lifetime>& lifetimes);

// Steps at which each node's output is written first and read last. The input is written before
// step 0, and the last value is read after the last step.
std::vector<Lifetime> value_lifetimes(const Graph& graph, const std::vector<std::size_t>& bytes);

}  // namespace xception
