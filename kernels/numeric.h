// float32 in host memory to and from what the device keeps: see Numeric in gpu.h. Host code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/gpu.h"

namespace xception {

// To the nearest, half to even. What is too large becomes infinite, a NaN stays one, and results
// below fp16's normal numbers are its denormals, as the GPU's own conversions have it.
std::uint16_t to_fp16(float value);
float from_fp16(std::uint16_t bits);
std::uint16_t to_bf16(float value);
float from_bf16(std::uint16_t bits);

// Writes values.size() elements of `numeric`, dense, to `dst`.
void to_numeric(std::span<const float> values, Numeric numeric, std::byte* dst);

// Reads values.size() elements of `numeric`, dense, from `src`.
void from_numeric(const std::byte* src, Numeric numeric, std::span<float> values);

}  // namespace xception
