// y = exp(x - m) / sum of exp(x - m) over a row, m its maximum.
//
// A warp takes a row: lane l has columns l, l + 32, ... It goes through them three times, for the
// maximum, the exponentials and the division; each lane finds its own exponentials in dst again. No
// shared memory. It is limited by latency, not by traffic: one row a warp is enough, since rows are
// as many as pictures.
#include "kernels/softmax.h"

#include <string>

#include "kernels/launch.h"
#include "kernels/ptx.cuh"

namespace xception {
namespace {

constexpr int kWarps = 4;  // of a block
constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFU;

__global__ void __launch_bounds__(kWarps* kWarp)
    softmax_kernel(int rows, int columns, int stride, const float* src, float* dst) {
  const auto lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t row =
      std::int64_t{blockIdx.x} * kWarps + static_cast<int>(threadIdx.x) / kWarp;
  if (row >= rows) {
    return;
  }
  src += row * stride;
  dst += row * stride;
  float top = -INFINITY;
  for (int i = lane; i < columns; i += kWarp) {
    top = max_or_nan(top, src[i]);
  }
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    top = max_or_nan(top, __shfl_xor_sync(kAllLanes, top, distance));
  }
  float sum = 0.0F;
  for (int i = lane; i < columns; i += kWarp) {
    const float exponential = expf(src[i] - top);
    dst[i] = exponential;
    sum += exponential;
  }
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    sum += __shfl_xor_sync(kAllLanes, sum, distance);
  }
  for (int i = lane; i < stride; i += kWarp) {
    dst[i] = i < columns ? __fdiv_rn(dst[i], sum) : 0.0F;
  }
}

}  // namespace

Status softmax(int rows, int columns, const float* src, float* dst, Stream stream) {
  if (rows <= 0 || columns <= 0) {
    return {};
  }
  const auto blocks = static_cast<unsigned>(ceil_div(rows, kWarps));
  return launch(
      [&] { return "softmax of " + std::to_string(rows) + "x" + std::to_string(columns); },
      softmax_kernel, {blocks, kWarps * kWarp}, stream, rows, columns, channel_stride(columns), src,
      dst);
}

}  // namespace xception
