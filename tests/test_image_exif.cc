// Where a PNG has its EXIF orientation. JPEG's is in test_image.cc.
#include <string>

#include "decoding.h"
#include "image_bytes.h"
#include "testing.h"
#include "xception/image.h"

using namespace xception;
using namespace xception::test;

namespace {

const std::string kTurned("II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0", 26);
const std::string kPrefix("Exif\0\0", 6);
const std::string kName("Raw profile type exif\0", 22);

std::string profile(const std::string& exif, const char* digits = "0123456789abcdef") {
  std::string text = "\nexif\n      " + std::to_string(exif.size()) + "\n";
  for (std::size_t i = 0; i < exif.size(); ++i) {
    const auto byte = static_cast<unsigned char>(exif[i]);
    text += i % 7 == 6 ? "\n" : "";
    text += {digits[byte >> 4], digits[byte & 15]};
  }
  return text + "\n";
}

// In one stored block.
std::string zlib(const std::string& text) {
  const auto low = static_cast<char>(text.size() & 0xFF);
  const auto high = static_cast<char>(text.size() >> 8);
  return std::string("\x78\x01\x01") + low + high + static_cast<char>(~low) +
         static_cast<char>(~high) + text + "    ";
}

ByteVector chunk(const std::string& type, const std::string& data) {
  return png_chunk(type, from_text(data));
}

// Whether a PNG with these chunks, a pixel high and two wide, is turned by a quarter.
bool turned(const ByteVector& chunks) {
  DecodeOptions apply;
  apply.apply_exif = true;
  const Result<DecodedImage> decoded =
      decode_image(as_bytes(png(2, 1, 8, 0, {0, 1, 2}, chunks)), apply);
  REQUIRE(decoded.ok());
  return decoded->image.height == 2;
}

}  // namespace

TEST_CASE("PNG: the EXIF orientation is in a chunk of its own, with a prefix or without") {
  CHECK(turned(chunk("eXIf", kTurned)));
  CHECK(turned(chunk("eXIf", kPrefix + kTurned)));
  CHECK_FALSE(turned(chunk("eXIf", kPrefix)));
  constexpr std::size_t kEntryEnd = 22;
  CHECK(turned(chunk("eXIf", kTurned.substr(0, kEntryEnd))));
  CHECK_FALSE(turned(chunk("eXIf", kTurned.substr(0, kEntryEnd - 1))));
  CHECK_FALSE(turned({}));
}

TEST_CASE("PNG: the EXIF orientation is in a text, compressed or not") {
  const std::string method(1, '\0');
  CHECK(turned(chunk("tEXt", kName + profile(kTurned))));
  CHECK(turned(chunk("tEXt", kName + profile(kPrefix + kTurned, "0123456789ABCDEF"))));
  CHECK(turned(chunk("zTXt", kName + method + zlib(profile(kPrefix + kTurned)))));
  // Another name, another method, what is no zlib data and what are no digits.
  CHECK_FALSE(turned(chunk("tEXt", "Comment" + method + profile(kTurned))));
  CHECK_FALSE(turned(chunk("zTXt", kName + "\1" + zlib(profile(kTurned)))));
  CHECK_FALSE(turned(chunk("zTXt", kName + method + profile(kTurned))));
  CHECK_FALSE(turned(chunk("zTXt", kName)));
  CHECK_FALSE(turned(chunk("tEXt", kName)));
  CHECK_FALSE(turned(chunk("tEXt", kName + profile(kTurned, "0123456789:;<=>?"))));
  CHECK_FALSE(turned(chunk("tEXt", kName + profile(kTurned).substr(0, 20))));
  // The chunk of its own counts, wherever it is, and the first text.
  const std::string upright = kTurned.substr(0, 18) + "\1" + kTurned.substr(19);
  ByteVector both = chunk("tEXt", kName + profile(kTurned));
  append(&both, chunk("eXIf", upright));
  CHECK_FALSE(turned(both));
  both = chunk("tEXt", kName + profile(upright));
  append(&both, chunk("tEXt", kName + profile(kTurned)));
  CHECK_FALSE(turned(both));
}

TEST_CASE("PNG: a text cannot inflate without end") {
  const ByteVector bomb = zlib_bomb(5000);  // 1.3 MB
  const std::string method(1, '\0');
  CHECK_FALSE(turned(chunk("zTXt", kName + method + std::string(bomb.begin(), bomb.end()))));
}
