// Shared memory against a model that remembers every access of every thread, and cp.async and the
// barriers case by case.
#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <set>
#include <vector>

#include "tests/emulator/shared_memory.h"
#include "tests/random.h"
#include "tests/testing.h"

namespace xception::emulator {
namespace {

constexpr std::uint32_t kAll = ~std::uint32_t{0};

bool has(const std::optional<Fault>& fault, FaultKind kind, const std::string& text = "") {
  if (!fault) {
    UNSCOPED_INFO("no fault");
    return false;
  }
  UNSCOPED_INFO(fault_name(fault->kind) << ": " << fault->message);
  return fault->kind == kind && fault->message.find(text) != std::string::npos;
}

// A block of some warps, with what the cases do to it in short.
struct Block {
  explicit Block(std::size_t bytes, int warp_count = 2, bool partial = false,
                 std::uint64_t seed = 0)
      : warps(warp_count) {
    shared.begin_block({bytes, warps * kWarpLanes, partial, seed});
  }

  std::optional<Fault> lane(Access kind, Address offset, std::size_t bytes, int warp, int lane_at) {
    std::array<Address, kWarpLanes> addresses{};
    addresses[static_cast<std::size_t>(lane_at)] = offset;
    int at = -1;
    auto fault = shared.access(kind, {1U << lane_at, addresses, bytes}, warp, &at);
    REQUIRE((!fault || at == lane_at));
    return fault;
  }
  std::optional<Fault> read(Address offset, std::size_t bytes, int warp, int lane_at) {
    return lane(Access::kRead, offset, bytes, warp, lane_at);
  }
  std::optional<Fault> write(Address offset, std::size_t bytes, int warp, int lane_at) {
    return lane(Access::kWrite, offset, bytes, warp, lane_at);
  }
  std::optional<Fault> atomic(Address offset, std::size_t bytes, int warp, int lane_at) {
    return lane(Access::kAtomic, offset, bytes, warp, lane_at);
  }
  // bar.sync of these warps, after bar.arrive of those.
  void barrier(int id, const std::vector<int>& waiting, const std::vector<int>& arriving = {}) {
    for (const int warp : arriving) {
      shared.arrive(id, warp);
    }
    for (const int warp : waiting) {
      shared.arrive(id, warp);
    }
    shared.release(id, waiting);
  }
  void sync_threads() {
    std::vector<int> all(static_cast<std::size_t>(warps));
    std::iota(all.begin(), all.end(), 0);
    barrier(0, all);
  }

  SharedMemory shared;
  int warps;
};

TEST_CASE("shared memory has bounds and alignment", "[emulator]") {
  Block block(100);
  REQUIRE(block.shared.size() == 100);
  REQUIRE_FALSE(block.write(96, 4, 0, 0));
  REQUIRE(has(block.write(100, 4, 0, 0), FaultKind::kOutOfBounds, "100 bytes of shared memory"));
  REQUIRE(has(block.write(96, 8, 0, 3), FaultKind::kOutOfBounds));
  REQUIRE(has(block.read(~Address{0} - 3, 4, 0, 0), FaultKind::kOutOfBounds));
  REQUIRE(has(block.read(Address{1} << 32, 4, 0, 0), FaultKind::kOutOfBounds));
  for (const std::size_t bytes : {2, 4, 8, 16}) {
    REQUIRE(has(block.write(bytes / 2, bytes, 0, 0), FaultKind::kMisaligned,
                "no multiple of " + std::to_string(bytes)));
    REQUIRE_FALSE(block.write(bytes, bytes, 0, 0));
  }
  Block empty(0);
  REQUIRE(has(empty.read(0, 1, 0, 0), FaultKind::kOutOfBounds));
}

TEST_CASE("each shared byte knows whether it has been written", "[emulator]") {
  XC_RANDOM(random);
  constexpr std::size_t kSize = 96;
  Block block(kSize);
  for (int round = 0; round < 400; ++round) {
    block.shared.begin_block({kSize, 64, false, 0});
    std::array<bool, kSize> defined{};
    for (int step = 0; step < 60; ++step) {
      const auto bytes = static_cast<std::size_t>(1) << random.integer(0, 4);
      const auto place =
          static_cast<std::size_t>(random.integer(0, static_cast<int>(kSize / bytes) - 1)) * bytes;
      const auto kind = static_cast<Access>(random.integer(0, 2));
      const bool fine = kind == Access::kWrite ||
                        std::all_of(defined.begin() + static_cast<std::ptrdiff_t>(place),
                                    defined.begin() + static_cast<std::ptrdiff_t>(place + bytes),
                                    [](bool byte) { return byte; });
      const auto fault = block.lane(kind, place, bytes, 1, 5);
      REQUIRE(fault.has_value() != fine);
      if (fault) {
        REQUIRE(has(fault, FaultKind::kUninitialised, "nobody has written"));
      } else if (kind == Access::kWrite) {
        std::fill_n(defined.begin() + static_cast<std::ptrdiff_t>(place), bytes, true);
      }
    }
  }
}

TEST_CASE("a barrier lies between or it is a race", "[emulator]") {
  Block block(64);
  REQUIRE_FALSE(block.write(0, 4, 0, 3));
  REQUIRE(has(block.read(0, 4, 1, 0), FaultKind::kSharedRace,
              "thread 3 (warp 0, lane 3) wrote it, and no barrier"));
  block.sync_threads();
  REQUIRE_FALSE(block.read(0, 4, 1, 0));
  REQUIRE_FALSE(block.read(0, 4, 0, 9));
  // Two warps have read; either write races with the other's read.
  REQUIRE(has(block.write(0, 4, 0, 9), FaultKind::kSharedRace));
  REQUIRE(has(block.write(0, 4, 1, 0), FaultKind::kSharedRace));
  block.sync_threads();
  REQUIRE_FALSE(block.write(0, 4, 1, 0));
  REQUIRE(has(block.write(0, 4, 0, 0), FaultKind::kSharedRace, "thread 32"));
  REQUIRE(has(block.atomic(0, 4, 0, 0), FaultKind::kSharedRace));
  block.sync_threads();
  REQUIRE_FALSE(block.atomic(0, 4, 0, 0));
  REQUIRE_FALSE(block.atomic(0, 4, 1, 1));
  REQUIRE(has(block.read(0, 4, 1, 1), FaultKind::kSharedRace, "updated"));
  block.sync_threads();
  REQUIRE_FALSE(block.read(0, 4, 1, 1));
}

TEST_CASE("lanes of a warp need a __syncwarp", "[emulator]") {
  Block block(64, 1);
  REQUIRE_FALSE(block.write(0, 4, 0, 0));
  REQUIRE_FALSE(block.read(0, 4, 0, 0));  // its own
  REQUIRE(has(block.read(0, 4, 0, 1), FaultKind::kSharedRace, "no __syncwarp or barrier"));
  block.shared.warp_sync(0, kAll);
  REQUIRE_FALSE(block.read(0, 4, 0, 1));
  REQUIRE(has(block.write(0, 4, 0, 0), FaultKind::kSharedRace, "thread 1"));
  block.shared.warp_sync(0, kAll);
  REQUIRE_FALSE(block.write(0, 4, 0, 0));
  // Only those of the mask are ordered.
  block.shared.warp_sync(0, 0b0111);
  REQUIRE_FALSE(block.read(0, 4, 0, 2));
  REQUIRE(has(block.read(0, 4, 0, 3), FaultKind::kSharedRace, "thread 0"));
  // Through lane 2, lane 3 comes to know of lane 0's write.
  block.shared.warp_sync(0, 0b1100);
  REQUIRE_FALSE(block.read(0, 4, 0, 3));
  // Lanes that have ended are not waited for.
  REQUIRE_FALSE(block.write(4, 4, 0, 0));
  block.shared.exit(0, ~std::uint32_t{0xff});
  block.shared.warp_sync(0, 0xff);
  REQUIRE_FALSE(block.read(4, 4, 0, 7));
}

TEST_CASE("lanes of one store may agree, not differ", "[emulator]") {
  Block block(64, 1);
  std::array<Address, kWarpLanes> addresses{};
  std::array<std::uint32_t, kWarpLanes> values{};
  int lane = -1;
  const WarpRequest request{kAll, addresses, 4};
  const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
  REQUIRE_FALSE(block.shared.access(Access::kWrite, request, 0, &lane, bytes));
  block.shared.warp_sync(0, kAll);
  values[9] = 1;
  REQUIRE(
      has(block.shared.access(Access::kWrite, request, 0, &lane, bytes), FaultKind::kSharedRace));
  REQUIRE(lane == 9);
  block.shared.warp_sync(0, kAll);
  REQUIRE_FALSE(block.shared.access(Access::kWrite, request, 0, &lane));
  // Another instruction is another matter, whatever it stores.
  REQUIRE(has(block.write(0, 4, 0, 5), FaultKind::kSharedRace));
  // Chunks of 16 bytes likewise, whether their words had been apart or not.
  std::array<std::uint32_t, 4 * kWarpLanes> wide{};
  const auto* wide_bytes = reinterpret_cast<const std::byte*>(wide.data());
  addresses.fill(16);
  REQUIRE_FALSE(block.write(20, 4, 0, 7));
  const WarpRequest chunks{kAll, addresses, 16};
  for (int round = 0; round < 2; ++round) {
    block.shared.warp_sync(0, kAll);
    REQUIRE_FALSE(block.shared.access(Access::kWrite, chunks, 0, &lane, wide_bytes));
  }
  wide[4 * 9 + 3] = 1;
  block.shared.warp_sync(0, kAll);
  REQUIRE(has(block.shared.access(Access::kWrite, chunks, 0, &lane, wide_bytes),
              FaultKind::kSharedRace));
  REQUIRE(lane == 9);
}

TEST_CASE("named barriers order those that take part", "[emulator]") {
  Block block(64, 3, true);
  // Warp 0 produces and goes on, warp 1 waits; warp 2 has no part in it.
  REQUIRE_FALSE(block.write(0, 4, 0, 0));
  block.barrier(1, {1}, {0});
  REQUIRE_FALSE(block.read(0, 4, 1, 0));
  REQUIRE(has(block.read(0, 4, 2, 0), FaultKind::kSharedRace, "thread 0"));
  // What warp 0 does after its bar.arrive is not covered.
  REQUIRE_FALSE(block.write(4, 4, 1, 0));
  block.shared.arrive(2, 1);
  REQUIRE_FALSE(block.write(8, 4, 1, 0));
  block.shared.arrive(2, 0);
  block.shared.release(2, std::array{0});
  REQUIRE_FALSE(block.read(4, 4, 0, 0));
  REQUIRE(has(block.read(8, 4, 0, 0), FaultKind::kSharedRace, "thread 32"));
  // Transitively: 1 -> 2 -> 0.
  REQUIRE_FALSE(block.write(12, 4, 1, 0));
  block.barrier(3, {2}, {1});
  block.barrier(4, {0}, {2});
  REQUIRE_FALSE(block.read(12, 4, 0, 0));
  // Readers of several warps, of which the writer has waited for some.
  block.sync_threads();
  REQUIRE_FALSE(block.write(16, 4, 0, 0));
  block.sync_threads();
  REQUIRE_FALSE(block.read(16, 4, 0, 0));
  REQUIRE_FALSE(block.read(16, 4, 1, 4));
  REQUIRE_FALSE(block.read(16, 4, 2, 7));
  block.barrier(5, {0}, {1});
  REQUIRE(has(block.write(16, 4, 0, 0), FaultKind::kSharedRace, "thread 71"));
  block.barrier(6, {0}, {2});
  REQUIRE_FALSE(block.write(16, 4, 0, 0));
}

TEST_CASE("a warp that has ended lies before the block's later barriers", "[emulator]") {
  Block block(64, 3);
  REQUIRE_FALSE(block.write(0, 4, 2, 0));
  block.shared.exit(2, kAll);
  REQUIRE(has(block.read(0, 4, 0, 0), FaultKind::kSharedRace, "thread 64"));
  block.barrier(0, {0, 1});
  REQUIRE_FALSE(block.read(0, 4, 0, 0));
  REQUIRE_FALSE(block.read(0, 4, 1, 0));
  block.barrier(0, {0, 1});
  REQUIRE_FALSE(block.write(0, 4, 1, 0));
}

// Every access that every thread has made, and a clock of every thread in every thread.
struct Model {
  struct Event {
    std::size_t thread;
    int clock;
    Access kind;
  };
  using Clock = std::vector<int>;

  Model(std::size_t threads, std::size_t bytes)
      : clocks(threads, Clock(threads, 0)), barriers(8, Clock(threads, 0)), events(bytes) {
    for (std::size_t thread = 0; thread < threads; ++thread) {
      clocks[thread][thread] = 1;
    }
  }
  static void join(Clock& to, const Clock& from) {
    for (std::size_t i = 0; i < to.size(); ++i) {
      to[i] = std::max(to[i], from[i]);
    }
  }
  void arrive(std::size_t id, int warp) {
    for (std::size_t lane = 0; lane < kWarpLanes; ++lane) {
      const std::size_t thread = static_cast<std::size_t>(warp) * kWarpLanes + lane;
      join(barriers[id], clocks[thread]);
      ++clocks[thread][thread];
    }
  }
  void release(std::size_t id, const std::vector<int>& waiting) {
    for (const int warp : waiting) {
      for (std::size_t lane = 0; lane < kWarpLanes; ++lane) {
        join(clocks[static_cast<std::size_t>(warp) * kWarpLanes + lane], barriers[id]);
      }
    }
    std::fill(barriers[id].begin(), barriers[id].end(), 0);
  }
  void warp_sync(int warp, std::uint32_t mask) {
    Clock all(clocks.size(), 0);
    for (std::size_t lane = 0; lane < kWarpLanes; ++lane) {
      if ((mask >> lane & 1) != 0) {
        join(all, clocks[static_cast<std::size_t>(warp) * kWarpLanes + lane]);
      }
    }
    for (std::size_t lane = 0; lane < kWarpLanes; ++lane) {
      const std::size_t thread = static_cast<std::size_t>(warp) * kWarpLanes + lane;
      if ((mask >> lane & 1) != 0) {
        join(clocks[thread], all);
        ++clocks[thread][thread];
      }
    }
  }
  bool races(std::size_t byte, Access kind, std::size_t thread) const {
    return std::any_of(events[byte].begin(), events[byte].end(), [&](const Event& event) {
      const bool harmless = kind == event.kind && kind != Access::kWrite;
      return event.thread != thread && !harmless && event.clock > clocks[thread][event.thread];
    });
  }
  void add(std::size_t byte, Access kind, std::size_t thread) {
    events[byte].push_back({thread, clocks[thread][thread], kind});
  }

  std::vector<Clock> clocks;
  std::vector<Clock> barriers;
  std::vector<std::vector<Event>> events;
};

// How often a program of random accesses and synchronisations came to a race; each time at the
// access that makes it. With `partial_warps`, races may be missed but none invented.
struct Found {
  int races = 0;
  int missed = 0;
};

Found random_programs(Random& random, bool named, bool partial_warps, int rounds) {
  constexpr int kWarps = 3;
  Found found;
  SharedMemory shared;
  const std::array<std::byte, 16> source{};
  for (int round = 0; round < rounds; ++round) {
    const auto size = static_cast<std::size_t>(4 * random.integer(4, 11));
    shared.begin_block({size, kWarps * kWarpLanes, named, 0});
    Model model(static_cast<std::size_t>(kWarps * kWarpLanes), size);
    // All of it defined, by one thread, and known to all.
    std::array<Address, kWarpLanes> addresses{};
    int at = 0;
    for (Address offset = 0; offset < size;) {
      const std::size_t bytes = size - offset < 16 ? 4 : 16;
      addresses[0] = offset;
      REQUIRE_FALSE(shared.access(Access::kWrite, {1, addresses, bytes}, 0, &at));
      offset += bytes;
    }
    const auto barrier = [&](std::size_t id, const std::vector<int>& waiting,
                             const std::vector<int>& arriving) {
      for (const auto* warps : {&arriving, &waiting}) {
        for (const int warp : *warps) {
          shared.arrive(static_cast<int>(id), warp);
          model.arrive(id, warp);
        }
      }
      shared.release(static_cast<int>(id), waiting);
      model.release(id, waiting);
    };
    barrier(0, {0, 1, 2}, {});
    const int most_shift = random.integer(0, 4);
    const int least_shift = random.integer(0, most_shift);
    const int most_lanes = random.integer(1, 4);
    for (int step = 0; step < 200; ++step) {
      const int warp = random.integer(0, kWarps - 1);
      const int what = random.integer(0, 11);
      if (what == 0) {
        barrier(0, {0, 1, 2}, {});
      } else if (what <= 2) {
        shared.warp_sync(warp, kAll);
        model.warp_sync(warp, kAll);
      } else if (what == 3 && named) {
        const int other = (warp + random.integer(1, 2)) % kWarps;
        const auto id = static_cast<std::size_t>(random.integer(1, 3));
        if (random.integer(0, 1) != 0) {
          barrier(id, {warp, other}, {});
        } else {
          barrier(id, {warp}, {other});
        }
      } else if (what == 4 && partial_warps) {
        const auto mask = static_cast<std::uint32_t>(random.integer(1, (1 << most_lanes) - 1));
        shared.warp_sync(warp, mask);
        model.warp_sync(warp, mask);
      } else {
        const auto bytes = static_cast<std::size_t>(1) << random.integer(least_shift, most_shift);
        const int lane = random.integer(0, most_lanes - 1);
        const auto thread =
            static_cast<std::size_t>(warp) * kWarpLanes + static_cast<std::size_t>(lane);
        const auto place =
            static_cast<std::size_t>(random.integer(0, static_cast<int>(size / bytes) - 1)) * bytes;
        const int pick = random.integer(0, 9);
        const Access kind = pick < 5 ? Access::kRead : pick < 8 ? Access::kWrite : Access::kAtomic;
        bool race = false;
        for (std::size_t byte = place; byte < place + bytes; ++byte) {
          race = race || model.races(byte, kind, thread);
        }
        addresses[static_cast<std::size_t>(lane)] = place;
        // A copy that its thread waits for at once is a write of that thread.
        const bool copied = kind == Access::kWrite && bytes >= 4 && random.integer(0, 2) == 0;
        const auto fault =
            copied ? shared.copy_async(warp, lane, place, reinterpret_cast<Address>(source.data()),
                                       bytes, bytes)
                   : shared.access(kind, {1U << lane, addresses, bytes}, warp, &at);
        if (copied && !fault) {
          shared.commit(warp, 1U << lane);
          shared.wait(warp, 1U << lane, 0);
        }
        CAPTURE(round, step, warp, lane, place, bytes, static_cast<int>(kind));
        if (fault) {
          REQUIRE(fault->kind == FaultKind::kSharedRace);
          REQUIRE(race);
          ++found.races;
          break;
        }
        if (race) {
          REQUIRE(partial_warps);
          ++found.missed;
          break;
        }
        for (std::size_t byte = place; byte < place + bytes; ++byte) {
          model.add(byte, kind, thread);
        }
      }
    }
  }
  return found;
}

TEST_CASE("races are found at the access that makes them, and no others", "[emulator]") {
  XC_RANDOM(random);
  const Found plain = random_programs(random, false, false, 4000);
  REQUIRE(plain.races > 2000);
  const Found named = random_programs(random, true, false, 4000);
  REQUIRE(named.races > 2000);
}

TEST_CASE("after a __syncwarp of some lanes few races are missed, none invented", "[emulator]") {
  XC_RANDOM(random);
  const Found found = random_programs(random, true, true, 4000);
  REQUIRE(found.races > 2000);
  REQUIRE(found.missed < found.races / 20);
}

// A source in "device memory" for cp.async.
struct Source {
  std::array<std::uint32_t, 4> words{1, 2, 3, 4};
  Address address() const { return reinterpret_cast<Address>(words.data()); }
};

TEST_CASE("cp.async lands at its thread's wait, not before", "[emulator]") {
  const Source source;
  Block block(256);
  REQUIRE_FALSE(block.shared.copy_async(0, 4, 16, source.address(), 16, 16));
  for (const auto& fault : {block.read(16, 4, 0, 4), block.read(28, 1, 1, 0),
                            block.write(24, 2, 0, 4), block.atomic(16, 4, 0, 4)}) {
    REQUIRE(has(fault, FaultKind::kAsyncCopyNotWaited, "not even committed"));
  }
  REQUIRE(has(block.shared.copy_async(0, 4, 16, source.address(), 4, 4),
              FaultKind::kAsyncCopyNotWaited));
  block.shared.commit(0, 1U << 4);
  REQUIRE(has(block.read(16, 4, 0, 4), FaultKind::kAsyncCopyNotWaited, "not waited for"));
  // A barrier is no wait, nor is another thread's wait.
  block.sync_threads();
  block.shared.wait(0, 1U << 5, 0);
  block.shared.wait(1, kAll, 0);
  REQUIRE(has(block.read(16, 4, 1, 0), FaultKind::kAsyncCopyNotWaited,
              "cp.async of thread 4 (warp 0, lane 4)"));
  block.shared.wait(0, kAll, 0);
  REQUIRE_FALSE(block.read(16, 16, 0, 4));
  REQUIRE(std::memcmp(block.shared.data() + 16, source.words.data(), 16) == 0);
  // The wait is the issuing thread's alone: others need a barrier after it.
  REQUIRE(has(block.read(16, 4, 1, 0), FaultKind::kSharedRace, "thread 4"));
  REQUIRE(has(block.read(16, 4, 0, 5), FaultKind::kSharedRace, "thread 4"));
  block.sync_threads();
  REQUIRE_FALSE(block.read(16, 4, 1, 0));
}

TEST_CASE("cp.async checks its target", "[emulator]") {
  const Source source;
  Block block(64);
  REQUIRE(has(block.shared.copy_async(0, 0, 8, source.address(), 16, 16), FaultKind::kMisaligned,
              "16-byte cp.async to shared address 0x8"));
  REQUIRE(has(block.shared.copy_async(0, 0, 64, source.address(), 4, 4), FaultKind::kOutOfBounds));
  REQUIRE_FALSE(block.write(0, 4, 1, 0));
  REQUIRE(has(block.shared.copy_async(0, 0, 0, source.address(), 16, 16), FaultKind::kSharedRace,
              "thread 32"));
  block.sync_threads();
  REQUIRE_FALSE(block.read(0, 4, 1, 0));
  // The second barrier of a double-buffered loop is missing.
  REQUIRE(has(block.shared.copy_async(0, 0, 0, source.address(), 16, 16), FaultKind::kSharedRace,
              "read"));
}

TEST_CASE("wait_group leaves the youngest groups in flight", "[emulator]") {
  Source source;
  Block block(256, 1);
  const auto copy = [&](Address offset) {
    REQUIRE_FALSE(block.shared.copy_async(0, 0, offset, source.address(), 4, 4));
  };
  copy(0);
  block.shared.commit(0, 1);
  copy(4);
  copy(8);
  block.shared.commit(0, 1);
  block.shared.commit(0, 1);  // an empty group counts too
  copy(12);                   // in no group yet
  block.shared.wait(0, 1, 2);
  REQUIRE_FALSE(block.read(0, 4, 0, 0));
  REQUIRE(has(block.read(4, 4, 0, 0), FaultKind::kAsyncCopyNotWaited));
  block.shared.wait(0, 1, 1);
  REQUIRE_FALSE(block.read(4, 4, 0, 0));
  REQUIRE_FALSE(block.read(8, 4, 0, 0));
  block.shared.wait(0, 1, 0);
  REQUIRE(has(block.read(12, 4, 0, 0), FaultKind::kAsyncCopyNotWaited, "not even committed"));
  block.shared.wait_all(0, 1);
  REQUIRE_FALSE(block.read(12, 4, 0, 0));
}

TEST_CASE("cp.async fills with zeros, and reads its source at either end", "[emulator]") {
  std::set<std::uint32_t> seen;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Source source;
    Block block(64, 1, false, seed);
    REQUIRE_FALSE(block.write(16, 16, 0, 0));
    std::memset(block.shared.data(), 0xEE, 64);
    REQUIRE_FALSE(block.shared.copy_async(0, 0, 0, source.address(), 16, 8));
    REQUIRE_FALSE(block.shared.copy_async(0, 0, 16, 0, 16, 0));
    source.words[0] = 77;
    block.shared.wait_all(0, 1);
    std::array<std::uint32_t, 8> got{};
    std::memcpy(got.data(), block.shared.data(), sizeof got);
    REQUIRE_FALSE(block.read(0, 16, 0, 0));
    seen.insert(got[0]);
    REQUIRE(got[1] == 2);
    REQUIRE(std::all_of(got.begin() + 2, got.end(), [](std::uint32_t word) { return word == 0; }));
  }
  REQUIRE(seen == std::set<std::uint32_t>{1, 77});
}

// With barriers of which a part of the warps waits, as a kernel with an mbarrier has them.
SharedMemory::Options partial_barriers(int threads) {
  SharedMemory::Options options;
  options.bytes = 64;
  options.threads = threads;
  options.partial_barriers = true;
  return options;
}

TEST_CASE("lanes that read are known on both sides of an arrival", "[emulator]") {
  SharedMemory memory;
  memory.begin_block(partial_barriers(64));
  const std::array<Address, kWarpLanes> addresses{};
  const auto access = [&](Access kind, int lane) {
    int faulty = 0;
    return memory.access(kind, WarpRequest{1U << lane, addresses, 4}, 0, &faulty, nullptr);
  };
  REQUIRE(!access(Access::kWrite, 0));
  memory.warp_sync(0, ~0U);
  REQUIRE(!access(Access::kRead, 0));
  memory.arrive(1, 0);
  REQUIRE(!access(Access::kRead, 1));
  CHECK(access(Access::kWrite, 1));  // lane 0 has read it
}

TEST_CASE("wgmma reads until it is waited for, whatever arrives meanwhile", "[emulator]") {
  SharedMemory memory;
  memory.begin_block(partial_barriers(64));
  const std::array<Address, kWarpLanes> addresses{};
  const auto write = [&](int warp) {
    int faulty = 0;
    return memory.access(Access::kWrite, WarpRequest{1U, addresses, 16}, warp, &faulty, nullptr);
  };
  REQUIRE(!write(0));
  memory.proxy_fence(0, 1U);
  memory.arrive(0, 0);
  memory.arrive(0, 1);
  const std::array both = {0, 1};
  memory.release(0, both);
  const std::array<std::uint32_t, 1> chunks = {0};
  const Stamp begin = memory.now(0);
  REQUIRE(!memory.begin_wgmma(0, chunks));
  memory.arrive(1, 0);  // too early: it still reads
  memory.arrive(1, 1);
  const std::array other = {1};
  memory.release(1, other);
  memory.end_wgmma(0, chunks, begin);
  CHECK(write(1));
}

TEST_CASE("a new block knows nothing of the last", "[emulator]") {
  const Source source;
  Block block(64);
  REQUIRE_FALSE(block.write(0, 4, 0, 0));
  REQUIRE_FALSE(block.shared.copy_async(0, 0, 16, source.address(), 16, 16));
  block.shared.begin_block({64, 64, false, 0});
  REQUIRE(has(block.read(0, 4, 0, 0), FaultKind::kUninitialised));
  REQUIRE(has(block.read(16, 4, 0, 0), FaultKind::kUninitialised));
  REQUIRE_FALSE(block.write(0, 4, 1, 0));
  block.shared.begin_block({128, 64, false, 0});
  REQUIRE_FALSE(block.write(124, 4, 1, 0));
}

}  // namespace
}  // namespace xception::emulator
