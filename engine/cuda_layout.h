// Tensors between host memory, float32 and dense, and the layouts of the kernels, in the working
// type: see gpu.h.
#pragma once

#include <cstddef>

#include "kernels/gpu.h"
#include "xception/tensor.h"

namespace xception {

// Bytes of an activation on the device.
inline std::size_t device_bytes(const Shape& shape, Numeric numeric) {
  return static_cast<std::size_t>(device_elements(shape)) * element_bytes(numeric);
}

// Bytes of pictures on the device.
inline std::size_t picture_bytes(const Shape& shape, Numeric numeric) {
  return static_cast<std::size_t>(picture_elements(shape)) * element_bytes(numeric);
}

// Writes device_bytes(shape, numeric) to `dst`. `src` is NHWC. Allocates nothing.
void to_device_layout(const float* src, const Shape& shape, Numeric numeric, std::byte* dst);

// `dst` is NHWC. Allocates nothing.
void from_device_layout(const std::byte* src, const Shape& shape, Numeric numeric, float* dst);

}  // namespace xception
