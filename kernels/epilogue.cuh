// What happens to a sum before it is stored, the same in every kernel: DeviceEpilogue over a few
// neighbouring channels. A thread makes one ChannelEpilogue for its channels and applies it to each
// of its pixels.
#pragma once

#include <cstdint>

#include "kernels/gpu.h"
#include "kernels/ptx.cuh"
#include "kernels/vector.cuh"

namespace xception {

template <class T, int kWidth>
class ChannelEpilogue {
 public:
  // For channels from `channel` on; `epilogue`'s vectors are read now. kWidth divides `channel` and
  // the tensor's channel stride.
  __device__ __forceinline__ ChannelEpilogue(const DeviceEpilogue& epilogue, int channel)
      : residual_(static_cast<const T*>(epilogue.residual)),
        relu_(epilogue.relu),
        second_(epilogue.second_scale != nullptr),
        final_relu_(epilogue.final_relu) {
    read(epilogue.shift, channel, shift_);
    read(epilogue.second_scale, channel, second_scale_);
    read(epilogue.second_shift, channel, second_shift_);
  }

  // Turns sums into what is stored. `offset` is where the first of them goes in dst, in elements:
  // the residual stands at the same place. Sums of zero behind the last channel stay zero.
  __device__ __forceinline__ void apply(std::int64_t offset, float (&y)[kWidth]) const {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      y[i] += shift_[i];
    }
    if (relu_) {
      clamp(y);
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
    if (final_relu_) {
      clamp(y);
    }
  }

 private:
  // ReLU; a NaN stays one, so that a poisoned input shows.
  __device__ __forceinline__ static void clamp(float (&y)[kWidth]) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      y[i] = max_or_nan(y[i], 0.0F);
    }
  }

  // Null is zero.
  __device__ __forceinline__ static void read(const float* vector, int channel,
                                              float (&values)[kWidth]) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      values[i] = 0.0F;
    }
    if (vector != nullptr) {
      load_floats(vector + channel, values);
    }
  }

  const T* residual_;  // may be dst itself: read by the thread that writes it, before it does
  bool relu_;
  bool second_;
  bool final_relu_;
  float shift_[kWidth];
  float second_scale_[kWidth];
  float second_shift_[kWidth];
};

}  // namespace xception
