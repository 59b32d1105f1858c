// Tells a picture's format by its content, never by its name, gives it to the decoder of that
// format, and names what is no picture.
#include "xception/image.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "image_decoders.h"
#include "image_file.h"
#include "no_throw.h"

namespace xception {
namespace decoders {
namespace {

constexpr const char* kKnownFormats = "JPEG, PNG, BMP, GIF, PNM, TGA and PSD";

// TGA has no magic number, so every field of the header has to make sense: text and random bytes
// must not become a picture.
bool looks_like_tga(Bytes file) {
  if (file.size() < 18) {
    return false;
  }
  const unsigned palette_type = u8(file, 1);
  const unsigned type = u8(file, 2);
  const unsigned palette_bits = u8(file, 7);
  const unsigned bits = u8(file, 16);
  const unsigned descriptor = u8(file, 17);
  if (le16(file, 12) == 0 || le16(file, 14) == 0 || (descriptor & 0xC0) != 0 ||
      (descriptor & 0x0F) > 8) {
    return false;
  }
  const auto is_pixel_size = [](unsigned b) {
    return b == 8 || b == 15 || b == 16 || b == 24 || b == 32;
  };
  const bool sound_palette = palette_bits != 8 && is_pixel_size(palette_bits);
  if (palette_type == 1) {
    return (type == 1 || type == 9) && (bits == 8 || bits == 16) && sound_palette &&
           le16(file, 5) != 0;
  }
  // Without a palette some writers still say how large its entries would be.
  if (palette_type != 0 || (palette_bits != 0 && !sound_palette) || le16(file, 3) != 0 ||
      le16(file, 5) != 0) {
    return false;
  }
  const bool colour = type == 2 || type == 10;
  const bool gray = type == 3 || type == 11;
  return (colour && is_pixel_size(bits) && bits != 8) || (gray && (bits == 8 || bits == 16));
}

bool looks_like_pnm(Bytes file) {
  if (file.size() < 3 || u8(file, 0) != 'P' || u8(file, 1) < '1' || u8(file, 1) > '6') {
    return false;
  }
  const unsigned next = u8(file, 2);
  return next == ' ' || (next >= '\t' && next <= '\r') || next == '#';
}

}  // namespace

bool starts_with(Bytes file, std::string_view magic) {
  return file.size() >= magic.size() &&
         std::equal(magic.begin(), magic.end(), file.begin(), [](char a, std::byte b) {
           return static_cast<unsigned char>(a) == std::to_integer<unsigned char>(b);
         });
}

Format recognise(Bytes file) {
  if (starts_with(file, "\xFF\xD8\xFF")) {
    return Format::kJpeg;
  }
  if (starts_with(file, "\x89PNG\r\n\x1A\n")) {
    return Format::kPng;
  }
  if (starts_with(file, "GIF87a") || starts_with(file, "GIF89a")) {
    return Format::kGif;
  }
  if (starts_with(file, "8BPS")) {
    return Format::kPsd;
  }
  if (starts_with(file, "BM") && file.size() >= 26 && le32(file, 14) >= 12 &&
      le32(file, 14) <= 124) {
    return Format::kBmp;
  }
  if (looks_like_pnm(file)) {
    return Format::kPnm;
  }
  return looks_like_tga(file) ? Format::kTga : Format::kUnknown;
}

Status bad_image(const std::string& message) { return Status(Code::kBadImage, message); }

Status truncated(const std::string& format) {
  return bad_image("the " + format +
                   " file ends before its picture does; it is truncated, fetch it again");
}

Status unknown_format(Bytes file) {
  struct Known {
    std::size_t at;
    std::string_view magic;
    const char* name;
  };
  static constexpr std::array<Known, 7> kOthers = {{{8, "WEBP", "WebP"},
                                                    {4, "ftypavif", "AVIF"},
                                                    {4, "ftyphei", "HEIC"},
                                                    {4, "ftypmif1", "HEIC"},
                                                    {0, "II*", "TIFF"},
                                                    {0, "MM", "TIFF"},
                                                    {0, "%PDF", "PDF"}}};
  const std::string convert =
      std::string("convert it to PNG or JPEG (") + kKnownFormats + " are read)";
  for (const Known& known : kOthers) {
    if (file.size() > known.at && starts_with(file.subspan(known.at), known.magic)) {
      return bad_image(std::string(known.name) + " files are not read here; " + convert);
    }
  }
  if (starts_with(file, "\x93NUMPY")) {
    return bad_image("the file is a NumPy array and no picture; it can be given as raw input");
  }
  const auto printable = [](std::byte b) {
    const unsigned c = std::to_integer<unsigned>(b);
    return (c >= 32 && c < 127) || (c >= '\t' && c <= '\r');
  };
  const Bytes head = file.first(std::min<std::size_t>(file.size(), 64));
  const bool text = std::all_of(head.begin(), head.end(), printable);
  return bad_image(
      std::string(text ? "the file holds text and no picture"
                       : "the file is no picture in a known format, or its header is damaged") +
      "; " + kKnownFormats + " are read");
}

Status check_extent(std::int64_t width, std::int64_t height, int pixel_bytes,
                    const DecodeOptions& options) {
  if (width <= 0 || height <= 0) {
    return bad_image("the picture claims " + std::to_string(width) + " x " +
                     std::to_string(height) + " pixels; its header is damaged");
  }
  // Whatever the caller allows: up to here no number of bytes overflows.
  constexpr std::int64_t kMostPixels = std::int64_t{1} << 40;
  const std::int64_t limit = std::min(options.max_pixels, kMostPixels);
  if (width > INT32_MAX || height > INT32_MAX || width * height > limit) {
    return bad_image("the picture claims " + std::to_string(width) + " x " +
                     std::to_string(height) + " pixels, limit " + std::to_string(limit) +
                     " pixels in all; scale it down or raise the limit (max-pixels)");
  }
  if (options.before_allocating) {
    options.before_allocating(width * height * pixel_bytes);
  }
  return Status();
}

Image blank_image(std::int64_t width, std::int64_t height) {
  return image_in_memory_of({}, width, height);
}

Result<DecodedImage> blank_picture(std::int64_t held, std::int64_t width, std::int64_t height) {
  if (held + width * height * 3 > kMaxWorkingBytes) {
    return bad_image("decoding the picture of " + std::to_string(width) + " x " +
                     std::to_string(height) + " pixels needs more than 1 GiB; scale it down");
  }
  return DecodedImage{blank_image(width, height), "xception", {}};
}

Image image_in_memory_of(Image recycled, std::int64_t width, std::int64_t height) {
  const auto bytes = static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3;
  if (recycled.pixels.capacity() < bytes) {
    recycled = Image();  // now, not when the larger ones are there
  }
  recycled.width = static_cast<int>(width);
  recycled.height = static_cast<int>(height);
  recycled.pixels.resize(bytes);
  return recycled;
}

}  // namespace decoders

namespace {

using decoders::Format;

Result<DecodedImage> decode_as(Format format, std::span<const std::byte> bytes,
                               const DecodeOptions& options, Image recycled) {
  switch (format) {
    case Format::kJpeg:
      return decoders::decode_jpeg(bytes, options, std::move(recycled));
    case Format::kPng:
      return decoders::decode_png(bytes, options);
    case Format::kBmp:
      return decoders::decode_bmp(bytes, options);
    case Format::kGif:
      return decoders::decode_gif(bytes, options);
    case Format::kPnm:
      return decoders::decode_pnm(bytes, options);
    case Format::kTga:
      return decoders::decode_tga(bytes, options);
    case Format::kPsd:
      return decoders::decode_psd(bytes, options);
    case Format::kUnknown:
      break;
  }
  return decoders::unknown_format(bytes);
}

const char* no_memory_to_decode() { return "not enough memory to decode the picture"; }

}  // namespace

Result<DecodedImage> decode_image(std::span<const std::byte> bytes, const DecodeOptions& options,
                                  Image recycled) {
  return no_throw(no_memory_to_decode, [&]() -> Result<DecodedImage> {
    if (bytes.empty()) {
      return decoders::bad_image("the file is empty");
    }
    if (bytes.size() > static_cast<std::size_t>(decoders::kMaxWorkingBytes)) {
      return decoders::bad_image("the file holds more than 1 GiB, which is no picture for this");
    }
    const Format format = decoders::recognise(bytes);
    if (format != Format::kJpeg) {
      recycled = Image();  // the other decoders make their own pixels, beside which it would stand
    }
    Result<DecodedImage> decoded = decode_as(format, bytes, options, std::move(recycled));
    if (decoded.ok() && options.apply_exif) {
      const int orientation = decoders::exif_orientation(bytes, format);
      if (orientation > 1 && options.before_allocating) {
        options.before_allocating(2 * static_cast<std::int64_t>(decoded->image.pixels.size()));
      }
      Result<Image> upright =
          decoders::apply_orientation(std::move(decoded->image), orientation, bytes.size());
      XC_RETURN_IF_ERROR(upright.status());
      decoded->image = *std::move(upright);
    }
    return decoded;
  });
}

Result<DecodedImage> decode_image_file(const std::string& path, const DecodeOptions& options,
                                       Image recycled) {
  return no_throw(no_memory_to_decode, [&]() -> Result<DecodedImage> {
    FileLimits limits;
    limits.bytes = std::size_t{512} << 20;
    limits.check_head = [](std::span<const std::byte> head) {
      const bool known = decoders::recognise(head) != Format::kUnknown;
      return known ? Status() : decoders::unknown_format(head);
    };
    limits.before_allocating = options.before_allocating;
    const Result<std::vector<std::byte>> bytes = read_file(path, limits);
    XC_RETURN_IF_ERROR(bytes.status());
    Result<DecodedImage> decoded = decode_image(*bytes, options, std::move(recycled));
    if (!decoded.ok()) {
      return decoded.status().with_context(path == "-" ? "standard input" : "'" + path + "'");
    }
    return decoded;
  });
}

}  // namespace xception
