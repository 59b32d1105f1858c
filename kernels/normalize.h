// From pictures as the host has them to pictures as the kernels read them.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/gpu.h"
#include "xception/status.h"
#include "xception/tensor.h"

namespace xception {

// `src` is {n, h, w, 3}, dense 8-bit samples on the device, aligned to 4 bytes; `dst` a picture as
// gpu.h has it, aligned to 16.
struct NormalizeArgs {
  const std::uint8_t* src = nullptr;
  void* dst = nullptr;
  std::array<float, 3> mean = {};
  std::array<float, 3> std = {};
};

// `src` is {n, h, w, 3} in either layout, dense float32 on the device, normalised; `dst` as above.
struct CopyPicturesArgs {
  const float* src = nullptr;
  Layout layout = Layout::kNHWC;
  void* dst = nullptr;
};

// Enqueues dst = (src / 255 - mean[c]) / std[c] in float32, each step rounded to nearest, which
// gives to the bit what normalised() of xception/preprocess.h gives; then rounded to the numeric.
// Fails with kInvalidArgument where `shape` has other than 3 channels, `src` is not aligned or one
// launch cannot hold it, and with kDevice.
[[nodiscard]] Status normalize(const Shape& shape, Numeric numeric, const NormalizeArgs& args,
                               Stream stream);

// Enqueues dst = src, rounded to the numeric. Fails as normalize() does.
[[nodiscard]] Status copy_pictures(const Shape& shape, Numeric numeric,
                                   const CopyPicturesArgs& args, Stream stream);

}  // namespace xception
