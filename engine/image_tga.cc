// TGA: checked here, decoded by stb_image.
#include "image_decoders.h"

namespace xception::decoders {

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

}  // namespace xception::decoders
