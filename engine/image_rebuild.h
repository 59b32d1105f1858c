// Files written anew for stb_image with only what matters to the pixels, so that it sees neither
// transparency nor a palette that is too short.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "image_decoders.h"

namespace xception::decoders {

using Palette = std::array<std::array<std::uint8_t, 3>, 256>;

// Pillow's palette before a file fills it: entry i is the gray i.
Palette gray_ramp();

// Appends bytes in the order a file format wants them.
class ByteWriter {
 public:
  explicit ByteWriter(std::size_t expected) { bytes_.reserve(expected); }
  void u8(unsigned v) { bytes_.push_back(static_cast<std::byte>(v & 0xFF)); }
  void le16(unsigned v) { u8(v), u8(v >> 8); }
  void be16(unsigned v) { u8(v >> 8), u8(v); }
  void le32(std::uint32_t v) { le16(v), le16(v >> 16); }
  void be32(std::uint32_t v) { be16(v >> 16), be16(v); }
  void copy(Bytes more) { bytes_.insert(bytes_.end(), more.begin(), more.end()); }
  std::size_t size() const { return bytes_.size(); }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace xception::decoders
