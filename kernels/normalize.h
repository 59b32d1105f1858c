// From pictures and values in the host's layouts to activations on the device, and back.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/gpu.h"
#include "xception/status.h"
#include "xception/tensor.h"

namespace xception {

// `src` is {n, h, w, 3}, dense 8-bit samples on the device, aligned to 4 bytes; `dst` an
// activation.
struct NormalizeArgs {
  const std::uint8_t* src = nullptr;
  void* dst = nullptr;
  std::array<float, 3> mean = {};
  std::array<float, 3> std = {};
};

// Enqueues dst = (src / 255 - mean[c]) / std[c] in float32, each step rounded to nearest, which
// gives to the bit what normalised() of xception/preprocess.h gives; then rounded to the numeric.
// Fails with kInvalidArgument where `shape` has other than 3 channels or `src` is not aligned, and
// with kDevice.
[[nodiscard]] Status normalize(const Shape& shape, Numeric numeric, const NormalizeArgs& args,
                               Stream stream);

// Enqueues a copy of dense NHWC float32 on the device to an activation, rounded to nearest even.
// Fails with kDevice.
[[nodiscard]] Status import_activation(const Shape& shape, Numeric numeric, const float* src,
                                       void* dst, Stream stream);

// The other way: an activation to dense NHWC float32 on the device. Fails with kDevice.
[[nodiscard]] Status export_activation(const Shape& shape, Numeric numeric, const void* src,
                                       float* dst, Stream stream);

}  // namespace xception
