// Seeded random tensors, and buffers that tell when something wrote beside them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "tests/split_mix.h"

namespace xception {

// A new seed each time, so that repeated runs see new inputs; XCEPTION_TEST_SEED=... repeats one.
inline std::uint64_t fresh_seed() {
  const char* text = std::getenv("XCEPTION_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device{}();
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : seed_(seed), engine_(seed) {}

  std::uint64_t seed() const { return seed_; }

  int integer(int least, int most) {
    return std::uniform_int_distribution<int>(least, most)(engine_);
  }

  // Nearly normal, the sum of four uniform numbers: mean 0, deviation 1, at most 3.47 from it. One
  // of 260,000 values; the mean is off by half of what lies between two, so that none is 0, which
  // times an infinity is NaN.
  float normal() {
    const std::uint64_t bits = engine_();
    const auto part = [bits](int i) { return static_cast<int>(bits >> (16 * i) & 0xFFFF); };
    const int sum = part(0) + part(1) + part(2) + part(3);
    constexpr float kMean = 4 * 32767.5F + 0.5F;
    constexpr float kDeviation = 37837.2265F;  // sqrt(4 * (65536^2 - 1) / 12)
    return (static_cast<float>(sum) - kMean) / kDeviation;
  }

  // Whole numbers: as long as every partial sum stays below 2^24, any order of summation in float
  // gives the same result, so a kernel is held against its reference with tolerance zero.
  std::vector<float> integers(std::int64_t count, int least = -4, int most = 4) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) {
      value = static_cast<float>(integer(least, most));
    }
    return values;
  }

  std::vector<float> normals(std::int64_t count, float deviation = 1.0F) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) {
      value = normal() * deviation;
    }
    return values;
  }

 private:
  std::uint64_t seed_;
  SplitMix64 engine_;
};

// Uninitialised output as a kernel meets it: every byte is 0xFF, which is a NaN in fp16, bf16, fp32
// and fp64, and so are the guard bands before and behind. A value read from outside shows as NaN in
// the result, a value written outside in guards_intact(). Aligned to 64 bytes.
template <class T>
class GuardedBuffer {
 public:
  explicit GuardedBuffer(std::int64_t count)
      : bytes_(static_cast<std::size_t>(count) * sizeof(T)),
        storage_(bytes_ + 2 * kGuard + kAlignment, kPoison) {
    const auto address = reinterpret_cast<std::uintptr_t>(storage_.data());
    first_ = kGuard + (kAlignment - address % kAlignment) % kAlignment;
  }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  T* data() { return reinterpret_cast<T*>(storage_.data() + first_); }
  std::int64_t size() const { return static_cast<std::int64_t>(bytes_ / sizeof(T)); }
  std::span<const T> values() { return {data(), bytes_ / sizeof(T)}; }
  std::vector<T> copy() { return std::vector<T>(data(), data() + size()); }

  bool guards_intact() const {
    return poisoned(0, first_) && poisoned(first_ + bytes_, storage_.size());
  }

  // False where an element still holds the poison.
  bool fully_written() const {
    for (std::size_t i = 0; i < bytes_; i += sizeof(T)) {
      if (poisoned(first_ + i, first_ + i + sizeof(T))) {
        return false;
      }
    }
    return true;
  }

 private:
  static constexpr std::size_t kGuard = 4096;
  static constexpr std::size_t kAlignment = 64;
  static constexpr unsigned char kPoison = 0xFF;

  bool poisoned(std::size_t begin, std::size_t end) const {
    for (std::size_t i = begin; i < end; ++i) {
      if (storage_[i] != kPoison) {
        return false;
      }
    }
    return true;
  }

  std::size_t bytes_;
  std::vector<unsigned char> storage_;
  std::size_t first_ = 0;
};

}  // namespace xception

// Declares a Random of a fresh seed that a failing check prints. Needs testing.h.
#define XC_RANDOM(name)                              \
  ::xception::Random name(::xception::fresh_seed()); \
  INFO("repeat with XCEPTION_TEST_SEED=" << name.seed())
