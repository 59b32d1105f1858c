// What happens to a sum before it is stored, the same in every kernel: DeviceEpilogue over a few
// neighbouring channels. A thread makes one ChannelEpilogue for its channels and applies it to its
// pixels, one after the other or some at once.
#pragma once

#include <cstdint>

#include "kernels/gpu.h"
#include "kernels/ptx.cuh"
#include "kernels/unrolled.cuh"
#include "kernels/vector.cuh"

namespace xception {

// `epilogue` with a ReLU that nothing follows made the final one, which pack_relu() does for
// nothing.
inline DeviceEpilogue with_final_relu(DeviceEpilogue epilogue) {
  if (epilogue.relu && epilogue.second_scale == nullptr && epilogue.residual == nullptr) {
    epilogue.relu = false;
    epilogue.final_relu = true;
  }
  return epilogue;
}

// Whether that is all: a shift, and a final ReLU.
inline bool is_shift_and_relu(const DeviceEpilogue& epilogue) {
  return epilogue.shift != nullptr && !epilogue.relu && epilogue.second_scale == nullptr &&
         epilogue.residual == nullptr && epilogue.final_relu;
}

// kShifted: the sums began with the shift, and it is not added again.
template <class T, int kWidth, bool kShifted = false>
class ChannelEpilogue {
 public:
  // For channels from `channel` on; `epilogue`'s vectors are read now. kWidth divides `channel` and
  // the tensor's channel stride.
  __device__ __forceinline__ ChannelEpilogue(const DeviceEpilogue& epilogue, int channel)
      : ChannelEpilogue(epilogue, [channel](const float* vector, float (&values)[kWidth]) {
          load_floats(vector + channel, values);
        }) {}

  // load(vector, values) reads these channels of one of `epilogue`'s vectors.
  template <class Load>
  __device__ __forceinline__ ChannelEpilogue(const DeviceEpilogue& epilogue, const Load& load)
      : residual_(static_cast<const T*>(epilogue.residual)),
        relu_(epilogue.relu),
        second_(epilogue.second_scale != nullptr),
        final_relu_(epilogue.final_relu) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      shift_[i] = 0.0F;
    }
    if (!kShifted && epilogue.shift != nullptr) {
      load(epilogue.shift, shift_);
    }
    if (second_) {
      load(epilogue.second_scale, second_scale_);
      load(epilogue.second_shift, second_shift_);
    }
  }

  // Turns a pixel's sums into what is stored. `offset` is where the first of them goes in dst, in
  // elements: the residual stands at the same place. Sums of zero behind the last channel stay
  // zero.
  __device__ __forceinline__ void apply(std::int64_t offset, float (&y)[kWidth]) const {
    float(&pixels)[1][kWidth] = reinterpret_cast<float(&)[1][kWidth]>(y);
    apply_inner(offset, 0, 1, pixels);
    if (final_relu_) {
      each(pixels, [](int, float sum) { return relu_or_nan(sum); });
    }
  }

  // The same for pixels that lie `step` elements apart, of which the first `inside` are inside, but
  // without the final ReLU: where final_relu() says so, pack_relu() does it.
  template <int kPixels>
  __device__ __forceinline__ void apply_inner(std::int64_t offset, std::int64_t step, int inside,
                                              float (&y)[kPixels][kWidth]) const {
    if constexpr (!kShifted) {
      each(y, [&](int i, float sum) { return sum + shift_[i]; });
    }
    if (relu_) {
      each(y, [](int, float sum) { return relu_or_nan(sum); });
    }
    if (second_) {
      each(y, [&](int i, float sum) { return __fmaf_rn(sum, second_scale_[i], second_shift_[i]); });
    }
    if (residual_ != nullptr) {
      const T* from = residual_ + offset;
      each_inside<kPixels>(inside, [&](auto index) {
        constexpr int pixel = decltype(index)::value;
        float residual[kWidth];
        load_channels<T, kWidth>(from + pixel * step, residual);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          y[pixel][i] += residual[i];
        }
      });
    }
  }

  __device__ __forceinline__ bool final_relu() const { return final_relu_; }

 private:
  template <int kPixels, class Step>
  __device__ __forceinline__ static void each(float (&y)[kPixels][kWidth], const Step& step) {
#pragma unroll
    for (int pixel = 0; pixel < kPixels; ++pixel) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        y[pixel][i] = step(i, y[pixel][i]);
      }
    }
  }

  const T* residual_;  // may be dst itself: read by the thread that writes it, before it does
  bool relu_;
  bool second_;
  bool final_relu_;
  float shift_[kWidth];
  float second_scale_[kWidth];  // unset without a second affine, and so is its shift
  float second_shift_[kWidth];
};

}  // namespace xception
