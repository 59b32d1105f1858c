// Vectors of a few neighbouring channels, for the loops of the CPU backend: float32 in registers,
// float32 or bf16 in memory.
//
// Included where the compiler may use instructions that the machine does not have. So everything
// is the including file's own: another's copy would be linked in its place, or this one in
// another's.
#pragma once

#include <cstdint>

namespace xception::cpu {
namespace {

struct Bf16 {
  std::uint16_t bits;
};

template <int kLanes>
struct Vector {
  using Float [[gnu::vector_size(4 * kLanes)]] = float;
  using Bits [[gnu::vector_size(4 * kLanes)]] = std::uint32_t;
  using Half [[gnu::vector_size(2 * kLanes)]] = std::uint16_t;
};
template <int kLanes>
using Float = typename Vector<kLanes>::Float;

template <int kLanes>
Float<kLanes> load(const float* src) {
  Float<kLanes> value;
  __builtin_memcpy(&value, src, sizeof(value));
  return value;
}

template <int kLanes>
Float<kLanes> load(const Bf16* src) {
  typename Vector<kLanes>::Half half;
  __builtin_memcpy(&half, src, sizeof(half));
  const auto bits = __builtin_convertvector(half, typename Vector<kLanes>::Bits) << 16U;
  Float<kLanes> value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

template <int kLanes>
void store(const Float<kLanes>& value, float* dst) {
  __builtin_memcpy(dst, &value, sizeof(value));
}

// A bf16 in the upper half. A NaN that was a bf16, or is the processor's own, has nothing in its
// lower half that could carry.
template <class Bits>
Bits rounded(const Bits& bits) {
  return bits + 0x7FFFU + ((bits >> 16U) & 1U);
}

template <int kLanes>
void store(const Float<kLanes>& value, Bf16* dst) {
  typename Vector<kLanes>::Bits bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  constexpr std::uint32_t kMagnitude = 0x7FFFFFFF;
  constexpr std::uint32_t kInfinity = 0x7F800000;
  constexpr std::uint32_t kQuiet = 0x400000;  // of a NaN
  bits = (bits & kMagnitude) > kInfinity ? bits | kQuiet : rounded(bits);
  const auto half = __builtin_convertvector(bits >> 16U, typename Vector<kLanes>::Half);
  __builtin_memcpy(dst, &half, sizeof(half));
}

// Lets a NaN through.
template <int kLanes>
Float<kLanes> at_least(const Float<kLanes>& value, float floor) {
  const Float<kLanes> floors = Float<kLanes>{} + floor;
  return value < floors ? floors : value;
}

// Neighbouring channels of kLanes elements of 32 bits: one float, or two bf16, the even and the odd
// channels apart. A bf16 is the upper half of its float, so that taking two apart costs a shift and
// a mask, where widening costs a shuffle and a shift for each.
template <int kLanes, class T>
struct Block;

template <int kLanes>
struct Block<kLanes, float> {
  static constexpr int kParts = 1;
  Float<kLanes> part[1];
  void load(const float* src) { __builtin_memcpy(part, src, sizeof(part)); }
  void load_split(const float* src, std::int64_t /*stride*/) { load(src); }
  void store(float* dst) const { __builtin_memcpy(dst, part, sizeof(part)); }
  void store(Bf16* dst) const { cpu::store<kLanes>(part[0], dst); }
};

template <int kLanes>
struct Block<kLanes, Bf16> {
  static constexpr int kParts = 2;
  using Bits = typename Vector<kLanes>::Bits;
  Float<kLanes> part[2];

  void load(const Bf16* src) {
    Bits bits;
    __builtin_memcpy(&bits, src, sizeof(bits));
    const Bits halves[2] = {bits << 16U, bits & 0xFFFF0000U};
    __builtin_memcpy(part, halves, sizeof(part));
  }
  // The even channels from `src` on, the odd ones `stride` behind.
  void load_split(const float* src, std::int64_t stride) {
    __builtin_memcpy(&part[0], src, sizeof(part[0]));
    __builtin_memcpy(&part[1], src + stride, sizeof(part[1]));
  }
  void store(Bf16* dst) const {
    Bits halves[2];
    __builtin_memcpy(halves, part, sizeof(part));
    const Bits bits = (rounded(halves[0]) >> 16U) | (rounded(halves[1]) & 0xFFFF0000U);
    __builtin_memcpy(dst, &bits, sizeof(bits));
  }
};

}  // namespace
}  // namespace xception::cpu
