// BMP, plain or with masks for its colours.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>

#include "image_decoders.h"

namespace xception::decoders {
namespace {

constexpr std::size_t kBmpFileHeader = 14;
// Inside the longer headers, and behind one of 40 bytes: the same place.
constexpr std::size_t kBmpMasksAt = kBmpFileHeader + 40;
constexpr std::uint32_t kBmpPlain = 0;
constexpr std::uint32_t kBmpMasks = 3;

struct BmpHeader {
  std::size_t pixels_at = 0;
  std::size_t end = 0;  // of both headers and the masks; a palette is next
  std::size_t entry_bytes = 4;
  std::int64_t width = 0;
  std::int64_t height = 0;  // negative: top row first
  unsigned bits = 0;
  std::uint32_t compression = kBmpPlain;
  std::uint32_t colours = 0;

  bool indexed() const { return bits <= 8; }
};

Result<BmpHeader> read_bmp_header(Bytes file) {
  BmpHeader header;
  if (file.size() < kBmpFileHeader + 12) {
    return truncated("BMP");
  }
  const std::size_t size = le32(file, kBmpFileHeader);
  header.pixels_at = le32(file, 10);
  header.end = kBmpFileHeader + size;
  if (size == 12) {
    header.entry_bytes = 3;
    header.width = le16(file, 18);
    header.height = le16(file, 20);
    header.bits = le16(file, 24);
    return header;
  }
  if (size < 40) {
    return bad_image("the BMP file has a header of an unknown kind; convert it to PNG");
  }
  if (file.size() < header.end) {
    return truncated("BMP");
  }
  header.width = static_cast<std::int32_t>(le32(file, 18));
  header.height = static_cast<std::int32_t>(le32(file, 22));
  header.bits = le16(file, 28);
  header.compression = le32(file, 30);
  header.colours = le32(file, 46);
  if (header.compression == kBmpMasks) {
    header.end = std::max(header.end, kBmpMasksAt + 12);
  }
  return file.size() < header.end ? Result<BmpHeader>(truncated("BMP")) : header;
}

Status check_bmp_kind(const BmpHeader& header) {
  constexpr std::array<unsigned, 6> kBits = {1, 4, 8, 16, 24, 32};
  if (header.compression == 1 || header.compression == 2) {
    return bad_image("the BMP file is run-length coded, which is not read; convert it to PNG");
  }
  if (header.compression != kBmpPlain && (header.compression != kBmpMasks || header.indexed())) {
    return bad_image("the BMP file is compressed in a way that is not read (" +
                     std::to_string(header.compression) + "); convert it to PNG");
  }
  if (std::find(kBits.begin(), kBits.end(), header.bits) == kBits.end()) {
    return bad_image("the BMP file has pixels of " + std::to_string(header.bits) +
                     " bits, which are not read; convert it to PNG");
  }
  return Status();
}

// Between the headers and the pixels, where there may be a gap as well. Some writers name no place
// of the pixels, or that of the palette: they are behind it then. Others leave out entries without
// saying so: what is between is all the palette there is.
Result<Palette> read_bmp_palette(Bytes file, BmpHeader* header) {
  std::size_t entries = 0;
  if (header->indexed()) {
    entries = header->colours != 0 ? header->colours : std::size_t{1} << header->bits;
  }
  if (entries > 256) {
    return bad_image("the BMP file is damaged: its palette has an impossible size");
  }
  if (header->pixels_at == 0 || (header->indexed() && header->pixels_at == header->end)) {
    header->pixels_at = header->end + entries * header->entry_bytes;
  }
  if (header->pixels_at < header->end) {
    return bad_image("the BMP file is damaged: its pixels begin inside its header");
  }
  entries = std::min(entries, (header->pixels_at - header->end) / header->entry_bytes);
  if (file.size() < header->pixels_at) {
    return truncated("BMP");
  }
  Palette palette{};
  for (std::size_t i = 0; i < entries; ++i) {
    for (std::size_t c = 0; c < 3; ++c) {
      palette[i][2 - c] =
          static_cast<std::uint8_t>(u8(file, header->end + i * header->entry_bytes + c));
    }
  }
  return palette;
}

// The bits of a pixel that are one colour, and what they are with 255 for all of them set.
class BmpMask {
 public:
  explicit BmpMask(std::uint32_t mask)
      : mask_(mask), shift_(std::countr_zero(mask) % 32), most_(mask >> shift_) {}

  bool possible() const { return mask_ != 0 && (most_ & (most_ + 1)) == 0; }
  std::uint8_t of(std::uint32_t pixel) const {
    const std::uint64_t value = (pixel & mask_) >> shift_;
    return static_cast<std::uint8_t>(most_ == 255 ? value : value * 255 / most_);
  }

 private:
  std::uint32_t mask_;
  int shift_;
  std::uint32_t most_;
};

// Red, green and blue. Where all are zero, as some writers leave them, they are the usual ones.
std::array<BmpMask, 3> read_bmp_masks(Bytes file, const BmpHeader& header) {
  if (header.compression == kBmpMasks) {
    const std::uint32_t red = le32(file, kBmpMasksAt);
    const std::uint32_t green = le32(file, kBmpMasksAt + 4);
    const std::uint32_t blue = le32(file, kBmpMasksAt + 8);
    if ((red | green | blue) != 0) {
      return {BmpMask(red), BmpMask(green), BmpMask(blue)};
    }
  }
  return header.bits == 16 ? std::array{BmpMask(0x7C00), BmpMask(0x3E0), BmpMask(0x1F)}
                           : std::array{BmpMask(0xFF0000), BmpMask(0xFF00), BmpMask(0xFF)};
}

void expand_bmp_row(Bytes row, unsigned bits, const Palette& palette, std::int64_t width,
                    std::uint8_t* dst) {
  const unsigned all = (1U << bits) - 1;
  std::size_t bit = 0;
  for (std::int64_t x = 0; x < width; ++x, bit += bits, dst += 3) {
    const unsigned index = u8(row, bit / 8) >> (8 - bits - bit % 8) & all;
    std::copy_n(palette[index].data(), 3, dst);
  }
}

void unmask_bmp_row(Bytes row, unsigned bits, const std::array<BmpMask, 3>& masks,
                    std::int64_t width, std::uint8_t* dst) {
  const std::size_t step = bits / 8;
  std::size_t at = 0;
  for (std::int64_t x = 0; x < width; ++x, at += step, dst += 3) {
    const std::uint32_t pixel =
        step == 4 ? le32(row, at) : le16(row, at) | (step == 3 ? u8(row, at + 2) << 16 : 0);
    for (std::size_t c = 0; c < 3; ++c) {
      dst[c] = masks[c].of(pixel);
    }
  }
}

}  // namespace

Result<DecodedImage> decode_bmp(Bytes file, const DecodeOptions& options) {
  Result<BmpHeader> header = read_bmp_header(file);
  if (!header.ok()) {
    return header.status();
  }
  const std::int64_t width = header->width;
  const std::int64_t height = std::abs(header->height);
  XC_RETURN_IF_ERROR(check_bmp_kind(*header));
  XC_RETURN_IF_ERROR(check_extent(width, height, 3, options));
  const Result<Palette> palette = read_bmp_palette(file, &*header);
  XC_RETURN_IF_ERROR(palette.status());
  const std::array<BmpMask, 3> masks = read_bmp_masks(file, *header);
  if (!std::all_of(masks.begin(), masks.end(), [](const BmpMask& m) { return m.possible(); })) {
    return bad_image("the BMP file is damaged: its colour masks are no bits side by side");
  }
  // Rows are padded, but for the last one, which may end with its pixels.
  const std::int64_t row_bytes = (width * header->bits + 7) / 8;
  const std::int64_t stride = (row_bytes + 3) / 4 * 4;
  const Bytes pixels = file.subspan(header->pixels_at);
  if (static_cast<std::int64_t>(pixels.size()) < stride * (height - 1) + row_bytes) {
    return truncated("BMP");
  }
  Result<DecodedImage> decoded =
      blank_picture(static_cast<std::int64_t>(file.size()), width, height);
  XC_RETURN_IF_ERROR(decoded.status());
  for (std::int64_t y = 0; y < height; ++y) {
    const std::int64_t row = header->height < 0 ? y : height - 1 - y;
    const Bytes source =
        pixels.subspan(static_cast<std::size_t>(row * stride), static_cast<std::size_t>(row_bytes));
    std::uint8_t* dst = decoded->image.pixels.data() + y * width * 3;
    if (header->indexed()) {
      expand_bmp_row(source, header->bits, *palette, width, dst);
    } else {
      unmask_bmp_row(source, header->bits, masks, width, dst);
    }
  }
  return decoded;
}

}  // namespace xception::decoders
