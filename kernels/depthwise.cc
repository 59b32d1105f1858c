#include "kernels/depthwise.h"

#include <algorithm>
#include <cstring>

namespace xception {
namespace {

constexpr int kTaps = 9;
constexpr int kChannelsPerThread = 4;
constexpr int kWarp = 32;

}  // namespace

DepthwiseTile pick_depthwise(const ConvProblem& problem, const GpuInfo& gpu) {
  // From 7 rows on, fewer than 1.3 rows are loaded for each one of output.
  constexpr int kRowsForReuse = 7;
  // Four warps hide the latency of each other's rows, for each loads one row ahead.
  constexpr std::int64_t kWantedThreads = 4 * kWarp;
  const Shape out = problem.dst();
  DepthwiseTile tile;
  tile.groups = static_cast<int>(ceil_div(out.w, depthwise_columns(problem.window.stride)));
  tile.items = std::int64_t{tile.groups} * (channel_stride(out.c) / kChannelsPerThread);
  const auto set_rows = [&](std::int64_t rows) {
    tile.rows = static_cast<int>(rows);
    tile.bands = static_cast<int>(ceil_div(out.h, rows));
  };
  const auto set_threads = [&](int threads) {
    tile.threads = threads;
    tile.blocks = ceil_div(tile.items, threads) * tile.bands * out.n;
  };
  const std::int64_t bands = ceil_div(kWantedThreads * gpu.multiprocessors, tile.items * out.n);
  set_rows(ceil_div(out.h, std::clamp<std::int64_t>(bands, 1, std::max(1, out.h / kRowsForReuse))));
  set_threads(kWarp);
  // Loading a row three times is better than a multiprocessor without any.
  while (tile.rows > 1 && 10 * tile.blocks < 8 * gpu.multiprocessors) {
    set_rows(tile.rows - 1);
    set_threads(kWarp);
  }
  const DepthwiseTile smaller = tile;
  set_threads(kDepthwiseThreads);
  return tile.blocks < gpu.multiprocessors ? smaller : tile;
}

std::string to_string(const DepthwiseTile& tile, int stride) {
  return "depthwise " + std::to_string(tile.rows) + "x" +
         std::to_string(depthwise_columns(stride)) + ", " + std::to_string(tile.blocks) +
         " blocks of " + std::to_string(tile.threads);
}

std::vector<std::byte> pack_depthwise(const ConvProblem& problem, const float* weights) {
  const auto channels = static_cast<std::size_t>(problem.src.c);
  const auto stride = static_cast<std::size_t>(channel_stride(problem.src.c));
  std::vector<float> packed(kTaps * stride, 0.0F);
  for (std::size_t c = 0; c < channels; ++c) {
    for (std::size_t tap = 0; tap < kTaps; ++tap) {
      packed[tap * stride + c] = weights[c * kTaps + tap];
    }
  }
  std::vector<std::byte> bytes(packed.size() * sizeof(float));
  std::memcpy(bytes.data(), packed.data(), bytes.size());
  return bytes;
}

}  // namespace xception
