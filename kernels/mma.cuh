// mma.sync, one wrapper for each type of operand.
//
// Fragments are those of the PTX ISA, "Matrix Fragments for mma.m16n8k16" and its neighbours: lane
// 4 * g + t holds rows g and g + 8, and columns 2t and 2t + 1 of the accumulator.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/ptx.cuh"

namespace xception {

// float32 whose operands mma rounds to tf32.
struct Tf32 {};

// To the nearest tf32, ties away from zero; mma itself would cut off the low bits.
__device__ __forceinline__ std::uint32_t round_to_tf32(std::uint32_t bits) {
#if __CUDA_ARCH__ >= 800
  std::uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(bits)));
  return rounded;
#else
  return bits;
#endif
}

// sum += a * b: 16 x 8 results over 16 bytes of k. `a0` holds rows 0-7, `a1` rows 8-15.
#define XC_MMA_K8(shape_and_types)                                                               \
  asm("mma.sync.aligned." shape_and_types " {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};" \
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])                                   \
      : "r"(a0), "r"(a1), "r"(b))

__device__ __forceinline__ void multiply(std::uint32_t a0, std::uint32_t a1, std::uint32_t b,
                                         float (&sum)[4], __half) {
  XC_MMA_K8("m16n8k8.row.col.f32.f16.f16.f32");
}
__device__ __forceinline__ void multiply(std::uint32_t a0, std::uint32_t a1, std::uint32_t b,
                                         float (&sum)[4], __nv_bfloat16) {
#if __CUDA_ARCH__ >= 800
  XC_MMA_K8("m16n8k8.row.col.f32.bf16.bf16.f32");
#endif
}

// sum = start + a * b. Elements of `start` that are one value share its register.
#define XC_MMA_K8_FIRST(shape_and_types)                                                          \
  asm("mma.sync.aligned." shape_and_types " {%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %8, %9, %10};" \
      : "=f"(sum[0]), "=f"(sum[1]), "=f"(sum[2]), "=f"(sum[3])                                    \
      : "r"(a0), "r"(a1), "r"(b), "f"(start[0]), "f"(start[1]), "f"(start[2]), "f"(start[3]))

__device__ __forceinline__ void multiply_first(std::uint32_t a0, std::uint32_t a1, std::uint32_t b,
                                               const float (&start)[4], float (&sum)[4], __half) {
  XC_MMA_K8_FIRST("m16n8k8.row.col.f32.f16.f16.f32");
}

// sum += a * b: 16 x 8 results over 32 bytes of k, 16 elements of 16 bits or 8 of tf32. `a` holds
// the matrices (rows 0-7, first 16 bytes of k), (rows 8-15, first), (0-7, second), (8-15, second);
// `b`, n-major, those of the first and of the second 16 bytes.
#define XC_MMA(shape_and_types)                                          \
  asm("mma.sync.aligned." shape_and_types                                \
      " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])           \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

__device__ __forceinline__ void multiply(const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                                         float (&sum)[4], __half) {
#if __CUDA_ARCH__ >= 800
  XC_MMA("m16n8k16.row.col.f32.f16.f16.f32");
#else
  multiply(a[0], a[1], b[0], sum, __half{});
  multiply(a[2], a[3], b[1], sum, __half{});
#endif
}
__device__ __forceinline__ void multiply(const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                                         float (&sum)[4], __nv_bfloat16) {
#if __CUDA_ARCH__ >= 800
  XC_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
#endif
}
__device__ __forceinline__ void multiply(const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                                         float (&sum)[4], Tf32) {
#if __CUDA_ARCH__ >= 800
  XC_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
#endif
}

#define XC_MMA_FIRST(shape_and_types)                                                    \
  asm("mma.sync.aligned." shape_and_types                                                \
      " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"             \
      : "=f"(sum[0]), "=f"(sum[1]), "=f"(sum[2]), "=f"(sum[3])                           \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(start[0]), \
        "f"(start[1]), "f"(start[2]), "f"(start[3]))

__device__ __forceinline__ void multiply_first(const std::uint32_t (&a)[4],
                                               const std::uint32_t (&b)[2], const float (&start)[4],
                                               float (&sum)[4], __half) {
#if __CUDA_ARCH__ >= 800
  XC_MMA_FIRST("m16n8k16.row.col.f32.f16.f16.f32");
#else
  multiply_first(a[0], a[1], b[0], start, sum, __half{});
  multiply(a[2], a[3], b[1], sum, __half{});
#endif
}
__device__ __forceinline__ void multiply_first(const std::uint32_t (&a)[4],
                                               const std::uint32_t (&b)[2], const float (&start)[4],
                                               float (&sum)[4], __nv_bfloat16) {
#if __CUDA_ARCH__ >= 800
  XC_MMA_FIRST("m16n8k16.row.col.f32.bf16.bf16.f32");
#endif
}
__device__ __forceinline__ void multiply_first(const std::uint32_t (&a)[4],
                                               const std::uint32_t (&b)[2], const float (&start)[4],
                                               float (&sum)[4], Tf32) {
#if __CUDA_ARCH__ >= 800
  XC_MMA_FIRST("m16n8k8.row.col.f32.tf32.tf32.f32");
#endif
}

#undef XC_MMA_FIRST
#undef XC_MMA
#undef XC_MMA_K8_FIRST
#undef XC_MMA_K8

}  // namespace xception
