// Tensor maps, which the driver encodes and cp.async.bulk.tensor reads. Their 128 bytes are opaque
// to everybody else; these are the emulator's own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace xception::emulator {

inline constexpr std::size_t kTensorMapBytes = 128;
inline constexpr std::size_t kTensorMapAlignment = 64;
inline constexpr int kMostTensorRank = 5;

// Dimension 0 is the innermost.
struct TensorMap {
  int rank = 1;
  std::uint32_t element_bytes = 1;
  std::uint32_t swizzle_bytes = 0;  // the span, 32, 64 or 128; 0: none
  std::uint64_t address = 0;
  std::array<std::uint64_t, kMostTensorRank> extents{1, 1, 1, 1, 1};
  std::array<std::uint64_t, kMostTensorRank> strides{};  // bytes; [0] is element_bytes
  std::array<std::uint32_t, kMostTensorRank> box{1, 1, 1, 1, 1};

  std::uint32_t row_bytes() const { return box[0] * element_bytes; }
  std::uint64_t rows() const {
    return std::uint64_t{box[1]} * box[2] * box[3] * std::uint64_t{box[4]};
  }
};

// Whether the driver takes it: rank, alignments, sizes of the box and of strides.
bool is_valid(const TensorMap& map);

void encode(const TensorMap& map, std::span<std::byte, kTensorMapBytes> bytes);
// Nothing where the bytes are not what encode() has written.
std::optional<TensorMap> decode_tensor_map(std::span<const std::byte, kTensorMapBytes> bytes);

// Where the 16 bytes at a shared address stand in a box that is swizzled: bits of the chunk's index
// within the span are XORed with those of the 128-byte lines above.
std::uint64_t swizzled(std::uint64_t address, std::uint32_t swizzle_bytes);

}  // namespace xception::emulator
