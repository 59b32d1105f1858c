// What only Hopper has (sm_90a), one wrapper each: products by warpgroups, bulk copies, and the
// barriers in shared memory (mbarrier) that tell when they have landed.
//
// PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions", "Data Movement
// and Conversion Instructions: Tensor copy" and "Parallel Synchronization and Communication
// Instructions: mbarrier".
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/ptx.cuh"
#include "kernels/unrolled.cuh"

namespace xception {

// --- mbarrier: an address in shared memory, 8 bytes ----------------------------------------------

// A phase is over when `arrivals` have come and all bytes that were promised.
__device__ __forceinline__ void init_barrier(std::uint32_t barrier, std::uint32_t arrivals) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
#endif
}
// Makes what init_barrier() wrote known to bulk copies.
__device__ __forceinline__ void publish_barriers() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
__device__ __forceinline__ void arrive(std::uint32_t barrier) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
#endif
}
__device__ __forceinline__ void arrive_expecting(std::uint32_t barrier, std::uint32_t bytes) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
#endif
}
// Waits for the end of the phase of this parity; phases count from 0.
__device__ __forceinline__ void wait_for_phase(std::uint32_t barrier, std::uint32_t parity) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  std::uint32_t over = 0;
  while (over == 0) {
    asm volatile(
        "{\n"
        ".reg .pred over;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
        "selp.u32 %0, 1, 0, over;\n"
        "}"
        : "=r"(over)
        : "r"(barrier), "r"(parity)
        : "memory");
  }
#endif
}

// --- copies of boxes to shared memory, by one thread; `barrier` counts their bytes ---------------

// The box of the map that begins at (column, row). What lies outside the tensor arrives as zero.
__device__ __forceinline__ void copy_box(std::uint32_t dst, const CUtensorMap& map, int column,
                                         int row, std::uint32_t barrier) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3}], [%4];" ::"r"(dst),
      "l"(&map), "r"(column), "r"(row), "r"(barrier)
      : "memory");
#endif
}

// --- products by warpgroups ----------------------------------------------------------------------

// Of a matrix in shared memory whose rows are 128 bytes of k, swizzled; eight rows follow each
// other and then the next eight. 32 bytes further on begin the next 16 elements.
__device__ __forceinline__ std::uint64_t matrix_descriptor(std::uint32_t address) {
  constexpr std::uint64_t kRowsOfEight = 1024;
  constexpr std::uint64_t kSwizzle128 = 1;
  return static_cast<std::uint64_t>(address >> 4) | std::uint64_t{1} << 16 |
         kRowsOfEight >> 4 << 32 | kSwizzle128 << 62;
}

// Before the first product, and wherever sums were touched.
__device__ __forceinline__ void begin_products() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void commit_products() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
// Until at most kGroups groups are under way.
template <int kGroups>
__device__ __forceinline__ void wait_for_products() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
#endif
}
// Keeps the compiler from reading sums ahead of wait_for_products().
template <int kCount>
__device__ __forceinline__ void pin(float (&sum)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    asm volatile("" : "+f"(sum[i])::"memory");
  }
}

#define XC_SUMS_4(i) "+f"(sum[i]), "+f"(sum[(i) + 1]), "+f"(sum[(i) + 2]), "+f"(sum[(i) + 3])
#define XC_SUMS_16(i) XC_SUMS_4(i), XC_SUMS_4((i) + 4), XC_SUMS_4((i) + 8), XC_SUMS_4((i) + 12)
#define XC_NAMES_0 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define XC_NAMES_16 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define XC_NAMES_32 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define XC_NAMES_48 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define XC_WGMMA(shape, types, names, pixels_name, weights_name, ...)                  \
  asm volatile(                                                                        \
      "{\n"                                                                            \
      ".reg .pred add;\n"                                                              \
      "setp.eq.u32 add, 0, 0;\n"                                                       \
      "wgmma.mma_async.sync.aligned." shape ".f32." types " {" names "}, " pixels_name \
      ", " weights_name                                                                \
      ", add, 1, 1, 0, 0;\n"                                                           \
      "}"                                                                              \
      : __VA_ARGS__                                                                    \
      : "l"(pixels), "l"(weights))
#define XC_MULTIPLY_ASYNC(T, types)                                                              \
  __device__ __forceinline__ void multiply_async(std::uint64_t pixels, std::uint64_t weights,    \
                                                 float(&sum)[16], T) {                           \
    XC_WGMMA("m64n32k16", types, XC_NAMES_0, "%16", "%17", XC_SUMS_16(0));                       \
  }                                                                                              \
  __device__ __forceinline__ void multiply_async(std::uint64_t pixels, std::uint64_t weights,    \
                                                 float(&sum)[32], T) {                           \
    XC_WGMMA("m64n64k16", types, XC_NAMES_0 ", " XC_NAMES_16, "%32", "%33", XC_SUMS_16(0),       \
             XC_SUMS_16(16));                                                                    \
  }                                                                                              \
  __device__ __forceinline__ void multiply_async(std::uint64_t pixels, std::uint64_t weights,    \
                                                 float(&sum)[64], T) {                           \
    XC_WGMMA("m64n128k16", types, XC_NAMES_0 ", " XC_NAMES_16 ", " XC_NAMES_32 ", " XC_NAMES_48, \
             "%64", "%65", XC_SUMS_16(0), XC_SUMS_16(16), XC_SUMS_16(32), XC_SUMS_16(48));       \
  }

// sum += pixels * weights over 16 elements of k, of the 64 rows of a warpgroup and two columns a
// sum: both by their descriptors. Thread 4 * g + t of warp w has rows 16 * w + g and 8 further
// down, and of every eight columns 2 * t and the next one: sums 4 * j and 4 * j + 1 of the first
// row, the two behind them of the second.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
XC_MULTIPLY_ASYNC(__half, "f16.f16")
XC_MULTIPLY_ASYNC(__nv_bfloat16, "bf16.bf16")
#else
template <int kCount, class T>
__device__ __forceinline__ void multiply_async(std::uint64_t, std::uint64_t, float (&)[kCount], T) {
}
#endif

#undef XC_MULTIPLY_ASYNC
#undef XC_WGMMA
#undef XC_NAMES_48
#undef XC_NAMES_32
#undef XC_NAMES_16
#undef XC_NAMES_0
#undef XC_SUMS_16
#undef XC_SUMS_4

}  // namespace xception
