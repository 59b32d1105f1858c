// Every inline PTX instruction of the kernels, one wrapper each, but for mma, in mma.cuh, and those
// of sm_90a alone, in wgmma.cuh. What an architecture lacks is done by what it has, behind the same
// name: only these headers look at __CUDA_ARCH__.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/vector.cuh"

namespace xception {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
inline constexpr bool kHasAsyncCopy = false;
#else
inline constexpr bool kHasAsyncCopy = true;
#endif

// Whether await_previous_kernel() waits.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
inline constexpr bool kHasDependentLaunch = true;
#else
inline constexpr bool kHasDependentLaunch = false;
#endif

// sm_90a has instructions that no other architecture has, before or after: wgmma.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
inline constexpr bool kHasWgmma = true;
#else
inline constexpr bool kHasWgmma = false;
#endif

// Byte offset of a pointer within shared memory, as the instructions below take it.
__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// Where a pointer points in global memory, in bytes, as load_global() takes it.
__device__ __forceinline__ std::uint64_t global_address(const void* pointer) {
  return __cvta_generic_to_global(pointer);
}

// The same value, but the compiler does not know how it was made: it keeps it in a register and
// does not make it again in each pass of a loop.
__device__ __forceinline__ std::uint32_t kept(std::uint32_t value) {
  asm volatile("" : "+r"(value));
  return value;
}
__device__ __forceinline__ std::uint64_t kept(std::uint64_t value) {
  asm volatile("" : "+l"(value));
  return value;
}

// Zero, made where it stands: a plain one the compiler makes before the branch that leads to it,
// for those who take the other way too.
__device__ __forceinline__ float zero_here() {
  float zero;
  asm volatile("mov.f32 %0, 0f00000000;" : "=f"(zero));
  return zero;
}

// Four neighbouring elements of global memory, where `wanted` is not zero; elsewhere `to` stays as
// it is. A plain load behind an if is a branch.
__device__ __forceinline__ void load_where(unsigned wanted, const void* src, ushort4& to) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %4, 0;\n"
      "@p ld.global.v4.u16 {%0, %1, %2, %3}, [%5];\n"
      "}\n"
      : "+h"(to.x), "+h"(to.y), "+h"(to.z), "+h"(to.w)
      : "r"(wanted), "l"(global_address(src)));
}
__device__ __forceinline__ void load_where(unsigned wanted, const void* src, float4& to) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %4, 0;\n"
      "@p ld.global.v4.f32 {%0, %1, %2, %3}, [%5];\n"
      "}\n"
      : "+f"(to.x), "+f"(to.y), "+f"(to.z), "+f"(to.w)
      : "r"(wanted), "l"(global_address(src)));
}

// The larger of the two, or NaN where one is NaN: fmaxf drops it.
__device__ __forceinline__ float max_or_nan(float a, float b) {
#if __CUDA_ARCH__ >= 800
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
#else
  return a < b || b != b ? b : a;
#endif
}

// ReLU; a NaN stays one, so that a poisoned input shows.
__device__ __forceinline__ float relu_or_nan(float a) {
#if __CUDA_ARCH__ >= 800
  float result;
  asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(result) : "f"(a));
  return result;
#else
  return max_or_nan(a, 0.0F);
#endif
}

// pack_pair() of their ReLU.
__device__ __forceinline__ std::uint32_t pack_pair_relu(float a, float b, __half) {
#if __CUDA_ARCH__ >= 800
  std::uint32_t bits;
  asm("cvt.rn.relu.f16x2.f32 %0, %2, %1;" : "=r"(bits) : "f"(a), "f"(b));
  return bits;
#else
  return pack_pair(relu_or_nan(a), relu_or_nan(b), __half{});
#endif
}
__device__ __forceinline__ std::uint32_t pack_pair_relu(float a, float b, __nv_bfloat16) {
#if __CUDA_ARCH__ >= 800
  std::uint32_t bits;
  asm("cvt.rn.relu.bf16x2.f32 %0, %2, %1;" : "=r"(bits) : "f"(a), "f"(b));
  return bits;
#else
  return pack_pair(relu_or_nan(a), relu_or_nan(b), __nv_bfloat16{});
#endif
}

// ReLU of two neighbouring 16-bit values; a NaN stays one. In bf16 from sm_80 on.
__device__ __forceinline__ std::uint32_t relu_pair(std::uint32_t bits, __half) {
#if __CUDA_ARCH__ >= 800
  std::uint32_t result;
  asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(result) : "r"(bits), "r"(0));
  return result;
#else
  std::uint32_t kept_halves;
  asm("set.geu.u32.f16x2 %0, %1, %2;" : "=r"(kept_halves) : "r"(bits), "r"(0));
  return bits & kept_halves;
#endif
}
__device__ __forceinline__ std::uint32_t relu_pair(std::uint32_t bits, __nv_bfloat16) {
  std::uint32_t result = bits;
#if __CUDA_ARCH__ >= 800
  asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(result) : "r"(bits), "r"(0));
#endif
  return result;
}

// pack() of their ReLU.
template <class T, int kWidth>
__device__ __forceinline__ Words<kVectorWords<T, kWidth>> pack_relu(const float (&y)[kWidth]) {
  Words<kVectorWords<T, kWidth>> bits;
#pragma unroll
  for (int i = 0; i < kVectorWords<T, kWidth>; ++i) {
    if constexpr (sizeof(T) == 2) {
      bits.word[i] = pack_pair_relu(y[2 * i], y[2 * i + 1], T{});
    } else {
      bits.word[i] = __float_as_uint(relu_or_nan(y[i]));
    }
  }
  return bits;
}

// 16 bytes of global memory at `address` + kOffset, which no kernel writes that runs meanwhile,
// this one included. They are asked for where this stands among volatile statements, however late
// they are used.
template <int kOffset>
__device__ __forceinline__ Words<4> load_global(std::uint64_t address) {
  Words<4> bits;
  asm volatile("ld.global.nc.v4.b32 {%0, %1, %2, %3}, [%4 + %5];"
               : "=r"(bits.word[0]), "=r"(bits.word[1]), "=r"(bits.word[2]), "=r"(bits.word[3])
               : "l"(address), "n"(kOffset));
  return bits;
}

// The same of what an earlier kernel wrote, which in a dependent launch is not constant.
template <int kOffset>
__device__ __forceinline__ Words<4> load_activation(std::uint64_t address) {
  Words<4> bits;
  asm volatile("ld.global.v4.b32 {%0, %1, %2, %3}, [%4 + %5];"
               : "=r"(bits.word[0]), "=r"(bits.word[1]), "=r"(bits.word[2]), "=r"(bits.word[3])
               : "l"(address), "n"(kOffset));
  return bits;
}

// To the second-level cache.
__device__ __forceinline__ void prefetch(const void* place) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(global_address(place)));
}

// 16 bytes of shared memory at `address` + kOffset. It stays where it stands among volatile
// statements, and the compiler moves none of them over a barrier.
template <int kOffset>
__device__ __forceinline__ Words<4> load_shared(std::uint32_t address) {
  Words<4> bits;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4 + %5];"
               : "=r"(bits.word[0]), "=r"(bits.word[1]), "=r"(bits.word[2]), "=r"(bits.word[3])
               : "r"(address), "n"(kOffset));
  return bits;
}

__device__ __forceinline__ void store_shared(std::uint32_t address, const Words<4>& bits) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(bits.word[0]),
               "r"(bits.word[1]), "r"(bits.word[2]), "r"(bits.word[3])
               : "memory");
}

// Two neighbouring words of shared memory, aligned to four bytes.
__device__ __forceinline__ void load_shared_words(std::uint32_t address, std::uint32_t& first,
                                                  std::uint32_t& second) {
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(first) : "r"(address));
  asm volatile("ld.shared.b32 %0, [%1 + 4];" : "=r"(second) : "r"(address));
}

// Two bytes of shared memory, zeros above them.
__device__ __forceinline__ std::uint32_t load_shared_half(std::uint32_t address) {
  std::uint32_t half;
  asm volatile("ld.shared.u16 %0, [%1];" : "=r"(half) : "r"(address));
  return half;
}

// 16 bytes on their way from global to shared memory: from src + kSource to address + kOffset. From
// sm_80 on cp.async carries them and they have landed after wait_for_copies(); before that a
// register holds them until land(). Where `bytes` is 0, and not 16, nothing is read, whatever
// stands at src, and zeros go: a copy that has held something else is to be cleared before.
class ChunkCopy {
 public:
#if __CUDA_ARCH__ >= 800
  static constexpr bool kInRegister = false;
#else
  static constexpr bool kInRegister = true;
#endif

  template <int kOffset, int kSource>
  __device__ __forceinline__ void fetch(std::uint32_t address, const void* src, unsigned bytes) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0 + %3], [%1 + %4], 16, %2;" ::"r"(address), "l"(src),
                 "r"(bytes), "n"(kOffset), "n"(kSource)
                 : "memory");
#else
    asm volatile(
        "{ .reg .pred wanted; setp.ne.u32 wanted, %5, 0;\n"
        "@wanted ld.global.v4.b32 {%0, %1, %2, %3}, [%4 + %6]; }"
        : "+r"(bits_.word[0]), "+r"(bits_.word[1]), "+r"(bits_.word[2]), "+r"(bits_.word[3])
        : "l"(src), "r"(bytes), "n"(kSource)
        : "memory");
#endif
  }
  // All 16 bytes.
  template <int kOffset, int kSource>
  __device__ __forceinline__ void fetch(std::uint32_t address, const void* src) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0 + %2], [%1 + %3], 16;" ::"r"(address), "l"(src),
                 "n"(kOffset), "n"(kSource)
                 : "memory");
#else
    bits_ = load_words(reinterpret_cast<const Words<4>*>(static_cast<const char*>(src) + kSource));
#endif
  }

  __device__ __forceinline__ void clear() {
#if __CUDA_ARCH__ < 800
    bits_ = {};
#endif
  }

  // body(words) of those in a register, which it may change before they land.
  template <class Body>
  __device__ __forceinline__ void change([[maybe_unused]] const Body& body) {
#if __CUDA_ARCH__ < 800
    body(bits_);
#endif
  }

  template <int kOffset>
  __device__ __forceinline__ void land(std::uint32_t address) const {
#if __CUDA_ARCH__ < 800
    asm volatile("st.shared.v4.b32 [%0 + %5], {%1, %2, %3, %4};" ::"r"(address), "r"(bits_.word[0]),
                 "r"(bits_.word[1]), "r"(bits_.word[2]), "r"(bits_.word[3]), "n"(kOffset)
                 : "memory");
#endif
  }

#if __CUDA_ARCH__ < 800
 private:
  Words<4> bits_ = {};
#endif
};

// For lane 4 * g + t of a full warp the value that lane 4 * kRow + t has.
template <int kRow>
__device__ __forceinline__ float from_row(float value) {
  constexpr int kKeepsQuarter = 3 << 8 | 31;  // the lane's lower two bits are its own
  float result;
  asm volatile("shfl.sync.idx.b32 %0, %1, %2, %3, -1;"
               : "=f"(result)
               : "f"(value), "n"(4 * kRow), "n"(kKeepsQuarter));
  return result;
}

// In a dependent launch (launch.h) the kernel before this one may still be running: what it
// writes may be read, and what it reads be written, behind this. Lets the kernel behind this one
// start as soon as all blocks of this one have. To be called by every thread, before any access but
// to weights.
__device__ __forceinline__ void await_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Closes the group of all copies fetched since the last one.
__device__ __forceinline__ void commit_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most kGroups of this thread's youngest groups are still on their way.
template <int kGroups>
__device__ __forceinline__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
#endif
}

// Whether the architecture multiplies matrices of this type.
template <class T>
constexpr bool kHasMma = kHasAsyncCopy;
template <>
constexpr bool kHasMma<__half> = true;

}  // namespace xception
