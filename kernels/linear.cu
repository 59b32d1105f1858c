// y[n][k] = bias[k] + sum over c of x[n][c] * w[k][c].
//
// A warp computes one logit of up to eight vectors: its lanes go through the weights of that logit
// 16 bytes at a time, each once, and keep one sum a vector. Sums of lanes are added by a butterfly.
// A block is eight warps, so that its logits fill a sector of 32 bytes of every vector.
//
// Shared memory: the block's logits, 8 vectors x 8, float32, 256 bytes.
//
// It is limited by DRAM, which delivers the weights once for every eight vectors, and by L2 after
// that: 4 MB in 16 bits for 2048 x 1000. With a vector to itself a warp keeps eight loads on their
// way. A matrix product on tensor cores would serve large batches better, but its share of the
// network is 0.02 % of the multiplications.
#include "kernels/linear.h"

#include <string>

#include "kernels/dispatch.cuh"
#include "kernels/launch.h"

namespace xception {
namespace {

constexpr int kWarps = 8;
constexpr int kWarp = 32;
constexpr int kVectors = 8;  // of a block
constexpr unsigned kAllLanes = 0xFFFFFFFFU;

struct Params {
  const void* src;
  const void* weights;
  const float* bias;
  float* dst;
  int n;
  int k;
  int src_stride;  // elements of a vector, and of a row of weights
  int dst_stride;
};

// The sums of kCount vectors from `n` on, in every lane.
template <class T, int kWidth, int kCount>
__device__ __forceinline__ void multiply(const Params& params, std::int64_t n, int k,
                                         float (&sums)[kVectors]) {
  const auto lane = static_cast<int>(threadIdx.x) % kWarp;
  const T* weights =
      static_cast<const T*>(params.weights) + static_cast<std::int64_t>(k) * params.src_stride;
  const T* src = static_cast<const T*>(params.src) + n * params.src_stride;
#pragma unroll(kCount == 1 ? 4 : 1)
  for (int c = lane * kWidth; c < params.src_stride; c += kWarp * kWidth) {
    float w[kWidth];
    load_channels<T, kWidth>(weights + c, w);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (kCount == 1 || n + i < params.n) {
        float x[kWidth];
        load_channels<T, kWidth>(src + static_cast<std::int64_t>(i) * params.src_stride + c, x);
#pragma unroll
        for (int j = 0; j < kWidth; ++j) {
          sums[i] = __fmaf_rn(x[j], w[j], sums[i]);
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
#pragma unroll
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
      sums[i] += __shfl_xor_sync(kAllLanes, sums[i], distance);
    }
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kWarps* kWarp)
    linear_kernel(const __grid_constant__ Params params) {
  __shared__ float logits[kVectors][kWarps];
  const auto thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarp;
  const int first_k = static_cast<int>(blockIdx.x) * kWarps;
  const int n = static_cast<int>(blockIdx.y) * kVectors;
  const int k = first_k + warp;
  float sums[kVectors] = {};
  if (k < params.k) {
    if (params.n == 1) {
      multiply<T, kWidth, 1>(params, n, k, sums);
    } else {
      multiply<T, kWidth, kVectors>(params, n, k, sums);
    }
  }
  if (thread % kWarp == 0) {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      logits[i][warp] = sums[i];
    }
  }
  __syncthreads();
  if (thread < kVectors * kWarps) {
    const int row = n + thread / kWarps;
    const int column = first_k + thread % kWarps;
    if (row < params.n && column < params.dst_stride) {
      const float bias = params.bias == nullptr ? 0.0F : params.bias[column];
      params.dst[static_cast<std::int64_t>(row) * params.dst_stride + column] =
          logits[thread / kWarps][thread % kWarps] + bias;
    }
  }
}

}  // namespace

Status linear(const LinearProblem& problem, Numeric numeric, const LinearArgs& args,
              Stream stream) {
  constexpr int kMostBlocks = 65535;  // in the second dimension of a grid
  const auto name = [&] {
    return "linear " + std::to_string(problem.n) + "x" + std::to_string(problem.c) + " to " +
           std::to_string(problem.k);
  };
  if (problem.n <= 0 || problem.k <= 0) {
    return {};
  }
  const std::int64_t groups = ceil_div(problem.n, kVectors);
  if (groups > kMostBlocks) {
    return too_large_for_launch(name());
  }
  return dispatch(numeric, [&](auto element) {
    using T = decltype(element);
    const int dst_stride = channel_stride(problem.k);
    const Params params = {args.src,
                           args.weights,
                           args.bias,
                           args.dst,
                           problem.n,
                           problem.k,
                           channel_stride(problem.c),
                           dst_stride};
    const dim3 grid(static_cast<unsigned>(ceil_div(dst_stride, kWarps)),
                    static_cast<unsigned>(groups));
    return launch(name, linear_kernel<T, kVectorWidth<T>>, {grid, kWarps * kWarp}, stream, params);
  });
}

}  // namespace xception
