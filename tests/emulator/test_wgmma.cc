// wgmma against plain loops, from every layout of its operands.
#include <algorithm>
#include <string>
#include <vector>

#include "tests/emulator/matrix.h"
#include "tests/emulator/numeric.h"
#include "tests/emulator/wgmma.h"
#include "tests/emulator/wgmma_fixture.h"

namespace xception::emulator {
namespace {

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

}  // namespace
}  // namespace xception::emulator
