#include "engine/backend_cpu_strips.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "engine/openmp.h"

namespace xception::cpu {
namespace {

using Type = dnnl::memory::data_type;

// Bytes that stay in the caches anyway: with 100 to 500 KB between them, joined convolutions took
// as long as separate ones.
constexpr std::int64_t kCached = std::int64_t{1} << 20U;

bool pair_gains(const SeparableConv& conv, const Shape& src, Type type, int threads) {
  const Shape between = conv_problem(conv.depthwise, src).dst();
  const std::int64_t pixels = between.elements() / between.c;
  // Rows do not divide as finely as oneDNN divides pixels and channels: no thread may have more
  // than a tenth above its share.
  const std::int64_t rows = rows_of(between);
  const std::int64_t most = (rows + threads - 1) / threads;
  if (10 * most * threads > 11 * rows) {
    return false;
  }
  // What lies between is saved, pixels * c; a thread reads the weights, c * k, once a strip. Those
  // all threads read from the cache that they share, and that a thread finds what another wrote
  // costs more: on two Emerald Rapids cores 361 pixels gained 3 % with 728 channels and a strip a
  // thread, and lost 3 % on one core with two strips; 800 with 1536 and two strips came out even.
  constexpr std::int64_t kDearer = 3;
  const int per_thread = (cut_evenly(between, threads).count + threads - 1) / threads;
  const auto bytes =
      between.elements() * static_cast<std::int64_t>(dnnl::memory::data_type_size(type));
  return bytes > kCached &&
         kDearer * pixels > std::int64_t{conv.pointwise.out_channels} * per_thread;
}

// By what lies between the links; what lies within each of them would stay in the cache anyway. On
// two Emerald Rapids cores with 2 MiB each the paper's first three blocks took 18, 8 and 4 % less
// at batch 8 than their parts.
bool chain_gains(const SeparableChain& chain, const std::vector<Shape>& shapes, Type type,
                 int threads) {
  // Pixels of a row below which oneDNN's blocks of rows are far from full.
  constexpr int kPixels = 32;
  // What a thread keeps, with the row within a link, must stay in its own cache.
  constexpr std::int64_t kHeld = std::int64_t{1} << 20U;
  // The weights, which it reads with every row, may come from the cache that all threads share, but
  // not at any rate: 2.7 MiB gained (the third block), 4 to 6 lost up to 5 % of a whole network
  // (the middle blocks at 512 and 600 pixels).
  constexpr std::int64_t kWeights = std::int64_t{3} << 20U;
  const auto element = static_cast<std::int64_t>(dnnl::memory::data_type_size(type));
  std::int64_t held = 0;
  std::int64_t within = 0;  // the largest row between the two convolutions of a link
  std::int64_t weights = 0;
  // Rows that a thread makes: of the end of the chain, then of what is before it.
  std::int64_t most = (rows_of(shapes.back()) + threads - 1) / threads;
  const auto go_back = [&](int size, int stride, const Shape& src) {
    most = std::min<std::int64_t>(most * stride + size - stride, rows_of(src));
    held += element * size * src.w * src.c;
    return src.w >= kPixels && element * src.elements() > kCached &&
           20 * most * threads <= 21 * std::int64_t{rows_of(src)};
  };
  if (chain.pool && !go_back(chain.pool->size, chain.pool->stride, shapes[chain.convs.size()])) {
    return false;
  }
  for (std::size_t i = chain.convs.size(); i-- > 0;) {
    const SeparableConv& conv = chain.convs[i];
    const Shape between = conv_problem(conv.depthwise, shapes[i]).dst();
    within = std::max(within, element * between.c * between.w);
    weights += element * between.c * conv.pointwise.out_channels;
    if (i > 0 && !go_back(conv.depthwise.size, conv.depthwise.stride, shapes[i])) {
      return false;
    }
  }
  return held + within <= kHeld && weights <= kWeights;
}

}  // namespace

Strips cut_evenly(const Shape& dst, int threads) {
  constexpr int kPixels = 256;
  const int rows = std::max(kPixels / dst.w, 1) * threads;
  const int per_thread = (rows_of(dst) + rows - 1) / rows;
  return {rows_of(dst), std::min(per_thread * threads, rows_of(dst))};
}

bool gains_by_strips(const SeparableChain& chain, const Shape& src, Type type, int threads) {
  const std::vector<Shape> shapes = chain_shapes(chain, src);
  const bool fits = std::all_of(shapes.begin(), shapes.end(), [](const Shape& shape) {
    return shape.elements() / shape.c <= std::numeric_limits<int>::max();
  });
  if (!OpenMp::find().present() || !fits) {
    return false;
  }
  return is_pair(chain) ? pair_gains(chain.convs[0], src, type, threads)
                        : chain_gains(chain, shapes, type, threads);
}

}  // namespace xception::cpu
