#include "tests/emulator/counters.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

namespace xception::emulator {
namespace {

constexpr Address kWordBytes = 4;
constexpr std::size_t kBanks = 32;

// The addresses of active lanes in ascending order; lanes mostly come in that order.
std::size_t sorted_addresses(const WarpRequest& request, std::array<Address, kWarpLanes>& sorted) {
  std::size_t count = 0;
  bool ascending = true;
  for (std::uint32_t rest = request.active; rest != 0; rest &= rest - 1) {
    const Address address = request.addresses[static_cast<std::size_t>(__builtin_ctz(rest))];
    ascending = ascending && (count == 0 || sorted[count - 1] <= address);
    sorted[count++] = address;
  }
  if (!ascending) {
    std::sort(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(count));
  }
  return count;
}

// Whether no bank is asked by two lanes, but for a lane that asks what the one before it asks.
bool without_conflict(const WarpRequest& request, std::uint32_t lanes) {
  const std::uint32_t words = ~std::uint32_t{0} >> (kBanks - (request.bytes + 3) / kWordBytes);
  std::uint32_t used = 0;
  Address previous = ~Address{0};
  for (std::uint32_t rest = request.active & lanes; rest != 0; rest &= rest - 1) {
    const Address address = request.addresses[static_cast<std::size_t>(__builtin_ctz(rest))];
    const Address word = address / kWordBytes;
    if (word == previous) {
      continue;
    }
    previous = word;
    const std::uint32_t banks = words << (word % kBanks);
    if ((used & banks) != 0) {
      return false;
    }
    used |= banks;
  }
  return true;
}

// Wavefronts of lanes that are served together.
SharedCost group_cost(const WarpRequest& request, std::uint32_t lanes) {
  if ((request.active & lanes) == 0) {
    return {};
  }
  if (without_conflict(request, lanes)) {
    return {1, 1};
  }
  std::array<Address, kWarpLanes * 4> words{};
  std::size_t count = 0;
  for (std::uint32_t rest = request.active & lanes; rest != 0; rest &= rest - 1) {
    const Address address = request.addresses[static_cast<std::size_t>(__builtin_ctz(rest))];
    const Address last = (address + request.bytes - 1) / kWordBytes;
    for (Address word = address / kWordBytes; word <= last; ++word) {
      // Neighbours in order; what they repeat is dropped here, the rest below.
      if (count == 0 || words[count - 1] != word) {
        words[count++] = word;
      }
    }
  }
  auto* const end = words.data() + count;
  if (!std::is_sorted(words.data(), end)) {
    std::sort(words.data(), end);
  }
  count = static_cast<std::size_t>(std::unique(words.data(), end) - words.data());
  std::array<std::uint64_t, kBanks> bank_words{};
  for (std::size_t i = 0; i < count; ++i) {
    ++bank_words[words[i] % kBanks];
  }
  return {*std::max_element(bank_words.begin(), bank_words.end()), (count + kBanks - 1) / kBanks};
}

}  // namespace

std::uint64_t LaunchCounters::warp_instructions() const {
  return std::accumulate(instructions.begin(), instructions.end(), std::uint64_t{0});
}

LaunchCounters& LaunchCounters::operator+=(const LaunchCounters& other) {
  for (std::size_t i = 0; i < instructions.size(); ++i) {
    instructions[i] += other.instructions[i];
  }
  lane_instructions += other.lane_instructions;
  wgmma_more += other.wgmma_more;
  mma_macs += other.mma_macs;
  load_bytes += other.load_bytes;
  load_sector_bytes += other.load_sector_bytes;
  store_bytes += other.store_bytes;
  store_sector_bytes += other.store_sector_bytes;
  lane_load_bytes += other.lane_load_bytes;
  distinct_read_bytes += other.distinct_read_bytes;
  distinct_written_bytes += other.distinct_written_bytes;
  shared_wavefronts += other.shared_wavefronts;
  shared_wavefronts_ideal += other.shared_wavefronts_ideal;
  barriers += other.barriers;
  return *this;
}

GlobalCost global_cost(const WarpRequest& request) {
  std::array<Address, kWarpLanes> sorted{};
  const std::size_t count = sorted_addresses(request, sorted);
  GlobalCost cost;
  Address seen = 0;          // bytes below it are counted
  Address sectors_seen = 0;  // and sectors below it
  for (std::size_t i = 0; i < count; ++i) {
    const Address end = sorted[i] + request.bytes;
    if (end > seen) {
      cost.bytes += end - std::max(seen, sorted[i]);
      seen = end;
    }
    const Address sectors_end = (end - 1) / kSectorBytes + 1;
    if (sectors_end > sectors_seen) {
      cost.sectors += sectors_end - std::max(sectors_seen, sorted[i] / kSectorBytes);
      sectors_seen = sectors_end;
    }
  }
  return cost;
}

SharedCost shared_cost(const WarpRequest& request) {
  const int groups = request.bytes > 8 ? 4 : request.bytes > 4 ? 2 : 1;
  const int lanes = kWarpLanes / groups;
  const std::uint32_t first = ~std::uint32_t{0} >> (kWarpLanes - lanes);
  SharedCost cost;
  for (int group = 0; group < groups; ++group) {
    const SharedCost part = group_cost(request, first << (group * lanes));
    cost.wavefronts += part.wavefronts;
    cost.ideal += part.ideal;
  }
  return cost;
}

std::string to_json(const std::string& kernel, const LaunchCounters& counters) {
  const auto of = [&](InstructionClass kind) {
    return counters.instructions[static_cast<std::size_t>(kind)];
  };
  nlohmann::ordered_json row;
  row["kernel"] = kernel;
  row["warp_instructions"] = counters.warp_instructions();
  row["mma"] = of(InstructionClass::kMma);
  row["fma"] = of(InstructionClass::kFma);
  row["math"] = of(InstructionClass::kMath);
  row["memory"] = of(InstructionClass::kMemory);
  row["control"] = of(InstructionClass::kControl);
  row["issued"] = counters.issued();
  row["lane_instructions"] = counters.lane_instructions;
  row["mma_macs"] = counters.mma_macs;
  row["load_bytes"] = counters.load_bytes;
  row["load_sector_bytes"] = counters.load_sector_bytes;
  row["store_bytes"] = counters.store_bytes;
  row["store_sector_bytes"] = counters.store_sector_bytes;
  row["lane_load_bytes"] = counters.lane_load_bytes;
  row["distinct_read_bytes"] = counters.distinct_read_bytes;
  row["distinct_written_bytes"] = counters.distinct_written_bytes;
  row["shared_wavefronts"] = counters.shared_wavefronts;
  row["shared_wavefronts_ideal"] = counters.shared_wavefronts_ideal;
  row["barriers"] = counters.barriers;
  return row.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace xception::emulator
