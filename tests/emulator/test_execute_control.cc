// Divergence, barriers, calls, and what ends a launch.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/emulator/ptx_fixture.h"

namespace xception::emulator {
namespace {

std::vector<u32> iota(std::size_t count) {
  std::vector<u32> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = static_cast<u32>(i);
  }
  return values;
}

TEST_CASE("nested branches meet again") {
  XC_RANDOM(random);
  const std::vector<u32> a = operand_values<u32>(random, 1024);
  const std::vector<u32> d = evaluate<u32>(
      "and.b32 x, a, 1;\nsetp.eq.u32 p, x, 0;\n@p bra even;\nand.b32 y, a, 2;\n"
      "setp.eq.u32 p, y, 0;\n@p bra low;\nmov.u32 d, 3;\nbra done;\nlow:\nmov.u32 d, 1;\nbra "
      "done;\n"
      "even:\nand.b32 y, a, 4;\nsetp.ne.u32 p, y, 0;\n@!p bra plain;\nmov.u32 d, 40;\nbra done;\n"
      "plain:\nmov.u32 d, 20;\ndone:\n"
      // All lanes again: else the vote would be a fault.
      "vote.sync.any.pred p, 1, -1;\nadd.u32 d, d, 100;",
      a);
  for (std::size_t i = 0; i < a.size(); ++i) {
    const u32 want = (a[i] & 1) != 0 ? ((a[i] & 2) != 0 ? 3 : 1) : (a[i] & 4) != 0 ? 40 : 20;
    CHECK(d[i] == want + 100);
  }
}

TEST_CASE("loops of different lengths") {
  XC_RANDOM(random);
  std::vector<u32> a(1024);
  for (u32& value : a) {
    value = static_cast<u32>(random.integer(0, 40));
  }
  // The Collatz steps of a + 1, with an inner loop, a break and a continue.
  const std::vector<u32> d = evaluate<u32>(
      "add.u32 x, a, 1;\nmov.u32 d, 0;\nloop:\nsetp.eq.u32 p, x, 1;\n@p bra done;\n"
      "add.u32 d, d, 1;\nand.b32 y, x, 1;\nsetp.eq.u32 p, y, 0;\n@!p bra odd;\nshr.u32 x, x, 1;\n"
      "bra loop;\nodd:\nmad.lo.u32 x, x, 3, 1;\nbra loop;\ndone:",
      a);
  for (std::size_t i = 0; i < a.size(); ++i) {
    u32 steps = 0;
    for (u32 x = a[i] + 1; x != 1; x = x % 2 == 0 ? x / 2 : 3 * x + 1) {
      ++steps;
    }
    CHECK(d[i] == steps);
  }
}

TEST_CASE("warp instructions of a diverged branch are counted once a way") {
  PtxMachine machine;
  const std::string body =
      "setp.lt.u32 %p1, %r1, 8;\n@%p1 bra other;\nadd.u32 %r2, %r1, 1;\nadd.u32 %r2, %r2, 1;\n"
      "bra done;\nother:\nadd.u32 %r2, %r1, 1;\ndone:\nadd.u32 %r3, %r2, 1;";
  const LaunchCounters counters = machine.run(two_pointer_kernel(body), {0, 0});
  // ld, ld, mov, setp; bra, which 8 lanes take; 3 of 24 lanes; 1 of 8; add, ret together.
  CHECK(counters.warp_instructions() == 4 + 1 + 3 + 1 + 2);
  CHECK(counters.lane_instructions == 4 * 32 + 8 + 3 * 24 + 8 + 2 * 32);
}

TEST_CASE("lanes exit early") {
  PtxMachine machine;
  machine.block.x = 64;
  const Address to = machine.upload(std::vector<u32>(64, 9));
  machine.run(two_pointer_kernel(
                  "setp.gt.u32 %p1, %r1, 40;\n@%p1 ret;\nsetp.eq.u32 %p1, %r1, 3;\n@%p1 exit;\n"
                  "bar.sync 0;\nmul.wide.u32 %rd3, %r1, 4;\nadd.u64 %rd4, %rd1, %rd3;\n"
                  "st.global.u32 [%rd4], %r1;"),
              {to, to});
  const std::vector<u32> got = machine.download<u32>(to, 64);
  for (u32 i = 0; i < 64; ++i) {
    CHECK(got[i] == (i > 40 || i == 3 ? 9 : i));
  }
}

TEST_CASE("branches by index") {
  const std::vector<u32> a = iota(64);
  const std::vector<u32> d = evaluate<u32>(
      "and.b32 x, a, 3;\nways: .branchtargets zero, one, two, zero;\nbrx.idx x, ways;\n"
      "zero:\nmov.u32 d, 7;\nbra done;\none:\nmov.u32 d, 8;\nbra done;\ntwo:\nmov.u32 d, 9;\ndone:",
      a);
  for (std::size_t i = 0; i < 64; ++i) {
    CHECK(d[i] == (i % 4 == 1 ? 8 : i % 4 == 2 ? 9 : 7));
  }
}

TEST_CASE("barriers order the warps of a block, whatever the seed") {
  for (u64 seed = 0; seed < 20; ++seed) {
    PtxMachine machine;
    machine.seed = seed;
    machine.block.x = 256;
    const Address to = machine.allocate(1024);
    // Eight times: each thread takes its neighbour's value, between barriers.
    const LaunchCounters counters = machine.run(
        two_pointer_kernel(
            ".shared .b32 s[256];\nmov.u32 %r2, s;\nshl.b32 %r3, %r1, 2;\nadd.u32 %r4, %r2, %r3;\n"
            "add.u32 %r5, %r1, 1;\nand.b32 %r5, %r5, 255;\nshl.b32 %r5, %r5, 2;\n"
            "add.u32 %r6, %r2, %r5;\nmov.u32 %r7, %r1;\nmov.u32 %r8, 0;\nloop:\n"
            "st.shared.u32 [%r4], %r7;\nbarrier.sync.aligned 0;\nld.shared.u32 %r7, [%r6];\n"
            "bar.sync 0;\nadd.u32 %r8, %r8, 1;\nsetp.lt.u32 %p1, %r8, 8;\n@%p1 bra loop;\n"
            "mul.wide.u32 %rd3, %r1, 4;\nadd.u64 %rd4, %rd1, %rd3;\nst.global.u32 [%rd4], %r7;"),
        {to, to});
    const std::vector<u32> got = machine.download<u32>(to, 256);
    for (u32 i = 0; i < 256; ++i) {
      CHECK(got[i] == (i + 8) % 256);
    }
    CHECK(counters.barriers == 8 * 16);
  }
}

TEST_CASE("a missing barrier is seen") {
  int seen = 0;
  for (u64 seed = 0; seed < 10; ++seed) {
    PtxMachine machine;
    machine.seed = seed;
    machine.block.x = 64;
    const LaunchResult result = machine.launch_text(
        two_pointer_kernel(
            ".shared .b32 s[64];\nmov.u32 %r2, s;\nshl.b32 %r3, %r1, 2;\nadd.u32 %r4, %r2, %r3;\n"
            "st.shared.u32 [%r4], %r1;\nxor.b32 %r4, %r4, 128;\nld.shared.u32 %r7, [%r4];"),
        {0, 0});
    seen += result.fault.has_value() ? 1 : 0;
  }
  CHECK(seen == 10);
}

TEST_CASE("barriers of some warps, and arrivals without waiting") {
  for (u64 seed = 0; seed < 10; ++seed) {
    PtxMachine machine;
    machine.seed = seed;
    machine.block.x = 96;
    const Address to = machine.allocate(128);
    // Warps 1 and 2 write and arrive; warp 0 waits and reads what they wrote.
    machine.run(
        two_pointer_kernel(
            ".shared .b32 s[96];\nmov.u32 %r2, s;\nshl.b32 %r3, %r1, 2;\n"
            "add.u32 %r4, %r2, %r3;\nsetp.lt.u32 %p1, %r1, 32;\n@%p1 bra consume;\n"
            "st.shared.u32 [%r4], %r1;\nbar.arrive 3, 96;\nbra done;\nconsume:\n"
            "bar.sync 3, 96;\nld.shared.u32 %r5, [%r4+128];\nld.shared.u32 %r6, [%r4+256];\n"
            "add.u32 %r5, %r5, %r6;\nmul.wide.u32 %rd3, %r1, 4;\nadd.u64 %rd4, %rd1, %rd3;\n"
            "st.global.u32 [%rd4], %r5;\ndone:"),
        {to, to});
    const std::vector<u32> got = machine.download<u32>(to, 32);
    for (u32 i = 0; i < 32; ++i) {
      CHECK(got[i] == 2 * i + 96);
    }
  }
}

TEST_CASE("a counted barrier counts warps whose lanes have partly exited") {
  PtxMachine machine;
  machine.block.x = 64;
  machine.run(two_pointer_kernel(
                  "and.b32 %r2, %r1, 31;\nsetp.gt.u32 %p1, %r2, 20;\n@%p1 exit;\nbar.sync 2, 64;"),
              {0, 0});
}

TEST_CASE("a counted barrier says nothing of warps that have ended") {
  // Warp 0 writes behind its arrival and ends; warp 1 waits and reads.
  const auto text = [](const std::string& arrival, const std::string& wait) {
    return two_pointer_kernel(
        ".shared .b32 s[1];\nmov.u32 %r2, s;\nsetp.eq.u32 %p1, %r1, 0;\n"
        "@%p1 st.shared.u32 [%r2], %r1;\nbar.sync 0;\nsetp.ge.u32 %p2, %r1, 32;\n"
        "@%p2 bra consume;\n" +
        arrival + "exit;\nconsume:\n" + wait + "ld.shared.u32 %r3, [%r2];");
  };
  const std::string write = "@%p1 st.shared.u32 [%r2], %r1;\n";
  const std::string arrive = "bar.arrive 1, 64;\n";
  for (u64 seed = 0; seed < 10; ++seed) {
    PtxMachine machine;
    machine.seed = seed;
    machine.block.x = 64;
    for (const std::string& wrong :
         {text(arrive + write, "bar.sync 1, 64;\n"), text(write, "bar.sync 1, 32;\n")}) {
      const Fault fault = machine.fault_of(wrong, {0, 0});
      CHECK(fault.kind == FaultKind::kSharedRace);
      CHECK_THAT(fault.message, containing("no barrier lies between"));
    }
    machine.run(text(write + arrive, "bar.sync 1, 64;\n"), {0, 0});
    // One of all threads waits until the others have ended.
    machine.run(text(write, "bar.sync 0;\n"), {0, 0});
  }
}

TEST_CASE("barriers reduce") {
  PtxMachine machine;
  machine.block.x = 96;
  const Address to = machine.allocate(96 * 4);
  machine.run(
      two_pointer_kernel(
          "setp.lt.u32 %p1, %r1, 50;\nbarrier.red.popc.aligned.u32 %r2, 0, %p1;\n"
          "bar.red.and.pred %p2, 0, %p1;\nbar.red.or.pred %p3, 0, %p1;\n"
          "bar.red.and.pred %p4, 1, 96, !%p1;\n"
          "@%p2 add.u32 %r2, %r2, 1000;\n@%p3 add.u32 %r2, %r2, 2000;\n"
          "@%p4 add.u32 %r2, %r2, 4000;\n"
          "mul.wide.u32 %rd3, %r1, 4;\nadd.u64 %rd4, %rd1, %rd3;\nst.global.u32 [%rd4], %r2;"),
      {to, to});
  CHECK(machine.download<u32>(to, 96) == std::vector<u32>(96, 2050));
}

TEST_CASE("barriers that not all come to are faults") {
  PtxMachine machine;
  machine.block.x = 64;
  // Lanes of one warp at two barriers.
  CHECK(machine
            .fault_of(two_pointer_kernel(
                          "setp.lt.u32 %p1, %r1, 8;\n@%p1 bra other;\nbar.sync 0;\nbra done;\n"
                          "other:\nbar.sync 0;\ndone:"),
                      {0, 0})
            .kind == FaultKind::kDivergentBarrier);
  // Warps at two barriers, and one that ends early while a counted barrier waits for it.
  const Fault deadlock = machine.fault_of(
      two_pointer_kernel("setp.lt.u32 %p1, %r1, 32;\n@%p1 bra other;\nbar.sync 0;\nbra done;\n"
                         "other:\nbar.sync 1;\ndone:"),
      {0, 0});
  CHECK(deadlock.kind == FaultKind::kDeadlock);
  CHECK_THAT(deadlock.message, containing("bar.sync 1"));
  CHECK(machine
            .fault_of(two_pointer_kernel("setp.lt.u32 %p1, %r1, 32;\n@%p1 exit;\nbar.sync 0, 64;"),
                      {0, 0})
            .kind == FaultKind::kDeadlock);
  CHECK(machine.fault_of(two_pointer_kernel("bar.sync 0, 33;"), {0, 0}).kind ==
        FaultKind::kDivergentBarrier);
  // Lanes of a warp that disagree on the barrier, or on its count.
  const auto by_lane = [&](const std::string& barrier, u64 step) {
    return machine.fault_of(
        two_pointer_kernel("and.b32 %r2, %r1, 1;\nmul.lo.u32 %r2, %r2, " + std::to_string(step) +
                           ";\nadd.u32 %r2, %r2, 64;\nsub.u32 %r3, %r2, 63;\n" + barrier),
        {0, 0});
  };
  for (const char* barrier : {"bar.sync %r3, 64;", "bar.sync 1, %r2;", "barrier.sync.aligned %r3;",
                              "bar.arrive %r3, 64;", "bar.red.or.pred %p1, %r3, %p1;"}) {
    INFO(barrier);
    const Fault fault = by_lane(barrier, 1);
    CHECK(fault.kind == FaultKind::kDivergentBarrier);
    CHECK_THAT(fault.message, containing("another barrier, or another count"));
  }
  CHECK(by_lane("barrier.sync %r3, 64;", 1).kind == FaultKind::kUnsupported);
  machine.run(two_pointer_kernel("shr.u32 %r2, %r1, 5;\nadd.u32 %r3, %r2, 3;\n"
                                 "mov.u32 %r4, 32;\nbar.sync %r3, %r4;"),
              {0, 0});
  // Warps that disagree on the count meet, or one has gone on before the other comes.
  int met = 0;
  for (machine.seed = 0; machine.seed < 32; ++machine.seed) {
    const Fault fault = machine.fault_of(
        two_pointer_kernel("setp.lt.u32 %p1, %r1, 32;\n@%p1 bra other;\nbar.sync 0, 64;\n"
                           "bra done;\nother:\nbar.sync 0, 32;\nbar.sync 0, 32;\ndone:"),
        {0, 0});
    met += fault.kind == FaultKind::kDivergentBarrier ? 1 : 0;
    CHECK((fault.kind == FaultKind::kDivergentBarrier || fault.kind == FaultKind::kDeadlock));
  }
  CHECK(met > 4);
  CHECK(met < 28);
}

constexpr const char* kFactorial =
    ".visible .func (.param .b32 result) factorial(.param .b32 n)\n{\n.reg .pred %p<2>;\n"
    ".reg .b32 %r<8>;\nld.param.u32 %r1, [n];\nmov.u32 %r2, 1;\nsetp.lt.u32 %p1, %r1, 2;\n"
    "@%p1 bra done;\nsub.u32 %r3, %r1, 1;\n{\n.param .b32 argument;\nst.param.b32 [argument], "
    "%r3;\n"
    ".param .b32 value;\ncall.uni (value), factorial, (argument);\nld.param.b32 %r4, [value];\n}\n"
    "mul.lo.u32 %r2, %r4, %r1;\ndone:\nst.param.b32 [result], %r2;\nret;\n}\n";

TEST_CASE("functions call themselves, to different depths") {
  PtxMachine machine;
  const Address to = machine.allocate(128);
  machine.run(
      two_pointer_kernel(
          "rem.u32 %r2, %r1, 10;\nmov.u32 %r9, 7;\n{\n.param .b32 argument;\n"
          "st.param.b32 [argument], %r2;\n.param .b32 value;\n"
          "call (value), factorial, (argument);\nld.param.b32 %r3, [value];\n}\n"
          // The caller's registers are still there.
          "mad.lo.u32 %r3, %r3, 10, %r9;\n"
          "mul.wide.u32 %rd3, %r1, 4;\nadd.u64 %rd4, %rd1, %rd3;\nst.global.u32 [%rd4], %r3;",
          kFactorial),
      {to, to});
  const std::vector<u32> got = machine.download<u32>(to, 32);
  for (u32 i = 0; i < 32; ++i) {
    u32 product = 1;
    for (u32 n = 2; n <= i % 10; ++n) {
      product *= n;
    }
    CHECK(got[i] == product * 10 + 7);
  }
}

TEST_CASE("functions are called through registers, and take pointers to locals") {
  PtxMachine machine;
  const Address to = machine.allocate(128);
  const std::string functions =
      ".func twice(.param .b64 place)\n{\n.reg .b64 %rd<2>;\n.reg .b32 %r<2>;\n"
      "ld.param.u64 %rd1, [place];\nld.u32 %r1, [%rd1];\nadd.u32 %r1, %r1, %r1;\n"
      "st.u32 [%rd1], %r1;\nret;\n}\n"
      ".func thrice(.param .b64 place)\n{\n.reg .b64 %rd<2>;\n.reg .b32 %r<2>;\n"
      ".local .b32 own;\nld.param.u64 %rd1, [place];\nld.u32 %r1, [%rd1];\n"
      "mul.lo.u32 %r1, %r1, 3;\nst.local.u32 [own], %r1;\nld.local.u32 %r1, [own];\n"
      "st.u32 [%rd1], %r1;\nret;\n}\n";
  machine.run(
      two_pointer_kernel(
          ".local .align 8 .b8 depot[8];\nmov.u64 %rd3, depot;\ncvta.local.u64 %rd4, %rd3;\n"
          "st.local.u32 [%rd3], %r1;\nmov.u64 %rd5, twice;\nmov.u64 %rd6, thrice;\n"
          "and.b32 %r2, %r1, 1;\nsetp.eq.u32 %p1, %r2, 0;\nselp.b64 %rd7, %rd5, %rd6, %p1;\n"
          "{\n.param .b64 argument;\nst.param.b64 [argument], %rd4;\n"
          "prototype: .callprototype _ (.param .b64 _);\n"
          "call %rd7, (argument), prototype;\n}\n"
          "ld.local.u32 %r3, [%rd3];\nmul.wide.u32 %rd8, %r1, 4;\nadd.u64 %rd9, %rd1, %rd8;\n"
          "st.global.u32 [%rd9], %r3;",
          functions),
      {to, to});
  const std::vector<u32> got = machine.download<u32>(to, 32);
  for (u32 i = 0; i < 32; ++i) {
    CHECK(got[i] == i * (i % 2 == 0 ? 2 : 3));
  }
}

TEST_CASE("endless recursion is a fault") {
  PtxMachine machine;
  CHECK(machine.fault_of(two_pointer_kernel("call f;", ".func f()\n{\ncall f;\nret;\n}\n"), {0, 0})
            .kind == FaultKind::kOutOfBounds);
}

TEST_CASE("an endless loop is a fault") {
  PtxMachine machine;
  setenv("XC_EMULATOR_MAX_INSTRUCTIONS", "100000", 1);
  const Fault fault =
      machine.fault_of(two_pointer_kernel("loop:\nadd.u32 %r1, %r1, 1;\nbra loop;"), {0, 0});
  unsetenv("XC_EMULATOR_MAX_INSTRUCTIONS");
  CHECK(fault.kind == FaultKind::kDeadlock);
}

TEST_CASE("lanes that spin for others of their warp get them") {
  PtxMachine machine;
  const Address flag = machine.upload<u32>({0});
  machine.run(two_pointer_kernel(
                  "setp.eq.u32 %p1, %r1, 5;\n@%p1 bra set;\nspin:\n"
                  "atom.global.add.u32 %r2, [%rd1], 0;\nsetp.eq.u32 %p1, %r2, 0;\n@%p1 bra spin;\n"
                  "bra done;\nset:\nred.global.add.u32 [%rd1], 1;\ndone:"),
              {flag, flag});
  CHECK(machine.download<u32>(flag, 1)[0] == 1);
}

TEST_CASE("trap and device asserts are faults") {
  PtxMachine machine;
  CHECK(machine.fault_of(two_pointer_kernel("setp.eq.u32 %p1, %r1, 9;\n@%p1 trap;"), {0, 0}).kind ==
        FaultKind::kTrap);
  const std::string assert_text =
      ".extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, "
      ".param .b64 e);\n.global .align 1 .b8 what[6] = {105, 32, 60, 32, 110, 0};\n"
      ".global .align 1 .b8 where[5] = {97, 46, 99, 117, 0};\n";
  const Fault fault = machine.fault_of(
      two_pointer_kernel(
          "mov.u64 %rd3, what;\ncvta.global.u64 %rd3, %rd3;\nmov.u64 %rd4, where;\n{\n"
          ".param .b64 p0;\nst.param.b64 [p0], %rd3;\n.param .b64 p1;\nst.param.b64 [p1], %rd4;\n"
          ".param .b32 p2;\nst.param.b32 [p2], 24;\n.param .b64 p3;\nst.param.b64 [p3], %rd4;\n"
          ".param .b64 p4;\nst.param.b64 [p4], 1;\n"
          "call.uni __assertfail, (p0, p1, p2, p3, p4);\n}",
          assert_text),
      {0, 0});
  CHECK(fault.kind == FaultKind::kTrap);
  CHECK_THAT(fault.message, containing("a.cu:24: assertion `i < n' failed"));
}

TEST_CASE("printf prints") {
  PtxMachine machine;
  machine.block.x = 2;
  const std::string format = "%d|%5.2f|%s|%c|%%|%llu|%-4x|\n";
  std::string bytes;
  for (const char c : format) {
    bytes += std::to_string(static_cast<int>(c)) + ", ";
  }
  const std::string declarations =
      ".extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);\n.global .align 1 .b8 "
      "fmt[" +
      std::to_string(format.size() + 1) + "] = {" + bytes +
      "0};\n.global .align 1 .b8 word[3] = {104, 105, 0};\n";
  const std::string text = two_pointer_kernel(
      ".local .align 8 .b8 depot[56];\nmov.u64 %rd3, depot;\ncvta.local.u64 %rd4, %rd3;\n"
      "st.local.u32 [%rd3], %r1;\nst.local.f64 [%rd3+8], 0d3FF4000000000000;\n"
      "mov.u64 %rd5, word;\ncvta.global.u64 %rd5, %rd5;\nst.local.u64 [%rd3+16], %rd5;\n"
      "st.local.u32 [%rd3+24], 90;\nst.local.u64 [%rd3+32], 12345678901;\n"
      "st.local.u32 [%rd3+40], 255;\nmov.u64 %rd6, fmt;\n{\n.param .b64 p0;\n"
      "st.param.b64 [p0], %rd6;\n.param .b64 p1;\nst.param.b64 [p1], %rd4;\n.param .b32 ret;\n"
      "call.uni (ret), vprintf, (p0, p1);\nld.param.b32 %r2, [ret];\n}",
      declarations);
  // Standard output goes to a file for the time of the launch.
  std::fflush(stdout);
  const int saved = dup(STDOUT_FILENO);
  std::FILE* const file = std::tmpfile();
  REQUIRE(file != nullptr);
  dup2(fileno(file), STDOUT_FILENO);
  const LaunchResult result = machine.launch_text(text, {0, 0});
  std::fflush(stdout);
  dup2(saved, STDOUT_FILENO);
  close(saved);
  std::rewind(file);
  std::string printed(256, '\0');
  printed.resize(std::fread(printed.data(), 1, printed.size(), file));
  std::fclose(file);
  CHECK_FALSE(result.fault.has_value());
  CHECK(printed == "0| 1.25|hi|Z|%|12345678901|ff  |\n1| 1.25|hi|Z|%|12345678901|ff  |\n");
}

TEST_CASE("what is not supported is a fault where it is executed") {
  PtxMachine machine;
  for (const char* text :
       {"frobnicate.b32 %r2, %r1;", "add.f8 %r2, %r1, %r1;", "add.sat.u32 %r2, %r1, %r1;",
        "mov.u32 %r2, %envreg3;", "add.u64 %r2, %r1, %r1;", "st.global.u32 [%rd1], %p1;",
        "shfl.idx.b32 %r2, %r1, 0, 31;", "cp.async.bulk.commit_group;",
        "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%r2,%r2,%r2,%r2}, {%r2}, {%r2}, {%r2};",
        "barrier.cluster.arrive;", "ld.global.weird.u32 %r2, [%rd1];", "add.u32 %r2, %r1;",
        "griddepcontrol;", "griddepcontrol.wait.launch_dependents;"}) {
    INFO(text);
    const Fault fault = machine.fault_of(two_pointer_kernel(text), {0, 0});
    CHECK(fault.kind == FaultKind::kUnsupported);
    CHECK_THAT(fault.message,
               containing(std::string(text).substr(0, std::string(text).size() - 1)));
    // Not executed, it does no harm.
    machine.run(two_pointer_kernel("bra over;\n" + std::string(text) + "\nover:"), {0, 0});
  }
}

TEST_CASE("counters and results are the same for every seed and number of threads") {
  std::vector<LaunchCounters> all;
  for (const int threads : {1, 4}) {
    for (const u64 seed : {0, 7}) {
      PtxMachine machine;
      machine.threads = threads;
      machine.seed = seed;
      machine.grid.x = 37;
      machine.block.x = 96;
      const Address to = machine.allocate(37 * 96 * 4);
      all.push_back(machine.run(
          two_pointer_kernel(
              "mov.u32 %r2, %ctaid.x;\nmad.lo.u32 %r3, %r2, 96, %r1;\nmul.wide.u32 %rd3, %r3, 4;\n"
              "add.u64 %rd4, %rd1, %rd3;\nand.b32 %r4, %r3, 7;\nloop:\nadd.u32 %r4, %r4, 1;\n"
              "setp.lt.u32 %p1, %r4, 9;\n@%p1 bra loop;\nbar.sync 0;\nst.global.u32 [%rd4], %r3;"),
          {to, to}));
      CHECK(machine.download<u32>(to, 37 * 96) == iota(37 * 96));
    }
  }
  for (const LaunchCounters& counters : all) {
    CHECK(counters.instructions == all[0].instructions);
    CHECK(counters.lane_instructions == all[0].lane_instructions);
    CHECK(counters.store_sector_bytes == 37 * 96 * 4);
    CHECK(counters.barriers == 37 * 3);
  }
}

}  // namespace
}  // namespace xception::emulator
