// Elements of a tensor as a thread moves them: kWidth neighbouring channels in one access of 8 or
// 16 bytes, computed with as float32.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace xception {

// Channels in 16 bytes.
template <class T>
constexpr int kVectorWidth = 16 / static_cast<int>(sizeof(T));

// Two neighbouring 16-bit values in one register.
__device__ __forceinline__ float2 unpack_pair(std::uint32_t bits, __half) {
  return __half22float2(*reinterpret_cast<const __half2*>(&bits));
}
// A bfloat16 is the upper half of its float32.
__device__ __forceinline__ float2 unpack_pair(std::uint32_t bits, __nv_bfloat16) {
  return {__uint_as_float(bits << 16), __uint_as_float(bits & 0xFFFF0000U)};
}

// One of them.
template <class T>
__device__ __forceinline__ float widen(unsigned short bits);
template <>
__device__ __forceinline__ float widen<__half>(unsigned short bits) {
  return __half2float(__ushort_as_half(bits));
}
template <>
__device__ __forceinline__ float widen<__nv_bfloat16>(unsigned short bits) {
  return __bfloat162float(__ushort_as_bfloat16(bits));
}
template <class T>
__device__ __forceinline__ float widen(float value) {
  return value;
}
// Four of them: ushort4, or float4.
template <class T, class Four>
__device__ __forceinline__ void widen(const Four& four, float (&y)[4]) {
  y[0] = widen<T>(four.x);
  y[1] = widen<T>(four.y);
  y[2] = widen<T>(four.z);
  y[3] = widen<T>(four.w);
}

// Rounds to nearest even; `a` in the low half.
__device__ __forceinline__ std::uint32_t pack_pair(float a, float b, __half) {
  const __half2 pair = __floats2half2_rn(a, b);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}
__device__ __forceinline__ std::uint32_t pack_pair(float a, float b, __nv_bfloat16) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

// The raw bits of kWords registers: one access, aligned to its size.
template <int kWords>
struct alignas(4 * kWords) Words {
  static_assert(kWords == 2 || kWords == 4);
  std::uint32_t word[kWords];
};

// A copy of the struct would be made word by word, each an access of its own.
__device__ __forceinline__ Words<2> load_words(const Words<2>* src) {
  const uint2 word = *reinterpret_cast<const uint2*>(src);
  return {{word.x, word.y}};
}
__device__ __forceinline__ Words<4> load_words(const Words<4>* src) {
  const uint4 word = *reinterpret_cast<const uint4*>(src);
  return {{word.x, word.y, word.z, word.w}};
}
__device__ __forceinline__ void store_words(Words<2>* dst, const Words<2>& bits) {
  *reinterpret_cast<uint2*>(dst) = make_uint2(bits.word[0], bits.word[1]);
}
__device__ __forceinline__ void store_words(Words<4>* dst, const Words<4>& bits) {
  *reinterpret_cast<uint4*>(dst) =
      make_uint4(bits.word[0], bits.word[1], bits.word[2], bits.word[3]);
}

template <class T, int kWidth>
constexpr int kVectorWords = kWidth* static_cast<int>(sizeof(T)) / 4;

template <class T, int kWidth>
__device__ __forceinline__ void unpack(const Words<kVectorWords<T, kWidth>>& bits,
                                       float (&y)[kWidth]) {
  if constexpr (sizeof(T) == 2) {
#pragma unroll
    for (int i = 0; i < kWidth / 2; ++i) {
      const float2 pair = unpack_pair(bits.word[i], T{});
      y[2 * i] = pair.x;
      y[2 * i + 1] = pair.y;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      y[i] = __uint_as_float(bits.word[i]);
    }
  }
}

// kWidth channels from `src`, which is aligned to their bytes.
template <class T, int kWidth>
__device__ __forceinline__ void load_channels(const T* src, float (&y)[kWidth]) {
  if constexpr (std::is_same_v<T, __half> && kWidth == 4) {
    // PTX need not take the halves apart; the machine code is the same either way.
    // A copy first: its members through the pointer would be four accesses.
    const ushort4 bits = *reinterpret_cast<const ushort4*>(src);
    widen<T>(bits, y);
  } else {
    unpack<T, kWidth>(load_words(reinterpret_cast<const Words<kVectorWords<T, kWidth>>*>(src)), y);
  }
}

// kWidth float32 from `src` on, a multiple of four of them, of which each four begin `step` behind
// the last.
template <int kWidth>
__device__ __forceinline__ void load_floats(const float* src, float (&values)[kWidth],
                                            int step = 4) {
#pragma unroll
  for (int i = 0; i < kWidth; i += 4) {
    const float4 four = *reinterpret_cast<const float4*>(src + i / 4 * step);
    values[i] = four.x;
    values[i + 1] = four.y;
    values[i + 2] = four.z;
    values[i + 3] = four.w;
  }
}

template <class T, int kWidth>
__device__ __forceinline__ Words<kVectorWords<T, kWidth>> pack(const float (&y)[kWidth]) {
  Words<kVectorWords<T, kWidth>> bits;
  if constexpr (sizeof(T) == 2) {
#pragma unroll
    for (int i = 0; i < kWidth / 2; ++i) {
      bits.word[i] = pack_pair(y[2 * i], y[2 * i + 1], T{});
    }
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      bits.word[i] = __float_as_uint(y[i]);
    }
  }
  return bits;
}

template <class T, int kWidth>
__device__ __forceinline__ void store_channels(T* dst, const float (&y)[kWidth]) {
  store_words(reinterpret_cast<Words<kVectorWords<T, kWidth>>*>(dst), pack<T, kWidth>(y));
}

// Ones where the first `valid` of kWidth channels lie, which may be none or all.
template <class T, int kWidth>
__device__ __forceinline__ Words<kVectorWords<T, kWidth>> channel_mask(int valid) {
  Words<kVectorWords<T, kWidth>> mask;
  constexpr int kPerWord = 4 / static_cast<int>(sizeof(T));
#pragma unroll
  for (int i = 0; i < kVectorWords<T, kWidth>; ++i) {
    const int rest = valid - i * kPerWord;
    const bool half = kPerWord == 2 && rest == 1;
    mask.word[i] = half ? 0xFFFFU : (rest > 0 ? 0xFFFFFFFFU : 0U);
  }
  return mask;
}

// Zero outside `mask`, whatever y is there.
template <class T, int kWidth>
__device__ __forceinline__ void store_channels(T* dst, const float (&y)[kWidth],
                                               const Words<kVectorWords<T, kWidth>>& mask) {
  Words<kVectorWords<T, kWidth>> bits = pack<T, kWidth>(y);
#pragma unroll
  for (int i = 0; i < kVectorWords<T, kWidth>; ++i) {
    bits.word[i] &= mask.word[i];
  }
  store_words(reinterpret_cast<Words<kVectorWords<T, kWidth>>*>(dst), bits);
}

}  // namespace xception
