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
  // Four warps hide the latency of each other's rows, for they load one row ahead.
  constexpr std::int64_t kWantedThreads = 4 * kWarp;
  const Shape out = problem.dst();
  const std::int64_t groups = ceil_div(out.w, depthwise_columns(problem.window.stride));
  const std::int64_t items = groups * (channel_stride(out.c) / kChannelsPerThread);
  const auto bands_for = [&](std::int64_t threads_each) {
    return ceil_div(threads_each * gpu.multiprocessors, items * out.n);
  };
  std::int64_t bands = std::min<std::int64_t>(bands_for(kWantedThreads), out.h / kRowsForReuse);
  // Loading a row twice is better than a multiprocessor without any.
  bands = std::clamp<std::int64_t>(std::max(bands, bands_for(kWarp)), 1, out.h);

  DepthwiseTile tile;
  tile.rows = static_cast<int>(ceil_div(out.h, bands));
  tile.bands = static_cast<int>(ceil_div(out.h, tile.rows));
  tile.groups = static_cast<int>(groups);
  tile.items = items;
  for (tile.threads = 4 * kWarp;; tile.threads /= 2) {
    tile.blocks = ceil_div(items, tile.threads) * tile.bands * out.n;
    if (tile.threads == kWarp || tile.blocks >= gpu.multiprocessors) {
      return tile;
    }
  }
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
