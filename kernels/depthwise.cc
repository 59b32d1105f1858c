#include "kernels/depthwise.h"

#include <algorithm>
#include <cstring>

#include "kernels/numeric.h"
#include "kernels/tiles.h"

namespace xception {
namespace {

constexpr int kTaps = 9;
constexpr int kWarp = 32;

// At least 0.8 of the multiprocessors have a block.
bool is_wave(std::int64_t blocks, const GpuInfo& gpu) {
  return 10 * blocks >= 8 * std::int64_t{gpu.multiprocessors};
}

// Tap `tap` of channel c to element at(tap, c) of as many as `size`; the others are zero.
template <class At>
std::vector<float> rearranged(const ConvProblem& problem, const float* weights, std::size_t size,
                              const At& at) {
  std::vector<float> packed(size, 0.0F);
  for (std::size_t c = 0; c < static_cast<std::size_t>(problem.src.c); ++c) {
    for (std::size_t tap = 0; tap < kTaps; ++tap) {
      packed[at(tap, c)] = weights[c * kTaps + tap];
    }
  }
  return packed;
}

}  // namespace

bool is_depthwise_product(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu) {
  const std::optional<MatrixMath> math = pick_matrix_math(numeric, gpu.arch);
  const bool has_mma = math == MatrixMath::kTensorFp16 || math == MatrixMath::kTensorBf16;
  return is_depthwise_product(problem.window.stride, element_bytes(numeric), has_mma);
}

DepthwiseTile pick_depthwise_tile(const ConvProblem& problem, const GpuInfo& gpu) {
  const Shape out = problem.dst();
  const auto pieces = [](std::int64_t count, std::int64_t step) {
    return static_cast<int>(ceil_div(count, step));
  };
  const int columns = pieces(out.w, kProductColumns);  // of warps
  DepthwiseTile tile;
  tile.chunks = pieces(out.c, kProductChannels);
  const auto set = [&](int strip_rows, int groups) {
    tile.strip_rows = strip_rows;
    tile.bands = pieces(out.h, 2 * strip_rows);
    tile.warps = pieces(columns, groups);
    tile.groups = pieces(columns, tile.warps);
    tile.blocks = std::int64_t{tile.chunks} * tile.groups * tile.bands * out.n;
    return is_wave(tile.blocks, gpu);
  };
  const int widest = pieces(columns, kProductWarps);
  if (out.h > 2 * kLowStrip && set(kTallStrip, widest)) {
    return tile;
  }
  for (int groups = widest; !set(kLowStrip, groups) && groups < columns; ++groups) {
  }
  return tile;
}

std::optional<DepthwiseMaps> pick_depthwise_maps(const ConvProblem& problem, const GpuInfo& gpu) {
  constexpr Padding kPixelAround = {1, 1, 1, 1};
  const int side = std::max(problem.src.h, problem.src.w);
  if (side > 4 || !(problem.window.pad == kPixelAround)) {
    return std::nullopt;
  }
  DepthwiseMaps maps;
  maps.side = side <= 2 ? 2 : 4;
  maps.items = channel_stride(problem.src.c) / kMapChannels;
  const auto set_threads = [&](int threads) {
    maps.threads = threads;
    maps.blocks = ceil_div(maps.items, threads) * problem.src.n;
  };
  set_threads(kMapThreads);
  if (maps.blocks < gpu.multiprocessors) {
    set_threads(kWarp);
  }
  return maps;
}

DepthwiseStrips pick_depthwise_strips(const ConvProblem& problem, const GpuInfo& gpu) {
  // From 7 rows on, fewer than 1.3 rows are loaded for each one of output.
  constexpr int kRowsForReuse = 7;
  // Four warps hide the latency of each other's rows, for each loads one row ahead.
  constexpr std::int64_t kWantedThreads = 4 * kWarp;
  const Shape out = problem.dst();
  DepthwiseStrips strips;
  strips.groups = static_cast<int>(ceil_div(out.w, strip_columns(problem.window.stride)));
  strips.items = std::int64_t{strips.groups} * (channel_stride(out.c) / kStripChannels);
  const auto set_rows = [&](std::int64_t rows) {
    strips.rows = static_cast<int>(rows);
    strips.bands = static_cast<int>(ceil_div(out.h, rows));
  };
  const auto set_threads = [&](int threads) {
    strips.threads = threads;
    strips.blocks = ceil_div(strips.items, threads) * strips.bands * out.n;
  };
  const std::int64_t bands = ceil_div(kWantedThreads * gpu.multiprocessors, strips.items * out.n);
  set_rows(ceil_div(out.h, std::clamp<std::int64_t>(bands, 1, std::max(1, out.h / kRowsForReuse))));
  set_threads(kWarp);
  // Loading a row three times is better than a multiprocessor without any.
  while (strips.rows > 1 && !is_wave(strips.blocks, gpu)) {
    set_rows(strips.rows - 1);
    set_threads(kWarp);
  }
  const DepthwiseStrips smaller = strips;
  set_threads(kStripThreads);
  return strips.blocks < gpu.multiprocessors ? smaller : strips;
}

std::string describe_depthwise(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu) {
  if (is_depthwise_product(problem, numeric, gpu)) {
    if (const auto maps = pick_depthwise_maps(problem, gpu)) {
      const std::string side = std::to_string(maps->side);
      return "depthwise map " + side + "x" + side + " fma " + numeric_name(numeric) + ", " +
             std::to_string(maps->blocks) + " blocks of " + std::to_string(maps->threads);
    }
    const DepthwiseTile tile = pick_depthwise_tile(problem, gpu);
    return "depthwise " + std::to_string(2 * tile.strip_rows) + "x" +
           std::to_string(tile.warps * kProductColumns) + "x" + std::to_string(kProductChannels) +
           " mma " + numeric_name(numeric) + ", " + std::to_string(tile.blocks) + " blocks";
  }
  const DepthwiseStrips strips = pick_depthwise_strips(problem, gpu);
  return "depthwise " + std::to_string(strips.rows) + "x" +
         std::to_string(strip_columns(problem.window.stride)) + " fma, " +
         std::to_string(strips.blocks) + " blocks of " + std::to_string(strips.threads);
}

std::vector<std::byte> pack_depthwise(const ConvProblem& problem, Numeric numeric,
                                      const GpuInfo& gpu, const float* weights) {
  const int channels = problem.src.c;
  if (is_depthwise_product(problem, numeric, gpu)) {
    constexpr std::size_t kChunk = kProductChannels;
    const auto chunks = static_cast<std::size_t>(ceil_div(channels, kProductChannels));
    const auto packed =
        rearranged(problem, weights, chunks * kTaps * kChunk, [](std::size_t tap, std::size_t c) {
          return (c / kChunk * kTaps + tap) * kChunk + c % kChunk;
        });
    std::vector<std::byte> bytes(packed.size() * element_bytes(numeric));
    to_numeric(packed, numeric, bytes.data());
    return bytes;
  }
  const auto stride = static_cast<std::size_t>(channel_stride(channels));
  const auto packed =
      rearranged(problem, weights, kTaps * stride,
                 [stride](std::size_t tap, std::size_t c) { return tap * stride + c; });
  std::vector<std::byte> bytes(packed.size() * sizeof(float));
  std::memcpy(bytes.data(), packed.data(), bytes.size());
  return bytes;
}

}  // namespace xception
