#include "engine/plan.h"

#include <algorithm>
#include <numeric>

namespace xception {
namespace {

bool overlap_in_time(const Lifetime& a, const Lifetime& b) {
  return a.first <= b.last && b.first <= a.last;
}

}  // namespace

ArenaMap map_arena(const std::vector<Lifetime>& lifetimes) {
  std::vector<std::size_t> order(lifetimes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return lifetimes[a].bytes > lifetimes[b].bytes;
  });

  ArenaMap map;
  map.offsets.assign(lifetimes.size(), 0);
  std::vector<std::size_t> placed;  // sorted by offset
  for (const std::size_t item : order) {
    const std::size_t bytes = arena_aligned(lifetimes[item].bytes);
    std::size_t offset = 0;
    for (const std::size_t other : placed) {
      if (!overlap_in_time(lifetimes[item], lifetimes[other])) {
        continue;
      }
      if (map.offsets[other] >= offset + bytes) {
        break;
      }
      offset = std::max(offset, map.offsets[other] + arena_aligned(lifetimes[other].bytes));
    }
    map.offsets[item] = offset;
    map.bytes = std::max(map.bytes, offset + bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), offset,
                                   [&](std::size_t value, std::size_t other) {
                                     return value < map.offsets[other];
                                   }),
                  item);
  }
  return map;
}

std::vector<Lifetime> value_lifetimes(const Graph& graph, const std::vector<std::size_t>& bytes) {
  std::vector<Lifetime> lifetimes;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const int step = static_cast<int>(i);
    lifetimes.push_back({bytes[i], step, step});
    for (const ValueId id : graph.nodes[i].inputs) {
      lifetimes[static_cast<std::size_t>(id)].last = step;
    }
  }
  lifetimes.back().last = static_cast<int>(graph.nodes.size());
  return lifetimes;
}

bool reads_second_last(const Graph& graph, ValueId node) {
  const std::vector<ValueId>& inputs = graph.nodes[static_cast<std::size_t>(node)].inputs;
  if (inputs.size() != 2 || inputs[0] == inputs[1]) {
    return false;
  }
  return std::none_of(graph.nodes.begin() + node + 1, graph.nodes.end(), [&](const Node& later) {
    return std::count(later.inputs.begin(), later.inputs.end(), inputs[1]) > 0;
  });
}

ArenaMap map_graph(const Graph& graph, const std::vector<std::size_t>& value_bytes,
                   const std::vector<StepNeeds>& needs) {
  std::vector<Lifetime> lifetimes = value_lifetimes(graph, value_bytes);
  std::vector<std::size_t> owner(lifetimes.size());  // of the memory in which a value stands
  std::iota(owner.begin(), owner.end(), std::size_t{0});
  for (std::size_t i = 0; i < needs.size(); ++i) {
    const std::size_t node = i + 1;
    if (needs[i].overwrites_second) {
      owner[node] = owner[static_cast<std::size_t>(graph.nodes[node].inputs[1])];
      lifetimes[owner[node]].last = lifetimes[node].last;
      lifetimes[node].bytes = 0;
    }
    const int now = static_cast<int>(node);
    lifetimes.push_back({needs[i].workspace_bytes, now, now});
  }
  ArenaMap map = map_arena(lifetimes);
  for (std::size_t node = 0; node < owner.size(); ++node) {
    map.offsets[node] = map.offsets[owner[node]];
  }
  return map;
}

}  // namespace xception
