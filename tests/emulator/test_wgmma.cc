// wgmma against plain loops, and the faults that its protocol allows for.
#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "tests/emulator/matrix.h"
#include "tests/emulator/numeric.h"
#include "tests/emulator/ptx_fixture.h"
#include "tests/emulator/wgmma.h"

namespace xception::emulator {
namespace {

constexpr const char* kTarget = ".version 8.5\n.target sm_90a\n.address_size 64\n";

struct Operands {
  MatrixType type = MatrixType::kF16;
  int n = 8;
  u32 swizzle_a = 0;
  u32 swizzle_b = 0;
  bool a_in_registers = false;
  int steps = 1;  // of 32 bytes along k
  bool adds = true;
  int sign_a = 1;
  int sign_b = 1;
  bool whole = false;  // small whole numbers
};

std::size_t element_bytes(MatrixType type) { return type == MatrixType::kTf32 ? 4 : 2; }
std::size_t depth_of(MatrixType type) { return 32 / element_bytes(type); }

u32 encode_as(MatrixType type, float value) {
  return type == MatrixType::kF16    ? half_from_float(value)
         : type == MatrixType::kBf16 ? bfloat_from_float(value)
                                     : float_bits(value);
}
float decode_as(MatrixType type, u32 bits) {
  return type == MatrixType::kF16    ? half_to_float(static_cast<u16>(bits))
         : type == MatrixType::kBf16 ? bfloat_to_float(static_cast<u16>(bits))
                                     : float_from_bits(bits & 0xFFFFE000U);
}

// A tile of `rows` x `chunks` of 16 bytes, in shared memory as the figures of the ISA have it.
struct Tile {
  u32 start = 0;
  u32 leading = 0;
  u32 stride = 0;
  u32 swizzle = 0;

  u64 descriptor(int step) const {
    const u32 code = swizzle == 0 ? 0 : swizzle == 128 ? 1 : swizzle == 64 ? 2 : 3;
    const u32 advance = static_cast<u32>(step) * (swizzle == 0 ? 2 * leading : 32);
    return u64{(start + advance) >> 4} | u64{leading >> 4} << 16 | u64{stride >> 4} << 32 |
           u64{code} << 62;
  }
  std::size_t place(std::size_t row, std::size_t chunk) const {
    if (swizzle == 0) {
      return start + row / 8 * stride + chunk * leading + row % 8 * 16;
    }
    // The atom is 8 rows of `swizzle` bytes; within it, of each 128 bytes the chunks are permuted
    // by how many 128 bytes lie before.
    const std::size_t lines_before = row % 8 * swizzle / 128;
    return start + row / 8 * stride + row % 8 * swizzle + (chunk ^ lines_before) * 16;
  }
};

u32 round_up(u32 value, u32 to) { return (value + to - 1) / to * to; }

// Tiles of `steps`: swizzled ones have as many as a row of theirs holds, at most.
Tile make_tile(u32 start, u32 swizzle, std::size_t rows, std::size_t chunks, Random& random) {
  const auto pad = static_cast<u32>(16 * random.integer(0, 3));
  if (swizzle == 0) {
    const u32 leading = 128 + pad;
    return {start, leading, leading * static_cast<u32>(chunks) + pad, 0};
  }
  (void)rows;
  return {round_up(start, 8 * swizzle), 16, 8 * swizzle * static_cast<u32>(random.integer(1, 2)),
          swizzle};
}

std::string joined(const std::string& prefix, int count) {
  std::string text = "{";
  for (int i = 0; i < count; ++i) {
    text += (i == 0 ? "" : ", ") + prefix + std::to_string(i);
  }
  return text + "}";
}

const char* type_name(MatrixType type) {
  return type == MatrixType::kF16 ? "f16" : type == MatrixType::kBf16 ? "bf16" : "tf32";
}

std::string wgmma(const Operands& of, const std::string& a, const std::string& b) {
  const std::string type = type_name(of.type);
  const bool halves = of.type != MatrixType::kTf32;
  return "wgmma.mma_async.sync.aligned.m64n" + std::to_string(of.n) + (halves ? "k16" : "k8") +
         ".f32." + type + "." + type + " " + joined("%f", of.n / 2) + ", " + a + ", " + b +
         ", %p1, " + std::to_string(of.sign_a) + ", " + std::to_string(of.sign_b) +
         (!halves       ? ""
          : a[0] == '{' ? ", 0"
                        : ", 0, 0") +
         ";\n";
}

// A kernel of 128 threads a warpgroup: %rd1 the image of shared memory, %rd2 the accumulators of
// each thread, %rd3 its fragments of A, %rd4 descriptors: of A and B for each step.
std::string kernel(const std::string& body, std::size_t image_bytes) {
  return kTarget + (".visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc, "
                    ".param .u64 pd)\n{\n.shared .align 1024 .b8 tiles[" +
                    std::to_string(image_bytes) +
                    "];\n.reg .pred %p<4>;\n.reg .b32 %r<64>;\n.reg .f32 %f<128>;\n"
                    ".reg .b64 %rd<32>;\n"
                    "ld.param.u64 %rd1, [pa];\nld.param.u64 %rd2, [pb];\nld.param.u64 %rd3, [pc];\n"
                    "ld.param.u64 %rd4, [pd];\nmov.u32 %r1, %tid.x;\nmov.u32 %r2, tiles;\n" +
                    body + "\nret;\n}\n");
}

// Every thread copies 16 bytes of each `threads` * 16 of the image.
std::string copy_image(std::size_t bytes, std::size_t threads) {
  std::string text =
      "shl.b32 %r3, %r1, 4;\nadd.u32 %r4, %r2, %r3;\ncvt.u64.u32 %rd10, %r3;\n"
      "add.u64 %rd11, %rd1, %rd10;\n";
  for (std::size_t at = 0; at < bytes; at += 16 * threads) {
    const std::string place = "+" + std::to_string(at) + "]";
    text += "ld.global.v4.u32 {%r5, %r6, %r7, %r8}, [%rd11" + place + ";\nst.shared.v4.u32 [%r4" +
            place + ", {%r5, %r6, %r7, %r8};\n";
  }
  return text;
}

std::string move_sums(int n, bool load) {
  std::string text;
  for (int i = 0; i < n / 2; ++i) {
    const std::string place = "[%rd12+" + std::to_string(4 * i) + "]";
    const std::string name = "%f" + std::to_string(i);
    text += load ? "ld.global.f32 " + name + ", " + place + ";\n"
                 : "st.global.f32 " + place + ", " + name + ";\n";
  }
  return text;
}

void check(const Operands& of, Random& random) {
  CAPTURE(type_name(of.type), of.n, of.swizzle_a, of.swizzle_b, of.a_in_registers, of.steps,
          of.adds);
  constexpr std::size_t kThreads = 256;  // two warpgroups, which compute the same
  const std::size_t depth = depth_of(of.type);
  const std::size_t bytes = element_bytes(of.type);
  const auto n = static_cast<std::size_t>(of.n);
  const std::size_t k = depth * static_cast<std::size_t>(of.steps);
  const std::size_t chunks = 2 * static_cast<std::size_t>(of.steps);

  const Tile tile_a = make_tile(0, of.swizzle_a, 64, chunks, random);
  const Tile tile_b = make_tile(tile_a.start + 8 * tile_a.stride, of.swizzle_b, n, chunks, random);
  const std::size_t image_bytes =
      round_up(tile_b.start + static_cast<u32>(n / 8) * tile_b.stride, 16 * kThreads);
  std::vector<std::byte> image(image_bytes);
  const auto draw = [&](std::size_t rows, const Tile& tile) {
    std::vector<float> matrix(rows * k);
    for (std::size_t row = 0; row < rows; ++row) {
      for (std::size_t i = 0; i < k; ++i) {
        const u32 code = encode_as(
            of.type, of.whole ? static_cast<float>(random.integer(-8, 8)) : random.normal());
        matrix[row * k + i] = decode_as(of.type, code);
        std::memcpy(image.data() + tile.place(row, i * bytes / 16) + i * bytes % 16, &code, bytes);
      }
    }
    return matrix;
  };
  const std::vector<float> a = draw(64, tile_a);
  const std::vector<float> b = draw(n, tile_b);

  // Which thread has which element of D and of A.
  std::vector<float> sums(64 * n);
  std::vector<float> registers(kThreads * n / 2);
  const auto place_d = [&](std::size_t thread, std::size_t i) {
    const std::size_t lane = thread % 32;
    const std::size_t row = thread / 32 % 4 * 16 + lane / 4 + (i % 4 >= 2 ? 8 : 0);
    return row * n + i / 4 * 8 + lane % 4 * 2 + i % 2;
  };
  for (float& sum : sums) {
    sum = of.whole ? static_cast<float>(random.integer(-8, 8)) : random.normal();
  }
  for (std::size_t i = 0; i < registers.size(); ++i) {
    registers[i] = sums[place_d(i / (n / 2), i % (n / 2))];
  }
  std::vector<u32> fragments;
  for (std::size_t thread = 0; thread < kThreads; ++thread) {
    for (std::size_t step = 0; step < k; step += depth) {
      for (std::size_t i = 0; i < 4; ++i) {
        const std::size_t lane = thread % 32;
        const std::size_t row = thread / 32 % 4 * 16 + lane / 4 + i % 2 * 8;
        const std::size_t column = step + (lane % 4 + i / 2 * 4) * (4 / bytes);
        u32 word = 0;
        std::memcpy(&word,
                    image.data() + tile_a.place(row, column * bytes / 16) + column * bytes % 16, 4);
        fragments.push_back(word);
      }
    }
  }
  std::vector<u64> descriptors;
  for (int step = 0; step < of.steps; ++step) {
    descriptors.push_back(tile_a.descriptor(step));
    descriptors.push_back(tile_b.descriptor(step));
  }

  std::string body = copy_image(image_bytes, kThreads) + "fence.proxy.async.shared::cta;\n";
  body += "mul.wide.u32 %rd12, %r1, " + std::to_string(2 * n) + ";\nadd.u64 %rd12, %rd12, %rd2;\n";
  body += "mul.wide.u32 %rd13, %r1, " + std::to_string(16 * of.steps) +
          ";\nadd.u64 %rd13, %rd13, %rd3;\n";
  body += move_sums(of.n, true);
  for (int i = 0; of.a_in_registers && i < 4 * of.steps; ++i) {
    body +=
        "ld.global.u32 %r" + std::to_string(10 + i) + ", [%rd13+" + std::to_string(4 * i) + "];\n";
  }
  body += std::string("setp.eq.u32 %p1, 0, ") + (of.adds ? "0" : "1") +
          ";\nbar.sync 0;\nwgmma.fence.sync.aligned;\n";
  for (int step = 0; step < of.steps; ++step) {
    body += "ld.global.u64 %rd14, [%rd4+" + std::to_string(16 * step) +
            "];\nld.global.u64 %rd15, [%rd4+" + std::to_string(16 * step + 8) + "];\n";
    std::string fragment = "{";
    for (int i = 0; i < 4; ++i) {
      fragment += (i == 0 ? "%r" : ", %r") + std::to_string(10 + 4 * step + i);
    }
    body += wgmma(of, of.a_in_registers ? fragment + "}" : "%rd14", "%rd15");
    body += "setp.eq.u32 %p1, 0, 0;\n";
  }
  body += "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n" +
          move_sums(of.n, false);

  PtxMachine machine;
  machine.profile.arch = 90;
  machine.block.x = kThreads;
  machine.seed = static_cast<u64>(random.integer(0, 1000));
  const Address result = machine.upload(registers);
  const LaunchCounters counters = machine.run(
      kernel(body, image_bytes),
      {machine.upload(image), result, machine.upload(fragments), machine.upload(descriptors)});
  REQUIRE(counters.instructions[static_cast<std::size_t>(InstructionClass::kMma)] ==
          kThreads / 32 * n / 8 * static_cast<std::size_t>(of.steps));
  REQUIRE(counters.mma_macs == kThreads / 128 * 64 * n * k);
  REQUIRE(counters.wgmma_more == kThreads / 32 * (n / 8 - 1) * static_cast<std::size_t>(of.steps));
  REQUIRE(counters.shared_wavefronts == image_bytes / 128);  // the stores

  for (std::size_t row = 0; row < 64; ++row) {
    for (std::size_t column = 0; column < n; ++column) {
      float& sum = sums[row * n + column];
      sum = of.adds ? sum : 0;
      for (std::size_t i = 0; i < k; ++i) {
        sum += static_cast<float>(of.sign_a * of.sign_b) * a[row * k + i] * b[column * k + i];
      }
    }
  }
  const auto got = machine.download<float>(result, registers.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    REQUIRE(got[i] == sums[place_d(i / (n / 2), i % (n / 2))]);
  }
}

TEST_CASE("wgmma computes as plain loops do, from every layout of its operands") {
  XC_RANDOM(random);
  for (const MatrixType type : {MatrixType::kF16, MatrixType::kBf16, MatrixType::kTf32}) {
    for (const u32 swizzle : {0U, 32U, 64U, 128U}) {
      for (const bool a_in_registers : {false, true}) {
        Operands of;
        of.type = type;
        of.n = 8 * random.integer(1, 32);
        of.swizzle_a = swizzle;
        of.swizzle_b =
            std::vector<u32>{0, 32, 64, 128}[static_cast<std::size_t>(random.integer(0, 3))];
        of.a_in_registers = a_in_registers;
        const auto steps_of = [](u32 row) { return row == 0 ? 4 : static_cast<int>(row) / 32; };
        of.steps = std::min(steps_of(of.swizzle_a), steps_of(of.swizzle_b));
        of.adds = random.integer(0, 1) != 0;
        of.sign_a = random.integer(0, 1) != 0 ? 1 : -1;
        of.sign_b = random.integer(0, 1) != 0 ? 1 : -1;
        of.whole = random.integer(0, 1) != 0;
        check(of, random);
      }
    }
  }
}

TEST_CASE("every width of wgmma is known") {
  XC_RANDOM(random);
  for (const MatrixType type : {MatrixType::kF16, MatrixType::kBf16}) {
    for (int n = 8; n <= 256; n += 8) {
      Operands of;
      of.type = type;
      of.n = n;
      of.swizzle_a = of.swizzle_b = 128;
      of.steps = 1;
      check(of, random);
    }
  }
}

std::size_t place_of(const Position& d) {
  const int place = d.column * kWgmmaRows + d.row;
  return static_cast<std::size_t>(place);
}

TEST_CASE("wgmma gives the bits of mma over the same products") {
  XC_RANDOM(random);
  for (const MatrixType type : {MatrixType::kF16, MatrixType::kBf16, MatrixType::kTf32}) {
    const MmaShape small{static_cast<int>(depth_of(type)), type, type, false, false};
    const WgmmaShape shape{type, 8};
    std::vector<LaneWords> a(4);
    std::vector<LaneWords> c(4);
    std::vector<std::byte> columns(8 * kWgmmaRowBytes);
    const auto word = [&] {
      return type == MatrixType::kTf32
                 ? float_bits(random.normal())
                 : encode_as(type, random.normal()) | encode_as(type, random.normal()) << 16;
    };
    std::vector<float> sums(8 * kWgmmaRows);
    std::vector<LaneWords> b(2);
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      const auto at = static_cast<std::size_t>(lane);
      for (int i = 0; i < 4; ++i) {
        a[static_cast<std::size_t>(i)][at] = word();
        const float value = random.normal();
        c[static_cast<std::size_t>(i)][at] = float_bits(value);
        const Position d = wgmma_position_d(lane, i);
        sums[place_of(d)] = value;
      }
      for (std::size_t i = 0; i < 2; ++i) {
        b[i][at] = word();
        // Column lane / 4, the four bytes lane % 4 of each half.
        std::memcpy(columns.data() + at / 4 * 32 + i * 16 + at % 4 * 4, &b[i][at], 4);
      }
    }
    mma(small, a, b, c, c);
    wgmma_product(shape, wgmma_left(type, false, std::span<const LaneWords>(a)), columns,
                  sums.data());
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const Position d = wgmma_position_d(lane, i);
        REQUIRE(float_bits(sums[place_of(d)]) ==
                c[static_cast<std::size_t>(i)][static_cast<std::size_t>(lane)]);
      }
    }
  }
}

TEST_CASE("descriptors that cannot be are refused") {
  std::string what;
  (void)read_descriptor(u64{1} << 62 | 0x40, &what);
  CHECK(what.empty());
  (void)read_descriptor(u64{1} << 62 | 0x46, &what);  // 96 bytes further along k
  CHECK(what.empty());
  (void)read_descriptor(u64{1} << 62 | 0x48, &what);
  CHECK(what.find("within the pattern") != std::string::npos);
  (void)read_descriptor(u64{3} << 62 | 0x42, &what);
  CHECK(what.find("within the pattern") != std::string::npos);
  (void)read_descriptor(u64{1} << 49, &what);
  CHECK(what.find("base offset") != std::string::npos);
  (void)read_descriptor(u64{1} << 14, &what);
  CHECK(what.find("mean nothing") != std::string::npos);
}

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
