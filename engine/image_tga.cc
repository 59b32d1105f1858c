// TGA: gray, colours or indices of a palette, plain or run-length coded.
#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "image_decoders.h"

namespace xception::decoders {
namespace {

constexpr std::size_t kTgaHeader = 18;
using TgaColour = std::array<std::uint8_t, 3>;

// 15 and 16 bits are five a colour, 24 and 32 a byte a colour, from blue to red; alpha is dropped.
TgaColour read_tga_colour(Bytes file, std::size_t at, std::size_t bytes) {
  if (bytes > 2) {
    return {static_cast<std::uint8_t>(u8(file, at + 2)),
            static_cast<std::uint8_t>(u8(file, at + 1)), static_cast<std::uint8_t>(u8(file, at))};
  }
  const unsigned all = le16(file, at);
  const auto five = [&](int shift) {
    return static_cast<std::uint8_t>((all >> shift & 31) * 255 / 31);
  };
  return {five(10), five(5), five(0)};
}

// What the header says of the pixels, and the palette where they are indices: as many colours as an
// index can name, black where the file has none.
struct TgaPixels {
  unsigned kind = 0;  // 1 palette, 2 colours, 3 gray
  bool packed = false;
  std::size_t bytes = 0;  // a pixel
  std::size_t at = 0;     // in the file
  std::vector<TgaColour> palette;

  TgaColour read(Bytes file, std::size_t from) const {
    if (kind == 2) {
      return read_tga_colour(file, from, bytes);
    }
    if (kind == 1) {
      return palette[bytes == 1 ? u8(file, from) : le16(file, from)];
    }
    const auto gray = static_cast<std::uint8_t>(u8(file, from));
    return {gray, gray, gray};
  }
};

Result<TgaPixels> read_tga_header(Bytes file) {
  TgaPixels pixels;
  pixels.kind = u8(file, 2) & 7;
  pixels.packed = (u8(file, 2) & 8) != 0;
  pixels.bytes = (u8(file, 16) + 7) / 8;
  const bool with_palette = u8(file, 1) == 1;
  const std::size_t palette_at = kTgaHeader + u8(file, 0);
  const std::size_t first = le16(file, 3);
  const std::size_t entries = with_palette ? le16(file, 5) : 0;
  const std::size_t entry_bytes = (u8(file, 7) + 7) / 8;
  pixels.at = palette_at + entries * entry_bytes;
  if (file.size() < pixels.at) {
    return truncated("TGA");
  }
  if (pixels.kind == 1) {
    pixels.palette.resize(pixels.bytes == 1 ? 256 : 65536);
    const std::size_t end = std::min(pixels.palette.size(), first + entries);
    for (std::size_t i = first; i < end; ++i) {
      pixels.palette[i] =
          read_tga_colour(file, palette_at + (i - first) * entry_bytes, entry_bytes);
    }
  }
  return pixels;
}

// Pixels in the order of the file; a packet of them may go on in the next row. False where the
// file ends first.
bool read_tga_pixels(Bytes file, const TgaPixels& pixels, Image* image) {
  std::size_t at = pixels.at;
  std::uint8_t* dst = image->pixels.data();
  for (std::size_t left = image->pixels.size() / 3; left > 0;) {
    std::size_t run = left;  // a plain file is one packet
    bool repeated = false;
    if (pixels.packed) {
      if (at == file.size()) {
        return false;
      }
      repeated = (u8(file, at) & 0x80) != 0;
      run = std::min<std::size_t>(left, 1 + (u8(file, at) & 0x7F));
      ++at;
    }
    const std::size_t stored = repeated ? 1 : run;
    if ((file.size() - at) / pixels.bytes < stored) {
      return false;
    }
    for (std::size_t i = 0; i < run; ++i, dst += 3) {
      const TgaColour colour = pixels.read(file, at + (repeated ? 0 : i * pixels.bytes));
      std::copy(colour.begin(), colour.end(), dst);
    }
    at += stored * pixels.bytes;
    left -= run;
  }
  return true;
}

}  // namespace

Result<DecodedImage> decode_tga(Bytes file, const DecodeOptions& options) {
  const std::int64_t width = le16(file, 12);
  const std::int64_t height = le16(file, 14);
  XC_RETURN_IF_ERROR(check_extent(width, height, 3, options));
  const Result<TgaPixels> pixels = read_tga_header(file);
  XC_RETURN_IF_ERROR(pixels.status());
  // Before anything is allocated: a packet holds 128 pixels at most, and takes a byte and a pixel.
  const auto count = static_cast<std::size_t>(width * height);
  const std::size_t least =
      pixels->packed ? (count + 127) / 128 * (1 + pixels->bytes) : count * pixels->bytes;
  if (file.size() - pixels->at < least) {
    return truncated("TGA");
  }
  Result<DecodedImage> decoded =
      blank_picture(static_cast<std::int64_t>(file.size()), width, height);
  XC_RETURN_IF_ERROR(decoded.status());
  if (!read_tga_pixels(file, *pixels, &decoded->image)) {
    return truncated("TGA");
  }
  // Stored from the left or the right, from the bottom or the top: like what EXIF calls 1 to 4.
  constexpr std::array<int, 4> kOrientations = {4, 3, 1, 2};
  Result<Image> upright = apply_orientation(std::move(decoded->image),
                                            kOrientations[u8(file, 17) >> 4 & 3], file.size());
  XC_RETURN_IF_ERROR(upright.status());
  decoded->image = *std::move(upright);
  return decoded;
}

}  // namespace xception::decoders
