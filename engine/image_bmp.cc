// BMP, TGA and PSD: checked here, decoded by stb_image.
#include <algorithm>
#include <cstdlib>
#include <span>

#include "image_rebuild.h"

namespace xception::decoders {
namespace {

constexpr std::size_t kBmpFileHeader = 14;
constexpr std::size_t kBmpInfoHeader = 40;

struct BmpHeader {
  std::size_t pixels_at = 0;
  std::size_t info_size = 0;
  std::int64_t width = 0;
  std::int64_t height = 0;  // negative: top row first
  unsigned bits = 0;
  std::uint32_t compression = 0;
  std::uint32_t colours = 0;
};

Result<BmpHeader> read_bmp_header(Bytes file) {
  BmpHeader header;
  if (file.size() < kBmpFileHeader + 12) {
    return truncated("BMP");
  }
  header.pixels_at = le32(file, 10);
  header.info_size = le32(file, 14);
  if (header.info_size == 12) {
    header.width = le16(file, 18);
    header.height = le16(file, 20);
    header.bits = le16(file, 24);
    return header;
  }
  if (header.info_size < kBmpInfoHeader) {
    return bad_image("the BMP file has a header of an unknown kind; convert it to PNG");
  }
  if (file.size() < kBmpFileHeader + header.info_size) {
    return truncated("BMP");
  }
  header.width = static_cast<std::int32_t>(le32(file, 18));
  header.height = static_cast<std::int32_t>(le32(file, 22));
  header.bits = le16(file, 28);
  header.compression = le32(file, 30);
  header.colours = le32(file, 46);
  return header;
}

// The file with a palette of 256 entries, which stb_image would otherwise read beyond.
Result<std::vector<std::byte>> write_palette_bmp(Bytes file, const BmpHeader& header) {
  const std::size_t entry = header.info_size == 12 ? 3 : 4;
  const std::size_t palette_at = kBmpFileHeader + header.info_size;
  const std::size_t all = std::size_t{1} << header.bits;
  const std::size_t entries = header.colours == 0 ? all : header.colours;
  const std::int64_t rows = std::abs(header.height);
  const std::int64_t stride = (header.width * header.bits + 31) / 32 * 4;
  if (entries > 256) {
    return bad_image("the BMP file is damaged: its palette has an impossible size");
  }
  if (file.size() < palette_at + entries * entry || file.size() < header.pixels_at ||
      file.size() - header.pixels_at < static_cast<std::size_t>(stride * rows)) {
    return truncated("BMP");
  }
  const std::size_t data_at = kBmpFileHeader + kBmpInfoHeader + 1024;
  ByteWriter out(data_at + static_cast<std::size_t>(stride * rows));
  out.copy(file.first(10));
  out.le32(static_cast<std::uint32_t>(data_at));
  out.le32(kBmpInfoHeader);
  out.le32(static_cast<std::uint32_t>(header.width));
  out.le32(static_cast<std::uint32_t>(header.height));
  out.le16(1);
  out.le16(header.bits);
  for (int unused = 0; unused < 6; ++unused) {
    out.le32(0);  // no compression; the size of the data, resolution and counts are not looked at
  }
  for (std::size_t i = 0; i < 256; ++i) {
    for (std::size_t c = 0; c < 3; ++c) {
      out.u8(i < entries ? u8(file, palette_at + i * entry + c) : 0);
    }
    out.u8(0);
  }
  out.copy(file.subspan(header.pixels_at, static_cast<std::size_t>(stride * rows)));
  return out.take();
}

// Moves `at` behind the PSD section there, a 32-bit length and as many bytes. False where the file
// ends first.
bool skip_psd_section(Bytes file, std::size_t* at) {
  if (file.size() - *at < 4 || file.size() - *at - 4 < be32(file, *at)) {
    return false;
  }
  *at += 4 + be32(file, *at);
  return true;
}

// Whether all channels are there, also those that are left out: `at` is behind the two bytes of the
// compression, at the packed rows' sizes or the samples.
bool psd_data_complete(Bytes file, std::size_t at, std::int64_t rows_of_all, std::int64_t row_bytes,
                       bool packed) {
  const auto left = static_cast<std::int64_t>(file.size() - at);
  if (!packed) {
    return left / row_bytes >= rows_of_all;
  }
  if (left / 2 < rows_of_all) {
    return false;
  }
  std::int64_t sum = 2 * rows_of_all;
  for (std::int64_t row = 0; row < rows_of_all; ++row, at += 2) {
    sum += be16(file, at);
  }
  return left >= sum;
}

}  // namespace

Result<DecodedImage> decode_bmp(Bytes file, const DecodeOptions& options) {
  Result<BmpHeader> header = read_bmp_header(file);
  if (!header.ok()) {
    return header.status();
  }
  const std::int64_t height = std::abs(header->height);
  XC_RETURN_IF_ERROR(check_extent(header->width, height, 7, options));
  if (header->compression == 1 || header->compression == 2) {
    return bad_image("the BMP file is run-length coded, which is not read; convert it to PNG");
  }
  if (header->bits != 1 && header->bits != 4 && header->bits != 8) {
    return stb_decode_rgb(file, "BMP", header->width, height);
  }
  if (header->compression != 0) {
    return bad_image("the BMP file is compressed in a way that is not read; convert it to PNG");
  }
  Result<std::vector<std::byte>> plain = write_palette_bmp(file, *header);
  if (!plain.ok()) {
    return plain.status();
  }
  return stb_decode_rgb(*plain, "BMP", header->width, height);
}

Result<DecodedImage> decode_tga(Bytes file, const DecodeOptions& options) {
  const std::int64_t width = le16(file, 12);
  const std::int64_t height = le16(file, 14);
  XC_RETURN_IF_ERROR(check_extent(width, height, 8, options));
  if ((u8(file, 17) & 0x10) != 0 || le16(file, 3) != 0) {
    return bad_image(
        "the TGA file is stored right to left or with part of a palette, which is "
        "not read; convert it to PNG");
  }
  // stb_image does not notice where the rows of an uncompressed file run out.
  const unsigned type = u8(file, 2);
  const std::int64_t before =
      18 + u8(file, 0) + std::int64_t{le16(file, 5)} * ((u8(file, 7) + 7) / 8);
  const std::int64_t data = type < 8 ? width * height * ((u8(file, 16) + 7) / 8) : 1;
  if (static_cast<std::int64_t>(file.size()) < before + data) {
    return truncated("TGA");
  }
  return stb_decode_rgb(file, "TGA", width, height);
}

// The channels after the third are left out: stb_image would take alpha for a white matte and
// rework the colours with it.
Result<DecodedImage> decode_psd(Bytes file, const DecodeOptions& options) {
  constexpr std::size_t kHeader = 26;
  std::size_t at = kHeader;
  if (file.size() < kHeader) {
    return truncated("PSD");
  }
  const std::size_t channels = be16(file, 12);
  const std::int64_t height = be32(file, 14);
  const std::int64_t width = be32(file, 18);
  XC_RETURN_IF_ERROR(check_extent(width, height, 8, options));
  if (be16(file, 24) != 3 || channels < 3) {
    return bad_image("the PSD file is not in RGB colours, which alone are read; convert it to PNG");
  }
  for (int section = 0; section < 3; ++section) {
    if (!skip_psd_section(file, &at)) {
      return truncated("PSD");
    }
  }
  if (file.size() - at < 2) {
    return truncated("PSD");
  }
  const bool packed = be16(file, at) == 1;
  if (be16(file, 22) != 8 && be16(file, 22) != 16) {
    return bad_image("the PSD file has samples of neither 8 nor 16 bits; convert it to PNG");
  }
  if (packed && be16(file, 22) != 8) {
    return bad_image("the PSD file packs 16-bit samples, which is not read; convert it to PNG");
  }
  const std::size_t row_counts = packed ? static_cast<std::size_t>(height) * 2 : 0;
  if (!psd_data_complete(file, at + 2, height * static_cast<std::int64_t>(channels),
                         width * (be16(file, 22) / 8), packed)) {
    return truncated("PSD");
  }
  ByteWriter plain(file.size());
  plain.copy(file.first(12));
  plain.be16(3);
  plain.copy(file.subspan(14, kHeader - 14));
  for (int section = 0; section < 3; ++section) {
    plain.be32(0);
  }
  plain.copy(file.subspan(at, 2 + row_counts * 3));
  plain.copy(file.subspan(at + 2 + row_counts * channels));
  return stb_decode_rgb(plain.take(), "PSD", width, height);
}

}  // namespace xception::decoders
