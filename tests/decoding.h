// What becomes of an image file in memory.
#pragma once

#include <cstddef>
#include <string>

#include "image_bytes.h"
#include "testing.h"
#include "xception/image.h"

namespace xception::test {

inline ByteVector pixels_of(const ByteVector& file, const DecodeOptions& options = {}) {
  const Result<DecodedImage> decoded = decode_image(as_bytes(file), options);
  INFO(decoded.status().message());
  REQUIRE(decoded.ok());
  return decoded->image.pixels;
}

inline std::string error_of(const ByteVector& file, const DecodeOptions& options = {}) {
  const Result<DecodedImage> decoded = decode_image(as_bytes(file), options);
  REQUIRE_FALSE(decoded.ok());
  CHECK(decoded.status().code() == Code::kBadImage);
  return decoded.status().message();
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Every beginning of the file is refused.
inline void check_truncations(const ByteVector& file) {
  for (std::size_t size = 0; size < file.size(); ++size) {
    const ByteVector cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
    INFO("cut to " << size << " of " << file.size());
    CHECK_FALSE(error_of(cut).empty());
  }
  CHECK(decode_image(as_bytes(file)).ok());
}

}  // namespace xception::test
