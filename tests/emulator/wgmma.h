// What one warp does in wgmma.mma_async: its 16 rows of D, from tiles in shared memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "tests/emulator/matrix.h"
#include "tests/emulator/memory.h"

namespace xception::emulator {

// wgmma.mma_async.sync.aligned.m64nNkK.f32.T.T, both matrices K-major. A row of 32 bytes is the
// depth: 16 elements of f16 and bf16, 8 of tf32.
struct WgmmaShape {
  MatrixType type = MatrixType::kF16;  // kF16, kBf16 or kTf32
  int n = 8;                           // 8, 16, ..., 256
  bool operator==(const WgmmaShape&) const = default;
};

inline constexpr int kWgmmaRows = 16;   // of a warp; four warps have 64
inline constexpr int kWgmmaChunks = 2;  // of 16 bytes, in the depth of one instruction
inline constexpr int kWgmmaMostN = 256;
inline constexpr std::size_t kWgmmaRowBytes = kWgmmaChunks * kChunkBytes;

// A tile in shared memory: PTX ISA, "Matrix Descriptor Format" of wgmma.
struct MatrixDescriptor {
  std::uint32_t start = 0;    // bytes, as the other two
  std::uint32_t leading = 0;  // no swizzle: from a core matrix to its neighbour along k
  std::uint32_t stride = 0;   // from 8 rows to the next 8
  std::uint32_t swizzle = 0;  // bytes of a row: 32, 64, 128, or 0: none
};

// Reads a K-major descriptor; `what` says why where it cannot be one, and is empty else.
MatrixDescriptor read_descriptor(std::uint64_t bits, std::string* what);

// Where 16 bytes of a row (of A, or of B transposed) stand in shared memory.
constexpr std::uint32_t chunk_address(const MatrixDescriptor& tile, int row, int chunk) {
  const auto group = static_cast<std::uint32_t>(row) / 8;
  const auto in_group = static_cast<std::uint32_t>(row) % 8;
  const auto along = static_cast<std::uint32_t>(chunk);
  if (tile.swizzle == 0) {
    return tile.start + group * tile.stride + in_group * 16 + along * tile.leading;
  }
  const std::uint32_t plain =
      tile.start + group * tile.stride + in_group * tile.swizzle + along * 16;
  // 128 bytes: bits 4-6 by bits 7-9; 64: two bits; 32: one.
  return plain ^ ((plain >> 3) & (tile.swizzle - 16));
}

// Which element of the warp's 16 rows a lane holds in register `index` of D.
constexpr Position wgmma_position_d(int lane, int index) {
  return {lane / 4 + 8 * (index / 2 % 2), 8 * (index / 4) + 2 * (lane % 4) + index % 2};
}

// The 16 rows of A as floats, depth by depth: element [k * 16 + row].
using WgmmaLeft = std::array<float, 16 * kWgmmaRows>;
WgmmaLeft wgmma_left(MatrixType type, bool negated, std::span<const std::byte> rows);
WgmmaLeft wgmma_left(MatrixType type, bool negated, std::span<const LaneWords> registers);

// sums += A B, column by column: element [column * 16 + row]. `columns` is 32 bytes for each of n
// columns of B. Products are exact and added in the order of k, in float: a wgmma gives the bits of
// mma() over the same k.
void wgmma_product(const WgmmaShape& shape, const WgmmaLeft& left,
                   std::span<const std::byte> columns, float* sums);

}  // namespace xception::emulator
