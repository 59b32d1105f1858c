// mbarrier objects, and what else only warps of Hopper's do.
#include <algorithm>
#include <array>
#include <numeric>

#include "tests/emulator/mbarrier_fixture.h"

namespace xception::emulator {
namespace {

TEST_CASE("phases of an mbarrier, by parity and by state") {
  for (const std::string kind : {"try_wait", "test_wait"}) {
    Hopper machine(1);
    const Address to = machine.allocate(64);
    // Two arrivals a phase. What the lane sees of the phase before and after each goes to memory.
    const auto look = [&](int place) {
      return "mbarrier." + kind + ".parity.acquire.cta.shared.b64 %p2, [%r0], 0;\n" +
             "selp.u32 %r2, 1, 0, %p2;\nmbarrier.test_wait.parity.b64 %p2, [%rd4], 1;\n"
             "selp.u32 %r3, 2, 0, %p2;\nor.b32 %r2, %r2, %r3;\nst.global.u32 [%rd2+" +
             std::to_string(4 * place) + "], %r2;\n";
    };
    machine.run(
        kernel("cvt.u64.u32 %rd3, %r0;\ncvta.shared.u64 %rd4, %rd3;\n"
               "mbarrier.init.shared::cta.b64 [%r0], 2;\nfence.mbarrier_init.release.cluster;\n" +
               look(0) + "mbarrier.arrive.shared::cta.b64 %rd5, [%r0];\n" + look(1) +
               "mbarrier.test_wait.shared::cta.b64 %p3, [%r0], %rd5;\nselp.u32 %r4, 1, 0, %p3;\n"
               "st.global.u32 [%rd2+20], %r4;\n"
               "mbarrier.arrive.release.cta.b64 _, [%rd4];\n" +
               look(2) +
               "mbarrier.try_wait.shared::cta.b64 %p3, [%r0], %rd5, 1000;\n"
               "selp.u32 %r4, 1, 0, %p3;\nst.global.u32 [%rd2+24], %r4;\n"
               "mbarrier.arrive.shared::cta.b64 %rd5, [%r0], 2;\n" +
               look(3) +
               "mbarrier.inval.shared::cta.b64 [%r0];\nmbarrier.init.shared.b64 [%r0], 1;\n" +
               look(4)),
        {to, to});
    CHECK(machine.download<u32>(to, 7) == std::vector<u32>{2, 2, 1, 2, 2, 0, 1});
  }
}

TEST_CASE("an mbarrier hands what lanes know to those that wait") {
  // Every thread of 4 warps writes, arrives, waits, and reads what another warp wrote.
  const std::string body =
      "@%p1 mbarrier.init.shared::cta.b64 [%r0], 128;\nshl.b32 %r2, %r1, 2;\n"
      "add.u32 %r2, %r2, %r0;\nst.shared.u32 [%r2+64], %r0;\nbar.sync 0;\nst.shared.u32 [%r2+64], "
      "%r1;\n"
      "mbarrier.arrive.shared::cta.b64 _, [%r0];\n" +
      wait("%r0", "0", "W") +
      "xor.b32 %r3, %r1, 33;\nshl.b32 %r3, %r3, 2;\nadd.u32 %r3, %r3, %r0;\n"
      "ld.shared.u32 %r4, [%r3+64];\nmul.wide.u32 %rd3, %r1, 4;\nadd.u64 %rd4, %rd2, %rd3;\n"
      "st.global.u32 [%rd4], %r4;\n";
  for (u64 seed = 0; seed < kSeeds; ++seed) {
    Hopper machine(128, seed);
    const Address to = machine.allocate(512);
    machine.run(kernel(body), {to, to});
    const std::vector<u32> got = machine.download<u32>(to, 128);
    for (u32 i = 0; i < 128; ++i) {
      CHECK(got[i] == (i ^ 33));
    }
  }
  const std::string test = replaced(body, "try_wait", "test_wait");
  Hopper machine(128, 5);
  const Address to = machine.allocate(512);
  machine.run(kernel(test), {to, to});
  // Without the wait.
  check_fault(replaced(body, wait("%r0", "0", "W"), ""),
              {FaultKind::kSharedRace, "no barrier lies"}, 128);
  // What is written behind the arrival is not handed on.
  check_fault(replaced(replaced(body, "st.shared.u32 [%r2+64], %r1;\n", ""),
                       "[%r0];\nW:", "[%r0];\nst.shared.u32 [%r2+64], %r1;\nW:"),
              {FaultKind::kSharedRace, "no barrier lies"}, 128);
  // Initialised by a thread that nothing orders before the others: too late, or a race.
  bool raced = false;
  for (u64 seed = 0; seed < kSeeds; ++seed) {
    Hopper late(128, seed);
    const Fault fault =
        late.fault_of(kernel(replaced(body, "bar.sync 0;\n", "bar.warp.sync -1;\n")), {0, 0});
    INFO(fault.message);
    const bool race = fault.message.find("initialised it, and no barrier") != std::string::npos;
    CHECK((race || fault.kind == FaultKind::kUninitialised));
    raced = raced || race;
  }
  CHECK(raced);
}

TEST_CASE("a lane that arrives or waits alone does so for itself") {
  // Warp 1 writes, its lane 0 arrives; lane 0 of warp 0 waits, and all its lanes read.
  const std::string body =
      "@%p1 mbarrier.init.shared::cta.b64 [%r0], 1;\nand.b32 %r5, %r1, 31;\nshl.b32 %r2, %r5, 2;\n"
      "add.u32 %r2, %r2, %r0;\nsetp.lt.u32 %p3, %r1, 32;\n@%p3 st.shared.u32 [%r2+64], %r0;\n"
      "bar.sync 0;\n"
      "setp.eq.u32 %p2, %r5, 0;\n@%p3 bra READ;\nst.shared.u32 [%r2+64], %r1;\n"
      "bar.warp.sync -1;\n@%p2 mbarrier.arrive.shared::cta.b64 _, [%r0];\nret;\n"
      "READ:\n@!%p2 bra DONE;\n" +
      wait("%r0", "0", "W") + "DONE:\nbar.warp.sync 0xffffffff;\nld.shared.u32 %r4, [%r2+64];\n";
  for (u64 seed = 0; seed < kSeeds; ++seed) {
    Hopper machine(64, seed);
    machine.run(kernel(body), {0, 0});
  }
  check_fault(replaced(body, "bar.warp.sync -1;\n", ""), {FaultKind::kSharedRace, "no barrier"},
              64);
  check_fault(replaced(body, "bar.warp.sync 0xffffffff;\n", ""),
              {FaultKind::kSharedRace, "no barrier"}, 64);
}

TEST_CASE("lanes that arrive do not speak for those that have ended") {
  // Lane 20 writes and ends, as half of its warp does; the other half arrives, warp 1 waits and
  // reads.
  const std::string body =
      "@%p1 mbarrier.init.shared::cta.b64 [%r0], 16;\nbar.sync 0;\nsetp.ge.u32 %p2, %r1, 32;\n"
      "@%p2 bra READ;\nsetp.eq.u32 %p3, %r1, 20;\n@%p3 st.shared.u32 [%r0+64], %r1;\n"
      "setp.ge.u32 %p4, %r1, 16;\n@%p4 exit;\n"
      "mbarrier.arrive.shared::cta.b64 _, [%r0];\nexit;\nREAD:\n" +
      wait("%r0", "0", "W") + "ld.shared.u32 %r4, [%r0+64];\n";
  const Expected race = {FaultKind::kSharedRace, "thread 20 (warp 0, lane 20) wrote it"};
  check_fault(body, race, 64);
  const std::string arrive = "mbarrier.arrive.shared::cta.b64 _, [%r0];\n";
  const auto barrier = [&](const std::string& count) {
    return replaced(replaced(body, arrive, "bar.arrive 1" + count + ";\n"), wait("%r0", "0", "W"),
                    "bar.sync 1" + count + ";\n");
  };
  check_fault(barrier(", 64"), race, 64);
  const auto all = [&](const std::string& text, const std::string& after) {
    for (u64 seed = 0; seed < kSeeds; ++seed) {
      INFO("seed " << seed << "\n" << text);
      Hopper machine(64, seed);
      machine.run(kernel(replaced(text, after, after + "bar.warp.sync -1;\n")), {0, 0});
    }
  };
  // What lanes have done before all of them came together is the warp's.
  const std::string write = "@%p3 st.shared.u32 [%r0+64], %r1;\n";
  all(body, write);
  all(barrier(", 64"), write);
  // A lane that goes on tells of itself, and of what it has heard.
  all(replaced(body, "%r1, 20;", "%r1, 3;"), "@%p4 exit;\n");
  const std::string alone = replaced(body, "%r1, 20;", "%r1, 3;");
  for (u64 seed = 0; seed < kSeeds; ++seed) {
    Hopper machine(64, seed);
    machine.run(kernel(alone), {0, 0});
    machine.run(
        kernel(replaced(alone, "mbarrier.arrive",
                        "setp.lt.u32 %p5, %r1, 8;\n@%p5 bar.warp.sync 0xFF;\nmbarrier.arrive")),
        {0, 0});
  }
  check_fault(replaced(alone, "_, [%r0];\n", "_, [%r0];\n" + write),
              {FaultKind::kSharedRace, "thread 3 (warp 0, lane 3) wrote it"}, 64);
}

TEST_CASE("lanes of a warp read one place, and arrive one after another") {
  // Lanes 0 and 2 read and arrive, warp 1 waits and writes.
  const std::string arrive = "mbarrier.arrive.shared::cta.b64 _, [%r0];\n";
  const std::string load = "ld.shared.u32 %r5, [%r0+64];\n";
  const auto lane = [](int number, const std::string& text) {
    const std::string label = "PAST" + text_of(static_cast<u64>(number));
    return "setp.ne.u32 %p3, %r1, " + std::to_string(number) + ";\n@%p3 bra " + label + ";\n" +
           text + label + ":\n";
  };
  const auto text = [&](const std::string& readers) {
    return "@%p1 mbarrier.init.shared::cta.b64 [%r0], 2;\n@%p1 st.shared.u32 [%r0+64], 7;\n"
           "bar.sync 0;\nsetp.ge.u32 %p2, %r1, 32;\n@%p2 bra WRITE;\n" +
           readers + "ret;\nWRITE:\n" + wait("%r0", "0", "W") +
           "setp.eq.u32 %p4, %r1, 40;\n@%p4 st.shared.u32 [%r0+64], %r1;\n";
  };
  for (u64 seed = 0; seed < kSeeds; ++seed) {
    Hopper machine(64, seed);
    machine.run(kernel(text(lane(0, load + arrive) + lane(2, load + arrive))), {0, 0});
  }
  const auto race = [](int number) {
    return Expected{FaultKind::kSharedRace, "lane " + std::to_string(number) + ")"};
  };
  check_fault(text(lane(0, load + arrive) + lane(2, arrive + load)), race(2), 64);
  // One that has not arrived is remembered beside one that comes later.
  check_fault(text(lane(1, load) + lane(0, arrive) + lane(2, load + arrive)), race(1), 64);
}

TEST_CASE("mbarriers used against their rules are faults") {
  const std::string init = "@%p1 mbarrier.init.shared::cta.b64 [%r0], 1;\nbar.sync 0;\n";
  const auto lane0 = [&](const std::string& text) { return init + "@!%p1 ret;\n" + text; };
  const std::string arrive = "mbarrier.arrive.shared::cta.b64 _, [%r0];\n";
  check_fault(arrive, {FaultKind::kUninitialised, "no mbarrier has been initialised"});
  check_fault(lane0("mbarrier.arrive.shared::cta.b64 _, [%r0+4];\n"),
              {FaultKind::kMisaligned, "multiple of 8"});
  check_fault(lane0("mbarrier.init.shared::cta.b64 [%r0], 1;\n"),
              {FaultKind::kMbarrier, "lives there already"});
  check_fault("mbarrier.init.shared::cta.b64 [%r0], 0;\n", {FaultKind::kMbarrier, "a count of 0"});
  check_fault(lane0("ld.shared.u32 %r2, [%r0];\n"), {FaultKind::kMbarrier, "lives there"});
  check_fault(lane0("st.shared.u32 [%r0+4], %r1;\n"), {FaultKind::kMbarrier, "lives there"});
  check_fault(lane0("mbarrier.arrive.shared::cta.b64 _, [%r0], 2;\n"),
              {FaultKind::kMbarrier, "an arrival too many"});
  check_fault(lane0("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r0], 16;\n" + arrive),
              {FaultKind::kMbarrier, "an arrival too many"});
  check_fault(lane0("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r0], 0x100000;\n"),
              {FaultKind::kMbarrier, "tx-count"});
  check_fault(lane0("mbarrier.inval.shared::cta.b64 [%r0];\n" + arrive),
              {FaultKind::kUninitialised, "no mbarrier"});
  check_fault(lane0("mbarrier.test_wait.parity.shared::cta.b64 %p2, [%r0], 2;\n"),
              {FaultKind::kMbarrier, "parity"});
  check_fault(lane0("mov.u64 %rd3, 7;\nmbarrier.test_wait.shared::cta.b64 %p2, [%r0], %rd3;\n"),
              {FaultKind::kMbarrier, "state"});
  // After an object's end the place is memory again, with nothing in it.
  check_fault(lane0("mbarrier.inval.shared::cta.b64 [%r0];\nld.shared.u32 %r2, [%r0];\n"),
              {FaultKind::kUninitialised, "nobody has written"});
}

TEST_CASE("an mbarrier ends after its last use") {
  const std::string body =
      "@%p1 mbarrier.init.shared::cta.b64 [%r0], 64;\nbar.sync 0;\n"
      "mbarrier.arrive.shared::cta.b64 _, [%r0];\nbar.sync 0;\n"
      "@%p1 mbarrier.inval.shared::cta.b64 [%r0];\n";
  const std::string early = replaced(body, "[%r0];\nbar.sync 0;\n", "[%r0];\n");
  int races = 0;
  for (u64 seed = 0; seed < kSeeds; ++seed) {
    Hopper machine(64, seed);
    machine.run(kernel(body), {0, 0});
    const Fault fault = machine.fault_of(kernel(early), {0, 0});
    INFO(fault.message);
    CHECK((fault.kind == FaultKind::kSharedRace || fault.kind == FaultKind::kUninitialised));
    races += fault.message.find("used it, and no barrier") != std::string::npos ? 1 : 0;
  }
  CHECK(races >= 1);
}

TEST_CASE("a wait that nobody ends is a deadlock") {
  const std::string init = "@%p1 mbarrier.init.shared::cta.b64 [%r0], 1;\nbar.sync 0;\n";
  for (const std::string kind : {"try_wait", "test_wait"}) {
    check_fault(init + wait("%r0", "0", "W", kind), {FaultKind::kDeadlock, "no warp can go on"},
                64);
  }
  // Not so where a wait that ends in vain leads on.
  Hopper machine(32);
  machine.run(kernel(init +
                     "mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r0], 0;\n@%p2 trap;\n"
                     "@%p1 mbarrier.arrive.shared::cta.b64 _, [%r0];\n" +
                     wait("%r0", "0", "W")),
              {0, 0});
}

TEST_CASE("setmaxnreg does nothing, nor do fences of what is not there") {
  Hopper machine(128);
  machine.run(kernel("setmaxnreg.dec.sync.aligned.u32 24;\nsetmaxnreg.inc.sync.aligned.u32 240;\n"
                     "fence.proxy.async;\nfence.proxy.async.global;\n"
                     "fence.proxy.async.shared::cta;\nfence.mbarrier_init.release.cluster;\n"),
              {0, 0});
  CHECK(machine.fault_of(kernel("setmaxnreg.dec.sync.aligned.u32 20;\n"), {0, 0}).kind ==
        FaultKind::kUnsupported);
}

TEST_CASE("setmaxnreg is executed by all warps of a warpgroup") {
  // One warpgroup gives registers back, another takes them.
  const std::string body =
      "setp.ge.u32 %p2, %r1, 128;\n@%p2 bra TAKE;\nsetmaxnreg.dec.sync.aligned.u32 40;\nret;\n"
      "TAKE:\nsetmaxnreg.inc.sync.aligned.u32 232;\n";
  for (u64 seed = 0; seed < kSeeds; ++seed) {
    Hopper machine(256, seed);
    machine.run(kernel(body), {0, 0});
  }
  check_fault(
      replaced(body, "setmaxnreg.dec", "setp.ge.u32 %p3, %r1, 32;\n@%p3 ret;\nsetmaxnreg.dec"),
      {FaultKind::kDivergentBarrier, "of the 1 setmaxnreg of its warpgroup"}, 256);
  check_fault(replaced(body, "%r1, 128", "%r1, 96"),
              {FaultKind::kDivergentBarrier, "came to that of PTX line"}, 256);
}

TEST_CASE("nothing of it is there before sm_90") {
  for (const std::string text :
       {"mbarrier.init.shared::cta.b64 [%r0], 1;", "fence.mbarrier_init.release.cluster;",
        "fence.proxy.async;", "setmaxnreg.dec.sync.aligned.u32 24;",
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r0], [%rd1], 16, "
        "[%r0+64];"}) {
    Hopper machine;
    machine.profile.arch = 89;
    const Fault fault = machine.fault_of(kernel(text), {0, 0});
    CHECK(fault.kind == FaultKind::kUnsupported);
    check_contains(fault.message, "sm_90");
  }
}

}  // namespace
}  // namespace xception::emulator
