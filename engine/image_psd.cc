// PSD: the flattened picture behind the layers, in RGB, plain or with its rows packed (PackBits).
#include "image_decoders.h"

namespace xception::decoders {
namespace {

constexpr std::size_t kPsdHeader = 26;

// Moves `at` behind the section there, a 32-bit length and as many bytes. False where the file ends
// first.
bool skip_psd_section(Bytes file, std::size_t* at) {
  if (file.size() - *at < 4 || file.size() - *at - 4 < be32(file, *at)) {
    return false;
  }
  *at += 4 + be32(file, *at);
  return true;
}

// Where the data are, behind three sections and the two bytes of the compression.
Result<std::size_t> find_psd_data(Bytes file) {
  std::size_t at = kPsdHeader;
  for (int section = 0; section < 3; ++section) {
    if (!skip_psd_section(file, &at)) {
      return truncated("PSD");
    }
  }
  return file.size() - at < 2 ? Result<std::size_t>(truncated("PSD")) : at + 2;
}

// Whether all channels are there, also those that are left out. `data` begins with the packed rows'
// sizes or with the samples. Two bytes unpack to 128 at most, so a packed row has a least size too.
bool psd_data_complete(Bytes data, std::int64_t rows_of_all, std::int64_t row_bytes, bool packed) {
  const auto left = static_cast<std::int64_t>(data.size());
  if (!packed) {
    return left / row_bytes >= rows_of_all;
  }
  if (left / 2 < rows_of_all) {
    return false;
  }
  std::int64_t sum = 0;
  for (std::int64_t row = 0; row < rows_of_all; ++row) {
    sum += be16(data, static_cast<std::size_t>(2 * row));
  }
  const std::int64_t least = rows_of_all * ((row_bytes + 127) / 128 * 2);
  return sum >= least && left - 2 * rows_of_all >= sum;
}

// Every third byte from `dst` on. False where the row is too short.
bool unpack_psd_row(Bytes row, std::int64_t width, std::uint8_t* dst) {
  std::size_t at = 0;
  for (std::int64_t x = 0; x < width;) {
    if (at == row.size()) {
      return false;
    }
    const unsigned head = u8(row, at++);
    if (head == 128) {
      continue;
    }
    const bool repeated = head > 128;
    const std::size_t run = repeated ? 257 - head : head + 1;
    const std::size_t stored = repeated ? 1 : run;
    if (row.size() - at < stored) {
      return false;
    }
    for (std::size_t i = 0; i < run && x < width; ++i, ++x) {
      dst[3 * x] = static_cast<std::uint8_t>(u8(row, at + (repeated ? 0 : i)));
    }
    at += stored;
  }
  return true;
}

// `sizes` are those of the rows of every channel, `data` the rows. The first three channels are
// wanted.
bool unpack_psd(Bytes sizes, Bytes data, Image* image) {
  for (std::size_t channel = 0, at = 0; channel < 3; ++channel) {
    std::uint8_t* dst = image->pixels.data() + channel;
    for (int y = 0; y < image->height; ++y, at += 2, dst += std::int64_t{3} * image->width) {
      const std::size_t size = be16(sizes, at);
      if (!unpack_psd_row(data.first(size), image->width, dst)) {
        return false;
      }
      data = data.subspan(size);
    }
  }
  return true;
}

// Of 16-bit samples the high byte, which is the first.
void copy_psd(Bytes data, std::size_t sample_bytes, Image* image) {
  const std::size_t pixels = image->pixels.size() / 3;
  for (std::size_t channel = 0; channel < 3; ++channel) {
    for (std::size_t i = 0; i < pixels; ++i) {
      image->pixels[3 * i + channel] =
          static_cast<std::uint8_t>(u8(data, (channel * pixels + i) * sample_bytes));
    }
  }
}

}  // namespace

Result<DecodedImage> decode_psd(Bytes file, const DecodeOptions& options) {
  if (file.size() < kPsdHeader) {
    return truncated("PSD");
  }
  const std::size_t channels = be16(file, 12);
  const std::int64_t height = be32(file, 14);
  const std::int64_t width = be32(file, 18);
  const unsigned depth = be16(file, 22);
  if (be16(file, 4) != 1) {
    return bad_image(
        "the PSD file is one of the large kind (PSB), which is not read; convert it to PNG");
  }
  XC_RETURN_IF_ERROR(check_extent(width, height, 3, options));
  if (be16(file, 24) != 3 || channels < 3) {
    return bad_image("the PSD file is not in RGB colours, which alone are read; convert it to PNG");
  }
  const Result<std::size_t> at = find_psd_data(file);
  XC_RETURN_IF_ERROR(at.status());
  const unsigned compression = be16(file, *at - 2);
  const bool packed = compression == 1;
  if (compression > 1) {
    return bad_image("the PSD file is compressed in a way that is not read (" +
                     std::to_string(compression) + "); convert it to PNG");
  }
  if (depth != 8 && depth != 16) {
    return bad_image("the PSD file has samples of neither 8 nor 16 bits; convert it to PNG");
  }
  if (packed && depth != 8) {
    return bad_image("the PSD file packs 16-bit samples, which is not read; convert it to PNG");
  }
  const std::size_t sample_bytes = depth / 8;
  const Bytes data = file.subspan(*at);
  const std::int64_t rows_of_all = height * static_cast<std::int64_t>(channels);
  if (!psd_data_complete(data, rows_of_all, width * static_cast<std::int64_t>(sample_bytes),
                         packed)) {
    return truncated("PSD");
  }
  Result<DecodedImage> decoded =
      blank_picture(static_cast<std::int64_t>(file.size()), width, height);
  XC_RETURN_IF_ERROR(decoded.status());
  if (!packed) {
    copy_psd(data, sample_bytes, &decoded->image);
  } else if (!unpack_psd(data, data.subspan(static_cast<std::size_t>(2 * rows_of_all)),
                         &decoded->image)) {
    return bad_image("the PSD file is damaged: a packed row is shorter than the picture is wide");
  }
  return decoded;
}

}  // namespace xception::decoders
