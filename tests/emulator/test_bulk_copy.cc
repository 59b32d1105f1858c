// Bulk copies that count at mbarrier objects, and boxes of tensors.
#include <algorithm>
#include <array>
#include <numeric>

#include "tests/emulator/mbarrier_fixture.h"
#include "tests/emulator/tensor_map.h"

namespace xception::emulator {
namespace {

// One thread copies `bytes` by bulk, and every thread waits and hands on one word of it.
std::string bulk(u64 bytes, u64 expected, const std::string& spelling = "shared::cluster") {
  return "@%p1 mbarrier.init.shared::cta.b64 [%r0], 1;\nfence.proxy.async.shared::cta;\n"
         "bar.sync 0;\n@!%p1 bra WAIT;\n"
         "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r0], " +
         text_of(expected) + ";\ncp.async.bulk." + spelling +
         ".global.mbarrier::complete_tx::bytes [%r0+128], [%rd1], " + text_of(bytes) +
         ", [%r0];\nWAIT:\n" + wait("%r0", "0", "W") +
         "shl.b32 %r2, %r1, 2;\nadd.u32 %r3, %r0, %r2;\nld.shared.u32 %r4, [%r3+128];\n"
         "cvt.u64.u32 %rd3, %r2;\nadd.u64 %rd4, %rd2, %rd3;\nst.global.u32 [%rd4], %r4;\n";
}

std::vector<u32> iota(std::size_t count, u32 first = 0) {
  std::vector<u32> values(count);
  std::iota(values.begin(), values.end(), first);
  return values;
}

TEST_CASE("a bulk copy lands where it is waited for") {
  for (u64 seed = 0; seed < kSeeds; ++seed) {
    for (const std::string spelling : {"shared::cluster", "shared::cta"}) {
      Hopper machine(64, seed);
      const Address from = machine.upload(iota(64, 100));
      const Address to = machine.allocate(256);
      const LaunchCounters counters = machine.run(kernel(bulk(256, 256, spelling)), {from, to});
      CHECK(machine.download<u32>(to, 64) == iota(64, 100));
      CHECK(counters.load_bytes == 256);
      CHECK(counters.load_sector_bytes == 256);
      CHECK(counters.lane_load_bytes == 256);
      CHECK(counters.distinct_read_bytes == 256);
    }
  }
}

TEST_CASE("landed bytes belong to those that have waited") {
  // Warp 0 copies and waits; warp 1 reads, which is no less wrong where the copy has landed.
  const std::string body =
      replaced(bulk(256, 256), "WAIT:\n", "WAIT:\nsetp.ge.u32 %p3, %r1, 32;\n@%p3 bra READ;\n");
  int landed = 0;
  for (u64 seed = 0; seed < 4 * kSeeds; ++seed) {
    Hopper machine(64, seed);
    const Fault fault =
        machine.fault_of(kernel(replaced(body, "shl.b32", "READ:\nshl.b32")),
                         {machine.upload(std::vector<u32>(64)), machine.allocate(256)});
    INFO(fault.message);
    CHECK((fault.kind == FaultKind::kAsyncCopyNotWaited ||
           fault.kind == FaultKind::kUninitialised || fault.kind == FaultKind::kSharedRace));
    landed += fault.message.find("has not waited for its mbarrier") != std::string::npos ? 1 : 0;
  }
  CHECK(landed >= 2);
}

TEST_CASE("a try_wait that is not repeated is found with some seeds") {
  const std::string once = replaced(bulk(256, 256), "@!%p7 bra W;\n", "");
  int found = 0;
  for (u64 seed = 0; seed < 60; ++seed) {
    Hopper machine(32, seed);
    const LaunchResult result = machine.launch_text(
        kernel(once), {machine.upload(std::vector<u32>(64)), machine.allocate(256)});
    CHECK((!result.fault || result.fault->kind == FaultKind::kAsyncCopyNotWaited));
    found += result.fault ? 1 : 0;
  }
  CHECK(found >= 2);
  CHECK(found <= 30);
}

TEST_CASE("bulk copies with a fault in them") {
  const std::string good = bulk(256, 256);
  check_fault(replaced(good, wait("%r0", "0", "W"), ""),
              {FaultKind::kAsyncCopyNotWaited, "mbarrier"}, 32);
  check_fault(replaced(good, wait("%r0", "0", "W"), "bar.sync 0;\n"),
              {FaultKind::kAsyncCopyNotWaited, "shared address"}, 64);
  check_fault(bulk(256, 272), {FaultKind::kDeadlock, "mbarrier.try_wait"}, 64);
  check_fault(bulk(256, 240), {FaultKind::kDeadlock, "mbarrier.try_wait"}, 64);
  check_fault(bulk(264, 264), {FaultKind::kMisaligned, "multiples of 16"}, 64);
  check_fault(replaced(good, "[%r0+128], [%rd1]", "[%r0+136], [%rd1]"),
              {FaultKind::kMisaligned, "multiples of 16"}, 64);
  check_fault(replaced(good, "[%r0+128], [%rd1]", "[%r0+128], [%rd1+4]"),
              {FaultKind::kMisaligned, "multiples of 16"}, 64);
  check_fault(replaced(good, "256, [%r0];", "256, [%r0+8];"),
              {FaultKind::kUninitialised, "no mbarrier"}, 64);
  check_fault(replaced(good, "[%rd1], 256", "[%rd1+16256], 256"),
              {FaultKind::kOutOfBounds, "past the end"}, 64);
  check_fault(replaced(good, "[%rd1], 256", "[%rd2], 256"), {FaultKind::kUninitialised, ""}, 64);
  check_fault(replaced(good, "[%r0+128], [%rd1]", "[%r0+65408], [%rd1]"),
              {FaultKind::kOutOfBounds, "shared memory"}, 64);
  check_fault(replaced(good, "WAIT:\n", "WAIT:\nret;\n"),
              {FaultKind::kAsyncCopyNotWaited, "the block ends"}, 64);
  // Over a word that another thread still reads.
  check_fault(
      replaced(
          replaced(good, "bar.sync 0;\n", "bar.sync 0;\n@!%p1 ld.shared.u32 %r9, [%r0+128];\n"),
          "@%p1 mbarrier.init", "@%p1 st.shared.u32 [%r0+128], %r1;\n@%p1 mbarrier.init"),
      {FaultKind::kSharedRace, ""}, 64);
}

TEST_CASE("a bulk copy counts at an mbarrier that its thread has published") {
  const std::string good = bulk(256, 256);
  const std::string fence = "fence.proxy.async.shared::cta;\n";
  const auto fenced = [&](const std::string& other) { return replaced(good, fence, other); };
  Hopper machine(64);
  const Address from = machine.upload(iota(64, 100));
  machine.run(kernel(fenced("@%p1 fence.mbarrier_init.release.cluster;\n")),
              {from, machine.allocate(256)});
  const Expected missing = {FaultKind::kMissingFence, "no fence.mbarrier_init"};
  check_fault(fenced(""), missing, 64);
  check_fault(fenced("fence.acq_rel.gpu;\n"), missing, 64);
  check_fault(fenced("@!%p1 fence.mbarrier_init.release.cluster;\n"), missing, 64);
  check_fault("fence.mbarrier_init.release.cluster;\n" + fenced(""), missing, 64);
  // Another thread copies, which has to know of the fence.
  const std::string other = replaced(fenced("@%p1 fence.mbarrier_init.release.cluster;\n"),
                                     "bar.sync 0;\n", "bar.sync 0;\nsetp.eq.u32 %p1, %r1, 40;\n");
  const std::string barrier = "bar.sync 0;\nsetp.eq.u32 %p1, %r1, 40;\n";
  for (u64 seed = 0; seed < kSeeds; ++seed) {
    Hopper any(64, seed);
    const Address there = any.upload(iota(64));
    any.run(kernel(other), {there, any.allocate(256)});
    // It need not know of fences that come later.
    any.run(kernel(replaced(other, "bar.sync 0;\n", "bar.sync 0;\n@%p1 fence.proxy.async;\n")),
            {there, any.allocate(256)});
  }
  for (const char* kind : {"fence.mbarrier_init.release.cluster;\n", "fence.proxy.async;\n"}) {
    const std::string behind =
        replaced(fenced(""), "bar.sync 0;\n",
                 "bar.sync 0;\n@%p1 " + std::string(kind) + "setp.eq.u32 %p1, %r1, 40;\n");
    for (u64 seed = 0; seed < kSeeds; ++seed) {
      Hopper late(64, seed);
      const Fault fault =
          late.fault_of(kernel(behind), {late.upload(iota(64)), late.allocate(256)});
      CHECK(fault.kind == FaultKind::kMissingFence);
    }
    machine.run(kernel(replaced(behind, "setp.eq.u32 %p1, %r1, 40;\n", barrier)),
                {from, machine.allocate(256)});
  }
}

// A ring of 3 slots of 256 bytes over 20 tiles: warp 0 fills, warps 1 and 2 add up.
std::string ring() {
  return "@!%p1 bra BEGUN;\n"
         // full: %r0 + 8 * slot, empty: 32 further
         "mbarrier.init.shared::cta.b64 [%r0], 1;\nmbarrier.init.shared::cta.b64 [%r0+8], 1;\n"
         "mbarrier.init.shared::cta.b64 [%r0+16], 1;\n"
         "mbarrier.init.shared::cta.b64 [%r0+32], 2;\n"
         "mbarrier.init.shared::cta.b64 [%r0+40], 2;\n"
         "mbarrier.init.shared::cta.b64 [%r0+48], 2;\nfence.mbarrier_init.release.cluster;\n"
         "BEGUN:\nbar.sync 0;\nmov.u32 %r2, 0;\nmov.u32 %r3, 0;\nmov.u32 %r4, 0;\n"
         "and.b32 %r5, %r1, 31;\nsetp.eq.u32 %p2, %r5, 0;\nsetp.ge.u32 %p3, %r1, 32;\n"
         "mov.u32 %r10, 0;\n@%p3 bra CONSUME;\n@!%p2 bra DONE;\n"
         // %r2: tile, %r3: slot, %r4: parity
         "PRODUCE:\nshl.b32 %r6, %r3, 3;\nadd.u32 %r6, %r6, %r0;\nxor.b32 %r7, %r4, 1;\n" +
         wait("%r6+32", "%r7", "E") +
         "mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%r6], 256;\n"
         "shl.b32 %r8, %r3, 8;\nadd.u32 %r8, %r8, %r0;\nmul.wide.u32 %rd3, %r2, 256;\n"
         "add.u64 %rd4, %rd1, %rd3;\ncp.async.bulk.shared::cluster.global.mbarrier::complete_tx::"
         "bytes [%r8+128], [%rd4], 128, [%r6];\n"
         "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r8+256], "
         "[%rd4+128], 128, [%r6];\n"
         "add.u32 %r2, %r2, 1;\nadd.u32 %r3, %r3, 1;\nsetp.eq.u32 %p4, %r3, 3;\n"
         "@%p4 xor.b32 %r4, %r4, 1;\n@%p4 mov.u32 %r3, 0;\nsetp.lt.u32 %p5, %r2, 20;\n"
         "@%p5 bra PRODUCE;\nbra DONE;\n"
         "CONSUME:\nshl.b32 %r6, %r3, 3;\nadd.u32 %r6, %r6, %r0;\n" +
         wait("%r6", "%r4", "F") +
         "shl.b32 %r8, %r3, 8;\nsub.u32 %r9, %r1, 32;\nshl.b32 %r9, %r9, 2;\n"
         "add.u32 %r8, %r8, %r9;\nadd.u32 %r8, %r8, %r0;\nld.shared.u32 %r11, [%r8+128];\n"
         "add.u32 %r10, %r10, %r11;\nbar.warp.sync -1;\n"
         "@%p2 mbarrier.arrive.shared::cta.b64 _, [%r6+32];\n"
         "add.u32 %r2, %r2, 1;\nadd.u32 %r3, %r3, 1;\nsetp.eq.u32 %p4, %r3, 3;\n"
         "@%p4 xor.b32 %r4, %r4, 1;\n@%p4 mov.u32 %r3, 0;\nsetp.lt.u32 %p5, %r2, 20;\n"
         "@%p5 bra CONSUME;\ncvt.u64.u32 %rd3, %r9;\nadd.u64 %rd4, %rd2, %rd3;\n"
         "st.global.u32 [%rd4], %r10;\nDONE:\n";
}

TEST_CASE("a ring of slots between a producer and its consumers") {
  std::vector<u32> values(20 * 64);
  Random random(3);
  for (u32& value : values) {
    value = static_cast<u32>(random.integer(0, 1 << 20));
  }
  std::vector<u32> sums(64);
  for (std::size_t i = 0; i < values.size(); ++i) {
    sums[i % 64] += values[i];
  }

  for (const std::string kind : {"try_wait", "test_wait"}) {
    std::string body = ring();
    for (int i = 0; kind == "test_wait" && i < 2; ++i) {
      body = replaced(body, "try_wait", kind);
    }
    for (u64 seed = 0; seed < 3 * kSeeds; ++seed) {
      INFO(kind << ", seed " << seed);
      Hopper machine(96, seed);
      machine.grid.x = 2;
      const Address from = machine.upload(values);
      const Address to = machine.allocate(256);
      machine.grid.x = 1;
      const LaunchCounters counters = machine.run(kernel(body), {from, to});
      CHECK(machine.download<u32>(to, 64) == sums);
      CHECK(counters.load_bytes == 4 * values.size());
    }
  }
}

TEST_CASE("a ring with a fault in it") {
  const std::vector<u32> input(20 * 64, 3);
  // The consumer gives the slot back before it has read it.
  const std::string early = replaced(
      replaced(ring(), "bar.warp.sync -1;\n@%p2 mbarrier.arrive.shared::cta.b64 _, [%r6+32];\n",
               ""),
      "ld.shared.u32 %r11",
      "@%p2 mbarrier.arrive.shared::cta.b64 _, [%r6+32];\nld.shared.u32 %r11");
  // Its lanes have not come together before one of them gives it back.
  const std::string apart = replaced(ring(), "bar.warp.sync -1;\n", "");
  // The producer does not wait for the slot.
  const std::string hasty = replaced(ring(), wait("%r6+32", "%r7", "E"), "");
  // The consumer does not give it back.
  const std::string never = replaced(ring(), "@%p2 mbarrier.arrive", "@%p6 mbarrier.arrive");
  for (const auto& [body, kinds] :
       {std::pair(early, std::vector{FaultKind::kSharedRace, FaultKind::kAsyncCopyNotWaited}),
        std::pair(apart, std::vector{FaultKind::kSharedRace}),
        std::pair(hasty, std::vector{FaultKind::kSharedRace, FaultKind::kAsyncCopyNotWaited,
                                     FaultKind::kMbarrier}),
        std::pair(replaced(never, "setp.eq.u32 %p2", "setp.ne.u32 %p6, %r0, %r0;\nsetp.eq.u32 %p2"),
                  std::vector{FaultKind::kDeadlock})}) {
    for (u64 seed = 0; seed < kSeeds; ++seed) {
      Hopper machine(96, seed);
      const Fault fault =
          machine.fault_of(kernel(body), {machine.upload(input), machine.allocate(256)});
      INFO(fault.message);
      CHECK(std::ranges::find(kinds, fault.kind) != kinds.end());
    }
  }
}

// Copies a box by one thread, and gives out the whole of its place in shared memory.
std::string box_kernel(const std::array<int, 5>& corner, int rank, u64 bytes,
                       const std::string& map = "%rd1") {
  const std::string mode = rank == 2 ? "" : ".tile";  // which is the default
  std::string coordinates;
  std::string moves;
  for (std::size_t i = 0; i < static_cast<std::size_t>(rank); ++i) {
    moves += "mov.b32 %r" + std::to_string(20 + i) + ", " + std::to_string(corner[i]) + ";\n";
    coordinates += (i == 0 ? "%r" : ", %r") + std::to_string(20 + i);
  }
  return "@%p1 mbarrier.init.shared::cta.b64 [%r0], 1;\nfence.mbarrier_init.release.cluster;\n"
         "bar.sync 0;\n" +
         moves + "@!%p1 bra WAIT;\nprefetch.tensormap [" + map + "];\n" +
         "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r0], " + text_of(bytes) +
         ";\ncp.async.bulk.tensor." + std::to_string(rank) + "d.shared::cluster.global" + mode +
         ".mbarrier::complete_tx::bytes [%r0+1024], [" + map + ", {" + coordinates +
         "}], [%r0];\nWAIT:\n" + wait("%r0", "0", "W") +
         "mov.u32 %r2, %r1;\nLOOP:\nshl.b32 %r3, %r2, 2;\nsetp.ge.u32 %p2, %r3, " + text_of(bytes) +
         ";\n@%p2 ret;\nadd.u32 %r4, %r3, %r0;\nld.shared.u32 %r5, [%r4+1024];\n"
         "cvt.u64.u32 %rd3, %r3;\nadd.u64 %rd4, %rd2, %rd3;\nst.global.u32 [%rd4], %r5;\n"
         "add.u32 %r2, %r2, 64;\nbra LOOP;\n";
}

std::vector<std::byte> encoded(const TensorMap& map) {
  std::vector<std::byte> bytes(kTensorMapBytes);
  encode(map, std::span<std::byte, kTensorMapBytes>(bytes));
  return bytes;
}

TEST_CASE("boxes of tensors, inside, at the edges and outside") {
  Random random(11);
  for (int round = 0; round < 60; ++round) {
    Hopper machine(64, static_cast<u64>(round));
    TensorMap map;
    map.rank = random.integer(1, 5);
    map.element_bytes = 1U << random.integer(0, 3);
    constexpr std::array<u32, 4> kSwizzles = {0, 32, 64, 128};
    map.swizzle_bytes = kSwizzles[static_cast<std::size_t>(random.integer(0, 3))];
    const u32 row =
        map.swizzle_bytes != 0 ? map.swizzle_bytes : 16 * static_cast<u32>(random.integer(1, 12));
    map.box[0] = row / map.element_bytes;
    if (map.box[0] > 256) {
      map.box[0] = 256;
    }
    map.extents[0] = static_cast<u64>(random.integer(1, static_cast<int>(2 * map.box[0])));
    map.strides[0] = map.element_bytes;
    u64 stride = (map.extents[0] * map.element_bytes + 15) / 16 * 16;
    std::array<int, 5> corner{};
    corner[0] = random.integer(-static_cast<int>(map.box[0]), static_cast<int>(map.extents[0]));
    for (std::size_t i = 1; i < static_cast<std::size_t>(map.rank); ++i) {
      map.box[i] = static_cast<u32>(random.integer(1, i == 1 ? 13 : 3));
      map.extents[i] = static_cast<u64>(random.integer(1, i == 1 ? 20 : 4));
      stride += 16 * static_cast<u64>(random.integer(0, 1));
      map.strides[i] = stride;
      stride *= map.extents[i];
      corner[i] = random.integer(-static_cast<int>(map.box[i]), static_cast<int>(map.extents[i]));
    }
    std::vector<unsigned char> tensor(stride);
    for (unsigned char& value : tensor) {
      value = static_cast<unsigned char>(random.integer(1, 255));
    }
    map.address = machine.upload(tensor);
    REQUIRE(is_valid(map));
    const u64 bytes = map.rows() * map.row_bytes();
    std::vector<unsigned char> expected(bytes);
    for (u64 at = 0; at < bytes; ++at) {
      u64 left = at / map.element_bytes;
      u64 source = at % map.element_bytes;
      bool inside = true;
      for (std::size_t i = 0; i < 5; ++i) {
        const auto place = static_cast<std::int64_t>(left % map.box[i]) + corner[i];
        left /= map.box[i];
        inside = inside && place >= 0 && place < static_cast<std::int64_t>(map.extents[i]);
        source += static_cast<u64>(place) * map.strides[i];
      }
      // The area begins at 1024, so that the place in the box has the bits of the address.
      u64 target = at;
      const u64 line = at / 128 % 8;
      target ^= map.swizzle_bytes == 128  ? line << 4
                : map.swizzle_bytes == 64 ? (line & 3) << 4
                : map.swizzle_bytes == 32 ? (line & 1) << 4
                                          : 0;
      expected[target] = inside ? tensor[source] : 0;
    }
    const Address to = machine.allocate(bytes);
    machine.run(kernel(box_kernel(corner, map.rank, bytes)), {machine.upload(encoded(map)), to});
    INFO("round " << round << ", rank " << map.rank << ", swizzle " << map.swizzle_bytes);
    CHECK(machine.download<unsigned char>(to, bytes) == expected);
  }
}

TensorMap plain_map(Address address) {
  TensorMap map;
  map.rank = 2;
  map.element_bytes = 4;
  map.address = address;
  map.extents = {32, 8, 1, 1, 1};
  map.strides = {4, 128, 0, 0, 0};
  map.box = {32, 8, 1, 1, 1};
  return map;
}

TEST_CASE("a tensor map is a parameter of the kernel too") {
  Hopper machine(64, 3);
  const Address from = machine.upload(iota(256, 5));
  const Address to = machine.allocate(1024);
  std::string text = kernel("mov.b64 %rd5, pc;\ncvta.param.u64 %rd6, %rd5;\n" +
                            box_kernel({0, 0, 0, 0, 0}, 2, 1024, "%rd6"));
  text = replaced(text, ".param .u64 pb", ".param .u64 pb, .param .align 64 .b8 pc[128]");
  std::vector<u64> parameters = {from, to, 0, 0, 0, 0, 0, 0};
  const std::vector<std::byte> bytes = encoded(plain_map(from));
  parameters.resize(24);
  std::memcpy(parameters.data() + 8, bytes.data(), bytes.size());
  machine.run(text, parameters);
  CHECK(machine.download<u32>(to, 256) == iota(256, 5));
}

TEST_CASE("copies of boxes with a fault in them") {
  const auto fault_of = [](const auto& change, const std::string& what = "[%r0+1024], [",
                           const std::string& with = "[%r0+1024], [", int rank = 2, u64 seed = 0) {
    Hopper machine(64, seed);
    TensorMap map = plain_map(machine.upload(iota(256)));
    const Address to = machine.allocate(4096);
    std::vector<std::byte> bytes = encoded(map);
    change(&map, &bytes);
    return machine.fault_of(kernel(replaced(box_kernel({0, 0, 0, 0, 0}, rank, 1024), what, with)),
                            {machine.upload(bytes), to});
  };
  const auto none = [](TensorMap*, std::vector<std::byte>*) {};
  const auto changed = [](const auto& change) {
    return [change](TensorMap* map, std::vector<std::byte>* bytes) {
      change(map);
      *bytes = encoded(*map);
    };
  };
  const auto broken = [](TensorMap*, std::vector<std::byte>* bytes) {
    (*bytes)[20] ^= std::byte{1};
  };
  check_contains(fault_of(broken).message, "no tensor map");
  CHECK(fault_of(none, "[%r0+1024], [", "[%r0+1040], [").kind == FaultKind::kMisaligned);
  CHECK(fault_of(none, "[%rd1, {", "[%rd1+16, {").kind == FaultKind::kMisaligned);
  CHECK(fault_of(none, ", 1024;", ", 1008;").kind == FaultKind::kDeadlock);
  CHECK(fault_of(none, "[%r0];\nWAIT", "[%r0+8];\nWAIT").kind == FaultKind::kUninitialised);
  // Who does not wait comes before the copy or after it.
  int after = 0;
  for (u64 seed = 0; seed < 32; ++seed) {
    const FaultKind kind = fault_of(none, wait("%r0", "0", "W"), "", 2, seed).kind;
    after += kind == FaultKind::kAsyncCopyNotWaited ? 1 : 0;
    CHECK((kind == FaultKind::kAsyncCopyNotWaited || kind == FaultKind::kUninitialised));
  }
  CHECK(after > 4);
  CHECK(fault_of(none, "[%r0+1024], [", "[%r0+1024], [", 3).kind == FaultKind::kOutOfBounds);
  CHECK(fault_of(changed([](TensorMap* map) {
          map->extents[1] = 9;
          map->box[1] = 9;
        })).kind == FaultKind::kOutOfBounds);
  CHECK(fault_of(changed([](TensorMap* map) {
          map->swizzle_bytes = 128;
          map->box[0] = 16;
        })).kind == FaultKind::kUnsupported);
}

}  // namespace
}  // namespace xception::emulator
