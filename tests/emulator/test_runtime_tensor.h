// A kernel whose one warp copies boxes of a tensor for the others, with faults to choose from.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

namespace xception::emulator {

enum class RingFault {
  kNone,
  kNoWait,        // the consumers do not wait for a slot
  kEarlyRelease,  // they give a slot back before they have read it
  kNoRelease,     // or never
  kNoSyncwarp,    // one lane gives it back without the others
  kHasty,         // the producer does not wait for a slot
  kWrongBytes,    // and expects other bytes than it copies
  kTwoArrivals,   // or arrives twice
  kNotInitialised,
  kCount,
};

// The box of the map: 32 columns of 16 rows of 4-byte numbers, with the 128-byte swizzle.
constexpr int kRingColumns = 32;
constexpr int kRingRows = 16;
constexpr int kRingTiles = 20;

// dst[16 * 32]: sums over the boxes whose first rows are first_row + 16 * i, i < kRingTiles.
cudaError_t sum_boxes(RingFault fault, const CUtensorMap& map, int column, int first_row, int* dst);

}  // namespace xception::emulator
