// What the parser takes, and what it says of text that it does not understand.
#include "tests/emulator/ptx.h"
#include "tests/emulator/ptx_fixture.h"

namespace xception::emulator {
namespace {

const std::string kHead = ".version 8.5\n.target sm_90, debug\n.address_size 64\n";

TEST_CASE("a module's kernels and variables") {
  const ParseResult parsed = parse_ptx(
      "// a comment\n" + kHead +
      "/* another\n one */\n.extern .shared .align 16 .b8 dynamic[];\n"
      ".visible .const .align 4 .f32 weights[2][2] = {{1.5, 0f40000000}, {3, 4}};\n"
      ".weak .global .align 8 .u64 state = 0x1234;\n.global .b8 text[4] = {104, 105};\n"
      ".visible .entry first(.param .align 8 .b8 s[12], .param .u64 .ptr .global .align 16 q)\n"
      ".maxntid 128, 2, 1\n.minnctapersm 2\n.maxnreg 40\n{\n.shared .align 16 .b8 tile[100];\n"
      ".local .align 8 .b8 depot[24];\n.reg .b32 %r<3>;\n.pragma \"nounroll\";\n"
      "mov.u32 %r1, tile;\nmov.u32 %r2, dynamic;\nret;\n}\n"
      ".entry second()\n.reqntid 64\n{\nret;\n}\n.section .debug_str { .b8 1,2 { .b8 3 } }\n");
  REQUIRE_FALSE(parsed.fault.has_value());
  std::vector<KernelInfo> entries = kernels(*parsed.program);
  REQUIRE(entries.size() == 2);
  if (entries[0].name != "first") {
    std::swap(entries[0], entries[1]);
  }
  CHECK(entries[0].parameter_offsets == std::vector<std::size_t>{0, 16});
  CHECK(entries[0].parameters_total == 24);
  CHECK(entries[0].max_threads == 256);
  CHECK(entries[0].local_bytes == 24);
  // The dynamic array starts at a multiple of 16 behind the 100 bytes.
  CHECK(entries[0].static_shared_bytes == 112);
  CHECK(entries[1].name == "second");
  CHECK(entries[1].max_threads == 64);
  CHECK(entries[1].static_shared_bytes == 0);
  const std::vector<GlobalInfo> variables = globals(*parsed.program);
  REQUIRE(variables.size() == 3);
  CHECK(variables[0].name == "weights");
  REQUIRE(variables[0].initial.size() == 16);
  float weights[4];
  std::memcpy(weights, variables[0].initial.data(), 16);
  CHECK(weights[0] == 1.5F);
  CHECK(weights[1] == 2.0F);
  CHECK(variables[1].alignment == 8);
  CHECK(variables[2].bytes == 4);
}

TEST_CASE("names and labels are found in their blocks") {
  // Two blocks with the same names in one function, as inline assembly makes them.
  const std::vector<std::uint32_t> a(64, 5);
  const std::vector<std::uint32_t> d = evaluate<std::uint32_t>(
      "{ .reg .b32 t;\n.reg .pred p;\nmov.b32 t, 1;\nsetp.eq.u32 p, a, 5;\n@p bra skip;\n"
      "mov.b32 t, 2;\nskip:\nmov.b32 x, t;\n}\n"
      "{ .reg .b64 t;\nmov.b64 t, 10;\nbra skip;\nmov.b64 t, 20;\nskip:\ncvt.u32.u64 y, t;\n}\n"
      "add.u32 d, x, y;",
      a);
  CHECK(d[0] == 11);
}

TEST_CASE("registers that are never alive together share a place") {
  std::string body;
  for (int i = 0; i < 1000; ++i) {
    const std::string r = "%r" + std::to_string(i);
    body += "ld.global.u32 " + r + ", [%rd1];\nst.global.u32 [%rd1+4], " + r + ";\n";
  }
  const ParseResult parsed =
      parse_ptx(kHead +
                ".entry k(.param .u64 p)\n{\n.reg .b32 %r<1000>;\n.reg .b64 %rd<2>;\n"
                "ld.param.u64 %rd1, [p];\n" +
                body + "ret;\n}\n");
  REQUIRE_FALSE(parsed.fault.has_value());
  // An address of two and one value at a time.
  CHECK(kernels(*parsed.program)[0].registers == 3);
  CHECK(parsed.program->functions[0].register_bytes <= 256 + 2 * 128);
}

TEST_CASE("registers live around a loop keep their place") {
  const std::vector<std::uint32_t> a(64, 10);
  // `keep` is read at the loop's beginning and written at its end.
  const std::vector<std::uint32_t> d = evaluate<std::uint32_t>(
      "{ .reg .b32 keep, t, u;\nmov.b32 keep, 1;\nmov.b32 x, 0;\nloop:\nadd.u32 t, keep, 1;\n"
      "mul.lo.u32 u, t, 2;\nadd.u32 x, x, 1;\nsetp.lt.u32 p, x, a;\nsub.u32 keep, u, t;\n"
      "@p bra loop;\nmov.b32 d, keep;\n}",
      a);
  CHECK(d[0] == 11);
}

TEST_CASE("a register that a guard may leave as it is keeps its value around a loop") {
  const std::vector<std::uint32_t> a(64, 10);
  // `t` is set in the first turn only; `u` would fit its place behind the last use.
  const std::vector<std::uint32_t> d = evaluate<std::uint32_t>(
      "{ .reg .b32 t, u;\nmov.b32 x, 0;\nloop:\nsetp.eq.u32 p, x, 0;\n@p mov.b32 t, 7;\n"
      "add.u32 y, t, x;\nadd.u32 u, x, 100;\nsub.u32 x, u, 99;\nsetp.lt.u32 p, x, a;\n"
      "@p bra loop;\nmov.b32 d, y;\n}",
      a);
  CHECK(d[0] == 16);
}

TEST_CASE("text that is not understood is a fault with its line") {
  const auto fault = [](const std::string& text) {
    const ParseResult parsed = parse_ptx(kHead + text);
    REQUIRE(parsed.fault.has_value());
    CHECK(parsed.program == nullptr);
    CHECK(parsed.fault->kind == FaultKind::kUnsupported);
    return parsed.fault->message;
  };
  CHECK_THAT(fault("nonsense"), containing("PTX line 4"));
  CHECK_THAT(fault(".entry k()\n{\nmov.u32 %r1"), containing("PTX line 6"));
  CHECK_THAT(fault(".entry k()\n{\nbra nowhere;\n}\n"), containing("nowhere"));
  CHECK_THAT(fault(".entry k()\n{\nret;\n"), containing("no end"));
  CHECK_THAT(fault(".frobnicate x;"), containing(".frobnicate"));
  CHECK_THAT(fault(".global .q17 x;"), containing(".q17"));
  CHECK_THAT(fault(".global .u32 x[2] = {1, 2, 3};"), containing("x"));
  CHECK_THAT(fault(".entry k()\n{\n.reg .b32 r;\n@r mov.b32 r, 1;\n}\n"), containing("guard"));
  CHECK_THAT(fault(".entry k()\n{\nadd.u32 [;\n}\n"), containing("PTX line 6"));
  CHECK_THAT(fault(".func f()\n.frob 3\n{\n}\n"), containing(".frob"));
}

// No prefix of a module and no module with a character changed brings the parser down.
TEST_CASE("damaged modules are faults or modules, never worse") {
  XC_RANDOM(random);
  const std::string text =
      kHead +
      ".global .align 4 .u32 c[2] = {1, 2};\n.func (.param .b32 r) f(.param .b32 a)\n{\n"
      ".reg .b32 %r<3>;\nld.param.b32 %r1, [a];\nst.param.b32 [r+0], %r1;\nret;\n}\n"
      ".visible .entry k(.param .u64 p)\n.maxntid 32, 1, 1\n{\n.reg .pred %p<2>;\n"
      ".reg .b32 %r<9>;\n.reg .b64 %rd<3>;\n.loc 1 2 3, function_name $L, inlined_at 1 9 3\n"
      "ld.param.u64 %rd1, [p];\nmov.u32 %r1, %tid.x;\nsetp.lt.u32 %p1, %r1, 0x10;\n"
      "@!%p1 bra $L1;\nshfl.sync.idx.b32 %r2|%p1, %r1, 3, 31, -1;\n"
      "ld.global.v4.u32 {%r3, %r4, %r5, %r6}, [%rd1+-16];\n{ .param .b32 x;\n"
      "st.param.b32 [x+0], %r1;\n.param .b32 y;\ncall.uni (y), f, (x);\n}\n"
      "$L1:\nadd.f32 %r7, %r7, 0f3F800000;\nret;\n}\n.file 1 \"a.cu\"\n";
  REQUIRE_FALSE(parse_ptx(text).fault.has_value());
  for (std::size_t length = 0; length < text.size(); ++length) {
    const ParseResult parsed = parse_ptx(text.substr(0, length));
    CHECK((parsed.program == nullptr) == parsed.fault.has_value());
  }
  for (int i = 0; i < 2000; ++i) {
    std::string damaged = text;
    for (int changes = random.integer(1, 3); changes > 0; --changes) {
      const auto at =
          static_cast<std::size_t>(random.integer(0, static_cast<int>(text.size()) - 1));
      constexpr std::string_view kCharacters = " \n.,;:{}[]()<>@!|%$_-+=\"0123456789abcxrp/*";
      damaged[at] = kCharacters[static_cast<std::size_t>(
          random.integer(0, static_cast<int>(kCharacters.size()) - 1))];
    }
    const ParseResult parsed = parse_ptx(damaged);
    CHECK((parsed.program == nullptr) == parsed.fault.has_value());
  }
}

}  // namespace
}  // namespace xception::emulator
