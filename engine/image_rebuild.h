// Files written anew for stb_image with only what matters to the pixels, so that it sees neither
// transparency nor a palette that is too short.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "image_decoders.h"

namespace xception::decoders {

// What a file leaves out of its palette is black, as it is from Pillow 10.1 on.
using Palette = std::array<std::array<std::uint8_t, 3>, 256>;

// Appends bytes in the order a file format wants them.
class ByteWriter {
 public:
  explicit ByteWriter(std::size_t expected) { bytes_.reserve(expected); }
  void u8(unsigned v) {  // push_back here makes gcc 14 warn of what it inlines
    bytes_.resize(bytes_.size() + 1);
    bytes_.back() = static_cast<std::byte>(v & 0xFF);
  }
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
