// What a kernel may do that starts before the one in front of it has ended.
#include "tests/emulator/ptx_fixture.h"

namespace xception::emulator {
namespace {

constexpr std::size_t kCount = 64;
const char* const kWait = "griddepcontrol.wait;\ngriddepcontrol.launch_dependents;\n";
const char* const kEarly = "before griddepcontrol.wait";

// A kernel of two pointers: %rd1 and %rd2, and %rd3 and %rd4 to the thread's own word behind them.
std::string kernel(const std::string& body, const std::string& functions = "") {
  return functions +
         ".visible .entry k(.param .u64 pa, .param .u64 pb)\n{\n.reg .pred %p<8>;\n"
         ".reg .b32 %r<32>;\n.reg .b64 %rd<16>;\n.shared .align 16 .b8 tile[1024];\n"
         "ld.param.u64 %rd1, [pa];\nld.param.u64 %rd2, [pb];\nmov.u32 %r1, %tid.x;\n"
         "mad.wide.u32 %rd3, %r1, 4, %rd1;\nmad.wide.u32 %rd4, %r1, 4, %rd2;\n"
         "shl.b32 %r5, %r1, 4;\nmov.u32 %r4, tile;\nadd.u32 %r4, %r4, %r5;\n" +
         body + "\nret;\n}\n";
}

// Two arrays: one that the host has filled, and one that a kernel has. What runs then is dependent.
struct Behind {
  Behind() {
    machine.block.x = kCount;
    host = machine.upload(std::vector<u32>(kCount, 7));
    device = machine.upload(std::vector<u32>(kCount, 7));
    machine.run(kernel("st.global.u32 [%rd3], %r1;"), {device, device});
    machine.dependent = true;
  }
  void expect_fault(const std::string& text, const std::string& says, Address first,
                    Address second) {
    INFO(text);
    const Fault fault = machine.fault_of(text, {first, second});
    CHECK(fault.kind == FaultKind::kDependentLaunch);
    CHECK_THAT(fault.message, containing(says));
    machine.dependent = false;
    machine.run(text, {first, second});
    machine.dependent = true;
  }

  PtxMachine machine;
  Address host = 0;
  Address device = 0;
};

TEST_CASE("before its wait a dependent launch reads what no kernel has written") {
  Behind m;
  const Address to = m.machine.allocate(kCount * 4);
  m.machine.run(kernel(std::string("ld.global.u32 %r2, [%rd3];\nld.global.nc.u32 %r3, [%rd3];\n") +
                       kWait + "ld.global.u32 %r6, [%rd3];\nst.global.u32 [%rd4], %r2;"),
                {m.host, to});
  CHECK(m.machine.download<u32>(to, kCount) == std::vector<u32>(kCount, 7));
  // `to` has become a kernel's.
  for (const char* load :
       {"ld.global.u32 %r2, [%rd3];\n", "ld.u32 %r2, [%rd3];\n", "ld.global.nc.u32 %r2, [%rd3];\n",
        "cp.async.ca.shared.global [%r4], [%rd3], 4;\n"}) {
    for (const Address from : {m.device, to}) {
      m.expect_fault(kernel(std::string(load) + kWait), kEarly, from, from);
    }
  }
  REQUIRE_FALSE(m.machine.memory.fill(to, 0, kCount * 4).has_value());
  m.machine.run(kernel(std::string("ld.global.u32 %r2, [%rd3];\n") + kWait), {to, to});
}

TEST_CASE("before its wait a dependent launch writes nothing") {
  Behind m;
  for (const char* store :
       {"st.global.u32 [%rd3], %r1;\n", "st.u32 [%rd3], %r1;\n", "red.global.add.u32 [%rd3], 1;\n",
        "atom.global.exch.b32 %r2, [%rd3], %r1;\n"}) {
    m.expect_fault(kernel(std::string(store) + kWait), kEarly, m.host, m.host);
    m.machine.run(kernel(std::string(kWait) + store), {m.host, m.host});
    REQUIRE_FALSE(m.machine.memory.fill(m.host, 0, kCount * 4).has_value());
  }
  // Shared memory is its own.
  m.machine.run(kernel(std::string("st.shared.u32 [%r4], %r1;\n") + kWait), {m.host, m.host});
}

TEST_CASE("a dependent launch lets the next one start only when it has waited itself") {
  Behind m;
  const std::string first = "griddepcontrol.launch_dependents;\ngriddepcontrol.wait;\n";
  m.expect_fault(kernel(first), "launch_dependents before griddepcontrol.wait", m.host, m.host);
  m.expect_fault(kernel("setp.eq.u32 %p1, %r1, 37;\n@!%p1 griddepcontrol.wait;\n"
                        "griddepcontrol.launch_dependents;\ngriddepcontrol.wait;\n"),
                 "thread 37,0,0", m.host, m.host);
}

TEST_CASE("each lane waits for itself") {
  Behind m;
  const std::string half = std::string("setp.lt.u32 %p1, %r1, 48;\n@!%p1 bra late;\n") + kWait +
                           "late:\nsetp.lt.u32 %p2, %r1, ";
  m.machine.run(kernel(half + "48;\n@%p2 st.global.u32 [%rd3], %r1;\n" + kWait),
                {m.device, m.device});
  m.expect_fault(kernel(half + "51;\n@%p2 st.global.u32 [%rd3], %r1;\n" + kWait), "thread 48,0,0",
                 m.device, m.device);
  m.expect_fault(kernel(half + "51;\n@%p2 ld.global.u32 %r2, [%rd3];\n" + kWait), "thread 48,0,0",
                 m.device, m.device);
  m.machine.run(kernel(half + "51;\n@%p2 ld.global.u32 %r2, [%rd3];\n" + kWait), {m.host, m.host});
}

TEST_CASE("a copy reads only the bytes that its source size says") {
  Behind m;
  const Address mixed = m.machine.allocate(32 * kCount);
  REQUIRE_FALSE(m.machine.memory.fill(mixed, 0, 32 * kCount).has_value());
  m.machine.dependent = false;
  const std::string place = "mad.wide.u32 %rd5, %r1, 16, %rd1;\n";
  // The last 4 of each 16 bytes.
  m.machine.run(kernel(place + "st.global.u32 [%rd5+12], %r1;"), {mixed, mixed});
  m.machine.dependent = true;
  const auto copy = [&](const std::string& bytes) {
    return kernel(place + "mov.u32 %r6, " + bytes +
                  ";\ncp.async.cg.shared.global [%r4], [%rd5], 16, %r6;\n" + kWait +
                  "cp.async.wait_all;");
  };
  m.machine.run(copy("0"), {mixed, mixed});
  m.machine.run(copy("12"), {mixed, mixed});
  m.expect_fault(copy("13"), kEarly, mixed, mixed);
  m.expect_fault(copy("16"), kEarly, mixed, mixed);
}

TEST_CASE("a bulk copy before the wait reads what no kernel has written") {
  Behind m;
  m.machine.profile.arch = 90;
  const std::string copy =
      "setp.eq.u32 %p1, %r1, 0;\n@%p1 mbarrier.init.shared::cta.b64 [%r4+512], 1;\n"
      "@%p1 fence.mbarrier_init.release.cluster;\n"
      "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4+512], 48;\n"
      "@%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r4], [%rd1], 48, "
      "[%r4+512];\n@!%p1 bra DONE;\nW:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r4+512], 0;\n@!%p2 bra W;\nDONE:\n";
  m.machine.run(kernel(copy + kWait), {m.host, m.host});
  m.machine.run(kernel(kWait + copy), {m.device, m.device});
  m.expect_fault(kernel(copy + kWait), kEarly, m.device, m.device);
  // Every thread but the one that copies has waited.
  m.expect_fault(kernel("setp.eq.u32 %p3, %r1, 0;\n@!%p3 griddepcontrol.wait;\n" + copy + kWait),
                 kEarly, m.device, m.device);
}

TEST_CASE("a dependent launch loads nothing as unchanging that a kernel has written") {
  Behind m;
  const std::string load = "ld.global.nc.v2.u32 {%r2, %r3}, [%rd5];\n";
  const std::string place = "mad.wide.u32 %rd5, %r1, 4, %rd1;\nand.b64 %rd5, %rd5, -8;\n";
  m.machine.run(kernel(kWait + place + load), {m.host, m.host});
  m.expect_fault(kernel(kWait + place + load), "by ld.global.nc", m.device, m.device);
}

TEST_CASE("what a waiting warp has written the others may read") {
  Behind m;
  // Warp 0 waits and writes what warp 1 reads before its own wait.
  m.machine.run(kernel(std::string("setp.ge.u32 %p1, %r1, 32;\n@%p1 bra reads;\n") + kWait +
                       "st.global.u32 [%rd3+128], %r1;\nbar.sync 0;\nret;\nreads:\nbar.sync 0;\n"
                       "ld.global.u32 %r2, [%rd3];\n" +
                       kWait),
                {m.device, m.device});
}

TEST_CASE("no lane of a dependent launch exits before it has waited") {
  Behind m;
  const std::string some = "setp.eq.u32 %p1, %r1, 37;\n";
  m.expect_fault(kernel(""), "exits without griddepcontrol.wait", m.host, m.host);
  m.expect_fault(kernel(some + "@%p1 exit;\n" + kWait), "thread 37,0,0", m.host, m.host);
  m.expect_fault(kernel(some + "@%p1 bra over;\n" + kWait + "over:"), "thread 37,0,0", m.host,
                 m.host);
  m.machine.run(kernel(some + "@%p1 bra other;\n" + kWait + "ret;\nother:\n" + kWait),
                {m.host, m.host});
  m.machine.run(kernel("call waits;", std::string(".func waits()\n{\n") + kWait + "ret;\n}\n"),
                {m.host, m.host});
}

}  // namespace
}  // namespace xception::emulator
