// PBM, PGM and PPM, the binary kinds (P4, P5, P6), read here: stb_image reads no P4, ignores the
// maximum value and takes 16-bit samples in the wrong order. Scaled as Pillow scales:
// round(value / max * 255).
#include <algorithm>
#include <cmath>
#include <vector>

#include "image_decoders.h"

namespace xception::decoders {
namespace {

bool is_space(unsigned c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// The next decimal number of the header, after white space, and one byte of white space behind it;
// -1 where there is none, or one that no header holds. Comments are left out with the ends of their
// lines wherever they are, in a number too.
std::int64_t next_number(Bytes file, std::size_t* at) {
  std::int64_t value = 0;
  int digits = 0;
  for (bool comment = false; *at < file.size(); ++*at) {
    const unsigned c = u8(file, *at);
    if (comment || c == '#') {
      comment = c != '\n' && c != '\r';
    } else if (is_space(c)) {
      if (digits > 0) {
        ++*at;
        return value;
      }
    } else if (c < '0' || c > '9' || ++digits > 10) {
      return -1;
    } else {
      value = value * 10 + (c - '0');
    }
  }
  return -1;
}

// For each sample value of the file its 8-bit value. 16-bit gray keeps the high byte; Pillow
// scales it to 65535 first. Rounding is half to even, as Python's.
std::vector<std::uint8_t> sample_table(int max, bool gray) {
  std::vector<std::uint8_t> table(max < 256 ? 256 : 65536, 255);
  for (int v = 0; v <= max; ++v) {
    const double part = static_cast<double>(v) / max;
    const double scaled = max > 255 && gray ? std::nearbyint(part * 65535) : 0;
    table[static_cast<std::size_t>(v)] =
        static_cast<std::uint8_t>(max > 255 && gray ? static_cast<int>(scaled) >> 8
                                                    : static_cast<int>(std::nearbyint(part * 255)));
  }
  return table;
}

// Eight pixels a byte, the first one highest; every row begins with a byte of its own. 1 is black.
Result<DecodedImage> decode_bitmap(Bytes file, const DecodeOptions& options) {
  std::size_t at = 2;
  const std::int64_t width = next_number(file, &at);
  const std::int64_t height = next_number(file, &at);
  if (width < 0 || height < 0) {
    return bad_image("the PBM file is damaged: its header should hold width and height");
  }
  XC_RETURN_IF_ERROR(check_extent(width, height, 3, options));
  const auto row_bytes = static_cast<std::size_t>((width + 7) / 8);
  if ((file.size() - at) / row_bytes < static_cast<std::size_t>(height)) {
    return truncated("PBM");
  }
  Result<DecodedImage> decoded =
      blank_picture(static_cast<std::int64_t>(file.size()), width, height);
  XC_RETURN_IF_ERROR(decoded.status());
  std::uint8_t* dst = decoded->image.pixels.data();
  for (std::int64_t y = 0; y < height; ++y, at += row_bytes) {
    for (std::int64_t x = 0; x < width; ++x, dst += 3) {
      const unsigned bits = u8(file, at + static_cast<std::size_t>(x / 8));
      const bool black = (bits >> (7 - x % 8) & 1U) != 0;
      std::fill_n(dst, 3, static_cast<std::uint8_t>(black ? 0 : 255));
    }
  }
  return decoded;
}

}  // namespace

Result<DecodedImage> decode_pnm(Bytes file, const DecodeOptions& options) {
  const unsigned kind = u8(file, 1);
  if (kind == '4') {
    return decode_bitmap(file, options);
  }
  if (kind != '5' && kind != '6') {
    return bad_image(
        "the PNM file is plain text (P1 to P3); only binary ones (P4, P5, P6) are read: convert it "
        "to PNG");
  }
  const bool gray = kind == '5';
  std::size_t at = 2;
  const std::int64_t width = next_number(file, &at);
  const std::int64_t height = next_number(file, &at);
  const std::int64_t max = next_number(file, &at);
  if (width < 0 || height < 0 || max < 1 || max > 65535) {
    return bad_image(
        "the PNM file is damaged: its header should hold width, height and a maximum "
        "of 1 to 65535");
  }
  XC_RETURN_IF_ERROR(check_extent(width, height, 3, options));
  const std::size_t sample = max > 255 ? 2 : 1;
  const auto pixels = static_cast<std::size_t>(width * height);
  const std::size_t channels = gray ? 1 : 3;
  if ((file.size() - at) / channels / sample < pixels) {
    return truncated("PNM");
  }
  Result<DecodedImage> decoded =
      blank_picture(static_cast<std::int64_t>(file.size()), width, height);
  XC_RETURN_IF_ERROR(decoded.status());
  const std::vector<std::uint8_t> table = sample_table(static_cast<int>(max), gray);
  const Bytes data = file.subspan(at);
  for (std::size_t i = 0; i < pixels * 3; ++i) {
    const std::size_t from = (gray ? i / 3 : i) * sample;
    decoded->image.pixels[i] = table[sample == 1 ? u8(data, from) : be16(data, from)];
  }
  if (gray && max > 255) {
    decoded->warnings.emplace_back(
        "16-bit gray is reduced to its high byte, where Pillow's convert('RGB') would turn every "
        "sample above 255 white");
  }
  return decoded;
}

}  // namespace xception::decoders
