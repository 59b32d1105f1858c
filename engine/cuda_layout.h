// Activations between host memory, float32 and dense, and the layout of the kernels: NHWC in the
// working type, pixels channel_stride(c) apart with zeros between.
#pragma once

#include <cstddef>

#include "kernels/gpu.h"
#include "xception/tensor.h"

namespace xception {

// Bytes of an activation on the device.
inline std::size_t device_bytes(const Shape& shape, Numeric numeric) {
  return static_cast<std::size_t>(device_elements(shape)) * element_bytes(numeric);
}

// Writes device_bytes(shape, numeric) to `dst`. Allocates nothing.
void to_device_layout(const float* src, Layout layout, const Shape& shape, Numeric numeric,
                      std::byte* dst);

// `dst` is NHWC. Allocates nothing.
void from_device_layout(const std::byte* src, const Shape& shape, Numeric numeric, float* dst);

}  // namespace xception
