// The decoders behind decode_image, one function a format, and what they share. Private to the
// image library. Each passes its extent through check_extent before it allocates for pixels, and
// fails with kBadImage on damage and truncation. std::bad_alloc is left to decode_image.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "xception/image.h"
#include "xception/status.h"

namespace xception::decoders {

using Bytes = std::span<const std::byte>;

enum class Format { kUnknown, kJpeg, kPng, kBmp, kGif, kPnm, kTga, kPsd };

// The file, what its decoder holds and the finished picture together stay below this.
inline constexpr std::int64_t kMaxWorkingBytes = std::int64_t{1} << 30;

Format recognise(Bytes file);
// Why a file that recognise() does not know is refused.
Status unknown_format(Bytes file);

Status bad_image(const std::string& message);
// The failure where a file of `format` ("PNG") ends too early.
Status truncated(const std::string& format);
// Both sides are positive and their product stays within the limit; then options.before_allocating
// has its say. `pixel_bytes` is what a pixel costs at most, the finished one included.
Status check_extent(std::int64_t width, std::int64_t height, int pixel_bytes,
                    const DecodeOptions& options);
// What a file leaves out of its palette is black, as it is from Pillow 10.1 on.
using Palette = std::array<std::array<std::uint8_t, 3>, 256>;

// A black picture; its extent has passed check_extent.
Image blank_image(std::int64_t width, std::int64_t height);
// The same, to be decoded into. Fails with kBadImage where it and `held` bytes, the file and what
// else the decoder has, take more than kMaxWorkingBytes.
Result<DecodedImage> blank_picture(std::int64_t held, std::int64_t width, std::int64_t height);
// A picture with any pixels, in the memory of `recycled` where it suffices.
Image image_in_memory_of(Image recycled, std::int64_t width, std::int64_t height);

// In the memory of `recycled` where libjpeg decodes and it suffices.
Result<DecodedImage> decode_jpeg(Bytes file, const DecodeOptions& options, Image recycled);
Result<DecodedImage> decode_png(Bytes file, const DecodeOptions& options);
Result<DecodedImage> decode_bmp(Bytes file, const DecodeOptions& options);
Result<DecodedImage> decode_gif(Bytes file, const DecodeOptions& options);
Result<DecodedImage> decode_pnm(Bytes file, const DecodeOptions& options);
Result<DecodedImage> decode_tga(Bytes file, const DecodeOptions& options);
Result<DecodedImage> decode_psd(Bytes file, const DecodeOptions& options);

// Inflates zlib data; how many bytes that made. Nothing where it is damaged or they do not fit.
std::optional<std::size_t> stb_inflate(Bytes data, std::span<std::uint8_t> out);
// What stb_image makes of a file, gray replicated and alpha dropped. `name` ("PNG") is for
// messages. Memory is bounded by the extent that the caller has checked.
Result<DecodedImage> stb_decode_rgb(Bytes file, const char* name, std::int64_t width,
                                    std::int64_t height);

// The EXIF orientation of a JPEG or PNG file, 1 (upright) where there is none or it is damaged.
int exif_orientation(Bytes file, Format format);
// The picture turned upright. Fails with kBadImage where that, beside `held` bytes of the file,
// takes more than kMaxWorkingBytes.
Result<Image> apply_orientation(Image image, int orientation, std::size_t held);

inline unsigned u8(Bytes b, std::size_t at) { return std::to_integer<unsigned>(b[at]); }
inline unsigned le16(Bytes b, std::size_t at) { return u8(b, at) | u8(b, at + 1) << 8; }
inline unsigned be16(Bytes b, std::size_t at) { return u8(b, at) << 8 | u8(b, at + 1); }
inline std::uint32_t le32(Bytes b, std::size_t at) { return le16(b, at) | le16(b, at + 2) << 16; }
inline std::uint32_t be32(Bytes b, std::size_t at) { return be16(b, at) << 16 | be16(b, at + 2); }
// Whether `file` begins with the characters of `magic`.
bool starts_with(Bytes file, std::string_view magic);

}  // namespace xception::decoders
