// What kernels and their callers agree on: how tensors lie on the device, and what a GPU is to
// those who choose a tile for it. No CUDA header and no CUDA call in here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/problem.h"
#include "xception/status.h"
#include "xception/tensor.h"

struct CUstream_st;

// Functions that kernels call too; to a host compiler it is nothing.
#ifdef __CUDACC__
#define XC_HOST_DEVICE __host__ __device__
#else
#define XC_HOST_DEVICE
#endif

namespace xception {

using Stream = CUstream_st*;

// How many pieces of `step` hold `count`.
constexpr std::int64_t ceil_div(std::int64_t count, std::int64_t step) {
  return (count + step - 1) / step;
}

// The least multiple of `step` that is not below `value`.
XC_HOST_DEVICE constexpr int round_up(int value, int step) {
  return (value + step - 1) / step * step;
}

// An activation on the device is NHWC with its pixels channel_stride(c) elements apart. What lies
// between c and the stride is zero, in every buffer, always: kernels read it and write it as zero.
// 728 half-precision channels are 45.5 sectors of 32 bytes; 736 make every pixel start on one.
XC_HOST_DEVICE constexpr int channel_stride(int channels) { return round_up(channels, 16); }

// What a network reads, pictures, would be five times its size like that. Pixels of a picture lie
// three elements apart and rows picture_row(w), so that each starts on a sector; what lies between
// rows is zero.
inline constexpr int kPictureColours = 3;
constexpr int picture_row(int w) { return round_up(kPictureColours * w, 16); }

// Elements of an activation on the device, its padding included.
constexpr std::int64_t device_elements(const Shape& shape) {
  return static_cast<std::int64_t>(shape.n) * shape.h * shape.w * channel_stride(shape.c);
}

// Elements of pictures on the device, their padding included.
constexpr std::int64_t picture_elements(const Shape& shape) {
  return static_cast<std::int64_t>(shape.n) * shape.h * picture_row(shape.w);
}

// Number of pixel (y, x) of picture n, all of h x w: its offset is that times the channel stride.
// Padding before the picture counts on below zero. 64 bits, for 2^31 elements are no limit.
XC_HOST_DEVICE constexpr std::int64_t pixel_index(int n, int y, int x, int h, int w) {
  return (static_cast<std::int64_t>(n) * h + y) * w + x;
}

// How numbers are kept and multiplied. kFp16 and kBf16 keep 16 bits and accumulate in float32;
// kFp32 is exact float32; kTf32 keeps float32 and rounds the operands of matrix products to tf32.
enum class Numeric { kFp32, kTf32, kFp16, kBf16 };

constexpr std::size_t element_bytes(Numeric numeric) {
  return numeric == Numeric::kFp16 || numeric == Numeric::kBf16 ? 2 : 4;
}

// "fp32", "tf32", "fp16", "bf16".
const char* numeric_name(Numeric numeric);

// The nearest tf32 (10 bits of mantissa), ties away from zero, as a float32: what a matrix product
// in tf32 makes of its operands. Infinity and NaN stay what they are.
float round_to_tf32(float value);

// The GPU, as far as the choice of a tile depends on it.
struct GpuInfo {
  // 10 * major + minor of the compute capability that its code was compiled for; it may have more.
  int arch = 80;
  int multiprocessors = 108;
  bool has_wgmma = false;  // the code is that of sm_90a: warpgroups multiply matrices
};

// The current device of the calling thread. Fails with kDevice.
Result<GpuInfo> current_gpu();

// Epilogue of a kernel: what happens to a sum before it is stored, in this order. Vectors are on
// the device, float32, channel_stride(k) long and zero behind k; null leaves the step out. The
// affine's scale is in the weights already.
struct DeviceEpilogue {
  const float* shift = nullptr;         // y = y + shift[k]
  bool relu = false;                    // y = max(y, 0)
  const float* second_scale = nullptr;  // y = second_scale[k] * y + second_shift[k]
  const float* second_shift = nullptr;  //   (both or neither)
  const void* residual = nullptr;       // y = y + residual: shape, type and layout of dst
  bool final_relu = false;              // y = max(y, 0)
};

}  // namespace xception
