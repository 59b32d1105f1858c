// The inner loops of resample.cc, for the instruction set of the processor at hand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace xception {

// Pillow's fixed point: a weight of 1 is 2^22, and sums begin with a half.
inline constexpr int kWeightBits = 32 - 8 - 2;
inline constexpr std::uint32_t kHalf = 1U << (kWeightBits - 1);

// The kernels of pixels side by side, over a row of pixels of three bytes.
struct RowKernels {
  std::vector<std::int64_t> firsts;   // source pixel of a kernel's first weight
  std::vector<std::size_t> ends;      // in `weights`, which holds one kernel behind the other
  std::vector<std::int32_t> weights;  // of each a multiple of ResampleLoops::taps
};

// Sums are unsigned, so that an overshoot beyond 32 bits, possible where millions of pixels shrink
// to one, wraps as it does in Pillow and is not undefined. For the same reason their order is free.
struct ResampleLoops {
  int taps;  // that are added at a time
  std::int64_t padded(std::int64_t count) const { return (count + taps - 1) / taps * taps; }
  // Three bytes a kernel.
  void (*resample_row)(const RowKernels& kernels, const std::uint8_t* row, std::uint8_t* out);
  // sums[i] += weight * row[i]
  void (*add_row)(std::uint32_t weight, const std::uint8_t* row, std::size_t count,
                  std::uint32_t* sums);
};

extern const ResampleLoops kBaselineResampleLoops;  // what every processor of the architecture has
// The fastest that the processor has.
const ResampleLoops& select_resample_loops();

// What a sum stands for.
std::uint8_t to_byte(std::uint32_t sum);

}  // namespace xception
