#include "kernels/warpgroup_gemm.h"

#include <algorithm>
#include <cstdint>

#include "kernels/numeric.h"

namespace xception {

std::vector<std::byte> pack_warpgroup(const ConvProblem& problem, Numeric numeric,
                                      const float* weights) {
  const int rows = warpgroup_weight_rows(problem);
  const int row_stride = channel_stride(problem.src.c);
  std::vector<float> ordered(static_cast<std::size_t>(std::int64_t{rows} * row_stride));
  for (int row = 0; row < rows; ++row) {
    const int k = row / kBlockColumns * kBlockColumns + warpgroup_channel(row % kBlockColumns);
    if (k < problem.k) {
      std::copy_n(weights + std::int64_t{k} * problem.src.c, problem.src.c,
                  ordered.begin() + std::int64_t{row} * row_stride);
    }
  }
  std::vector<std::byte> packed(ordered.size() * element_bytes(numeric));
  to_numeric(ordered, numeric, packed.data());
  return packed;
}

}  // namespace xception
