// The EXIF orientation: found in a JPEG's APP1 segment, or a PNG's eXIf chunk or text, read from
// the first directory of the TIFF structure in it, and applied. Every offset in there is somebody's
// claim.
#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "image_decoders.h"

namespace xception::decoders {
namespace {

constexpr unsigned kOrientationTag = 0x0112;
constexpr std::string_view kExifPrefix("Exif\0\0", 6);

// Bytes of an integer of that TIFF type; 0 of other types, of those of eight bytes, and of unsigned
// bytes, which Pillow does not take for a number.
constexpr std::size_t integer_bytes(unsigned type) {
  constexpr std::array<std::uint8_t, 14> kBytes = {0, 0, 0, 2, 4, 0, 1, 0, 2, 4, 0, 0, 0, 4};
  return type < kBytes.size() ? kBytes[type] : 0;
}

// The first Exif segment; empty where there is none before the pixels.
Bytes find_in_jpeg(Bytes file) {
  std::size_t at = 2;
  while (file.size() - at >= 4 && u8(file, at) == 0xFF) {
    const unsigned marker = u8(file, at + 1);
    if (marker == 0xFF) {  // padding
      ++at;
      continue;
    }
    const std::size_t length = be16(file, at + 2);
    const bool pixels_begin = marker == 0xDA || marker == 0xD9;
    if (pixels_begin || length < 2 || file.size() - at - 2 < length) {
      break;
    }
    const Bytes data = file.subspan(at + 4, length - 2);
    if (marker == 0xE1 && starts_with(data, kExifPrefix)) {
      return data;
    }
    at += 2 + length;
  }
  return {};
}

// ImageMagick writes EXIF into a text of that name: an empty line, one that says what it is, one
// with its size, and hexadecimal digits. Of longer ones than any camera writes only the beginning
// is read, and nothing at all where they are compressed.
constexpr std::size_t kMostProfileText = std::size_t{1} << 20;
constexpr std::string_view kExifProfile("Raw profile type exif\0", 22);

// The profile in `text`; empty where that is damaged.
std::vector<std::byte> read_profile(Bytes text) {
  int lines = 0;
  unsigned high = 0;
  bool half = false;  // of a byte: `high`
  std::vector<std::byte> profile;
  for (std::size_t i = 0; i < std::min(text.size(), kMostProfileText); ++i) {
    const unsigned c = u8(text, i);
    const unsigned letter = (c | 0x20) - 'a';
    if (lines < 3 || c == '\n' || c == ' ') {
      lines += c == '\n' ? 1 : 0;
      continue;
    }
    if ((c < '0' || c > '9') && letter > 5) {
      return {};
    }
    const unsigned digit = letter <= 5 ? letter + 10 : c - '0';
    if (half) {
      profile.push_back(static_cast<std::byte>(high << 4 | digit));
    }
    half = !half;
    high = digit;
  }
  return profile;
}

// The profile in the data of a text chunk.
std::vector<std::byte> read_profile_chunk(Bytes data, bool compressed) {
  data = data.subspan(kExifProfile.size());
  if (!compressed) {
    return read_profile(data);
  }
  std::vector<std::uint8_t> text(kMostProfileText);
  const std::optional<std::size_t> size =
      data.empty() || u8(data, 0) != 0 ? std::nullopt : stb_inflate(data.subspan(1), text);
  return size ? read_profile(std::as_bytes(std::span(text)).first(*size))
              : std::vector<std::byte>();
}

// The first eXIf chunk, or else the first profile in a text; empty where there is none.
std::vector<std::byte> find_in_png(Bytes file) {
  std::vector<std::byte> profile;
  bool found = false;
  std::size_t at = 8;
  while (at <= file.size() && file.size() - at >= 12) {
    const std::size_t length = be32(file, at);
    if (file.size() - at - 12 < length) {
      break;
    }
    const Bytes type = file.subspan(at + 4, 4);
    const Bytes data = file.subspan(at + 8, length);
    if (starts_with(type, "eXIf")) {
      return {data.begin(), data.end()};
    }
    const bool compressed = starts_with(type, "zTXt");
    if (!found && (compressed || starts_with(type, "tEXt")) && starts_with(data, kExifProfile)) {
      found = true;
      profile = read_profile_chunk(data, compressed);
    }
    at += 12 + length;
  }
  return profile;
}

// Of EXIF data, which are a TIFF structure, behind a prefix or not.
int orientation_of(Bytes exif) {
  const Bytes tiff = exif.subspan(starts_with(exif, kExifPrefix) ? kExifPrefix.size() : 0);
  const bool little = starts_with(tiff, std::string_view("II*\0", 4));
  if (tiff.size() < 10 || (!little && !starts_with(tiff, std::string_view("MM\0*", 4)))) {
    return 1;
  }
  const auto get16 = [&](std::size_t at) { return little ? le16(tiff, at) : be16(tiff, at); };
  const auto get32 = [&](std::size_t at) { return little ? le32(tiff, at) : be32(tiff, at); };
  const std::size_t directory = get32(4);
  if (directory > tiff.size() - 2) {
    return 1;
  }
  constexpr std::size_t kEntry = 12;
  const std::size_t entries = get16(directory);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t at = directory + 2 + i * kEntry;
    if (at + kEntry > tiff.size()) {
      break;
    }
    const std::size_t bytes = integer_bytes(get16(at + 2));
    const std::size_t count = get32(at + 4);
    // Values that together take more than four bytes stand elsewhere.
    if (get16(at) == kOrientationTag && bytes > 0 && count > 0 && bytes * count <= 4) {
      const std::size_t value = bytes == 1   ? u8(tiff, at + 8)
                                : bytes == 2 ? get16(at + 8)
                                             : get32(at + 8);
      return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
    }
  }
  return 1;
}

using Pixel = std::array<std::uint8_t, 3>;
static_assert(sizeof(Pixel) == 3);

Pixel* row_of(Image& image, int y) {
  return reinterpret_cast<Pixel*>(image.pixels.data()) + std::int64_t{y} * image.width;
}

void mirror_columns(Image& image) {
  for (int y = 0; y < image.height; ++y) {
    std::reverse(row_of(image, y), row_of(image, y) + image.width);
  }
}

void mirror_rows(Image& image) {
  for (int y = 0; y < image.height / 2; ++y) {
    std::swap_ranges(row_of(image, y), row_of(image, y) + image.width,
                     row_of(image, image.height - 1 - y));
  }
}

Image transposed(Image& image) {
  Image result = blank_image(image.height, image.width);
  for (int y = 0; y < result.height; ++y) {
    Pixel* dst = row_of(result, y);
    for (int x = 0; x < result.width; ++x) {
      dst[x] = row_of(image, x)[y];
    }
  }
  return result;
}

}  // namespace

int exif_orientation(Bytes file, Format format) {
  switch (format) {
    case Format::kJpeg:
      return orientation_of(find_in_jpeg(file));
    case Format::kPng:
      return orientation_of(find_in_png(file));
    default:
      return 1;
  }
}

Result<Image> apply_orientation(Image image, int orientation, std::size_t held) {
  if (orientation <= 1 || orientation > 8) {
    return image;
  }
  // Where the upright picture's pixel (x, y) is in the stored one: transposed or not, then
  // mirrored in the stored columns and rows or not.
  struct Rule {
    bool transpose, mirror_x, mirror_y;
  };
  static constexpr std::array<Rule, 9> kRules = {{{false, false, false},
                                                  {false, false, false},
                                                  {false, true, false},
                                                  {false, true, true},
                                                  {false, false, true},
                                                  {true, false, false},
                                                  {true, false, true},
                                                  {true, true, true},
                                                  {true, true, false}}};
  const Rule rule = kRules[static_cast<std::size_t>(orientation)];
  if (rule.mirror_x) {
    mirror_columns(image);
  }
  if (rule.mirror_y) {
    mirror_rows(image);
  }
  if (!rule.transpose) {
    return image;
  }
  if (held + 2 * image.pixels.size() > static_cast<std::size_t>(kMaxWorkingBytes)) {
    return bad_image(
        "turning the picture upright needs more than 1 GiB; scale it down, or leave it as it is "
        "(exif ignore)");
  }
  return transposed(image);
}

}  // namespace xception::decoders
