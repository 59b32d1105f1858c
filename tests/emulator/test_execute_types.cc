// The same instruction for every type, width and space that its spelling may name.
#include <algorithm>
#include <string>
#include <vector>

#include "tests/emulator/matrix.h"
#include "tests/emulator/ptx_fixture.h"

namespace xception::emulator {
namespace {

struct Type {
  std::string name;
  std::size_t bytes;
};

std::vector<Type> types() {
  std::vector<Type> all;
  for (const char kind : {'b', 'u', 's', 'f'}) {
    for (const std::size_t bytes : {1, 2, 4, 8}) {
      if (kind != 'f' || bytes >= 4) {
        all.push_back({kind + std::to_string(8 * bytes), bytes});
      }
    }
  }
  return all;
}

// Registers of 16 bits at least, "%v0" or "{%v0, %v1}".
std::string registers(std::size_t count) {
  std::string list = "%v0";
  for (std::size_t i = 1; i < count; ++i) {
    list += ", %v" + std::to_string(i);
  }
  return count == 1 ? list : "{" + list + "}";
}

std::string vector_type(const Type& type, std::size_t count) {
  return (count == 1 ? "." : ".v" + std::to_string(count) + ".") + type.name;
}

std::string declare_registers(const Type& type) {
  return ".reg .b" + std::to_string(8 * std::max<std::size_t>(type.bytes, 2)) + " %v<4>;\n";
}

// body(type, count) for every vector of at most 16 bytes.
template <class Body>
void each_vector(const Body& body) {
  for (const Type& type : types()) {
    for (const std::size_t count : {1, 2, 4}) {
      if (type.bytes * count <= 16) {
        CAPTURE(type.name, count);
        body(type, count);
      }
    }
  }
}

std::vector<u8> draw_bytes(Random& random, std::size_t count) {
  std::vector<u8> bytes(count);
  std::generate(bytes.begin(), bytes.end(),
                [&] { return static_cast<u8>(random.integer(0, 255)); });
  return bytes;
}

// Registers as they are stored whole: 8 bits with what extends them to 16.
Type register_type(const Type& type) { return type.bytes == 1 ? Type{"b16", 2} : type; }

std::vector<u8> in_registers(const Type& type, const std::vector<u8>& bytes) {
  if (type.bytes > 1) {
    return bytes;
  }
  std::vector<u8> wide;
  for (const u8 byte : bytes) {
    const bool negative = type.name.front() == 's' && byte >= 0x80;
    wide.insert(wide.end(), {byte, negative ? u8{0xFF} : u8{0}});
  }
  return wide;
}

TEST_CASE("every vector is loaded and stored, through global and shared memory") {
  XC_RANDOM(random);
  each_vector([&](const Type& type, std::size_t count) {
    const std::string suffix = vector_type(type, count);
    const std::string values = registers(count);
    const std::string bytes = std::to_string(type.bytes * count);
    const Type whole = register_type(type);
    for (const char* load : {"ld.global", "ld.global.nc", "ld"}) {
      const std::string text =
          ".visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc)\n{\n"
          ".reg .b32 %r<4>;\n.reg .b64 %rd<8>;\n" +
          declare_registers(type) +
          ".shared .align 16 .b8 s[512];\nld.param.u64 %rd1, [pa];\nld.param.u64 %rd2, [pb];\n"
          "ld.param.u64 %rd6, [pc];\ncvta.to.global.u64 %rd2, %rd2;\nmov.u32 %r1, %tid.x;\n"
          "mul.lo.u32 %r2, %r1, " +
          bytes +
          ";\ncvt.u64.u32 %rd3, %r2;\nadd.u64 %rd4, %rd1, %rd3;\nadd.u64 %rd5, %rd2, %rd3;\n" +
          "mad.wide.u32 %rd6, %r1, " + std::to_string(whole.bytes * count) +
          ", %rd6;\nmov.u32 %r3, s;\nadd.u32 %r3, %r3, %r2;\nprefetch.global.L2 [%rd4];\n" + load +
          suffix + " " + values + ", [%rd4];\nst.shared" + suffix + " [%r3], " + values +
          ";\nbra.uni THERE;\nAWAY:\nst.global" + vector_type(whole, count) + " [%rd6], " + values +
          ";\nret;\nTHERE:\nld.shared" + suffix + " " + values + ", [%r3];\nst.global" + suffix +
          " [%rd5], " + values + ";\nbra.uni AWAY;\n}\n";
      const std::vector<u8> from = draw_bytes(random, 32 * type.bytes * count);
      PtxMachine machine;
      const Address to = machine.allocate(from.size());
      const std::vector<u8> wide = in_registers(type, from);
      const Address wide_to = machine.allocate(wide.size());
      machine.run(text, {machine.upload(from), to, wide_to});
      REQUIRE(machine.download<u8>(to, from.size()) == from);
      REQUIRE(machine.download<u8>(wide_to, wide.size()) == wide);
    }
  });
}

TEST_CASE("every vector of a parameter is loaded") {
  XC_RANDOM(random);
  each_vector([&](const Type& type, std::size_t count) {
    const std::string values = registers(count);
    const std::string text =
        ".visible .entry k(.param .u64 to, .param .align 16 .b8 s[16])\n{\n.reg .b64 %rd<2>;\n" +
        declare_registers(type) + "ld.param.u64 %rd1, [to];\nld.param" + vector_type(type, count) +
        " " + values + ", [s];\nst.global" + vector_type(register_type(type), count) + " [%rd1], " +
        values + ";\nret;\n}\n";
    PtxMachine machine;
    machine.block.x = 1;
    const Address to = machine.allocate(16);
    std::vector<u8> bytes = draw_bytes(random, 16);
    std::vector<u64> words(2);
    std::memcpy(words.data(), bytes.data(), bytes.size());
    // Eight bytes of padding put the structure where it is aligned.
    machine.run(text, {to, 0, words[0], words[1]});
    bytes.resize(type.bytes * count);
    const std::vector<u8> expected = in_registers(type, bytes);
    REQUIRE(machine.download<u8>(to, expected.size()) == expected);
  });
}

// Moves, choices and comparisons of bits, which are the same for each type of a width.
template <class T>
void check_moves(Random& random) {
  constexpr std::size_t kBits = 8 * sizeof(T);
  for (const char kind : {'b', 'u', 's', 'f'}) {
    if (kind == 'f' && kBits < 32) {
      continue;
    }
    const std::string type = kind + std::to_string(kBits);
    check_unary<T, T>(random, "mov." + type + " d, a;", [](T a) { return a; });
    check_ternary<T, T, u32, T>(random, "setp.ne.u32 p, c, 0;\nselp." + type + " d, a, b, p;",
                                [](T a, T b, u32 c) { return c != 0 ? a : b; });
  }
  const std::string bits = ".b" + std::to_string(kBits);
  const auto check_comparison = [&](const std::string& name, auto holds) {
    check_binary<T, T, u32>(random, "setp." + name + bits + " p, a, b;\nselp.b32 d, 1, 0, p;",
                            [&](T a, T b) { return holds(a, b) ? 1U : 0U; });
  };
  check_comparison("eq", [](T a, T b) { return a == b; });
  check_comparison("ne", [](T a, T b) { return a != b; });
  const auto check_logic = [&](const std::string& name, auto expected) {
    check_binary<T, T, T>(random, name + bits + " d, a, b;",
                          [&](T a, T b) { return static_cast<T>(expected(a, b)); });
  };
  check_logic("and", [](T a, T b) { return a & b; });
  check_logic("or", [](T a, T b) { return a | b; });
  check_logic("xor", [](T a, T b) { return a ^ b; });
  check_unary<T, T>(random, "not" + bits + " d, a;", [](T a) { return static_cast<T>(~a); });
  check_binary<T, u32, T>(random, "shl" + bits + " d, a, b;",
                          [](T a, u32 b) { return static_cast<T>(b < kBits ? a << b : T{0}); });
  check_binary<T, u32, T>(random, "shr.u" + std::to_string(kBits) + " d, a, b;",
                          [](T a, u32 b) { return static_cast<T>(b < kBits ? a >> b : T{0}); });
}

TEST_CASE("bits of every width are moved, chosen, compared and combined") {
  XC_RANDOM(random);
  check_moves<u16>(random);
  check_moves<u32>(random);
  check_moves<u64>(random);
  check_unary<u32, u32>(random, "setp.gt.u32 p, a, 100;\nmov.pred q, p;\nselp.b32 d, 1, 0, q;",
                        [](u32 a) { return a > 100 ? 1U : 0U; });
}

// One of lane-major words a register: [register][lane].
std::vector<LaneWords> draw_words(Random& random, MatrixType type, int count) {
  const auto element = [&] {
    const float value = random.normal();
    const u32 bits = std::bit_cast<u32>(value);
    return type == MatrixType::kTf32 ? bits : bits >> 16;  // a bf16, and some f16 or other
  };
  std::vector<LaneWords> words(static_cast<std::size_t>(count));
  for (LaneWords& lanes : words) {
    for (u32& word : lanes) {
      word = type == MatrixType::kTf32 ? element() : element() | element() << 16;
    }
  }
  return words;
}

// A kernel that loads the fragments of a, b and c, multiplies, and stores d.
std::string mma_kernel(const std::string& instruction, int a, int b) {
  std::string text =
      ".visible .entry k(.param .u64 pd, .param .u64 pa, .param .u64 pb, .param .u64 pc)\n{\n"
      ".reg .b32 %r0, %a<4>, %b<2>, %c<4>, %d<4>;\n.reg .b64 %rd<8>;\nmov.u32 %r0, %laneid;\n"
      "mul.wide.u32 %rd0, %r0, 4;\n";
  const auto list = [](const std::string& name, int count) {
    std::string registers = "{%" + name + "0";
    for (int i = 1; i < count; ++i) {
      registers += ", %" + name + std::to_string(i);
    }
    return registers + "}";
  };
  const auto move = [&](const std::string& name, int count, bool load) {
    text += "ld.param.u64 %rd1, [p" + name + "];\nadd.u64 %rd1, %rd1, %rd0;\n";
    for (int i = 0; i < count; ++i) {
      const std::string value = "%" + name + std::to_string(i);
      const std::string place = "[%rd1+" + std::to_string(128 * i) + "]";
      text += load ? "ld.global.b32 " + value + ", " + place + ";\n"
                   : "st.global.b32 " + place + ", " + value + ";\n";
    }
  };
  move("a", a, true);
  move("b", b, true);
  move("c", 4, true);
  text += instruction + " " + list("d", 4) + ", " + list("a", a) + ", " + list("b", b) + ", " +
          list("c", 4) + ";\n";
  move("d", 4, false);
  return text + "ret;\n}\n";
}

// That mma() itself is right is test_matrix.cc's; here it is what each spelling does.
TEST_CASE("every mma of floating types takes the fragments that it names") {
  XC_RANDOM(random);
  struct Spelling {
    const char* text;
    MatrixType type;
    int k;
  };
  for (const Spelling& spelling : {Spelling{"m16n8k8.row.col.f32.f16.f16.f32", MatrixType::kF16, 8},
                                   {"m16n8k16.row.col.f32.f16.f16.f32", MatrixType::kF16, 16},
                                   {"m16n8k8.row.col.f32.bf16.bf16.f32", MatrixType::kBf16, 8},
                                   {"m16n8k16.row.col.f32.bf16.bf16.f32", MatrixType::kBf16, 16},
                                   {"m16n8k4.row.col.f32.tf32.tf32.f32", MatrixType::kTf32, 4},
                                   {"m16n8k8.row.col.f32.tf32.tf32.f32", MatrixType::kTf32, 8}}) {
    INFO(spelling.text);
    const MmaShape shape{spelling.k, spelling.type, spelling.type, false, false};
    const std::vector<LaneWords> a = draw_words(random, spelling.type, mma_registers_a(shape));
    const std::vector<LaneWords> b = draw_words(random, spelling.type, mma_registers_b(shape));
    const std::vector<LaneWords> c = draw_words(random, MatrixType::kTf32, 4);
    std::vector<LaneWords> expected(4);
    mma(shape, a, b, c, expected);
    PtxMachine machine;
    const Address d = machine.allocate(4 * sizeof(LaneWords));
    const LaunchCounters counters =
        machine.run(mma_kernel(std::string("mma.sync.aligned.") + spelling.text,
                               mma_registers_a(shape), mma_registers_b(shape)),
                    {d, machine.upload(a), machine.upload(b), machine.upload(c)});
    REQUIRE(counters.mma_macs == 16 * 8 * static_cast<std::size_t>(spelling.k));
    const std::vector<LaneWords> got = machine.download<LaneWords>(d, 4);
    for (std::size_t i = 0; i < 4; ++i) {
      for (std::size_t lane = 0; lane < kWarpLanes; ++lane) {
        REQUIRE(same_value(std::bit_cast<float>(got[i][lane]),
                           std::bit_cast<float>(expected[i][lane])));
      }
    }
  }
}

TEST_CASE("what the module's target does not have is a fault") {
  struct Case {
    const char* text;
    int needs;
  };
  const Case cases[] = {
      {"max.NaN.f32 %f1, %f1, %f1;", 80},
      {"min.f16x2 %r2, %r1, %r1;", 80},
      {"max.xorsign.abs.f32 %f1, %f1, %f1;", 86},
      {"fma.rn.relu.f16x2 %r2, %r1, %r1, %r1;", 80},
      {"fma.rn.bf16x2 %r2, %r1, %r1, %r1;", 80},
      {"add.rn.bf16x2 %r2, %r1, %r1;", 90},
      {"neg.bf16x2 %r2, %r1;", 80},
      {"ex2.approx.f16x2 %r2, %r1;", 75},
      {"ex2.approx.ftz.bf16x2 %r2, %r1;", 90},
      {"tanh.approx.f32 %f2, %f1;", 75},
      {"cvt.rn.relu.f16.f32 %h1, %f1;", 80},
      {"cvt.rn.f16x2.f32 %r2, %f1, %f1;", 80},
      {"cvt.rn.bf16.f32 %h1, %f1;", 80},
      {"cvt.rna.tf32.f32 %r2, %f1;", 80},
      {"redux.sync.add.u32 %r2, %r1, -1;", 80},
      {"elect.sync %r2|%p1, -1;", 90},
      {"griddepcontrol.wait;", 90},
      {"cp.async.wait_all;", 80},
      {"fence.proxy.async;", 90},
      {"fence.mbarrier_init.release.cluster;", 90},
      {"movmatrix.sync.aligned.m8n8.trans.b16 %r2, %r1;", 75},
      {".shared .align 16 .b8 s[512];\nmov.u32 %r2, s;\nshl.b32 %r3, %r1, 4;\n"
       "add.u32 %r2, %r2, %r3;\nstmatrix.sync.aligned.m8n8.x4.shared.b16 [%r2], "
       "{%r1, %r1, %r1, %r1};",
       90},
      {"mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%r2, %r3}, {%r1, %r1}, {%r1}, "
       "{%r1, %r1};",
       75},
      {"mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%r2, %r3}, {%r1, %r1, %r1, %r1}, "
       "{%r1, %r1}, {%r1, %r1};",
       80},
      {"mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f1, %f2, %f3, %f4}, {%r1, %r1}, "
       "{%r1}, {%f1, %f2, %f3, %f4};",
       80},
      {"mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {%f1, %f2, %f3, %f4}, {%r1, %r1}, "
       "{%r1}, {%f1, %f2, %f3, %f4};",
       80},
  };
  for (const Case& of : cases) {
    INFO(of.text);
    for (const int target : {70, 75, 80, 86, 90}) {
      PtxMachine machine;
      machine.profile.arch = 90;
      const LaunchResult result =
          machine.launch_text(".version 8.5\n.target sm_" + std::to_string(target) +
                                  "\n.address_size 64\n" + two_pointer_kernel(of.text),
                              {0, 0});
      REQUIRE(result.fault.has_value() == (target < of.needs));
      if (result.fault) {
        CHECK(result.fault->kind == FaultKind::kUnsupported);
        CHECK_THAT(result.fault->message, containing("needs sm_" + std::to_string(of.needs)));
      }
    }
  }
  // Where it is not executed it does no harm here.
  PtxMachine().run(".version 8.5\n.target sm_75\n.address_size 64\n" +
                       two_pointer_kernel("ret;\ncp.async.wait_all;"),
                   {0, 0});
}

}  // namespace
}  // namespace xception::emulator
