// The choice of tiles and the index arithmetic of the dense convolutions, without a device.
#include "kernels/tiles.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "kernels/implicit_gemm.h"
#include "kernels/numeric.h"
#include "kernels/picture_conv.h"
#include "kernels/warpgroup_gemm.h"
#include "random.h"
#include "shapes.h"
#include "testing.h"

namespace xception {
namespace {

constexpr GpuInfo kH100 = {90, 132};
constexpr GpuInfo kHopper = {90, 132, /*has_wgmma=*/true};
constexpr std::size_t kHopperSharedBytes = 228 << 10;  // of a multiprocessor
constexpr GpuInfo kT4 = {75, 40};

// Banks of four bytes that 16 bytes at each of these places occupy, each bank once.
bool touches_every_bank_once(const std::vector<int>& offsets) {
  std::set<int> groups;
  for (const int offset : offsets) {
    groups.insert(offset / kChunkBytes % 8);
  }
  return groups.size() == offsets.size();
}

std::vector<NamedConv> dense_layers(int n) {
  std::vector<NamedConv> layers;
  for (const NamedShapes& shapes : {seed_shapes(n, false), xception_shapes(n)}) {
    for (const NamedConv& layer : shapes.convs) {
      if (!layer.problem.depthwise && layer.problem.src.c != kPictureColours) {
        layers.push_back(layer);
      }
    }
  }
  return layers;
}

}  // namespace

TEST_CASE("tiles: what multiplies on which GPU") {
  CHECK(pick_matrix_math(Numeric::kFp16, 75) == MatrixMath::kTensorFp16);
  CHECK(pick_matrix_math(Numeric::kBf16, 75) == MatrixMath::kScalarBf16);
  CHECK(pick_matrix_math(Numeric::kTf32, 75) == std::nullopt);
  CHECK(pick_matrix_math(Numeric::kFp32, 75) == MatrixMath::kScalarFp32);
  for (const int arch : {80, 86, 89, 90, 100, 120}) {
    CHECK(pick_matrix_math(Numeric::kFp16, arch) == MatrixMath::kTensorFp16);
    CHECK(pick_matrix_math(Numeric::kBf16, arch) == MatrixMath::kTensorBf16);
    CHECK(pick_matrix_math(Numeric::kTf32, arch) == MatrixMath::kTensorTf32);
    CHECK(pick_matrix_math(Numeric::kFp32, arch) == MatrixMath::kScalarFp32);
  }
}

TEST_CASE("tiles: one picture gives every multiprocessor of an H100 work") {
  constexpr double kWave = 0.8;
  for (const NamedConv& layer : dense_layers(1)) {
    const Shape dst = layer.problem.dst();
    const std::int64_t pixels = std::int64_t{dst.h} * dst.w;
    const MatrixTile& smallest = kMatrixTiles[kMatrixTileCount - 1];
    const std::int64_t most = ((pixels + smallest.rows - 1) / smallest.rows) *
                              ((channel_stride(dst.c) + smallest.columns - 1) / smallest.columns);
    for (const GpuInfo& gpu : {kH100, kHopper}) {
      for (const Numeric numeric : {Numeric::kFp32, Numeric::kFp16}) {
        const MatrixChoice choice = pick_matrix_tile(layer.problem, numeric, gpu);
        INFO(layer.name << ": " << to_string(choice, gpu.arch));
        const auto wave = static_cast<std::int64_t>(kWave * gpu.multiprocessors) + 1;
        CHECK(choice.blocks() >= std::min(most, wave));
      }
    }
  }
}

TEST_CASE("tiles: batches take the large ones") {
  const ConvProblem middle = {{8, 19, 19, 728}, 728, {1, 1, {}}};
  CHECK(to_string(pick_matrix_tile(middle, Numeric::kFp16, kH100), 90) ==
        "128x128x32 mma.m16n8k16 fp16, 23 x 6 blocks");
  ConvProblem one = middle;
  one.src.n = 1;
  CHECK(to_string(pick_matrix_tile(one, Numeric::kFp16, kH100), 90) ==
        "64x32x32 mma.m16n8k16 fp16, 6 x 23 blocks");
  CHECK(to_string(pick_matrix_tile(one, Numeric::kFp16, kT4), 75) ==
        "128x64x32 mma.m16n8k8 fp16, 3 x 12 blocks");
  CHECK(to_string(pick_matrix_tile(middle, Numeric::kBf16, kT4), 75) ==
        "128x64x32 fma bf16, 23 x 12 blocks");
  CHECK(to_string(pick_matrix_tile(middle, Numeric::kTf32, kH100), 90) ==
        "128x128x16 mma.m16n8k8 tf32, 23 x 6 blocks");
  // 64 outputs of 128 columns would be computed in vain.
  const ConvProblem entry = {{8, 149, 149, 32}, 64, {3, 1, {}}};
  CHECK(to_string(pick_matrix_tile(entry, Numeric::kFp16, kH100), 90) ==
        "128x64x32 mma.m16n8k16 fp16, 1351 x 1 blocks");
}

TEST_CASE("tiles: warpgroups take 1x1 convolutions without a stride, in 16 bits") {
  ConvProblem problem = {{8, 19, 19, 728}, 728, {1, 1, {}}};
  const auto text = [&](Numeric numeric, const GpuInfo& gpu) {
    return to_string(pick_matrix_tile(problem, numeric, gpu), gpu.arch);
  };
  CHECK(text(Numeric::kFp16, kHopper) == "128x128x64 wgmma fp16, 23 x 6 blocks");
  CHECK(text(Numeric::kBf16, kHopper) == "128x128x64 wgmma bf16, 23 x 6 blocks");
  CHECK(text(Numeric::kTf32, kHopper) == text(Numeric::kTf32, kH100));
  CHECK(text(Numeric::kFp32, kHopper) == text(Numeric::kFp32, kH100));
  problem.src.n = 1;
  CHECK(text(Numeric::kFp16, kHopper) == "64x32x64 wgmma fp16, 6 x 23 blocks");
  const ConvProblem exit = {{1, 10, 10, 1024}, 1536, {1, 1, {}}};
  CHECK(to_string(pick_matrix_tile(exit, Numeric::kFp16, kHopper), 90) ==
        "32x32x64 wgmma fp16, 4 x 48 blocks");
  problem.window.stride = 2;
  CHECK(text(Numeric::kFp16, kHopper) == text(Numeric::kFp16, kH100));
  problem.window = {3, 1, {1, 1, 1, 1}};
  CHECK(text(Numeric::kFp16, kHopper) == text(Numeric::kFp16, kH100));
}

TEST_CASE("tiles: every choice covers its product and fits the GPU") {
  XC_RANDOM(random);
  for (int i = 0; i < 2000; ++i) {
    const ConvProblem problem = {
        {random.integer(1, 130), random.integer(1, 60), random.integer(1, 60), 16},
        random.integer(1, 3000),
        {1, random.integer(1, 2), {}}};
    const Shape dst = problem.dst();
    for (const GpuInfo& gpu : {kH100, kT4, kHopper}) {
      for (const Numeric numeric : {Numeric::kFp32, Numeric::kFp16, Numeric::kBf16}) {
        const MatrixChoice choice = pick_matrix_tile(problem, numeric, gpu);
        const std::int64_t pixels = std::int64_t{dst.n} * dst.h * dst.w;
        CHECK(choice.row_tiles * choice.rows() >= pixels);
        CHECK((choice.row_tiles - 1) * choice.rows() < pixels);
        CHECK(choice.column_tiles * choice.columns() >= channel_stride(dst.c));
        CHECK((choice.column_tiles - 1) * choice.columns() < channel_stride(dst.c));
        if (choice.warpgroups) {
          const WarpgroupTile& tile = kWarpgroupTiles[choice.tile];
          const auto bytes = static_cast<std::size_t>(warpgroup_shared_bytes(tile));
          constexpr std::size_t kOfSystem = 1 << 10;  // in each block's share
          CHECK(static_cast<std::size_t>(tile.blocks) * (bytes + kOfSystem) <= kHopperSharedBytes);
        } else {
          const MatrixTile& tile = kMatrixTiles[choice.tile];
          CHECK(shared_bytes(tile, has_async_copy(gpu.arch), false) <= 48 << 10);
        }
      }
    }
  }
}

TEST_CASE("tiles: chunks of a tile lie in different places") {
  for (const bool scalar : {false, true}) {
    std::set<int> chunks;
    for (int row = 0; row < 128; ++row) {
      for (int chunk = 0; chunk < kChunksPerRow; ++chunk) {
        chunks.insert(chunk_offset(row, chunk, scalar));
      }
    }
    CHECK(chunks.size() == 128 * kChunksPerRow);
    CHECK(*chunks.rbegin() == 128 * kDepthBytes - kChunkBytes);
  }
}

// What the kernels read and write at once, as implicit_gemm.cuh says: eight lanes of 16 bytes.
TEST_CASE("tiles: shared memory is read and written without bank conflicts") {
  for (const bool scalar : {false, true}) {
    for (int pair = 0; pair < 64; ++pair) {  // what copies write, and tensor cores read
      std::vector<int> line;
      for (int i = 0; i < 8; ++i) {
        const int row = 2 * pair + i / 4;
        line.push_back(chunk_offset(row, i % 4, scalar));
      }
      CHECK(touches_every_bank_once(line));
    }
  }
  for (int chunk = 0; chunk < kChunksPerRow; ++chunk) {
    for (int first = 0; first < 128; first += 8) {  // scalar code
      const auto read = [&](int rows, int step) {
        std::vector<int> lanes;
        for (int i = 0; i < rows; ++i) {
          const int row = first + i * step;
          lanes.push_back(chunk_offset(row, chunk, true));
        }
        return lanes;
      };
      CHECK(touches_every_bank_once(read(4, 1)));  // pixels of 32 bits
      CHECK(touches_every_bank_once(read(8, 1)));  // pixels of 16 bits, weights of 32
      CHECK(touches_every_bank_once(read(4, 2)));  // weights of 16 bits
    }
  }
}

// PTX ISA, "Matrix Fragments for mma.m16n8k16" and ".m16n8k8": lane 4 * g + t gives of a's rows g
// and g + 8 the words t and t + 4 of a step's eight, as a0 (g, t), a1 (g + 8, t), a2 (g, t + 4) and
// a3 (g + 8, t + 4). The pixels' side gives its chunk's words 2 * step and 2 * step + 1 as b0 and
// b1, which meet a0 and a1, and a2 and a3.
TEST_CASE("tiles: weights are packed as the fragments of mma") {
  constexpr int kChannels = 40;  // two blocks, the second in part
  const ConvProblem problem = {{1, 1, 1, 50}, kChannels, {1, 1, {}}};
  std::vector<float> weights(kChannels * 50);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    weights[i] = static_cast<float>(i + 1);
  }
  const std::vector<std::byte> bytes = pack_dense(problem, Numeric::kFp32, weights.data());
  constexpr int kTiles = 4;  // 64 channels of 32 bits, 16 each
  REQUIRE(bytes.size() == 2UL * kTiles * kBlockColumns * kDepthBytes);
  std::vector<float> packed(bytes.size() / sizeof(float));
  std::memcpy(packed.data(), bytes.data(), bytes.size());
  const auto* word = packed.data();
  for (int block = 0; block < 2; ++block) {
    for (int tile = 0; tile < kTiles; ++tile) {
      for (int step = 0; step < 2; ++step) {
        for (int half = 0; half < 2; ++half) {  // of the block's channels, to one mma each
          for (int lane = 0; lane < 32; ++lane) {
            for (int a = 0; a < 4; ++a) {
              // Rows g and g + 8 of both halves are the four neighbours whose results a lane has.
              const int k = 32 * block + 4 * (lane / 4) + 2 * half + a % 2;
              const int c = 16 * tile + 4 * (lane % 4) + 2 * step + a / 2;
              const float expected =
                  k < kChannels && c < 50 ? static_cast<float>(50 * k + c + 1) : 0.0F;
              CHECK(*word++ == expected);
            }
          }
        }
      }
    }
  }
}

// PTX ISA, "Register fragments for wgmma.mma_async.m64nNk16": a thread with t = lane % 4 has
// columns 8 * j + 2 * t and the next one.
TEST_CASE("tiles: weights are packed as warpgroups multiply them") {
  constexpr int kChannels = 40;  // two blocks, the second in part
  constexpr int kInputs = 100;
  constexpr int kRow = 112;  // a multiple of 16
  const ConvProblem problem = {{1, 1, 1, kInputs}, kChannels, {1, 1, {}}};
  std::vector<float> weights;
  for (int i = 0; i < kChannels * kInputs; ++i) {
    weights.push_back(static_cast<float>(i % 1999 + 1));  // exact in fp16
  }
  const std::vector<std::byte> bytes = pack_warpgroup(problem, Numeric::kFp16, weights.data());
  REQUIRE(bytes.size() == 2UL * 32 * kRow * 2);
  std::vector<float> packed(bytes.size() / 2);
  from_numeric(bytes.data(), Numeric::kFp16, packed);
  for (int block = 0; block < 2; ++block) {
    for (int t = 0; t < 4; ++t) {
      for (int j = 0; j < 4; ++j) {
        for (int e = 0; e < 2; ++e) {
          const int row = 32 * block + 8 * j + 2 * t + e;
          const int k = 32 * block + 8 * t + 2 * j + e;  // so a thread's are neighbours
          for (int c = 0; c < kRow; ++c) {
            const float expected = k < kChannels && c < kInputs
                                       ? weights[static_cast<std::size_t>(k * kInputs + c)]
                                       : 0.0F;
            CHECK(packed[static_cast<std::size_t>(row * kRow + c)] == expected);
          }
        }
      }
    }
  }
}

TEST_CASE("tiles: offsets reach beyond 2^31 elements") {
  const ConvProblem problem = {{400, 299, 299, 728}, 1024, {3, 2, {1, 1, 1, 1}}};
  const ConvGeometry geometry = conv_geometry(problem, Numeric::kFp16);
  CHECK(geometry.pixels == 400 * 150 * 150);
  const WindowOrigin last = window_origin(geometry, geometry.pixels - 1);
  CHECK(last.n == 399);
  CHECK(last.y == 297);
  CHECK(last.x == 297);
  CHECK(source_offset(geometry, last) == ((399LL * 299 + 297) * 299 + 297) * 736);
  CHECK(source_offset(geometry, last) + tap_step(geometry, 3, 1) + tap_step(geometry, 3, 2) +
            tap_step(geometry, 3, 3) + tap_step(geometry, 3, 4) + 736 ==
        device_elements(problem.src));
  CHECK(result_offset(geometry, geometry.pixels - 1, 1023) + 1 == device_elements(problem.dst()));
  CHECK(inside_taps(geometry, last, 3) == 0b000011011U);
  CHECK(inside_taps(geometry, window_origin(geometry, 0), 3) == 0b110110000U);
  CHECK(source_offset(geometry, window_origin(geometry, 0)) == -300 * 736);
}

TEST_CASE("tiles: what dense convolutions cannot run is refused by its shape") {
  const auto refusal = [](const ConvProblem& problem, int size) {
    return check_dense("test", problem, size, Numeric::kFp16, kH100, {}).message();
  };
  const auto is_shape = [](const std::string& text) {  // of which there is nothing to say here
    return text.find("source, weights or destination is missing") == std::string::npos;
  };
  for (const int size : {1, 3}) {
    for (int Padding::*const edge :
         {&Padding::top, &Padding::left, &Padding::bottom, &Padding::right}) {
      ConvProblem problem = {{1, 9, 9, 8}, 8, {size, 1, {}}};
      problem.window.pad.*edge = size - 1;
      CHECK_FALSE(is_shape(refusal(problem, size)));
      problem.window.pad.*edge = size;
      CHECK(refusal(problem, size).find("smaller than the window") != std::string::npos);
    }
  }
  constexpr int kMost = std::numeric_limits<int>::max() - 128;
  CHECK_FALSE(is_shape(refusal({{1, 1, kMost, 8}, 8, {1, 1, {}}}, 1)));
  CHECK(refusal({{1, 1, kMost + 1, 8}, 8, {1, 1, {}}}, 1).find("2^31") != std::string::npos);
}

TEST_CASE("tiles: pictures are read from their padding on") {
  for (const int top : {0, 1, 2}) {
    for (const int left : {0, 1, 2}) {
      const ConvProblem problem = {{1, 20, 30, 3}, 8, {3, 1, {top, left, 1, 1}}};
      const PictureGeometry geometry = picture_geometry(problem, Numeric::kFp16);
      CHECK(geometry.pad_top == top);
      CHECK(geometry.lead - geometry.origin == 3 * left);
      CHECK(geometry.lead % 16 == 0);
      CHECK(geometry.dst_h == 18 + top + 1);
      CHECK(geometry.dst_w == 28 + left + 1);
    }
  }
}

TEST_CASE("tiles: index arithmetic, one pixel after the other") {
  XC_RANDOM(random);
  for (int i = 0; i < 200; ++i) {
    const int size = random.integer(0, 1) == 0 ? 1 : 3;
    const auto pad = [&] { return random.integer(0, size - 1); };
    const ConvProblem problem = {
        {random.integer(1, 3), random.integer(3, 9), random.integer(3, 9), random.integer(1, 40)},
        random.integer(1, 40),
        {size, random.integer(1, 2), {pad(), pad(), pad(), pad()}}};
    const ConvGeometry geometry = conv_geometry(problem, Numeric::kFp32);
    const Shape dst = problem.dst();
    int pixel = 0;
    for (int n = 0; n < dst.n; ++n) {
      for (int p = 0; p < dst.h; ++p) {
        for (int q = 0; q < dst.w; ++q, ++pixel) {
          const WindowOrigin origin = window_origin(geometry, pixel);
          CHECK(origin.n == n);
          CHECK(origin.y == p * problem.window.stride - problem.window.pad.top);
          CHECK(origin.x == q * problem.window.stride - problem.window.pad.left);
          const unsigned inside = inside_taps(geometry, origin, size);
          std::int64_t at = source_offset(geometry, origin);
          for (int tap = 0; tap < size * size; ++tap) {
            const int y = origin.y + tap / size;
            const int x = origin.x + tap % size;
            at += tap == 0 ? 0 : tap_step(geometry, size, tap);
            CHECK(at == ((std::int64_t{n} * problem.src.h + y) * problem.src.w + x) *
                            channel_stride(problem.src.c));
            CHECK((inside >> tap & 1U) ==
                  (y >= 0 && y < problem.src.h && x >= 0 && x < problem.src.w ? 1U : 0U));
          }
        }
      }
    }
    CHECK(pixel == geometry.pixels);
  }
}

}  // namespace xception
