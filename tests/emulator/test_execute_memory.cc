// Loads and stores of every space and width, cp.async, and what they count.
#include <numeric>

#include "tests/emulator/numeric.h"
#include "tests/emulator/ptx_fixture.h"

namespace xception::emulator {
namespace {

std::vector<u32> iota(std::size_t count, u32 first = 0) {
  std::vector<u32> values(count);
  std::iota(values.begin(), values.end(), first);
  return values;
}

TEST_CASE("narrow loads extend by their type") {
  PtxMachine machine;
  machine.block.x = 1;
  const Address from = machine.upload<u8>({0x80, 0xFF, 0x34, 0x92, 0, 0, 0, 0x80});
  const Address to = machine.allocate(48);
  machine.run(two_pointer_kernel(
                  "ld.global.u8 %r2, [%rd1];\nst.global.u32 [%rd2], %r2;\n"
                  "ld.global.s8 %r2, [%rd1];\nst.global.u32 [%rd2+4], %r2;\n"
                  "ld.global.s16 %r2, [%rd1+2];\nst.global.u32 [%rd2+8], %r2;\n"
                  "ld.global.u16 %rd3, [%rd1+2];\nst.global.u64 [%rd2+16], %rd3;\n"
                  "ld.global.s32 %rd3, [%rd1+4];\nst.global.u64 [%rd2+24], %rd3;\n"
                  "ld.global.s8 %h1, [%rd1+1];\nst.global.u16 [%rd2+12], %h1;\n"
                  "mov.u32 %r2, 0xABCD;\nst.global.u8 [%rd2+14], %r2;\nst.global.u8 [%rd2+15], 7;\n"
                  "ld.global.nc.L1::no_allocate.L2::128B.v2.u16 {%h1, %h2}, [%rd1];\n"
                  "st.global.v2.u16 [%rd2+32], {%h2, %h1};\n"
                  "ld.volatile.global.b64 %rd3, [%rd1];\nst.wt.global.b64 [%rd2+40], %rd3;"),
              {from, to});
  const std::vector<u32> words = machine.download<u32>(to, 12);
  CHECK(words[0] == 0x80);
  CHECK(words[1] == 0xFFFFFF80);
  CHECK(words[2] == 0xFFFF9234);
  CHECK(words[3] == 0x07CDFFFF);
  CHECK(words[4] == 0x9234);
  CHECK(words[5] == 0);
  CHECK(words[6] == 0x80000000);
  CHECK(words[7] == 0xFFFFFFFF);
  CHECK(words[8] == 0xFF809234);
  CHECK(words[10] == 0x9234FF80);
}

TEST_CASE("vectors load and store 16 bytes a lane") {
  PtxMachine machine;
  const std::vector<u32> values = iota(128, 7);
  const Address from = machine.upload(values);
  const Address to = machine.allocate(512);
  const LaunchCounters counters =
      machine.run(two_pointer_kernel(
                      "mul.wide.u32 %rd3, %r1, 16;\nadd.u64 %rd4, %rd1, %rd3;\n"
                      "add.u64 %rd5, %rd2, %rd3;\nld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%rd4];\n"
                      "st.global.v4.u32 [%rd5], {%r2, %r3, %r4, %r5};"),
                  {from, to});
  CHECK(machine.download<u32>(to, 128) == values);
  CHECK(counters.load_bytes == 512);
  CHECK(counters.load_sector_bytes == 512);
  CHECK(counters.lane_load_bytes == 512);
  CHECK(counters.store_bytes == 512);
  CHECK(counters.store_sector_bytes == 512);
  CHECK(counters.distinct_read_bytes == 512);
  CHECK(counters.distinct_written_bytes == 512);
  // The destination of a load may be its own address.
  machine.block.x = 1;
  machine.run(two_pointer_kernel("mov.u64 %rd5, %rd1;\nld.global.v2.u64 {%rd5, %rd6}, [%rd5];\n"
                                 "st.global.v2.u64 [%rd2], {%rd6, %rd5};"),
              {from, to});
  CHECK(machine.download<u32>(to, 4) == std::vector<u32>{9, 10, 7, 8});
}

TEST_CASE("strided loads count their sectors") {
  PtxMachine machine;
  const Address from = machine.upload(iota(32 * 16));
  const Address to = machine.allocate(128);
  const LaunchCounters counters = machine.run(
      two_pointer_kernel(
          "mul.wide.u32 %rd3, %r1, 64;\nadd.u64 %rd4, %rd1, %rd3;\nld.global.u32 %r2, [%rd4];\n"
          "mul.wide.u32 %rd3, %r1, 4;\nadd.u64 %rd5, %rd2, %rd3;\nst.global.u32 [%rd5], %r2;\n"
          "ld.global.u32 %r3, [%rd1];"),
      {from, to});
  CHECK(counters.load_bytes == 128 + 4);
  CHECK(counters.load_sector_bytes == 32 * 32 + 32);
  CHECK(counters.lane_load_bytes == 256);
  CHECK(counters.store_sector_bytes == 128);
  CHECK(counters.instructions[static_cast<std::size_t>(InstructionClass::kMemory)] == 3 + 2);
}

TEST_CASE("shared memory of a block, static and dynamic") {
  PtxMachine machine;
  machine.block.x = 64;
  machine.dynamic_shared_bytes = 256;
  const std::string text =
      ".extern .shared .align 16 .b8 dynamic[];\n" +
      two_pointer_kernel(
          ".shared .align 4 .b8 fixed[256];\nmov.u32 %r2, fixed;\nmov.u32 %r3, dynamic;\n"
          "shl.b32 %r4, %r1, 2;\nadd.u32 %r5, %r2, %r4;\nst.shared.u32 [%r5], %r1;\n"
          "add.u32 %r6, %r3, %r4;\nadd.u32 %r7, %r1, 1000;\nst.shared.u32 [%r6], %r7;\n"
          "bar.sync 0;\nsub.u32 %r8, 63, %r1;\nshl.b32 %r9, %r8, 2;\nadd.u32 %r10, %r2, %r9;\n"
          "ld.shared.u32 %r11, [%r10];\nadd.u32 %r12, %r3, %r9;\n"
          // The same through generic addresses.
          "cvt.u64.u32 %rd3, %r12;\ncvta.shared.u64 %rd4, %rd3;\nld.u32 %r13, [%rd4];\n"
          "isspacep.shared %p1, %rd4;\nisspacep.shared %p2, %rd1;\nisspacep.global %p3, %rd1;\n"
          "selp.u32 %r14, 100000, 0, %p1;\nselp.u32 %r15, 1, 0, %p2;\nselp.u32 %r16, 0, 1, %p3;\n"
          "add.u32 %r17, %r11, %r13;\nadd.u32 %r17, %r17, %r14;\nadd.u32 %r17, %r17, %r15;\n"
          "add.u32 %r17, %r17, %r16;\nmul.wide.u32 %rd5, %r1, 4;\nadd.u64 %rd6, %rd2, %rd5;\n"
          "st.global.u32 [%rd6], %r17;");
  const Address to = machine.allocate(256);
  const LaunchCounters counters = machine.run(text, {to, to});
  const std::vector<u32> got = machine.download<u32>(to, 64);
  for (u32 i = 0; i < 64; ++i) {
    CHECK(got[i] == 63 - i + 63 - i + 1000 + 100000);
  }
  CHECK(counters.shared_wavefronts == 8);
  CHECK(counters.shared_wavefronts_ideal == 8);
  CHECK(counters.barriers == 2);
  CHECK(kernels(*parse_ptx(".version 8.5\n.target sm_90\n.address_size 64\n" + text).program)[0]
            .static_shared_bytes == 256);
}

TEST_CASE("local memory is each thread's own") {
  PtxMachine machine;
  const Address to = machine.allocate(128);
  machine.run(
      two_pointer_kernel(
          ".local .align 16 .b8 depot[64];\nmov.u64 %rd3, depot;\ncvta.local.u64 %rd4, %rd3;\n"
          "mov.u32 %r2, 0;\nloop:\nmul.wide.u32 %rd5, %r2, 4;\nadd.u64 %rd6, %rd3, %rd5;\n"
          "mad.lo.u32 %r3, %r2, 100, %r1;\nst.local.u32 [%rd6], %r3;\nadd.u32 %r2, %r2, 1;\n"
          "setp.lt.u32 %p1, %r2, 16;\n@%p1 bra loop;\n"
          "and.b32 %r4, %r1, 15;\nmul.wide.u32 %rd5, %r4, 4;\nadd.u64 %rd6, %rd4, %rd5;\n"
          "ld.u32 %r5, [%rd6];\nld.local.u32 %r6, [depot+60];\nadd.u32 %r5, %r5, %r6;\n"
          "mul.wide.u32 %rd5, %r1, 4;\nadd.u64 %rd7, %rd2, %rd5;\nst.global.u32 [%rd7], %r5;"),
      {to, to});
  const std::vector<u32> got = machine.download<u32>(to, 32);
  for (u32 i = 0; i < 32; ++i) {
    CHECK(got[i] == (i & 15) * 100 + i + 1500 + i);
  }
}

TEST_CASE("variables of the module") {
  PtxMachine machine;
  machine.block.x = 1;
  const Address to = machine.allocate(32);
  machine.run(
      ".const .align 8 .u32 table[4] = {1, 2, 0x30};\n.global .f32 scale = 0f40000000;\n"
      ".global .align 1 .b8 zero[8];\n" +
          two_pointer_kernel(
              "ld.const.u32 %r2, [table+8];\nst.global.u32 [%rd2], %r2;\n"
              "ld.const.u32 %r2, [table+12];\nst.global.u32 [%rd2+4], %r2;\n"
              "mov.u64 %rd3, scale;\nld.global.u32 %r2, [%rd3];\nst.global.u32 [%rd2+8], %r2;\n"
              "mov.u64 %rd3, table+4;\nld.u32 %r2, [%rd3];\nst.global.u32 [%rd2+12], %r2;\n"
              "ld.global.u8 %r2, [zero+7];\nst.global.u32 [%rd2+16], %r2;"),
      {to, to});
  CHECK(machine.download<u32>(to, 5) == std::vector<u32>{0x30, 0, 0x40000000, 2, 0});
}

TEST_CASE("variables that hold addresses") {
  PtxMachine machine;
  machine.block.x = 1;
  const Address to = machine.allocate(16);
  machine.run(
      ".global .align 4 .u32 first[2] = {3, 4};\n.global .align 4 .u32 second = 5;\n"
      ".global .align 8 .u64 table[3] = {generic(first)+4, 0, second};\n" +
          two_pointer_kernel("ld.global.u64 %rd3, [table];\nld.u32 %r2, [%rd3];\n"
                             "ld.global.u64 %rd3, [table+16];\nld.global.u32 %r3, [%rd3];\n"
                             "st.global.v2.u32 [%rd2], {%r2, %r3};"),
      {to, to});
  CHECK(machine.download<u32>(to, 2) == std::vector<u32>{4, 5});
}

TEST_CASE("cp.async lands when it is waited for") {
  for (const u64 seed : {0, 1, 2, 3}) {
    PtxMachine machine;
    machine.seed = seed;
    const Address from = machine.upload(iota(256));
    const Address to = machine.allocate(1024);
    const LaunchCounters counters = machine.run(
        two_pointer_kernel(
            ".shared .align 16 .b8 s[1024];\nmov.u32 %r2, s;\nshl.b32 %r3, %r1, 4;\n"
            "add.u32 %r4, %r2, %r3;\ncvt.u64.u32 %rd3, %r3;\nadd.u64 %rd4, %rd1, %rd3;\n"
            "add.u64 %rd5, %rd2, %rd3;\n"
            "cp.async.cg.shared.global.L2::128B [%r4], [%rd4], 16;\ncp.async.commit_group;\n"
            // The second group: only 8 bytes of each 16 come from the source.
            "cp.async.ca.shared.global [%r4+512], [%rd4+512], 16, 8;\ncp.async.commit_group;\n"
            "cp.async.wait_group 1;\nld.shared.v4.u32 {%r5, %r6, %r7, %r8}, [%r4];\n"
            "st.global.v4.u32 [%rd5], {%r5, %r6, %r7, %r8};\ncp.async.wait_all;\n"
            "ld.shared.v4.u32 {%r5, %r6, %r7, %r8}, [%r4+512];\n"
            "st.global.v4.u32 [%rd5+512], {%r5, %r6, %r7, %r8};"),
        {from, to});
    std::vector<u32> want = iota(256);
    for (std::size_t i = 128; i < 256; ++i) {
      want[i] = i % 4 < 2 ? want[i] : 0;
    }
    CHECK(machine.download<u32>(to, 256) == want);
    CHECK(counters.load_bytes == 512 + 256);
    CHECK(counters.shared_wavefronts == 16);
  }
}

TEST_CASE("cp.async without its wait is a fault") {
  PtxMachine machine;
  const Address from = machine.upload(iota(128));
  const Fault fault = machine.fault_of(
      two_pointer_kernel(
          ".shared .align 16 .b8 s[512];\nmov.u32 %r2, s;\nshl.b32 %r3, %r1, 4;\n"
          "add.u32 %r4, %r2, %r3;\ncvt.u64.u32 %rd3, %r3;\nadd.u64 %rd4, %rd1, %rd3;\n"
          "cp.async.cg.shared.global [%r4], [%rd4], 16;\ncp.async.commit_group;\n"
          "ld.shared.u32 %r5, [%r4];"),
      {from, from});
  CHECK(fault.kind == FaultKind::kAsyncCopyNotWaited);
}

TEST_CASE("faults of memory name their place") {
  PtxMachine machine;
  machine.block.x = 64;
  const Address from = machine.upload(iota(40));
  const Address undefined = machine.allocate(256);
  const std::string load =
      "mul.wide.u32 %rd3, %r1, 4;\nadd.u64 %rd4, %rd1, %rd3;\n"
      ".loc 1 42 7\nld.global.u32 %r2, [%rd4];";
  const Fault past =
      machine.fault_of(two_pointer_kernel(load) + ".file 1 \"some.cu\"\n", {from, from});
  CHECK(past.kind == FaultKind::kOutOfBounds);
  CHECK_THAT(past.message, containing("k, block 0,0,0, thread 40,0,0: "));
  CHECK_THAT(past.message, containing("ld.global.u32 %r2, [%rd4]"));
  CHECK_THAT(past.message, containing("some.cu:42"));
  CHECK(machine.fault_of(two_pointer_kernel(load), {undefined, from}).kind ==
        FaultKind::kUninitialised);
  CHECK(machine.fault_of(two_pointer_kernel(load), {from + 2, from}).kind ==
        FaultKind::kMisaligned);
  CHECK(machine
            .fault_of(two_pointer_kernel("mov.u64 %rd3, 0;\nld.global.u32 %r2, [%rd3];"),
                      {from, from})
            .kind == FaultKind::kOutOfBounds);
  CHECK(machine
            .fault_of(
                two_pointer_kernel(".shared .b32 s[64];\nmov.u32 %r2, s;\nshl.b32 %r3, %r1, 2;\n"
                                   "add.u32 %r4, %r2, %r3;\nst.shared.u32 [%r4+4], %r1;"),
                {from, from})
            .kind == FaultKind::kOutOfBounds);
  CHECK(machine
            .fault_of(
                two_pointer_kernel(".shared .b32 s[64];\nmov.u32 %r2, s;\nshl.b32 %r3, %r1, 2;\n"
                                   "add.u32 %r4, %r2, %r3;\nld.shared.u32 %r5, [%r4];"),
                {from, from})
            .kind == FaultKind::kUninitialised);
  CHECK(machine
            .fault_of(two_pointer_kernel(".local .align 4 .b8 l[16];\nmov.u64 %rd3, l;\n"
                                         "mul.wide.u32 %rd4, %r1, 4;\nadd.u64 %rd3, %rd3, %rd4;\n"
                                         "st.local.u32 [%rd3], %r1;"),
                      {from, from})
            .kind == FaultKind::kOutOfBounds);
  CHECK(machine
            .fault_of(two_pointer_kernel(
                          ".shared .b32 s[64];\nmov.u32 %r2, s;\nshl.b32 %r3, %r1, 2;\n"
                          "add.u32 %r4, %r2, %r3;\nst.shared.u32 [%r4], %r1;\nbar.sync 0;\n"
                          "st.shared.u32 [%r4], 1;\nxor.b32 %r4, %r4, 128;\n"
                          "ld.shared.u32 %r5, [%r4];"),
                      {from, from})
            .kind == FaultKind::kSharedRace);
  machine.grid.x = 2;
  CHECK(machine
            .fault_of(two_pointer_kernel("mov.u32 %r2, %ctaid.x;\nst.global.u32 [%rd1], %r2;"),
                      {from, from})
            .kind == FaultKind::kGlobalRace);
}

TEST_CASE("nobody writes what is loaded as unchanging, the block itself neither") {
  const std::string store = "st.global.u32 [%rd4], %r1;\n";
  const std::string load = "ld.global.nc.u32 %r2, [%rd4];\n";
  const std::string add = "atom.global.add.u32 %r3, [%rd4], 1;\n";
  const auto text = [](const std::string& body) {
    return two_pointer_kernel("mul.wide.u32 %rd3, %r1, 4;\nadd.u64 %rd4, %rd1, %rd3;\n" + body);
  };
  for (const unsigned blocks : {1U, 3U}) {
    for (u64 seed = 0; seed < 5; ++seed) {
      PtxMachine machine;
      machine.seed = seed;
      machine.grid.x = blocks;
      machine.block.x = 64;
      const Address from = machine.upload(iota(64));
      for (const std::string& body : {store + load, load + store, add + load, load + add,
                                      load + "bar.sync 0;\n" + load + store}) {
        INFO(body);
        const Fault fault = machine.fault_of(text(body), {from, from});
        CHECK(fault.kind == FaultKind::kGlobalRace);
        CHECK_THAT(fault.message, containing("in the same launch"));
      }
      // One launch after the other, or beside what is written.
      machine.run(text(load), {from, from});
      machine.run(text("mov.u32 %r4, %ctaid.x;\nmad.wide.u32 %rd5, %r4, 256, %rd2;\n"
                       "add.u64 %rd5, %rd5, %rd3;\n" +
                       load + "st.global.u32 [%rd5], %r2;\n" + load),
                  {from, machine.allocate(1024)});
      machine.run(text(add), {from, from});
      machine.run(text(load), {from, from});
    }
  }
}

TEST_CASE("parameters of every size arrive") {
  PtxMachine machine;
  machine.block.x = 1;
  const Address to = machine.allocate(64);
  // A structure by value behind a byte: at its own alignment.
  const std::string text =
      ".visible .entry k(.param .u64 p, .param .u8 b, .param .align 8 .b8 s[24], .param .f32 f)\n"
      "{\n.reg .b32 %r<8>;\n.reg .b64 %rd<8>;\nld.param.u64 %rd1, [p];\nld.param.u8 %r1, [b];\n"
      "ld.param.v2.u32 {%r2, %r3}, [s];\nld.param.u32 %r4, [s+20];\nld.param.b32 %r5, [f];\n"
      "mov.b64 %rd2, s;\nld.param.u32 %r6, [%rd2+16];\n"
      "st.global.v4.u32 [%rd1], {%r1, %r2, %r3, %r4};\nst.global.v2.u32 [%rd1+16], {%r5, %r6};\n"
      "cvta.param.u64 %rd3, %rd2;\nld.u32 %r7, [%rd3+4];\nst.global.u32 [%rd1+24], %r7;\nret;\n}\n";
  const std::vector<u64> parameters = {
      to, 0xFE, u64{2} << 32 | 1, u64{4} << 32 | 3, u64{6} << 32 | 5, float_bits(1.5F)};
  machine.run(text, parameters);
  CHECK(machine.download<u32>(to, 7) == std::vector<u32>{0xFE, 1, 2, 6, float_bits(1.5F), 5, 2});
  const KernelInfo info =
      kernels(*parse_ptx(".version 8.5\n.target sm_90\n.address_size 64\n" + text).program)[0];
  CHECK(info.parameter_offsets == std::vector<std::size_t>{0, 8, 16, 40});
  CHECK(info.parameter_bytes == std::vector<std::size_t>{8, 1, 24, 4});
  CHECK(info.parameters_total == 44);
}

TEST_CASE("functions take pointers to the kernel's parameters") {
  const auto text = [](int place, const std::string& access) {
    return ".func (.param .b32 result) get(.param .b64 from)\n{\n.reg .b32 %r<4>;\n"
           ".reg .b64 %rd<4>;\nld.param.u64 %rd1, [from];\n" +
           access +
           "st.param.b32 [result], %r1;\nret;\n}\n"
           ".visible .entry k(.param .u64 p, .param .align 4 .b8 s[16])\n{\n.reg .b32 %r<4>;\n"
           ".reg .b64 %rd<8>;\nld.param.u64 %rd1, [p];\nmov.b64 %rd2, s;\n"
           "cvta.param.u64 %rd3, %rd2;\nadd.u64 %rd3, %rd3, " +
           std::to_string(place) +
           ";\n{\n.param .b64 from;\nst.param.b64 [from], %rd3;\n.param .b32 value;\n"
           "call.uni (value), get, (from);\nld.param.b32 %r1, [value];\n}\n"
           "st.global.u32 [%rd1], %r1;\nret;\n}\n";
  };
  const std::string load = "ld.u32 %r1, [%rd1];\n";
  PtxMachine machine;
  machine.block.x = 1;
  const Address to = machine.allocate(4);
  const std::vector<u64> parameters = {to, u64{2} << 32 | 1, u64{4} << 32 | 3};
  for (u32 i = 0; i < 4; ++i) {
    machine.run(text(static_cast<int>(4 * i), load), parameters);
    CHECK(machine.download<u32>(to, 1)[0] == i + 1);
  }
  const Fault outside = machine.fault_of(text(16, load), parameters);
  CHECK(outside.kind == FaultKind::kOutOfBounds);
  CHECK_THAT(outside.message, containing("past the end of the parameters"));
  const Fault write = machine.fault_of(text(0, load + "st.u32 [%rd1], %r1;\n"), parameters);
  CHECK(write.kind == FaultKind::kOutOfBounds);
  CHECK_THAT(write.message, containing("writes to the kernel's parameters"));
}

}  // namespace
}  // namespace xception::emulator
