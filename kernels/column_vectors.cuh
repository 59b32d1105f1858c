// Vectors with a float32 for each output channel, as the lanes of a matrix product read those of
// their columns.
#pragma once

#include "kernels/vector.cuh"

namespace xception {

// kWidth of them from `src`. Lanes that have eight have them of one of eight rows, lane / 4: those
// of odd rows read the last four first, so that each access of a warp is of whole sectors.
template <int kWidth>
__device__ __forceinline__ void load_columns(const float* src, float (&values)[kWidth]) {
  static_assert(kWidth == 4 || kWidth == 8);
  if constexpr (kWidth == 4) {
    load_floats(src, values);
  } else {
    constexpr int kHalf = kWidth / 2;
    const bool odd = threadIdx.x / 4 % 2 != 0;
    float first[kHalf];
    float second[kHalf];
    load_floats(src + (odd ? kHalf : 0), first);
    load_floats(src + (odd ? 0 : kHalf), second);
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      values[i] = odd ? second[i] : first[i];
      values[kHalf + i] = odd ? first[i] : second[i];
    }
  }
}

// The shift of a lane's columns, which its sums begin with: `channel` is that of column 0, and
// there are `channels` of them, padding included. Null: zero, and so is it behind the last.
template <class Product, int kCount>
__device__ __forceinline__ void load_shift(const Product& product, const float* shift, int channel,
                                           int channels, float (&start)[kCount]) {
  constexpr int kWidth = Product::kWidth;
#pragma unroll
  for (int i = 0; i < kCount; i += kWidth) {
    const int first = channel + product.column(i / kWidth);
    float vector[kWidth] = {};
    if (shift != nullptr && first < channels) {
      load_columns(shift + first, vector);
    }
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      start[i + e] = vector[e];
    }
  }
}

}  // namespace xception
