// GIF, first frame, on a screen that is filled as Pillow fills it.
#include <algorithm>
#include <array>
#include <bit>
#include <numeric>
#include <optional>
#include <vector>

#include "image_decoders.h"

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
  std::int64_t screen_width = 0;  // grown to hold the frame, as Pillow does
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

// Steps over what is before the first frame, noting the transparent index of extensions; the offset
// of the frame's header. Bytes that begin no block are stray ones, which Pillow steps over too.
Result<std::size_t> find_frame(Bytes file, std::size_t at, Frame* frame) {
  while (at < file.size() && u8(file, at) != 0x2C) {
    if (u8(file, at) == 0x3B) {
      return bad_image("the GIF file holds no picture");
    }
    if (u8(file, at) != 0x21) {
      ++at;
      continue;
    }
    const std::optional<std::size_t> size =
        at + 2 <= file.size() ? sub_blocks(file, at + 2) : std::nullopt;
    if (!size.has_value()) {
      return truncated("GIF");
    }
    const bool control = u8(file, at + 1) == 0xF9 && *size >= 6 && u8(file, at + 2) >= 4;
    if (control && (u8(file, at + 3) & 1) != 0) {
      frame->fill = u8(file, at + 6);
    }
    at += 2 + *size;
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
  frame.screen_width = std::max(frame.screen_width, frame.left + frame.width);
  frame.screen_height = std::max(frame.screen_height, frame.top + frame.height);
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

// Codes of some bits each, lowest bit first, out of sub-blocks that are all there.
class GifCodes {
 public:
  explicit GifCodes(Bytes blocks) : blocks_(blocks) {}

  // Nothing where the data end.
  std::optional<unsigned> next(unsigned width) {
    while (bits_ < width) {
      if (left_ == 0) {
        left_ = u8(blocks_, at_);
        if (left_ == 0) {
          return std::nullopt;
        }
        ++at_;
      }
      held_ |= u8(blocks_, at_++) << bits_;
      bits_ += 8;
      --left_;
    }
    const unsigned code = held_ & ((1U << width) - 1);
    held_ >>= width;
    bits_ -= width;
    return code;
  }

 private:
  Bytes blocks_;
  std::size_t at_ = 0;
  std::size_t left_ = 0;  // of the block
  unsigned held_ = 0;
  unsigned bits_ = 0;
};

constexpr unsigned kGifCodes = 4096;  // of at most 12 bits

// LZW: a code is an index, or a string of them that was seen before: another code's and one more.
class GifStrings {
 public:
  // `literals` indices, then the two codes that mean "clear" and "end".
  explicit GifStrings(unsigned literals) : literals_(literals) { clear(); }

  void clear() {
    next_ = literals_ + 2;
    width_ = static_cast<unsigned>(std::bit_width(literals_));
    previous_.reset();
  }
  unsigned width() const { return width_; }

  // What `code` stands for, its last index first; empty where it cannot be. Makes the next code:
  // the previous string and the first index of this one.
  std::span<const std::uint8_t> string(unsigned code) {
    if (code > (previous_ ? next_ : literals_ - 1)) {
      return {};
    }
    std::size_t size = 0;
    unsigned part = code;
    if (previous_ && code == next_) {  // the one that is being made
      string_[size++] = first_;
      part = *previous_;
    }
    for (; part >= literals_; part = prefixes_[part]) {
      string_[size++] = lasts_[part];
    }
    first_ = static_cast<std::uint8_t>(part);
    string_[size++] = first_;
    if (previous_ && next_ < kGifCodes) {
      prefixes_[next_] = static_cast<std::uint16_t>(*previous_);
      lasts_[next_] = first_;
      ++next_;
      width_ += next_ == 1U << width_ && next_ < kGifCodes ? 1 : 0;
    }
    previous_ = code;
    return {string_.data(), size};
  }

 private:
  unsigned literals_;
  unsigned next_ = 0;
  unsigned width_ = 0;  // of the next code in the file, in bits
  std::optional<unsigned> previous_;
  std::uint8_t first_ = 0;  // of the previous string
  std::array<std::uint16_t, kGifCodes> prefixes_{};
  std::array<std::uint8_t, kGifCodes> lasts_{};
  std::array<std::uint8_t, kGifCodes + 1> string_{};
};

// The rows of the frame in the order in which the file has them.
std::vector<std::int64_t> row_order(const Frame& frame) {
  constexpr std::array<std::array<int, 2>, 4> kPasses = {{{0, 8}, {4, 8}, {2, 4}, {1, 2}}};
  std::vector<std::int64_t> rows;
  if (!frame.interlaced) {
    rows.resize(static_cast<std::size_t>(frame.height));
    std::iota(rows.begin(), rows.end(), 0);
    return rows;
  }
  for (const auto& [first, step] : kPasses) {
    for (std::int64_t y = first; y < frame.height; y += step) {
      rows.push_back(y);
    }
  }
  return rows;
}

// Puts the frame onto the screen; what is behind its last pixel does not matter.
Status draw(const Frame& frame, Image* screen) {
  const unsigned bits = u8(frame.raster, 0);
  if (bits > 11) {
    return bad_image("the GIF file is damaged: its codes are wider than 12 bits");
  }
  const std::vector<std::int64_t> rows = row_order(frame);
  GifCodes codes(frame.raster.subspan(1));
  GifStrings strings(1U << bits);
  std::size_t row = 0;
  std::int64_t x = frame.width;
  std::uint8_t* dst = nullptr;
  while (const std::optional<unsigned> code = codes.next(strings.width())) {
    if (*code == 1U << bits) {
      strings.clear();
      continue;
    }
    if (*code == (1U << bits) + 1) {
      break;
    }
    std::span<const std::uint8_t> string = strings.string(*code);
    if (string.empty()) {
      return bad_image("the GIF file is damaged: a code stands for nothing; fetch it again");
    }
    for (; !string.empty(); string = string.first(string.size() - 1), ++x, dst += 3) {
      if (x == frame.width) {
        if (row == rows.size()) {
          return Status();
        }
        const std::int64_t y = frame.top + rows[row++];
        dst = screen->pixels.data() + (y * frame.screen_width + frame.left) * 3;
        x = 0;
      }
      std::copy_n(frame.palette[string.back()].data(), 3, dst);
    }
  }
  return row == rows.size() && x == frame.width ? Status() : truncated("GIF");
}

}  // namespace

Result<DecodedImage> decode_gif(Bytes file, const DecodeOptions& options) {
  Result<Frame> frame = read_frame(file);
  if (!frame.ok()) {
    return frame.status();
  }
  XC_RETURN_IF_ERROR(check_extent(frame->screen_width, frame->screen_height, 3, options));
  if (frame->width == 0 || frame->height == 0) {
    return bad_image("the GIF file is damaged: its first picture has no pixels");
  }
  // Before anything is allocated: no code is shorter than two bits or makes more pixels than there
  // are codes.
  const auto most = static_cast<std::int64_t>(frame->raster.size()) * 4 * kGifCodes;
  if (most < frame->width * frame->height) {
    return truncated("GIF");
  }
  Result<DecodedImage> decoded = blank_picture(static_cast<std::int64_t>(file.size()),
                                               frame->screen_width, frame->screen_height);
  XC_RETURN_IF_ERROR(decoded.status());
  const auto& fill = frame->palette[frame->fill];
  for (std::size_t i = 0; i < decoded->image.pixels.size(); ++i) {
    decoded->image.pixels[i] = fill[i % 3];
  }
  XC_RETURN_IF_ERROR(draw(*frame, &decoded->image));
  return decoded;
}

}  // namespace xception::decoders
