// What a request costs, against counting with sets, and against cases counted by hand.
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/emulator/counters.h"
#include "tests/random.h"
#include "tests/testing.h"

namespace xception::emulator {
namespace {

using Addresses = std::array<Address, kWarpLanes>;

GlobalCost counted_global(const WarpRequest& request) {
  std::set<Address> bytes;
  std::set<Address> sectors;
  for (std::size_t lane = 0; lane < kWarpLanes; ++lane) {
    for (std::size_t i = 0; (request.active >> lane & 1) != 0 && i < request.bytes; ++i) {
      bytes.insert(request.addresses[lane] + i);
      sectors.insert((request.addresses[lane] + i) / 32);
    }
  }
  return {bytes.size(), sectors.size()};
}

SharedCost counted_shared(const WarpRequest& request) {
  const std::size_t lanes_at_once = request.bytes == 16 ? 8 : request.bytes == 8 ? 16 : 32;
  SharedCost cost;
  for (std::size_t first = 0; first < kWarpLanes; first += lanes_at_once) {
    std::map<Address, std::set<Address>> words_of_bank;
    std::set<Address> words;
    for (std::size_t lane = first; lane < first + lanes_at_once; ++lane) {
      for (std::size_t i = 0; (request.active >> lane & 1) != 0 && i < request.bytes; ++i) {
        const Address word = (request.addresses[lane] + i) / 4;
        words_of_bank[word % 32].insert(word);
        words.insert(word);
      }
    }
    std::size_t most = 0;
    for (const auto& [bank, of_bank] : words_of_bank) {
      most = std::max(most, of_bank.size());
    }
    cost.wavefronts += most;
    cost.ideal += (words.size() + 31) / 32;
  }
  return cost;
}

TEST_CASE("costs of random requests are what sets count", "[emulator]") {
  XC_RANDOM(random);
  for (int i = 0; i < 20000; ++i) {
    const auto bytes = std::size_t{1} << random.integer(0, 4);
    const int reach = 1 << random.integer(0, 9);
    const int stride = random.integer(0, 40);
    Addresses addresses{};
    for (std::size_t lane = 0; lane < kWarpLanes; ++lane) {
      const int place = i % 2 == 0 ? random.integer(0, reach) : static_cast<int>(lane) * stride;
      addresses[lane] = 4096 + static_cast<Address>(place) * bytes;
    }
    const auto active = i % 3 == 0 ? ~0U : static_cast<std::uint32_t>(random.integer(0, 1 << 30));
    const WarpRequest request{active, addresses, bytes};
    CAPTURE(i, bytes, active, reach, stride);
    const GlobalCost global = global_cost(request);
    REQUIRE(global.bytes == counted_global(request).bytes);
    REQUIRE(global.sectors == counted_global(request).sectors);
    const SharedCost shared = shared_cost(request);
    REQUIRE(shared.wavefronts == counted_shared(request).wavefronts);
    REQUIRE(shared.ideal == counted_shared(request).ideal);
  }
}

WarpRequest strided(Addresses& addresses, std::size_t bytes, Address stride, Address first = 0) {
  for (std::size_t lane = 0; lane < kWarpLanes; ++lane) {
    addresses[lane] = first + lane * stride;
  }
  return {~0U, addresses, bytes};
}

TEST_CASE("costs counted by hand", "[emulator]") {
  Addresses addresses{};
  // 32 floats in a row: four sectors, one wavefront.
  REQUIRE(global_cost(strided(addresses, 4, 4)).sectors == 4);
  REQUIRE(shared_cost(strided(addresses, 4, 4)).wavefronts == 1);
  // The same, begun in the middle of a sector.
  REQUIRE(global_cost(strided(addresses, 4, 4, 16)).sectors == 5);
  // One float of every sector.
  REQUIRE(global_cost(strided(addresses, 4, 32)).bytes == 128);
  REQUIRE(global_cost(strided(addresses, 4, 32)).sectors == 32);
  // Every lane at one bank; two lanes a bank; one word for all.
  REQUIRE(shared_cost(strided(addresses, 4, 128)).wavefronts == 32);
  REQUIRE(shared_cost(strided(addresses, 4, 8)).wavefronts == 2);
  REQUIRE(shared_cost(strided(addresses, 4, 0)).wavefronts == 1);
  REQUIRE(global_cost(strided(addresses, 4, 0)).bytes == 4);
  // Two halves of a word are one word.
  REQUIRE(shared_cost(strided(addresses, 2, 2)).wavefronts == 1);
  // 16 bytes a lane: four wavefronts of eight lanes; rows 128 bytes apart all meet in four banks.
  REQUIRE(shared_cost(strided(addresses, 16, 16)).wavefronts == 4);
  REQUIRE(shared_cost(strided(addresses, 16, 16)).ideal == 4);
  REQUIRE(shared_cost(strided(addresses, 16, 128)).wavefronts == 32);
  REQUIRE(shared_cost(strided(addresses, 8, 8)).wavefronts == 2);
  // Rows 144 bytes apart, as a padded tile for ldmatrix has them.
  REQUIRE(shared_cost(strided(addresses, 16, 144)).wavefronts == 4);
  // No lane, no cost.
  REQUIRE(global_cost({0, addresses, 4}).sectors == 0);
  REQUIRE(shared_cost({0, addresses, 4}).wavefronts == 0);
}

TEST_CASE("counters add up and are written as JSON", "[emulator]") {
  LaunchCounters counters;
  std::uint64_t next = 1;
  for (std::uint64_t& count : counters.instructions) {
    count = next++;
  }
  for (std::uint64_t* count :
       {&counters.lane_instructions, &counters.mma_macs, &counters.load_bytes,
        &counters.load_sector_bytes, &counters.store_bytes, &counters.store_sector_bytes,
        &counters.lane_load_bytes, &counters.distinct_read_bytes, &counters.distinct_written_bytes,
        &counters.shared_wavefronts, &counters.shared_wavefronts_ideal, &counters.barriers}) {
    *count = next++;
  }
  counters.wgmma_more = 1;  // a wgmma that counts as two mma
  REQUIRE(counters.warp_instructions() == 1 + 2 + 3 + 4 + 5);
  LaunchCounters twice = counters;
  twice += counters;
  const auto row = nlohmann::json::parse(to_json("k\"<1>\xff", counters));
  const auto doubled = nlohmann::json::parse(to_json("k", twice));
  REQUIRE(doubled["kernel"] == "k");
  REQUIRE(row["warp_instructions"] == 15);
  REQUIRE(row["mma"] == 1);
  REQUIRE(row["control"] == 5);
  REQUIRE(row["lane_instructions"] == 6);
  REQUIRE(row["issued"] == 14);
  REQUIRE(row["barriers"] == 17);
  std::set<std::uint64_t> values;
  for (const auto& [name, value] : row.items()) {
    if (value.is_number()) {
      values.insert(value.get<std::uint64_t>());
      REQUIRE(doubled[name].get<std::uint64_t>() == 2 * value.get<std::uint64_t>());
    }
  }
  // 17 counts, each its own; the sums of instructions, 15 and 14, are two of them.
  REQUIRE(values.size() == 17);
}

}  // namespace
}  // namespace xception::emulator
