#include "tests/emulator/tensor_map.h"

#include <algorithm>
#include <cstring>

namespace xception::emulator {
namespace {

constexpr std::uint64_t kMagic = 0x70616D726F736E74U;
constexpr std::uint64_t kMostExtent = std::uint64_t{1} << 32;
constexpr std::uint64_t kMostStride = std::uint64_t{1} << 40;
constexpr std::uint32_t kMostBox = 256;
constexpr std::uint64_t kUnit = 16;

// What the bytes hold; the checksum is of all words before it.
struct Encoded {
  std::uint64_t magic;
  std::uint64_t address;
  std::uint64_t strides[kMostTensorRank - 1];
  std::uint32_t last_indices[kMostTensorRank];  // extents less 1
  std::uint16_t box[kMostTensorRank];
  std::uint8_t rank;
  std::uint8_t element_bytes;
  std::uint32_t swizzle_bytes;
  std::uint32_t unused;
  std::uint64_t padding[4];
  std::uint64_t checksum;
};
static_assert(sizeof(Encoded) == kTensorMapBytes);

std::uint64_t checksum(const Encoded& encoded) {
  std::uint64_t words[kTensorMapBytes / 8];
  std::memcpy(words, &encoded, sizeof encoded);
  std::uint64_t sum = 0x9E3779B97F4A7C15U;
  for (std::size_t i = 0; i + 1 < std::size(words); ++i) {
    sum = (sum ^ words[i]) * 0xbf58476d1ce4e5b9U;
    sum ^= sum >> 31;
  }
  return sum;
}

}  // namespace

bool is_valid(const TensorMap& map) {
  if (map.rank < 1 || map.rank > kMostTensorRank || map.address % kUnit != 0 ||
      map.row_bytes() % kUnit != 0 ||
      (map.swizzle_bytes != 0 && map.row_bytes() > map.swizzle_bytes)) {
    return false;
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(map.rank); ++i) {
    if (map.extents[i] < 1 || map.extents[i] > kMostExtent || map.box[i] < 1 ||
        map.box[i] > kMostBox) {
      return false;
    }
    if (i > 0 && (map.strides[i] % kUnit != 0 || map.strides[i] >= kMostStride)) {
      return false;
    }
  }
  return true;
}

void encode(const TensorMap& map, std::span<std::byte, kTensorMapBytes> bytes) {
  Encoded encoded{};
  encoded.magic = kMagic;
  encoded.address = map.address;
  for (std::size_t i = 0; i < kMostTensorRank; ++i) {
    encoded.last_indices[i] = static_cast<std::uint32_t>(map.extents[i] - 1);
    encoded.box[i] = static_cast<std::uint16_t>(map.box[i]);
    if (i > 0) {
      encoded.strides[i - 1] = map.strides[i];
    }
  }
  encoded.rank = static_cast<std::uint8_t>(map.rank);
  encoded.element_bytes = static_cast<std::uint8_t>(map.element_bytes);
  encoded.swizzle_bytes = map.swizzle_bytes;
  encoded.checksum = checksum(encoded);
  std::memcpy(bytes.data(), &encoded, sizeof encoded);
}

std::optional<TensorMap> decode_tensor_map(std::span<const std::byte, kTensorMapBytes> bytes) {
  Encoded encoded;
  std::memcpy(&encoded, bytes.data(), sizeof encoded);
  if (encoded.magic != kMagic || encoded.checksum != checksum(encoded)) {
    return std::nullopt;
  }
  TensorMap map;
  map.rank = encoded.rank;
  map.element_bytes = encoded.element_bytes;
  map.swizzle_bytes = encoded.swizzle_bytes;
  map.address = encoded.address;
  map.strides[0] = encoded.element_bytes;
  for (std::size_t i = 0; i < kMostTensorRank; ++i) {
    map.extents[i] = std::uint64_t{encoded.last_indices[i]} + 1;
    map.box[i] = encoded.box[i];
    if (i > 0) {
      map.strides[i] = encoded.strides[i - 1];
    }
  }
  return map;
}

std::uint64_t swizzled(std::uint64_t address, std::uint32_t swizzle_bytes) {
  if (swizzle_bytes == 0) {
    return address;
  }
  const std::uint64_t chunks = swizzle_bytes / 16 - 1;  // 7, 3 or 1: a mask
  return address ^ ((address >> 7 & chunks) << 4);
}

}  // namespace xception::emulator
