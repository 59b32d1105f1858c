// What happens to a sum before it is stored, the same in every kernel: DeviceEpilogue over a few
// neighbouring channels. A thread makes one ChannelEpilogue for its channels and applies it to each
// of its pixels.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/gpu.h"
#include "kernels/ptx.cuh"
#include "kernels/vector.cuh"

namespace xception {

// max_or_nan(y, relu_floor(relu)) is ReLU, or y as it is.
__device__ __forceinline__ float relu_floor(bool relu) { return relu ? 0.0F : -INFINITY; }

template <class T, int kWidth>
class ChannelEpilogue {
 public:
  // For channels [channel, channel + kWidth) of a tensor with `channels` of them. The vectors of
  // `epilogue` are read now; kWidth divides `channel` and the tensor's channel stride.
  __device__ __forceinline__ ChannelEpilogue(const DeviceEpilogue& epilogue, int channel,
                                             int channels)
      : residual_(static_cast<const T*>(epilogue.residual)),
        floor_(relu_floor(epilogue.relu)),
        final_floor_(relu_floor(epilogue.final_relu)),
        valid_(channels - channel),
        second_(epilogue.second_scale != nullptr) {
    read(epilogue.shift, channel, shift_);
    read(epilogue.second_scale, channel, second_scale_);
    read(epilogue.second_shift, channel, second_shift_);
  }

  // Turns sums into what is stored. `offset` is where the first of them goes in dst, in elements:
  // the residual stands at the same place. Channels behind the last become zero, whatever came in.
  __device__ __forceinline__ void apply(std::int64_t offset, float (&y)[kWidth]) const {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      y[i] = max_or_nan(y[i] + shift_[i], floor_);
    }
    if (second_) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        y[i] = __fmaf_rn(y[i], second_scale_[i], second_shift_[i]);
      }
    }
    if (residual_ != nullptr) {
      float residual[kWidth];
      load_channels<T, kWidth>(residual_ + offset, residual);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        y[i] += residual[i];
      }
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      y[i] = max_or_nan(y[i], final_floor_);
    }
    // An infinite or undefined input would make 0 * inf of the weights' padding.
    if (valid_ < kWidth) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        y[i] = i < valid_ ? y[i] : 0.0F;
      }
    }
  }

 private:
  // Null is zero.
  __device__ __forceinline__ static void read(const float* vector, int channel,
                                              float (&values)[kWidth]) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      values[i] = 0.0F;
    }
    if (vector != nullptr) {
#pragma unroll
      for (int i = 0; i < kWidth; i += 4) {
        const float4 four = *reinterpret_cast<const float4*>(vector + channel + i);
        values[i] = four.x;
        values[i + 1] = four.y;
        values[i + 2] = four.z;
        values[i + 3] = four.w;
      }
    }
  }

  const T* residual_;  // may be dst itself: read by the thread that writes it, before it does
  float floor_;
  float final_floor_;
  int valid_;
  bool second_;
  float shift_[kWidth];
  float second_scale_[kWidth];
  float second_shift_[kWidth];
};

}  // namespace xception
