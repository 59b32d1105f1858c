// PSD: checked here, decoded by stb_image.
#include "image_rebuild.h"

namespace xception::decoders {
namespace {

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
