// Any bytes are a picture or an error, decoded and fitted with a small limit on pixels.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "xception/image.h"

using namespace xception;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  DecodeOptions options;
  options.max_pixels = 1 << 16;
  options.apply_exif = true;
  const Result<DecodedImage> decoded =
      decode_image(std::as_bytes(std::span<const std::uint8_t>(data, size)), options);
  if (!decoded.ok()) {
    return decoded.status().message().empty() ? (std::abort(), 1) : 0;
  }
  const Image& image = decoded->image;
  const auto bytes = static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height);
  if (image.width <= 0 || image.height <= 0 || image.pixels.size() != bytes * 3) {
    std::abort();
  }
  Preprocess preprocess;
  preprocess.size = 1 + (size > 0 ? data[size - 1] % 40 : 0);
  preprocess.mode = static_cast<ResizeMode>(size % 3);
  preprocess.interpolation = static_cast<Interpolation>(size / 3 % 3);
  if (size >= 4) {
    std::memcpy(&preprocess.mean[size % 3], data + size - 4, 4);  // what no number is, too
  }
  preprocess.keep_max = static_cast<int>(size / 9 % 2 * 20);
  const Result<Image> fitted = fit(image, preprocess);
  if (!fitted.ok()) {
    const bool refused = fitted.status().code() == Code::kInvalidArgument;
    return refused && !std::isfinite(preprocess.mean[size % 3]) ? 0 : (std::abort(), 1);
  }
  const int low = std::min(image.width, image.height);
  const int high = std::max(image.width, image.height);
  const bool kept = low >= preprocess.keep_min && high <= preprocess.keep_max;
  if (fitted->width != (kept ? image.width : preprocess.size) ||
      fitted->height != (kept ? image.height : preprocess.size)) {
    std::abort();
  }
  return 0;
}
