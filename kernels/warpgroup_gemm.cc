#include "kernels/warpgroup_gemm.h"

#include "kernels/numeric.h"

namespace xception {

std::vector<std::byte> pack_warpgroup(const ConvProblem& problem, Numeric numeric,
                                      const float* weights) {
  constexpr int kChunk = kChunkBytes / 2;  // elements
  const int blocks = static_cast<int>(ceil_div(problem.k, kBlockColumns));
  const int tiles = warpgroup_tiles(problem);
  std::vector<float> ordered;
  ordered.reserve(static_cast<std::size_t>(std::int64_t{blocks} * tiles * kBlockColumns) *
                  kWarpgroupDepth);
  for (int block = 0; block < blocks; ++block) {
    for (int tile = 0; tile < tiles; ++tile) {
      for (int element = 0; element < kBlockColumns * kWarpgroupDepth; ++element) {
        const int column = element / kWarpgroupDepth;
        const int place = element % kWarpgroupDepth / kChunk;
        const int k = block * kBlockColumns + warpgroup_channel(column);
        // The swizzle is its own inverse.
        const int c =
            tile * kWarpgroupDepth + warpgroup_chunk(column, place) * kChunk + element % kChunk;
        const bool inside = k < problem.k && c < problem.src.c;
        ordered.push_back(inside ? weights[std::int64_t{k} * problem.src.c + c] : 0.0F);
      }
    }
  }
  std::vector<std::byte> packed(ordered.size() * element_bytes(numeric));
  to_numeric(ordered, numeric, packed.data());
  return packed;
}

}  // namespace xception
