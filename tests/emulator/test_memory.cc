// Device memory against a model that keeps everything, byte by byte.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "tests/emulator/memory.h"
#include "tests/random.h"
#include "tests/testing.h"

namespace xception::emulator {
namespace {

constexpr std::size_t kMebi = std::size_t{1} << 20;

bool has(const std::optional<Fault>& fault, FaultKind kind, const std::string& text) {
  if (!fault) {
    UNSCOPED_INFO("no fault");
    return false;
  }
  UNSCOPED_INFO(fault_name(fault->kind) << ": " << fault->message);
  return fault->kind == kind && fault->message.find(text) != std::string::npos;
}

// A memory within a launch, as most cases need it.
struct Launched {
  explicit Launched(std::size_t capacity = kMebi, int threads = 1) : memory(capacity) {
    next_launch(threads);
  }
  void next_launch(int threads = 1) { memory.begin_launch(++launch, 64, threads); }
  std::optional<Fault> access(Access kind, Address address, std::size_t bytes,
                              std::uint32_t block = 0) {
    return memory.access(kind, address, bytes, {launch, block});
  }
  DeviceMemory memory;
  std::uint32_t launch = 0;
};

TEST_CASE("allocations keep apart, aligned to 256 bytes and no more", "[emulator]") {
  DeviceMemory memory(kMebi);
  std::vector<DeviceMemory::Range> ranges;
  for (const std::size_t bytes : {1, 255, 256, 257, 4096, 100000}) {
    const Address address = memory.allocate(bytes);
    REQUIRE(address != 0);
    REQUIRE(address % 256 == 0);
    REQUIRE(address % 512 != 0);
    for (const auto& range : ranges) {
      REQUIRE((address >= range.base + range.bytes + 4096 || address + bytes + 4096 <= range.base));
    }
    ranges.push_back({address, bytes, ranges.size() + 1});
  }
  REQUIRE(memory.live_allocations() == 6);
  REQUIRE(memory.used() == 1 + 255 + 256 + 257 + 4096 + 100000);
  const auto live = memory.live_ranges();
  REQUIRE(live.size() == ranges.size());
  for (std::size_t i = 0; i < live.size(); ++i) {
    REQUIRE(live[i].base == ranges[i].base);
    REQUIRE(live[i].bytes == ranges[i].bytes);
    REQUIRE(live[i].number == i + 1);
    REQUIRE(memory.find(live[i].base + live[i].bytes - 1)->number == i + 1);
    REQUIRE_FALSE(memory.find(live[i].base + live[i].bytes));
    REQUIRE_FALSE(memory.find(live[i].base - 1));
  }
  int on_the_stack = 0;
  REQUIRE_FALSE(memory.contains(reinterpret_cast<Address>(&on_the_stack)));
  REQUIRE(memory.contains(live[0].base));
}

TEST_CASE("capacity is what can be allocated at one time", "[emulator]") {
  DeviceMemory memory(1000);
  REQUIRE(memory.capacity() == 1000);
  const Address first = memory.allocate(600);
  REQUIRE(first != 0);
  REQUIRE(memory.allocate(401) == 0);
  REQUIRE(memory.allocate(0) == 0);
  const Address second = memory.allocate(400);
  REQUIRE(second != 0);
  REQUIRE(memory.allocate(1) == 0);
  REQUIRE_FALSE(memory.free(first));
  REQUIRE(memory.used() == 400);
  REQUIRE(memory.allocate(600) != 0);
  REQUIRE_FALSE(memory.free(0));
}

TEST_CASE("what is freed wrongly is told", "[emulator]") {
  DeviceMemory memory(kMebi);
  const Address address = memory.allocate(1000);
  REQUIRE(has(memory.free(address + 256), FaultKind::kInvalidFree, "256 bytes into allocation 1"));
  REQUIRE(has(memory.free(12345), FaultKind::kInvalidFree, "not in device memory"));
  REQUIRE_FALSE(memory.free(address));
  REQUIRE(has(memory.free(address), FaultKind::kInvalidFree, "freed"));
  REQUIRE(memory.live_allocations() == 0);
}

TEST_CASE("freed addresses come back late, and undefined", "[emulator]") {
  DeviceMemory memory(2 * kMebi);
  std::set<Address> seen;
  std::uint32_t launch = 0;
  int before_reuse = 0;
  for (int i = 0; i < 300; ++i) {
    const Address address = memory.allocate(kMebi + 512);
    REQUIRE(address != 0);
    if (seen.insert(address).second && seen.size() == static_cast<std::size_t>(i) + 1) {
      ++before_reuse;
    }
    memory.begin_launch(++launch, 1, 1);
    REQUIRE(has(memory.access(Access::kRead, address + 512, 4, {launch, 0}),
                FaultKind::kUninitialised, "which nobody has written"));
    const std::array<Address, kWarpLanes> addresses{address + 512};
    REQUIRE_FALSE(memory.find_written_before({1, addresses, 4}));
    REQUIRE_FALSE(memory.fill(address, 1, kMebi));
    REQUIRE_FALSE(memory.access(Access::kRead, address + 512, 4, {launch, 0}));
    REQUIRE_FALSE(memory.access(Access::kWrite, address + 512, 4, {launch, 0}));
    REQUIRE_FALSE(memory.free(address));
    REQUIRE(has(memory.access(Access::kRead, address + 512, 4, {launch, 0}),
                FaultKind::kUseAfterFree, "512 bytes into allocation " + std::to_string(i + 1)));
  }
  // More than the capacity many times over went by first, and then some came back.
  REQUIRE(before_reuse >= 8);
  REQUIRE(seen.size() < 300);
}

TEST_CASE("many sizes share reused addresses without overlap", "[emulator]") {
  XC_RANDOM(random);
  DeviceMemory memory(4 * kMebi);
  std::map<Address, std::size_t> live;
  for (int i = 0; i < 3000; ++i) {
    if (!live.empty() && random.integer(0, 2) == 0) {
      auto victim = live.begin();
      std::advance(victim, random.integer(0, static_cast<int>(live.size()) - 1));
      REQUIRE_FALSE(memory.free(victim->first));
      live.erase(victim);
      continue;
    }
    const auto bytes = static_cast<std::size_t>(1 << random.integer(0, 19)) +
                       static_cast<std::size_t>(random.integer(0, 100));
    const Address address = memory.allocate(bytes);
    if (address == 0) {
      continue;  // at the capacity, or no stretch is long enough
    }
    const auto next = live.lower_bound(address);
    REQUIRE((next == live.end() || address + bytes + 4096 <= next->first));
    REQUIRE((next == live.begin() ||
             std::prev(next)->first + std::prev(next)->second + 4096 <= address));
    live[address] = bytes;
  }
  REQUIRE(memory.live_allocations() == live.size());
}

TEST_CASE("bounds and alignment are told with the allocation", "[emulator]") {
  Launched m;
  const Address a = m.memory.allocate(1000);
  REQUIRE_FALSE(m.memory.fill(a, 0, 1000));
  REQUIRE_FALSE(m.access(Access::kRead, a + 996, 4));
  REQUIRE(has(m.access(Access::kRead, a + 1000, 4), FaultKind::kOutOfBounds,
              "just past the end of allocation 1 ("));
  REQUIRE(has(m.access(Access::kWrite, a + 992, 16), FaultKind::kOutOfBounds, "just past"));
  REQUIRE(has(m.access(Access::kWrite, a + 1024, 16), FaultKind::kOutOfBounds,
              "24 bytes past the end of allocation 1"));
  REQUIRE(has(m.access(Access::kAtomic, a - 4, 4), FaultKind::kOutOfBounds,
              "4 bytes before allocation 1"));
  REQUIRE(has(m.access(Access::kRead, 0, 4), FaultKind::kOutOfBounds, "not in device memory"));
  REQUIRE(has(m.access(Access::kRead, ~Address{0} - 3, 4), FaultKind::kOutOfBounds, ""));
  // p[i - 1] of a null p: what the two lanes touch ends where it begins, at 4.
  std::array<Address, kWarpLanes> around_null{~Address{0} - 3, 0};
  int lane = 0;
  REQUIRE(has(m.memory.access(Access::kRead, {3, around_null, 4}, {m.launch, 0}, &lane),
              FaultKind::kOutOfBounds, "not in device memory"));
  for (const std::size_t bytes : {2, 4, 8, 16}) {
    REQUIRE(has(m.access(Access::kRead, a + bytes / 2, bytes), FaultKind::kMisaligned,
                "no multiple of " + std::to_string(bytes)));
    REQUIRE_FALSE(m.access(Access::kRead, a + bytes, bytes));
  }
  REQUIRE_FALSE(m.memory.free(a));
  REQUIRE(has(m.access(Access::kWrite, a, 4), FaultKind::kUseAfterFree, "freed"));
  REQUIRE(has(m.memory.copy_in(a, &m, 4), FaultKind::kUseAfterFree, "copy to"));
}

TEST_CASE("copies of the runtime keep to allocations", "[emulator]") {
  DeviceMemory memory(kMebi);
  const Address a = memory.allocate(100);
  const Address b = memory.allocate(100);
  std::array<unsigned char, 101> host{};
  REQUIRE_FALSE(memory.copy_in(a, host.data(), 100));
  REQUIRE(has(memory.copy_in(a, host.data(), 101), FaultKind::kOutOfBounds, "just past"));
  REQUIRE(has(memory.copy_out(host.data(), a + 1, 100), FaultKind::kOutOfBounds, "copy from"));
  REQUIRE(has(memory.copy(b, a, 101), FaultKind::kOutOfBounds, "copy from"));
  REQUIRE(has(memory.copy(b + 50, a, 51), FaultKind::kOutOfBounds, "copy to"));
  REQUIRE(has(memory.fill(b, 0, ~std::size_t{0}), FaultKind::kOutOfBounds, "fill"));
  REQUIRE_FALSE(memory.copy(b, a, 100));
  REQUIRE_FALSE(memory.copy_in(1, host.data(), 0));
}

// All that is known of two allocations.
struct Bytes {
  std::vector<unsigned char> value;
  std::vector<bool> defined;
  std::vector<bool> from_kernel;
};

TEST_CASE("each byte knows whether it has been written, and whether by a kernel", "[emulator]") {
  XC_RANDOM(random);
  constexpr int kSize = 400;
  Launched m;
  std::array<Address, 2> base{};
  std::array<Bytes, 2> model;
  for (std::size_t i = 0; i < 2; ++i) {
    base[i] = m.memory.allocate(kSize);
    model[i] = {std::vector<unsigned char>(kSize), std::vector<bool>(kSize),
                std::vector<bool>(kSize)};
  }
  std::array<int, 2> answers{};
  for (int step = 0; step < 20000; ++step) {
    m.next_launch();
    const auto to = static_cast<std::size_t>(random.integer(0, 1));
    const auto from = static_cast<std::size_t>(random.integer(0, 1));
    const int at = random.integer(0, kSize - 1);
    const int count =
        random.integer(0, random.integer(0, 9) == 0 ? kSize - at : std::min(kSize - at, 40));
    const auto bytes = static_cast<std::size_t>(count);
    CAPTURE(step, to, from, at, count);
    switch (random.integer(0, 11)) {
      case 0: {  // fill
        const int value = random.integer(0, 255);
        REQUIRE_FALSE(m.memory.fill(base[to] + static_cast<Address>(at), value, bytes));
        for (int i = at; i < at + count; ++i) {
          model[to].value[static_cast<std::size_t>(i)] = static_cast<unsigned char>(value);
          model[to].defined[static_cast<std::size_t>(i)] = true;
          model[to].from_kernel[static_cast<std::size_t>(i)] = false;
        }
        break;
      }
      case 1: {  // copy within the device, overlapping at times
        const int source = random.integer(0, kSize - count);
        REQUIRE_FALSE(m.memory.copy(base[to] + static_cast<Address>(at),
                                    base[from] + static_cast<Address>(source), bytes));
        const Bytes old = model[from];
        std::copy_n(old.value.begin() + source, count, model[to].value.begin() + at);
        std::copy_n(old.defined.begin() + source, count, model[to].defined.begin() + at);
        std::fill_n(model[to].from_kernel.begin() + at, count, false);
        break;
      }
      case 2: {  // to the host
        std::vector<unsigned char> host(bytes + 1, 0x55);
        REQUIRE_FALSE(m.memory.copy_out(host.data(), base[to] + static_cast<Address>(at), bytes));
        for (std::size_t i = 0; i < bytes; ++i) {
          const std::size_t byte = static_cast<std::size_t>(at) + i;
          REQUIRE(host[i] == (model[to].defined[byte] ? model[to].value[byte] : 0xFF));
        }
        REQUIRE(host[bytes] == 0x55);
        break;
      }
      case 3: {  // a new allocation in the place of the old
        if (random.integer(0, 20) == 0) {
          REQUIRE_FALSE(m.memory.free(base[to]));
          base[to] = m.memory.allocate(kSize);
          REQUIRE(base[to] != 0);
          model[to].defined.assign(kSize, false);
          model[to].from_kernel.assign(kSize, false);
        }
        break;
      }
      case 4: {  // from the host
        const std::vector<unsigned char> host(bytes, static_cast<unsigned char>(step));
        REQUIRE_FALSE(m.memory.copy_in(base[to] + static_cast<Address>(at), host.data(), bytes));
        std::copy_n(host.begin(), count, model[to].value.begin() + at);
        std::fill_n(model[to].defined.begin() + at, count, true);
        std::fill_n(model[to].from_kernel.begin() + at, count, false);
        break;
      }
      case 5: {  // does a vector hold what a kernel wrote
        const int size = 1 << random.integer(0, 4);
        const int place = random.integer(0, kSize / size - 1) * size;
        const std::array<Address, kWarpLanes> addresses{base[to] + static_cast<Address>(place)};
        const auto first = model[to].from_kernel.begin() + place;
        const auto expected = std::find(first, first + size, true);
        const auto found =
            m.memory.find_written_before({1, addresses, static_cast<std::size_t>(size)});
        REQUIRE(found.has_value() == (expected != first + size));
        if (found) {
          REQUIRE(found->lane == 0);
          REQUIRE(found->address == addresses[0] + static_cast<Address>(expected - first));
        }
        ++answers[found.has_value() ? 1 : 0];
        break;
      }
      default: {  // one access of a kernel
        const int size = 1 << random.integer(0, 4);
        const int place = random.integer(0, kSize / size - 1) * size;
        const Address address = base[to] + static_cast<Address>(place);
        const auto kind = static_cast<Access>(random.integer(0, 2));
        const auto first = model[to].defined.begin() + place;
        const bool fine = kind == Access::kWrite ||
                          std::all_of(first, first + size, [](bool defined) { return defined; });
        const auto fault = m.access(kind, address, static_cast<std::size_t>(size));
        REQUIRE(fault.has_value() != fine);
        if (fault) {
          REQUIRE(fault->kind == FaultKind::kUninitialised);
        } else if (kind != Access::kRead) {
          // NOLINTNEXTLINE(performance-no-int-to-ptr)
          std::memset(reinterpret_cast<void*>(address), step & 0xff,
                      static_cast<std::size_t>(size));
          for (int i = place; i < place + size; ++i) {
            model[to].value[static_cast<std::size_t>(i)] = static_cast<unsigned char>(step);
            model[to].defined[static_cast<std::size_t>(i)] = true;
            model[to].from_kernel[static_cast<std::size_t>(i)] = true;
          }
        }
      }
    }
  }
  REQUIRE(answers[0] > 100);
  REQUIRE(answers[1] > 100);
}

TEST_CASE("what the running launch has written itself was not written before it", "[emulator]") {
  XC_RANDOM(random);
  constexpr std::size_t kSize = 512;
  Launched m;
  const Address base = m.memory.allocate(kSize);
  REQUIRE_FALSE(m.memory.fill(base, 0, kSize));
  std::vector<bool> before(kSize, false);
  int found_some = 0;
  int skipped_own = 0;
  for (int round = 0; round < 200; ++round) {
    m.next_launch();
    std::vector<bool> own(kSize, false);
    for (int step = 0; step < 30; ++step) {
      const auto bytes = static_cast<std::size_t>(1) << random.integer(0, 4);
      const auto place = [&] {
        return static_cast<std::size_t>(random.integer(0, static_cast<int>(kSize / bytes) - 1)) *
               bytes;
      };
      const std::size_t at = place();
      const auto kind = static_cast<Access>(random.integer(0, 2));
      REQUIRE_FALSE(m.access(kind, base + at, bytes));
      if (kind != Access::kRead) {
        std::fill_n(own.begin() + static_cast<std::ptrdiff_t>(at), bytes, true);
      }
      // Three lanes, of which the middle one takes no part.
      std::array<Address, kWarpLanes> addresses{};
      for (std::size_t lane = 0; lane < 3; ++lane) {
        addresses[lane] = base + place();
      }
      std::optional<DeviceMemory::LaneByte> expected;
      for (const std::size_t lane : {0, 2}) {
        for (Address byte = addresses[lane]; byte < addresses[lane] + bytes; ++byte) {
          const std::size_t i = byte - base;
          skipped_own += before[i] && own[i] && !expected ? 1 : 0;
          if (before[i] && !own[i] && !expected) {
            expected = {static_cast<int>(lane), byte};
          }
        }
      }
      const auto found = m.memory.find_written_before({0b101, addresses, bytes});
      CAPTURE(round, step, bytes);
      REQUIRE(found.has_value() == expected.has_value());
      if (found) {
        REQUIRE(found->lane == expected->lane);
        REQUIRE(found->address == expected->address);
        ++found_some;
      }
    }
    for (std::size_t i = 0; i < kSize; ++i) {
      before[i] = before[i] || own[i];
    }
    // So that there is always some of each.
    const auto cleared = static_cast<std::size_t>(random.integer(0, 3)) * (kSize / 4);
    REQUIRE_FALSE(m.memory.fill(base + cleared, 0, kSize / 4));
    std::fill_n(before.begin() + static_cast<std::ptrdiff_t>(cleared), kSize / 4, false);
  }
  REQUIRE(found_some > 1000);
  REQUIRE(skipped_own > 1000);
}

// Which blocks have done what to a byte in this launch.
struct ByteHistory {
  std::set<std::uint32_t> readers;
  std::set<std::uint32_t> writers;
  std::set<std::uint32_t> updaters;

  bool races(Access kind, std::uint32_t block) const {
    const auto foreign = [&](const std::set<std::uint32_t>& blocks) {
      return std::any_of(blocks.begin(), blocks.end(), [&](auto other) { return other != block; });
    };
    return foreign(writers) || (kind != Access::kRead && foreign(readers)) ||
           (kind != Access::kAtomic && foreign(updaters));
  }
  void add(Access kind, std::uint32_t block) {
    (kind == Access::kRead ? readers : kind == Access::kWrite ? writers : updaters).insert(block);
  }
};

TEST_CASE("races between blocks are found at the access that makes them", "[emulator]") {
  XC_RANDOM(random);
  constexpr std::size_t kSize = 64;
  for (const int threads : {1, 2}) {
    Launched m(kMebi, threads);
    const Address base = m.memory.allocate(kSize);
    REQUIRE_FALSE(m.memory.fill(base, 0, kSize));
    int races = 0;
    for (int round = 0; round < 4000; ++round) {
      m.next_launch(threads);
      std::array<ByteHistory, kSize> model;
      // Rounds differ in what is common: bytes, words, atomics, reads.
      const int most_bytes = random.integer(0, 4);
      const int kinds = random.integer(0, 3);
      const int blocks = random.integer(1, 4);
      for (int step = 0; step < 60; ++step) {
        const auto bytes = static_cast<std::size_t>(1) << random.integer(0, most_bytes);
        const auto place =
            static_cast<std::size_t>(random.integer(0, static_cast<int>(kSize / bytes) - 1)) *
            bytes;
        const auto block = static_cast<std::uint32_t>(random.integer(0, blocks));
        const Access kind = kinds == 0                  ? static_cast<Access>(random.integer(0, 2))
                            : kinds == 1                ? Access::kAtomic
                            : random.integer(0, 9) != 0 ? Access::kRead
                                                        : static_cast<Access>(random.integer(0, 2));
        const bool race =
            std::any_of(model.begin() + static_cast<std::ptrdiff_t>(place),
                        model.begin() + static_cast<std::ptrdiff_t>(place + bytes),
                        [&](const ByteHistory& byte) { return byte.races(kind, block); });
        const auto fault = m.access(kind, base + place, bytes, block);
        CAPTURE(round, step, bytes, place, block, static_cast<int>(kind));
        REQUIRE(fault.has_value() == race);
        if (race) {
          REQUIRE(fault->kind == FaultKind::kGlobalRace);
          ++races;
          break;
        }
        for (std::size_t i = place; i < place + bytes; ++i) {
          model[i].add(kind, block);
        }
      }
    }
    REQUIRE(races > 100);
    REQUIRE(races < 4000);
  }
}

TEST_CASE("a race names the other block", "[emulator]") {
  Launched m;
  const Address a = m.memory.allocate(64);
  REQUIRE_FALSE(m.memory.fill(a, 0, 64));
  REQUIRE_FALSE(m.access(Access::kWrite, a, 4, 7));
  REQUIRE(has(m.access(Access::kRead, a, 2, 8), FaultKind::kGlobalRace, "block 7 wrote"));
  REQUIRE_FALSE(m.access(Access::kRead, a + 4, 4, 5));
  REQUIRE(has(m.access(Access::kWrite, a + 4, 1, 6), FaultKind::kGlobalRace, "block 5 read"));
  REQUIRE_FALSE(m.access(Access::kAtomic, a + 8, 4, 1));
  REQUIRE_FALSE(m.access(Access::kAtomic, a + 8, 4, 2));
  REQUIRE(has(m.access(Access::kRead, a + 8, 4, 1), FaultKind::kGlobalRace,
              "other blocks updated atomically"));
  m.next_launch();
  REQUIRE_FALSE(m.access(Access::kWrite, a, 4, 9));
}

TEST_CASE("a warp's request is its lanes' accesses", "[emulator]") {
  XC_RANDOM(random);
  constexpr std::size_t kSize = 1024;
  int faults = 0;
  for (int round = 0; round < 3000; ++round) {
    Launched warp(8192);
    Launched lanes(8192);
    const Address base_warp = warp.memory.allocate(kSize);
    const Address base_lanes = lanes.memory.allocate(kSize);
    const auto filled = static_cast<std::size_t>(random.integer(0, 1) != 0 ? kSize : 900);
    REQUIRE_FALSE(warp.memory.fill(base_warp, 0, filled));
    REQUIRE_FALSE(lanes.memory.fill(base_lanes, 0, filled));
    for (int step = 0; step < 4; ++step) {
      const auto bytes = static_cast<std::size_t>(1) << random.integer(0, 4);
      const auto kind = static_cast<Access>(random.integer(0, 2));
      const auto block = static_cast<std::uint32_t>(random.integer(0, 1));
      const auto active = static_cast<std::uint32_t>(random.integer(0, 0x7fffffff));
      const int pattern = random.integer(0, 3);
      const int start = random.integer(0, 40);
      std::array<Address, kWarpLanes> offsets{};
      for (std::size_t lane = 0; lane < kWarpLanes; ++lane) {
        const int place = pattern == 0   ? start + static_cast<int>(lane)
                          : pattern == 1 ? start + static_cast<int>(lane / 4)
                          : pattern == 2 ? start
                                         : random.integer(0, static_cast<int>(kSize / bytes));
        offsets[lane] = static_cast<Address>(place) * bytes;
        if (random.integer(0, 400) == 0) {
          offsets[lane] += bytes / 2;
        }
      }
      std::array<Address, kWarpLanes> addresses = offsets;
      std::optional<Fault> first;
      std::vector<bool> at_fault(kWarpLanes, false);
      for (std::size_t lane = 0; lane < kWarpLanes; ++lane) {
        addresses[lane] += base_warp;
        if ((active >> lane & 1) == 0) {
          continue;
        }
        const auto fault = lanes.access(kind, base_lanes + offsets[lane], bytes, block);
        at_fault[lane] = fault.has_value();
        first = first ? first : fault;
      }
      int lane = -1;
      const auto fault = warp.memory.access(kind, {active, addresses, bytes}, {1, block}, &lane);
      CAPTURE(round, step, bytes, pattern, start, static_cast<int>(kind));
      REQUIRE(fault.has_value() == first.has_value());
      if (fault) {
        ++faults;
        REQUIRE((active >> lane & 1) != 0);
        REQUIRE(at_fault[static_cast<std::size_t>(lane)]);
        break;
      }
      REQUIRE(warp.memory.distinct().read == lanes.memory.distinct().read);
      REQUIRE(warp.memory.distinct().written == lanes.memory.distinct().written);
    }
  }
  REQUIRE(faults > 100);
}

TEST_CASE("distinct bytes are sectors, and what the launch wrote itself is not read",
          "[emulator]") {
  XC_RANDOM(random);
  constexpr std::size_t kSize = 4096;
  Launched m;
  const Address base = m.memory.allocate(kSize);
  REQUIRE_FALSE(m.memory.fill(base, 0, kSize));
  for (int round = 0; round < 50; ++round) {
    m.next_launch();
    std::set<Address> read;
    std::set<Address> written;
    std::vector<bool> own(kSize, false);
    for (int step = 0; step < 300; ++step) {
      const auto bytes = static_cast<std::size_t>(1) << random.integer(0, 4);
      const auto place =
          static_cast<std::size_t>(random.integer(0, static_cast<int>(kSize / bytes) - 1)) * bytes;
      const auto kind = static_cast<Access>(random.integer(0, 2));
      REQUIRE_FALSE(m.access(kind, base + place, bytes));
      for (std::size_t i = place; i < place + bytes; ++i) {
        if (kind != Access::kWrite && !own[i]) {
          read.insert((base + i) / 32);
        }
      }
      for (std::size_t i = place; i < place + bytes && kind != Access::kRead; ++i) {
        own[i] = true;
        written.insert((base + i) / 32);
      }
      REQUIRE(m.memory.distinct().read == 32 * read.size());
      REQUIRE(m.memory.distinct().written == 32 * written.size());
    }
  }
}

TEST_CASE("blocks on several host threads share the shadow", "[emulator]") {
  constexpr std::size_t kBlocks = 64;
  constexpr std::size_t kBytes = 2048;
  Launched m(4 * kMebi, 4);
  const Address in = m.memory.allocate(kBytes);
  const Address out = m.memory.allocate(kBlocks * kBytes);
  const Address sum = m.memory.allocate(4);
  REQUIRE_FALSE(m.memory.fill(in, 0, kBytes));
  for (int round = 0; round < 20; ++round) {
    REQUIRE_FALSE(m.memory.fill(sum, 0, 4));
    m.next_launch(4);
    // In the odd rounds two of the blocks write one place, whoever comes first.
    const bool race = round % 2 == 1;
    std::atomic<std::uint32_t> next_block{0};
    std::atomic<int> faults{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (std::uint32_t block = next_block++; block < kBlocks; block = next_block++) {
          for (std::size_t at = 0; at < kBytes; at += 16) {
            const std::uint32_t target = race && block == 17 && at == 512 ? 42 : block;
            faults += m.access(Access::kRead, in + at, 16, block).has_value();
            faults += m.access(Access::kWrite, out + target * kBytes + at, 16, block).has_value();
          }
          faults += m.access(Access::kAtomic, sum, 4, block).has_value();
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    REQUIRE((faults > 0) == race);
    if (!race) {
      REQUIRE(m.memory.distinct().read == kBytes + 32);
      REQUIRE(m.memory.distinct().written == kBlocks * kBytes + 32);
    }
  }
}

TEST_CASE("block numbers run out without false alarms", "[emulator]") {
  Launched m;
  const Address a = m.memory.allocate(64);
  for (int i = 0; i < 20; ++i) {
    m.memory.begin_launch(++m.launch, 1U << 29, 1);
    REQUIRE_FALSE(m.access(Access::kWrite, a, 4, static_cast<std::uint32_t>(i)));
    REQUIRE_FALSE(m.access(Access::kRead, a, 4, static_cast<std::uint32_t>(i)));
    REQUIRE(has(m.access(Access::kRead, a, 4, (1U << 29) - 1), FaultKind::kGlobalRace, "block"));
  }
}

}  // namespace
}  // namespace xception::emulator
