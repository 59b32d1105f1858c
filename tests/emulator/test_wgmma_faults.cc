// What must be around a wgmma: fences, groups and waits, and each of them left out.
#include <functional>
#include <string>
#include <vector>

#include "tests/emulator/wgmma_fixture.h"

namespace xception::emulator {
namespace {

// Two 16-bit tiles of one k16 without swizzle: A at 0, 64 rows, B at 2048, 8 columns.
constexpr u64 kTileA = 0 | u64{128 >> 4} << 16 | u64{256 >> 4} << 32;
constexpr u64 kTileB = (2048 >> 4) | u64{128 >> 4} << 16 | u64{256 >> 4} << 32;
constexpr std::size_t kImage = 4096;

// A kernel in which each piece can be left out or replaced.
struct Pieces {
  std::string store = copy_image(kImage, 128);
  std::string proxy_fence = "fence.proxy.async;\n";
  std::string barrier = "bar.sync 0;\n";
  std::string begin =
      "mov.f32 %f0, 0f00000000;\nmov.f32 %f1, %f0;\nmov.f32 %f2, %f0;\n"
      "mov.f32 %f3, %f0;\nmov.u32 %r20, 0;\nmov.u32 %r21, 0;\nmov.u32 %r22, 0;\n"
      "mov.u32 %r23, 0;\n";
  std::string fence = "wgmma.fence.sync.aligned;\n";
  std::string descriptors = "mov.u64 %rd14, " + std::to_string(kTileA) + ";\nmov.u64 %rd15, " +
                            std::to_string(kTileB) + ";\nsetp.eq.u32 %p1, 0, 0;\n";
  std::string first = wgmma({}, "%rd14", "%rd15");
  std::string between;
  std::string second = wgmma({}, "{%r20, %r21, %r22, %r23}", "%rd15");
  std::string in_flight;
  std::string commit = "wgmma.commit_group.sync.aligned;\n";
  std::string committed;
  std::string wait = "wgmma.wait_group.sync.aligned 0;\n";
  std::string behind =
      "shl.b32 %r30, %r1, 4;\nmul.wide.u32 %rd12, %r1, 16;\n"
      "add.u64 %rd12, %rd12, %rd2;\n" +
      move_sums(8, false);

  std::string text() const {
    return kernel(store + proxy_fence + barrier + begin + fence + descriptors + first + between +
                      second + in_flight + commit + committed + wait + behind,
                  kImage);
  }
};

LaunchResult run_pieces(const Pieces& pieces, u64 seed, unsigned threads = 128, int arch = 90) {
  PtxMachine machine;
  machine.profile.arch = arch;
  machine.block.x = threads;
  machine.seed = seed;
  const Address image = machine.upload(std::vector<u16>(8 * kImage, 0x3C00));
  const Address sums = machine.allocate(4096 * 16);
  std::string text = pieces.text();
  // Barriers of which the emulator knows that the whole block comes to them, and others.
  for (std::size_t at = text.find("bar.sync 0"); seed % 2 == 1 && at != std::string::npos;
       at = text.find("bar.sync 0")) {
    text.replace(at, 10, "bar.sync 1, 128");
  }
  return machine.launch_text(text, {image, sums, image, image});
}

struct Planted {
  const char* name;
  FaultKind kind;
  const char* message;
  std::function<void(Pieces&)> plant;
  std::function<void(Pieces&)> mend = {};  // what makes the same kernel right
};

// One thread fills the tiles, by a bulk copy or by itself, and hands them on through an mbarrier at
// %r31. Of each warp the lanes of `%p3` wait.
std::string hand_over(const std::string& fill, const std::string& waits) {
  return ".shared .align 8 .b64 full;\nmov.u32 %r31, full;\nsetp.eq.u32 %p2, %r1, 0;\n"
         "and.b32 %r30, %r1, 31;\n@%p2 mbarrier.init.shared::cta.b64 [%r31], 1;\n"
         "@%p2 fence.mbarrier_init.release.cluster;\nbar.sync 0;\n@!%p2 bra FILLED;\n" +
         fill + "FILLED:\n" + waits +
         "@!%p3 bra WAITED;\nWAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %p0, [%r31], 0;\n"
         "@!%p0 bra WAIT;\nWAITED:\n";
}

void copy_and_wait(Pieces& p, const std::string& waits) {
  p.store = hand_over(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r31], 4096;\n"
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd1], 4096, "
      "[%r31];\n",
      waits);
  p.proxy_fence = p.barrier = "";
}

void write_and_arrive(Pieces& p, const std::string& before, const std::string& after) {
  p.store = hand_over(
      "mov.u32 %r5, 0x3C003C00;\nmov.u32 %r6, %r2;\nadd.u32 %r7, %r2, 4096;\nSTORE:\n"
      "st.shared.v4.u32 [%r6], {%r5, %r5, %r5, %r5};\nadd.u32 %r6, %r6, 16;\n"
      "setp.lt.u32 %p0, %r6, %r7;\n@%p0 bra STORE;\n" +
          before + "mbarrier.arrive.shared::cta.b64 _, [%r31];\n" + after,
      "setp.eq.u32 %p3, 0, 0;\n");
  p.proxy_fence = p.barrier = "";
}

TEST_CASE("faults around wgmma are found, each of them and no other") {
  const std::string write_a = "st.shared.u32 [%r4], %r1;\n";
  const std::vector<Planted> all = {
      {"D read before the wait", FaultKind::kWgmmaNotWaited, "reads a register of the D",
       [](Pieces& p) { p.committed = "add.f32 %f9, %f1, %f1;\n"; },
       [](Pieces& p) {
         p.behind += p.committed;
         p.committed = "";
       }},
      {"D overwritten before the wait", FaultKind::kWgmmaNotWaited,
       "overwrites a register of the D",
       [](Pieces& p) { p.in_flight = "mov.f32 %f3, 0f00000000;\n"; }},
      {"no wait", FaultKind::kWgmmaNotWaited, "no wgmma.wait_group has covered",
       [](Pieces& p) { p.wait = ""; }},
      {"no commit", FaultKind::kWgmmaNotWaited, "is not even committed",
       [](Pieces& p) { p.commit = ""; }},
      {"a wait that leaves the group", FaultKind::kWgmmaNotWaited,
       "no wgmma.wait_group has covered",
       [](Pieces& p) { p.wait = "wgmma.wait_group.sync.aligned 1;\n"; },
       [](Pieces& p) { p.wait += "wgmma.wait_group.sync.aligned 0;\n"; }},
      {"a wait that covers the first of two groups", FaultKind::kWgmmaNotWaited,
       "no wgmma.wait_group has covered",
       [](Pieces& p) {
         p.between = "wgmma.commit_group.sync.aligned;\n";
         p.wait = "wgmma.wait_group.sync.aligned 1;\n";
       }},
      {"another order of D", FaultKind::kWgmmaNotWaited, "of other registers or another shape",
       [](Pieces& p) { p.second.replace(p.second.find("%f0, %f1"), 8, "%f1, %f0"); },
       [](Pieces& p) {
         p.between = "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n";
       }},
      {"a part of D in another", FaultKind::kWgmmaNotWaited, "a register of another wgmma",
       [](Pieces& p) {
         p.begin += "mov.f32 %f8, 0f00000000;\n";
         p.second.replace(p.second.find("%f0, %f1, %f2"), 13, "%f8, %f1, %f2");
       }},
      {"A overwritten before the wait", FaultKind::kWgmmaNotWaited,
       "overwrites a register of the A", [](Pieces& p) { p.in_flight = "mov.u32 %r22, 1;\n"; },
       [](Pieces& p) { p.in_flight = "mov.u32 %r24, %r22;\n"; }},
      {"D as the A of another", FaultKind::kWgmmaNotWaited, "has in its A a register of the D",
       [](Pieces& p) { p.second.replace(p.second.find("%r21"), 4, "%f2 "); }},
      {"no wgmma.fence", FaultKind::kMissingFence, "a register of its D",
       [](Pieces& p) { p.fence = ""; }},
      {"D written behind the fence", FaultKind::kMissingFence, "a register of its D",
       [](Pieces& p) { std::swap(p.begin, p.fence); }},
      {"A written behind the fence", FaultKind::kMissingFence, "a register of its A",
       [](Pieces& p) { p.between = "mov.u32 %r20, 5;\n"; },
       [](Pieces& p) { p.between += "wgmma.fence.sync.aligned;\n"; }},
      {"D read after the wait, and no fence", FaultKind::kMissingFence, "a register of its D",
       [](Pieces& p) {
         p.between =
             "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n"
             "add.f32 %f9, %f0, %f1;\n";
       },
       [](Pieces& p) { p.between += "wgmma.fence.sync.aligned;\n"; }},
      {"operand overwritten in flight", FaultKind::kWgmmaNotWaited, "has not waited for reads it",
       [&](Pieces& p) { p.committed = "bar.sync 0;\n" + write_a; },
       [&](Pieces& p) {
         p.committed = "";
         p.wait += "bar.sync 0;\n" + write_a;
       }},
      {"operand overwritten by a copy in flight", FaultKind::kWgmmaNotWaited,
       "has not waited for reads it",
       [](Pieces& p) {
         p.committed =
             "bar.sync 0;\ncp.async.cg.shared.global [%r4], [%rd11], 16;\n"
             "cp.async.wait_all;\n";
       },
       [](Pieces& p) { p.committed = "wgmma.wait_group.sync.aligned 0;\n" + p.committed; }},
      {"operand overwritten with no barrier behind the wait", FaultKind::kSharedRace,
       "read it, and no barrier",
       // B, which the other warps read too.
       [](Pieces& p) {
         p.wait += "setp.ge.u32 %p2, %r1, 96;\n@%p2 st.shared.u32 [%r4+512], %r1;\n";
       },
       [](Pieces& p) { p.wait.insert(p.wait.find("setp"), "bar.sync 0;\n"); }},
      {"operand written with no barrier", FaultKind::kSharedRace, "wrote it, and no",
       [](Pieces& p) { p.barrier += p.store + p.proxy_fence; },
       [](Pieces& p) { p.barrier += "bar.sync 0;\n"; }},
      {"operand never written", FaultKind::kUninitialised, "nobody has written it",
       [](Pieces& p) { p.store = copy_image(2048, 128); }},
      {"operand outside", FaultKind::kOutOfBounds, "of shared memory",
       [](Pieces& p) {
         p.descriptors = "mov.u64 %rd14, " + std::to_string(kTileA | 0xF0) + ";\nmov.u64 %rd15, " +
                         std::to_string(kTileB) + ";\nsetp.eq.u32 %p1, 0, 0;\n";
       }},
      {"no proxy fence", FaultKind::kMissingFence, "has executed no fence.proxy.async",
       [](Pieces& p) { p.proxy_fence = "fence.acq_rel.gpu;\n"; }},
      {"a proxy fence of global memory alone", FaultKind::kMissingFence,
       "has executed no fence.proxy.async",
       [](Pieces& p) { p.proxy_fence = "fence.proxy.async.global;\n"; }},
      {"a proxy fence before the store", FaultKind::kMissingFence,
       "has executed no fence.proxy.async", [](Pieces& p) { std::swap(p.store, p.proxy_fence); }},
      {"a proxy fence behind the barrier", FaultKind::kMissingFence,
       "has executed no fence.proxy.async", [](Pieces& p) { std::swap(p.barrier, p.proxy_fence); },
       [](Pieces& p) { p.barrier += "bar.sync 0;\n"; }},
      {"a proxy fence of some lanes", FaultKind::kMissingFence, "has executed no fence.proxy.async",
       [](Pieces& p) { p.proxy_fence = "setp.ne.u32 %p2, %r1, 77;\n@%p2 fence.proxy.async;\n"; },
       [](Pieces& p) { p.proxy_fence += "@!%p2 fence.proxy.async;\n"; }},
      {"a copy with no proxy fence behind its wait", FaultKind::kMissingFence,
       "has executed no fence.proxy.async",
       [](Pieces& p) {
         p.store += "cp.async.cg.shared.global [%r4], [%rd11], 16;\n";
         p.proxy_fence += "cp.async.wait_all;\n";
       },
       [](Pieces& p) { p.proxy_fence += "fence.proxy.async;\n"; }},
      {"a copy not waited for", FaultKind::kAsyncCopyNotWaited, "is in flight",
       [](Pieces& p) { p.store += "cp.async.cg.shared.global [%r4], [%rd11], 16;\n"; },
       [](Pieces& p) { p.store += "cp.async.wait_all;\n"; }},
      {"operands that the first lane of a warp has waited for", FaultKind::kAsyncCopyNotWaited,
       "lane 1) has not waited for its mbarrier",
       [](Pieces& p) { copy_and_wait(p, "setp.eq.u32 %p3, %r30, 0;\n"); },
       [](Pieces& p) { p.barrier = "bar.warp.sync -1;\n"; }},
      {"operands that all lanes but one have waited for", FaultKind::kAsyncCopyNotWaited,
       "lane 5) has not waited for its mbarrier",
       [](Pieces& p) { copy_and_wait(p, "setp.ne.u32 %p3, %r30, 5;\n"); },
       [](Pieces& p) { copy_and_wait(p, "setp.eq.u32 %p3, 0, 0;\n"); }},
      {"a tile of one thread that arrives without a proxy fence", FaultKind::kMissingFence,
       "has executed no fence.proxy.async", [](Pieces& p) { write_and_arrive(p, "", ""); },
       [](Pieces& p) { write_and_arrive(p, "fence.proxy.async;\n", ""); }},
      {"a tile of one thread with a proxy fence behind its arrival", FaultKind::kMissingFence,
       "has executed no fence.proxy.async",
       [](Pieces& p) { write_and_arrive(p, "", "fence.proxy.async;\n"); },
       [](Pieces& p) { p.barrier = "bar.sync 0;\n"; }},
      {"descriptors that differ by warp", FaultKind::kDivergentBarrier,
       "differ from those of another warp",
       [](Pieces& p) {
         p.descriptors +=
             "shr.u32 %r25, %r1, 5;\ncvt.u64.u32 %rd16, %r25;\n"
             "add.u64 %rd14, %rd14, %rd16;\n";
       }},
      {"descriptors that differ by lane", FaultKind::kDivergentBarrier,
       "differ among the warp's lanes",
       [](Pieces& p) {
         p.descriptors += "cvt.u64.u32 %rd16, %r1;\nadd.u64 %rd14, %rd14, %rd16;\n";
       }},
      {"a wgmma that one warp leaves out", FaultKind::kDivergentBarrier, "of its warpgroup",
       [](Pieces& p) {
         p.descriptors += "setp.lt.u32 %p2, %r1, 96;\n";
         p.second = "@%p2 " + p.second;
       }},
      {"a wgmma of some lanes", FaultKind::kDivergentBarrier, "",
       [](Pieces& p) {
         p.descriptors += "setp.lt.u32 %p2, %r1, 100;\n";
         p.second = "@%p2 " + p.second;
       }},
      {"transposed tiles", FaultKind::kUnsupported, "not supported",
       [](Pieces& p) { p.first.replace(p.first.rfind(", 0, 0"), 6, ", 0, 1"); }},
      {"a base offset", FaultKind::kUnsupported, "base offset",
       [](Pieces& p) { p.descriptors += "or.b64 %rd15, %rd15, 0x2000000000000;\n"; }},
  };
  for (const Planted& planted : all) {
    CAPTURE(planted.name);
    for (u64 seed = 0; seed < 5; ++seed) {
      CAPTURE(seed);
      Pieces pieces;
      planted.plant(pieces);
      const LaunchResult result = run_pieces(pieces, seed);
      REQUIRE(result.fault.has_value());
      CAPTURE(result.fault->message);
      CHECK(result.fault->kind == planted.kind);
      CHECK(result.fault->message.find(planted.message) != std::string::npos);
      Pieces right;
      if (planted.mend) {
        planted.plant(right);
        planted.mend(right);
      }
      const LaunchResult mended = run_pieces(right, seed);
      if (mended.fault) {
        FAIL_CHECK("though mended: " << mended.fault->message);
      }
    }
  }
}

TEST_CASE("groups of wgmma land one by one") {
  for (u64 seed = 0; seed < 5; ++seed) {
    // D of %f0 to %f3 is waited for, and read, while %f4 to %f7 is in flight; both go on.
    const auto with = [](std::string text, const char* registers) {
      const std::size_t at = text.find("{%f0, %f1, %f2, %f3}");
      return text.replace(at, 20, registers);
    };
    constexpr const char* kOther = "{%f4, %f5, %f6, %f7}";
    Pieces pieces;
    pieces.begin +=
        "mov.f32 %f4, 0f3F800000;\nmov.f32 %f5, %f4;\nmov.f32 %f6, %f4;\nmov.f32 %f7, %f4;\n";
    pieces.between = pieces.commit;
    pieces.second = with(pieces.first, kOther) + with(pieces.first, kOther);
    pieces.wait =
        "wgmma.wait_group.sync.aligned 1;\nadd.f32 %f9, %f0, %f1;\nwgmma.fence.sync.aligned;\n" +
        pieces.first + pieces.commit + "wgmma.wait_group.sync.aligned 1;\n" +
        "add.f32 %f10, %f4, %f9;\nwgmma.wait_group.sync.aligned 0;\nmov.f32 %f1, %f10;\n";
    PtxMachine machine;
    machine.profile.arch = 90;
    machine.block.x = 128;
    machine.seed = seed;
    const Address image = machine.upload(std::vector<u16>(kImage, 0x3C00));  // ones
    const Address sums = machine.allocate(128 * 16);
    machine.run(pieces.text(), {image, sums, image, image});
    const auto got = machine.download<float>(sums, 128 * 4);
    for (std::size_t i = 0; i < got.size(); ++i) {
      REQUIRE(got[i] == (i % 4 == 1 ? 32 + 33 : 32));
    }
  }
}

TEST_CASE("wgmma is of sm_90a alone, and of whole warpgroups") {
  CHECK_FALSE(run_pieces({}, 0).fault.has_value());
  for (const int arch : {89, 100, 120}) {
    const LaunchResult result = run_pieces({}, 0, 128, arch);
    REQUIRE(result.fault.has_value());
    CHECK(result.fault->kind == FaultKind::kUnsupported);
  }
  Pieces pieces;
  std::string text = pieces.text();
  text.replace(text.find("sm_90a"), 6, "sm_90");
  PtxMachine machine;
  machine.profile.arch = 90;
  machine.block.x = 128;
  const Address image = machine.upload(std::vector<u16>(kImage, 0x3C00));
  CHECK(machine.fault_of(text, {image, image, image, image}).kind == FaultKind::kUnsupported);
  pieces.store = "";
  const LaunchResult half = run_pieces(pieces, 0, 96);
  REQUIRE(half.fault.has_value());
  CHECK(half.fault->kind == FaultKind::kDivergentBarrier);
}

}  // namespace
}  // namespace xception::emulator
