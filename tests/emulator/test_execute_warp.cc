// What lanes of a warp see of each other, and matrix instructions from PTX to registers.
#include <algorithm>
#include <bit>
#include <functional>
#include <numeric>

#include "tests/emulator/matrix.h"
#include "tests/emulator/numeric.h"
#include "tests/emulator/ptx_fixture.h"

namespace xception::emulator {
namespace {

TEST_CASE("shuffles take the register of another lane") {
  XC_RANDOM(random);
  for (const int width : {32, 16, 8, 4}) {
    const int segment = 32 - width;
    const int offset = random.integer(0, 31);
    struct Mode {
      const char* name;
      int clamp;
    };
    for (const Mode mode : {Mode{"up", 0}, Mode{"down", 31}, Mode{"bfly", 31}, Mode{"idx", 31}}) {
      const std::string name = mode.name;
      const std::vector<u32> a = operand_values<u32>(random, 64);
      const std::string text = "shfl.sync." + name + ".b32 d|p, a, " + std::to_string(offset) +
                               ", " + std::to_string(segment << 8 | mode.clamp) + ", -1;\n";
      const std::vector<u32> d = evaluate<u32>(text, a);
      const std::vector<u32> valid = evaluate<u32>(text + "selp.b32 d, 1, 0, p;", a);
      for (int i = 0; i < 64; ++i) {
        // __shfl_*_sync's own words: within its group of `width`, else its own value.
        const int lane = i % 32;
        const int group = lane / width * width;
        int from = name == "up"     ? lane - offset
                   : name == "down" ? lane + offset
                   : name == "bfly" ? lane ^ offset
                                    : group + offset % width;
        const bool inside = name == "up" ? from >= group : from < group + width;
        from = inside ? from : lane;
        INFO(text << " lane " << lane);
        CHECK(d[static_cast<std::size_t>(i)] == a[static_cast<std::size_t>(i / 32 * 32 + from)]);
        CHECK(valid[static_cast<std::size_t>(i)] == (inside ? 1 : 0));
      }
    }
  }
}

// The lane's own bits need not be its upper ones.
TEST_CASE("a shuffle whose groups are lanes apart") {
  XC_RANDOM(random);
  const std::vector<u32> a = operand_values<u32>(random, 64);
  for (int row = 0; row < 8; ++row) {
    const std::string text = "shfl.sync.idx.b32 d, a, " + std::to_string(4 * row) + ", " +
                             std::to_string(3 << 8 | 31) + ", -1;\n";
    const std::vector<u32> d = evaluate<u32>(text, a);
    for (std::size_t i = 0; i < a.size(); ++i) {
      INFO(text << " lane " << i);
      CHECK(d[i] == a[i / 32 * 32 + static_cast<std::size_t>(4 * row) + i % 4]);
    }
  }
}

TEST_CASE("votes and matches") {
  XC_RANDOM(random);
  std::vector<u32> a(64);
  for (u32& value : a) {
    value = static_cast<u32>(random.integer(-3, 3));
  }
  const auto warp_of = [](std::size_t i) { return i / 32 * 32; };
  const auto check = [&](const std::string& text, auto want) {
    INFO(text);
    const std::vector<u32> d = evaluate<u32>(text, a);
    for (std::size_t i = 0; i < a.size(); ++i) {
      CHECK(d[i] == want(i));
    }
  };
  const auto ballot = [&](std::size_t i, auto holds) {
    u32 mask = 0;
    for (std::size_t lane = 0; lane < 32; ++lane) {
      mask |= holds(a[warp_of(i) + lane]) ? 1U << lane : 0;
    }
    return mask;
  };
  const auto positive = [](u32 value) { return static_cast<i32>(value) > 0; };
  const std::string setp = "setp.gt.s32 p, a, 0;\n";
  check(setp + "vote.sync.ballot.b32 d, p, 0xFFFFFFFF;",
        [&](std::size_t i) { return ballot(i, positive); });
  check(setp + "vote.sync.any.pred q, p, -1;\nselp.b32 d, 1, 0, q;",
        [&](std::size_t i) { return ballot(i, positive) != 0 ? 1U : 0U; });
  check(setp + "vote.sync.all.pred q, !p, -1;\nselp.b32 d, 1, 0, q;",
        [&](std::size_t i) { return ballot(i, positive) == 0 ? 1U : 0U; });
  check("setp.ge.s32 p, a, -3;\nvote.sync.uni.pred q, p, -1;\nselp.b32 d, 1, 0, q;",
        [](std::size_t) { return 1U; });
  check("match.any.sync.b32 d, a, -1;",
        [&](std::size_t i) { return ballot(i, [&](u32 value) { return value == a[i]; }); });
  check("match.all.sync.b32 d|p, a, -1;", [&](std::size_t i) {
    const u32 same = ballot(i, [&](u32 value) { return value == a[i]; });
    return same == ~0U ? ~0U : 0U;
  });
  check("activemask.b32 d;", [](std::size_t) { return ~0U; });
  check("elect.sync d|p, -1;\n@p mov.b32 d, 77;",
        [](std::size_t i) { return i % 32 == 0 ? 77U : 0U; });
}

template <class T, class Operation>
void check_reduction(Random& random, const std::string& name, const Operation& operation) {
  const std::string text = "redux.sync." + name + " d, a, -1;";
  const std::vector<T> a = operand_values<T>(random, kOperands);
  const std::vector<T> d = evaluate<T>(text, a);
  for (std::size_t warp = 0; warp < a.size(); warp += 32) {
    const auto lanes = a.begin() + static_cast<std::ptrdiff_t>(warp);
    const T want = std::accumulate(lanes + 1, lanes + 32, *lanes, operation);
    for (std::size_t lane = warp; lane < warp + 32; ++lane) {
      INFO(text);
      REQUIRE(d[lane] == want);
    }
  }
}

template <class T>
void check_order_reductions(Random& random, const std::string& type) {
  check_reduction<T>(random, "min." + type, [](T x, T y) { return std::min(x, y); });
  check_reduction<T>(random, "max." + type, [](T x, T y) { return std::max(x, y); });
}

TEST_CASE("reductions over a warp, every operation on every type") {
  XC_RANDOM(random);
  check_reduction<u32>(random, "add.u32", std::plus());
  check_reduction<u32>(random, "add.s32", std::plus());
  check_order_reductions<u32>(random, "u32");
  check_order_reductions<i32>(random, "s32");
  check_reduction<u32>(random, "and.b32", std::bit_and());
  check_reduction<u32>(random, "or.b32", std::bit_or());
  check_reduction<u32>(random, "xor.b32", std::bit_xor());
}

TEST_CASE("lanes with their own masks exchange in groups") {
  std::vector<u32> a(64);
  for (u32 i = 0; i < 64; ++i) {
    a[i] = i;
  }
  // Even lanes and odd lanes, each with the mask of their own.
  const std::vector<u32> d = evaluate<u32>(
      "and.b32 x, a, 1;\nmatch.any.sync.b32 y, x, -1;\nredux.sync.add.u32 d, a, y;", a);
  CHECK(d[0] == 240);
  CHECK(d[1] == 256);
  CHECK(d[32] == 240 + 16 * 32);
}

TEST_CASE("lanes of a mask are waited for") {
  std::vector<u32> a(64);
  for (u32 i = 0; i < 64; ++i) {
    a[i] = i;
  }
  // Lanes 0 to 7 go another way first, and all meet in the shuffle.
  const std::vector<u32> d = evaluate<u32>(
      "and.b32 x, a, 31;\nmov.b32 y, a;\nsetp.lt.u32 p, x, 8;\n@!p bra meet;\nadd.u32 y, a, 100;\n"
      "bra meet;\nmeet:\nshfl.sync.idx.b32 d, y, 3, 31, -1;",
      a);
  CHECK(d[20] == 103);
  CHECK(d[3] == 103);
  CHECK(d[40] == 135);
}

TEST_CASE("lanes that never come are a fault") {
  PtxMachine machine;
  const std::string split = "setp.lt.u32 %p1, %r1, 8;\n";
  // On two ways through two shuffles of one mask.
  const Fault ways = machine.fault_of(
      two_pointer_kernel(split +
                         "@%p1 bra other;\nshfl.sync.idx.b32 %r2, %r1, 0, 31, -1;\nbra done;\n"
                         "other:\nshfl.sync.idx.b32 %r2, %r1, 1, 31, -1;\ndone:"),
      {0, 0});
  CHECK(ways.kind == FaultKind::kDivergentBarrier);
  CHECK_THAT(ways.message, containing("for lanes"));
  // Lanes that end while the others wait for them.
  CHECK(machine
            .fault_of(two_pointer_kernel(split + "@%p1 vote.sync.any.pred %p2, %p1, -1;\nexit;"),
                      {0, 0})
            .kind == FaultKind::kDivergentBarrier);
  // A mask without the lane itself, and a read of a lane outside of it.
  CHECK(machine.fault_of(two_pointer_kernel("vote.sync.any.pred %p2, 1, 1;"), {0, 0}).kind ==
        FaultKind::kDivergentBarrier);
  CHECK(machine
            .fault_of(two_pointer_kernel(split + "@%p1 shfl.sync.idx.b32 %r2, %r1, 9, 31, 0xFF;"),
                      {0, 0})
            .kind == FaultKind::kDivergentBarrier);
  // mma and ldmatrix take the whole warp.
  CHECK(machine
            .fault_of(
                two_pointer_kernel(".shared .align 16 .b8 s[512];\nmov.u32 %r2, s;\n" + split +
                                   "@%p1 ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r3}, [%r2];"),
                {0, 0})
            .kind == FaultKind::kDivergentBarrier);
}

TEST_CASE("lanes of a mask that have ended, or never were, are not waited for") {
  const std::string store =
      "mul.wide.u32 %rd3, %r1, 4;\nadd.u64 %rd4, %rd1, %rd3;\nst.global.u32 [%rd4], %r2;\n";
  const auto check = [&](const std::string& exit, unsigned threads, unsigned live) {
    for (u64 seed = 0; seed < 5; ++seed) {
      PtxMachine machine;
      machine.seed = seed;
      machine.block.x = threads;
      const auto results = [&](const std::string& instruction) {
        const Address to = machine.upload(std::vector<u32>(32, 99));
        machine.run(two_pointer_kernel(exit + instruction + store), {to, to});
        return machine.download<u32>(to, live);
      };
      const u32 all = (1U << live) - 1;
      for (u32 lane = 0; lane < live; ++lane) {
        CHECK(results("shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1;\n")[lane] == (lane ^ 1));
        CHECK(results("setp.ge.u32 %p2, %r1, 2;\nvote.sync.ballot.b32 %r2, %p2, -1;\n")[lane] ==
              (all & ~3U));
        CHECK(results("shr.u32 %r3, %r1, 3;\nmatch.any.sync.b32 %r2, %r3, -1;\n")[lane] ==
              (0xFFU << (lane / 8 * 8)));
        CHECK(results("redux.sync.add.u32 %r2, %r1, -1;\n")[lane] == live * (live - 1) / 2);
      }
      for (const char* text :
           {"shfl.sync.bfly.b32 %r2, %r1, 16, 31, -1;\n", "elect.sync %r2|%p2, -1;\n",
            "movmatrix.sync.aligned.m8n8.trans.b16 %r2, %r1;\n"}) {
        INFO(text);
        CHECK(machine.fault_of(two_pointer_kernel(exit + text), {0, 0}).kind ==
              FaultKind::kDivergentBarrier);
      }
    }
  };
  check("setp.ge.u32 %p1, %r1, 16;\n@%p1 exit;\n", 32, 16);
  check("", 16, 16);
}

TEST_CASE("__syncwarp may be met at two places") {
  PtxMachine machine;
  const Address to = machine.allocate(128);
  machine.run(two_pointer_kernel(
                  ".shared .b32 s[32];\nmov.u32 %r2, s;\nshl.b32 %r3, %r1, 2;\n"
                  "add.u32 %r4, %r2, %r3;\nst.shared.u32 [%r4], %r1;\nsetp.lt.u32 %p1, %r1, 8;\n"
                  "@%p1 bra other;\nbar.warp.sync -1;\nxor.b32 %r4, %r4, 124;\n"
                  "ld.shared.u32 %r5, [%r4];\nbra done;\nother:\nbar.warp.sync -1;\n"
                  "xor.b32 %r4, %r4, 124;\nld.shared.u32 %r5, [%r4];\nadd.u32 %r5, %r5, 100;\n"
                  "done:\nmul.wide.u32 %rd3, %r1, 4;\nadd.u64 %rd4, %rd1, %rd3;\n"
                  "st.global.u32 [%rd4], %r5;"),
              {to, to});
  const std::vector<u32> got = machine.download<u32>(to, 32);
  for (u32 i = 0; i < 32; ++i) {
    CHECK(got[i] == (31 - i) + (i < 8 ? 100 : 0));
  }
}

// A 16 x 16 of f16 in shared memory times a 16 x 8, both through ldmatrix, against a double loop.
TEST_CASE("mma of fragments that ldmatrix loads") {
  XC_RANDOM(random);
  std::vector<u16> a(16 * 16);
  std::vector<u16> b(16 * 8);  // k rows of n
  for (u16& value : a) {
    value = half_from_float(static_cast<float>(random.integer(-8, 8)));
  }
  for (u16& value : b) {
    value = half_from_float(static_cast<float>(random.integer(-8, 8)));
  }
  std::vector<u16> both = a;
  both.insert(both.end(), b.begin(), b.end());
  PtxMachine machine;
  const Address from = machine.upload(both);
  const Address to = machine.allocate(16 * 8 * 4);
  const LaunchCounters counters = machine.run(
      two_pointer_kernel(
          ".shared .align 16 .b8 s[768];\nmov.u32 %r2, s;\n"
          // 24 lanes copy 32 bytes each.
          "setp.lt.u32 %p1, %r1, 24;\nshl.b32 %r3, %r1, 5;\nadd.u32 %r4, %r2, %r3;\n"
          "cvt.u64.u32 %rd3, %r3;\nadd.u64 %rd4, %rd1, %rd3;\n"
          "@%p1 ld.global.v4.u32 {%r5, %r6, %r7, %r8}, [%rd4];\n"
          "@%p1 st.shared.v4.u32 [%r4], {%r5, %r6, %r7, %r8};\n"
          "@%p1 ld.global.v4.u32 {%r5, %r6, %r7, %r8}, [%rd4+16];\n"
          "@%p1 st.shared.v4.u32 [%r4+16], {%r5, %r6, %r7, %r8};\nbar.warp.sync -1;\n"
          // A: row = lane % 16, the right half for lanes from 16 on. B: row = lane % 16.
          "and.b32 %r9, %r1, 15;\nshr.u32 %r10, %r1, 4;\nshl.b32 %r11, %r9, 5;\n"
          "shl.b32 %r12, %r10, 4;\nadd.u32 %r13, %r11, %r12;\nadd.u32 %r14, %r2, %r13;\n"
          "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r20, %r21, %r22, %r23}, [%r14];\n"
          "shl.b32 %r15, %r9, 4;\nadd.u32 %r16, %r2, %r15;\n"
          "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r24, %r25}, [%r16+512];\n"
          "mov.f32 %r26, 0f3F800000;\n"
          "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r30, %r31, %r32, %r33}, "
          "{%r20, %r21, %r22, %r23}, {%r24, %r25}, {%r26, %r26, %r26, %r26};\n"
          // C: rows lane / 4 and + 8, columns 2 * (lane % 4) and + 1.
          "shr.u32 %r34, %r1, 2;\nand.b32 %r35, %r1, 3;\nshl.b32 %r36, %r34, 5;\n"
          "shl.b32 %r37, %r35, 3;\nadd.u32 %r38, %r36, %r37;\ncvt.u64.u32 %rd5, %r38;\n"
          "add.u64 %rd6, %rd2, %rd5;\nst.global.v2.u32 [%rd6], {%r30, %r31};\n"
          "st.global.v2.u32 [%rd6+256], {%r32, %r33};"),
      {from, to});
  const std::vector<float> got = machine.download<float>(to, 128);
  for (std::size_t row = 0; row < 16; ++row) {
    for (std::size_t column = 0; column < 8; ++column) {
      float sum = 1;
      for (std::size_t k = 0; k < 16; ++k) {
        sum += half_to_float(a[row * 16 + k]) * half_to_float(b[k * 8 + column]);
      }
      INFO(row << ", " << column);
      CHECK(got[row * 8 + column] == sum);
    }
  }
  CHECK(counters.instructions[static_cast<std::size_t>(InstructionClass::kMma)] == 1);
}

TEST_CASE("stmatrix and movmatrix") {
  PtxMachine machine;
  const Address to = machine.allocate(128);
  // Lane l holds 2l and 2l + 1; stored row-major, the block is 0, 1, 2, ....
  const std::string pack =
      "shl.b32 %r2, %r1, 1;\nadd.u32 %r3, %r2, 1;\nshl.b32 %r4, %r3, 16;\n"
      "or.b32 %r5, %r2, %r4;\n";
  const std::string store =
      "mov.u32 %r6, s;\nand.b32 %r7, %r1, 7;\nshl.b32 %r8, %r7, 4;\nadd.u32 %r9, %r6, %r8;\n"
      "stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r9], {%r5};\nbar.warp.sync -1;\n"
      "shl.b32 %r10, %r1, 2;\nadd.u32 %r11, %r6, %r10;\nld.shared.u32 %r12, [%r11];\n"
      "mul.wide.u32 %rd3, %r1, 4;\nadd.u64 %rd4, %rd1, %rd3;\nst.global.u32 [%rd4], %r12;";
  machine.run(two_pointer_kernel(".shared .align 16 .b8 s[128];\n" + pack + store), {to, to});
  std::vector<u16> got = machine.download<u16>(to, 64);
  for (u16 i = 0; i < 64; ++i) {
    CHECK(got[i] == i);
  }
  machine.run(two_pointer_kernel(".shared .align 16 .b8 s[128];\n" + pack +
                                 "movmatrix.sync.aligned.m8n8.trans.b16 %r5, %r5;\n" + store),
              {to, to});
  got = machine.download<u16>(to, 64);
  for (u16 i = 0; i < 64; ++i) {
    CHECK(got[i] == i % 8 * 8 + i / 8);
  }
}

TEST_CASE("special registers say where a thread is") {
  PtxMachine machine;
  machine.block = {5, 4, 3};
  machine.grid = {3, 2, 2};
  machine.profile.multiprocessors = 7;
  constexpr std::size_t kWords = 16;
  const std::size_t threads = 60 * 12;
  const Address to = machine.allocate(threads * kWords * 4);
  std::string body =
      "mov.u32 %r2, %tid.y;\nmov.u32 %r3, %tid.z;\nmov.u32 %r4, %ctaid.x;\nmov.u32 %r5, %ctaid.y;\n"
      "mov.u32 %r6, %ctaid.z;\nmov.u32 %r7, %ntid.y;\nmov.u32 %r8, %nctaid.z;\nmov.u32 %r9, "
      "%laneid;\n"
      "mov.u32 %r10, %warpid;\nmov.u32 %r11, %lanemask_lt;\nmov.u32 %r12, %lanemask_ge;\n"
      "mov.u32 %r13, %smid;\nmov.u32 %r14, %cluster_nctarank;\nmov.u32 %r15, %nwarpid;\n"
      // linear thread and block
      "mad.lo.u32 %r20, %r3, 4, %r2;\nmad.lo.u32 %r20, %r20, 5, %r1;\nmad.lo.u32 %r21, %r6, 2, "
      "%r5;\n"
      "mad.lo.u32 %r21, %r21, 3, %r4;\nmad.lo.u32 %r22, %r21, 60, %r20;\n"
      "mul.wide.u32 %rd3, %r22, 64;\nadd.u64 %rd4, %rd1, %rd3;\n";
  for (int i = 0; i < 16; ++i) {
    body += "st.global.u32 [%rd4+" + std::to_string(4 * i) + "], %r" +
            std::to_string(i == 0 ? 20 : i) + ";\n";
  }
  machine.run(two_pointer_kernel(body), {to, to});
  const std::vector<u32> got = machine.download<u32>(to, threads * kWords);
  for (u32 block = 0; block < 12; ++block) {
    for (u32 thread = 0; thread < 60; ++thread) {
      const u32* const words = got.data() + (block * 60 + thread) * kWords;
      const u32 lane = thread % 32;
      CHECK(words[0] == thread);
      CHECK(words[1] == thread % 5);
      CHECK(words[3] == thread / 20);
      CHECK(words[4] == block % 3);
      CHECK(words[6] == block / 6);
      CHECK(words[7] == 4);
      CHECK(words[8] == 2);
      CHECK(words[9] == lane);
      CHECK(words[10] == thread / 32);
      CHECK(words[11] == (1U << lane) - 1);
      CHECK(words[12] == ~((1U << lane) - 1));
      CHECK(words[13] == block % 7);
      CHECK(words[14] == 1);
      CHECK(words[15] == 2);
    }
  }
}

}  // namespace
}  // namespace xception::emulator
