// GIF, first frame: the blocks are walked here, the frame is handed to stb_image as a file of its
// own without transparency, and what it does not cover is filled as Pillow fills it.
#include <algorithm>
#include <optional>

#include "image_rebuild.h"

namespace xception::decoders {
namespace {

constexpr std::size_t kScreenHeader = 13;
constexpr std::size_t kFrameHeader = 10;

// The palette of a file that has none: entry i is the gray i.
Palette gray_ramp() {
  Palette palette{};
  for (std::size_t i = 0; i < palette.size(); ++i) {
    palette[i].fill(static_cast<std::uint8_t>(i));
  }
  return palette;
}

// The size of the sub-blocks at `at`, terminator included; nothing where the file ends first.
std::optional<std::size_t> sub_blocks(Bytes file, std::size_t at) {
  const std::size_t begin = at;
  while (at < file.size()) {
    const std::size_t length = u8(file, at);
    at += length + 1;
    if (length == 0) {
      return at - begin;
    }
  }
  return std::nullopt;
}

// Reads the colour table that `flags` announces at *at, and steps over it.
bool read_palette(Bytes file, unsigned flags, std::size_t* at, Palette* palette) {
  if ((flags & 0x80) == 0) {
    return true;
  }
  const std::size_t entries = std::size_t{2} << (flags & 7);
  if (file.size() - *at < entries * 3) {
    return false;
  }
  *palette = {};
  for (std::size_t i = 0; i < entries * 3; ++i) {
    (*palette)[i / 3][i % 3] = static_cast<std::uint8_t>(u8(file, *at + i));
  }
  *at += entries * 3;
  return true;
}

struct Frame {
  std::int64_t screen_width = 0;
  std::int64_t screen_height = 0;
  std::int64_t left = 0;
  std::int64_t top = 0;
  std::int64_t width = 0;
  std::int64_t height = 0;
  bool interlaced = false;
  Palette palette = gray_ramp();
  unsigned fill = 0;  // palette index of what the frame leaves uncovered
  Bytes raster;       // code size and sub-blocks
};

// Steps over the extensions before the first frame, noting the transparent index; the offset of
// the frame's header.
Result<std::size_t> find_frame(Bytes file, std::size_t at, Frame* frame) {
  while (at < file.size() && u8(file, at) == 0x21) {
    const std::optional<std::size_t> size =
        at + 2 <= file.size() ? sub_blocks(file, at + 2) : std::nullopt;
    if (!size.has_value()) {
      return truncated("GIF");
    }
    if (u8(file, at + 1) == 0xF9 && *size >= 6 && u8(file, at + 2) >= 4) {
      frame->fill = (u8(file, at + 3) & 1) != 0 ? u8(file, at + 6) : 0;
    }
    at += 2 + *size;
  }
  if (at < file.size() && u8(file, at) != 0x2C) {
    return bad_image("the GIF file holds no picture, or is damaged before its first one");
  }
  if (at >= file.size() || file.size() - at < kFrameHeader) {
    return truncated("GIF");
  }
  return at;
}

Result<Frame> read_frame(Bytes file) {
  if (file.size() < kScreenHeader) {
    return truncated("GIF");
  }
  Frame frame;
  frame.screen_width = le16(file, 6);
  frame.screen_height = le16(file, 8);
  std::size_t at = kScreenHeader;
  if (!read_palette(file, u8(file, 10), &at, &frame.palette)) {
    return truncated("GIF");
  }
  Result<std::size_t> header = find_frame(file, at, &frame);
  if (!header.ok()) {
    return header.status();
  }
  at = *header;
  frame.left = le16(file, at + 1);
  frame.top = le16(file, at + 3);
  frame.width = le16(file, at + 5);
  frame.height = le16(file, at + 7);
  const unsigned flags = u8(file, at + 9);
  frame.interlaced = (flags & 0x40) != 0;
  at += kFrameHeader;
  if (!read_palette(file, flags, &at, &frame.palette)) {
    return truncated("GIF");
  }
  const std::optional<std::size_t> size =
      at < file.size() ? sub_blocks(file, at + 1) : std::nullopt;
  if (!size.has_value()) {
    return truncated("GIF");
  }
  frame.raster = file.subspan(at, *size + 1);
  return frame;
}

// A file of the frame alone, its screen the frame, its palette global and full.
std::vector<std::byte> write_frame(const Frame& frame) {
  const auto width = static_cast<unsigned>(frame.width);
  const auto height = static_cast<unsigned>(frame.height);
  ByteWriter out(frame.raster.size() + 1024);
  for (const char c : {'G', 'I', 'F', '8', '9', 'a'}) {
    out.u8(static_cast<unsigned char>(c));
  }
  out.le16(width);
  out.le16(height);
  out.u8(0x87);  // 256 global colours
  out.le16(0);
  for (const auto& entry : frame.palette) {
    for (const std::uint8_t c : entry) {
      out.u8(c);
    }
  }
  out.u8(0x2C);
  out.le32(0);
  out.le16(width);
  out.le16(height);
  out.u8(frame.interlaced ? 0x40 : 0);
  out.copy(frame.raster);
  out.u8(0x3B);
  return out.take();
}

// Copies the frame onto the screen. stb_image leaves alpha 0 where the data gave no pixel.
bool place(const StbPixels& pixels, const Frame& frame, Image* screen) {
  const std::uint8_t* src = pixels.data.get();
  for (std::int64_t y = 0; y < frame.height; ++y) {
    std::uint8_t* dst = screen->pixels.data() +
                        ((frame.top + y) * frame.screen_width + frame.left) * std::int64_t{3};
    for (std::int64_t x = 0; x < frame.width; ++x, src += 4, dst += 3) {
      if (src[3] == 0) {
        return false;
      }
      std::copy_n(src, 3, dst);
    }
  }
  return true;
}

}  // namespace

Result<DecodedImage> decode_gif(Bytes file, const DecodeOptions& options) {
  Result<Frame> frame = read_frame(file);
  if (!frame.ok()) {
    return frame.status();
  }
  XC_RETURN_IF_ERROR(check_extent(frame->screen_width, frame->screen_height, 8, options));
  if (frame->width == 0 || frame->height == 0 || frame->left + frame->width > frame->screen_width ||
      frame->top + frame->height > frame->screen_height) {
    return bad_image("the GIF file is damaged: its first picture lies outside the screen");
  }
  Result<StbPixels> pixels = stb_decode(write_frame(*frame), "GIF", frame->width, frame->height);
  if (!pixels.ok()) {
    return pixels.status();
  }
  DecodedImage decoded;
  decoded.decoder = "stb_image";
  decoded.image = blank_image(frame->screen_width, frame->screen_height);
  const auto& fill = frame->palette[frame->fill];
  for (std::size_t i = 0; i < decoded.image.pixels.size(); ++i) {
    decoded.image.pixels[i] = fill[i % 3];
  }
  if (pixels->channels != 4 || !place(*pixels, *frame, &decoded.image)) {
    return truncated("GIF");
  }
  return decoded;
}

}  // namespace xception::decoders
