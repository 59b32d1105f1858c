// Image files made byte by byte, for the tests of the decoders.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace xception::test {

using ByteVector = std::vector<std::uint8_t>;

inline std::span<const std::byte> as_bytes(const ByteVector& bytes) {
  return std::as_bytes(std::span<const std::uint8_t>(bytes));
}

inline ByteVector from_text(const std::string& text) { return {text.begin(), text.end()}; }

inline void append(ByteVector* to, const ByteVector& more) {
  to->insert(to->end(), more.begin(), more.end());
}

inline ByteVector big32(std::uint32_t v) {
  return {static_cast<std::uint8_t>(v >> 24), static_cast<std::uint8_t>(v >> 16),
          static_cast<std::uint8_t>(v >> 8), static_cast<std::uint8_t>(v)};
}

inline ByteVector png_chunk(const std::string& type, const ByteVector& data) {
  ByteVector body = from_text(type);
  append(&body, data);
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const std::uint8_t byte : body) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) {
      crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320U : 0);
    }
  }
  ByteVector chunk = big32(static_cast<std::uint32_t>(data.size()));
  append(&chunk, body);
  append(&chunk, big32(~crc));
  return chunk;
}

// A PNG around finished zlib data; `extra` holds chunks between header and data.
inline ByteVector png_around(unsigned width, unsigned height, std::uint8_t depth,
                             std::uint8_t colour, const ByteVector& zlib,
                             const ByteVector& extra = {}) {
  ByteVector file = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  ByteVector header = big32(width);
  append(&header, big32(height));
  append(&header, {depth, colour, 0, 0, 0});
  append(&file, png_chunk("IHDR", header));
  append(&file, extra);
  append(&file, png_chunk("IDAT", zlib));
  append(&file, png_chunk("IEND", {}));
  return file;
}

// A PNG of `rows`, each with its filter byte, in one stored deflate block.
inline ByteVector png(unsigned width, unsigned height, std::uint8_t depth, std::uint8_t colour,
                      const ByteVector& rows, const ByteVector& extra = {}) {
  const auto size = static_cast<std::uint16_t>(rows.size());
  ByteVector zlib = {0x78,
                     0x01,
                     0x01,
                     static_cast<std::uint8_t>(size),
                     static_cast<std::uint8_t>(size >> 8),
                     static_cast<std::uint8_t>(~size),
                     static_cast<std::uint8_t>(~size >> 8)};
  std::uint32_t a = 1;
  std::uint32_t b = 0;
  for (const std::uint8_t byte : rows) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  append(&zlib, rows);
  append(&zlib, big32(b << 16 | a));
  return png_around(width, height, depth, colour, zlib, extra);
}

// zlib data of a few bytes a kilobyte: a zero, then `runs` times 258 more.
inline ByteVector zlib_bomb(std::size_t runs) {
  std::vector<bool> bits = {true, true, false};  // last block, fixed codes
  const auto code = [&bits](unsigned value, int length) {
    for (int bit = length - 1; bit >= 0; --bit) {
      bits.push_back((value >> bit & 1) != 0);
    }
  };
  code(0x30, 8);  // the byte 0
  for (std::size_t i = 0; i < runs; ++i) {
    code(0xC5, 8);  // length 258
    code(0, 5);     // distance 1
  }
  code(0, 7);  // end
  ByteVector zlib = {0x78, 0x01};
  for (std::size_t i = 0; i < bits.size(); ++i) {
    if (i % 8 == 0) {
      zlib.push_back(0);
    }
    zlib.back() = static_cast<std::uint8_t>(zlib.back() | (bits[i] ? 1 << i % 8 : 0));
  }
  append(&zlib, {0, 0, 0, 0});
  return zlib;
}

// A gray JPEG of 16 x 8 pixels, the left half 128 and the right half 228. One quantiser of 8, one
// Huffman code for "no change" or "seven bits of change", one for "no more coefficients".
inline ByteVector jpeg(const ByteVector& segments = {}, unsigned width = 16, unsigned height = 8) {
  ByteVector file = {0xFF, 0xD8};
  append(&file, segments);
  append(&file, {0xFF, 0xDB, 0, 67, 0});
  file.insert(file.end(), 64, 8);
  append(&file, {0xFF, 0xC0, 0, 11, 8, static_cast<std::uint8_t>(height >> 8),
                 static_cast<std::uint8_t>(height), static_cast<std::uint8_t>(width >> 8),
                 static_cast<std::uint8_t>(width), 1, 1, 0x11, 0});
  append(&file, {0xFF, 0xC4, 0, 21, 0x00, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7});
  append(&file, {0xFF, 0xC4, 0, 20, 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  append(&file, {0xFF, 0xDA, 0, 8, 1, 1, 0x00, 0, 63, 0});
  // 0 0 | 10 1100100 0 | 1111
  append(&file, {0b00101100, 0b10001111, 0xFF, 0xD9});
  return file;
}

// The same picture as a progressive file of that many scans: the last has the end of every block,
// the others all that is before.
inline ByteVector progressive_jpeg(int scans) {
  ByteVector file = jpeg();
  file.resize(file.size() - 14);  // up to the scan
  file[72] = 0xC2;                // the marker of the frame
  for (int i = 1; i < scans; ++i) {
    append(&file, {0xFF, 0xDA, 0, 8, 1, 1, 0x00, 0, 0, 0});
    append(&file, {0b01011001, 0b00111111});  // 0 | 10 1100100 | 111111
  }
  append(&file, {0xFF, 0xDA, 0, 8, 1, 1, 0x00, 1, 63, 0});
  append(&file, {0b00111111, 0xFF, 0xD9});
  return file;
}

// An APP1 segment with an orientation, its directory at `directory`.
inline ByteVector exif(std::uint8_t orientation, std::uint8_t directory = 8) {
  return {0xFF, 0xE1, 0,         34, 'E',         'x', 'i', 'f', 0,    0, 'I', 'I',
          '*',  0,    directory, 0,  0,           0,   1,   0,   0x12, 1, 3,   0,
          1,    0,    0,         0,  orientation, 0,   0,   0,   0,    0, 0,   0};
}

}  // namespace xception::test
