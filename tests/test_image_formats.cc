// PNG, PNM, BMP, TGA and GIF, rule by rule, on files made byte by byte.
#include <string>

#include "decoding.h"
#include "image_bytes.h"
#include "testing.h"
#include "xception/image.h"

using namespace xception;
using namespace xception::test;

TEST_CASE("PNG: alpha is dropped and not composited") {
  CHECK(pixels_of(png(2, 1, 8, 6, {0, 10, 20, 30, 0, 40, 50, 60, 128})) ==
        ByteVector{10, 20, 30, 40, 50, 60});
  CHECK(pixels_of(png(1, 1, 8, 4, {0, 77, 3})) == ByteVector{77, 77, 77});
}

TEST_CASE("PNG: a palette is expanded, its transparency ignored, what it lacks is gray") {
  ByteVector extra = png_chunk("PLTE", {1, 2, 3, 4, 5, 6});
  append(&extra, png_chunk("tRNS", {0, 9}));
  CHECK(pixels_of(png(3, 1, 8, 3, {0, 1, 0, 200}, extra)) ==
        ByteVector{4, 5, 6, 1, 2, 3, 200, 200, 200});
}

TEST_CASE("PNG: gray of 1, 2 and 4 bits is scaled to 255") {
  CHECK(pixels_of(png(2, 1, 1, 0, {0, 0b01000000})) == ByteVector{0, 0, 0, 255, 255, 255});
  CHECK(pixels_of(png(2, 1, 2, 0, {0, 0b01100000})) == ByteVector{85, 85, 85, 170, 170, 170});
  CHECK(pixels_of(png(2, 1, 4, 0, {0, 0x2F})) == ByteVector{34, 34, 34, 255, 255, 255});
}

TEST_CASE("PNG: 16-bit samples keep the high byte, and gray ones warn") {
  const ByteVector gray = png(1, 1, 16, 0, {0, 0x12, 0xFF});
  CHECK(pixels_of(gray) == ByteVector{0x12, 0x12, 0x12});
  CHECK(decode_image(as_bytes(gray))->warnings.size() == 1);
  const ByteVector colour = png(1, 1, 16, 2, {0, 1, 255, 2, 255, 3, 255});
  CHECK(pixels_of(colour) == ByteVector{1, 2, 3});
  CHECK(decode_image(as_bytes(colour))->warnings.empty());
}

TEST_CASE("PNG: damage, truncation and unknown critical chunks are errors") {
  const ByteVector file = png(2, 2, 8, 0, {0, 1, 2, 0, 3, 4});
  check_truncations(file);
  for (std::size_t at = 33; at < file.size(); ++at) {  // after the header's own checksum
    ByteVector flipped = file;
    flipped[at] ^= 0x10;
    INFO("byte " << at);
    CHECK_FALSE(error_of(flipped).empty());
  }
  CHECK(contains(error_of(png(1, 1, 8, 0, {0, 1}, png_chunk("CgBI", {}))), "does not know"));
  CHECK(pixels_of(png(1, 1, 8, 0, {0, 1}, png_chunk("teXt", {1}))) == ByteVector{1, 1, 1});
}

TEST_CASE("PNG: one pixel cannot inflate to 40 MB") {
  const ByteVector bomb = png_around(1, 1, 8, 0, zlib_bomb(160000));
  CHECK(contains(error_of(bomb), "more memory"));
  CHECK(pixels_of(png_around(2, 1, 8, 0, zlib_bomb(1))) == ByteVector(6, 0));
}

TEST_CASE("PNM: maximum value, comments and 16 bits") {
  CHECK(pixels_of(from_text("P5 2 1 255\nAz")) == ByteVector{'A', 'A', 'A', 'z', 'z', 'z'});
  CHECK(pixels_of({'P', '6', '\n', '#', 'x', '\n', '1', ' ', '1', ' ', '9', '\n', 9, 3, 0}) ==
        ByteVector{255, 85, 0});
  const ByteVector deep = {'P', '5', ' ', '1', ' ',  '1',  ' ', '6',
                           '5', '5', '3', '5', '\n', 0x12, 0xFF};
  CHECK(pixels_of(deep) == ByteVector{0x12, 0x12, 0x12});
  CHECK(decode_image(as_bytes(deep))->warnings.size() == 1);
  check_truncations(from_text("P6 1 2 255\nabcdef"));
  // Ten pixels a row: bits 2 and 9 are black, and those behind the row do not matter.
  ByteVector bitmap = from_text("P4\n# two rows\n10 2\n");
  append(&bitmap, {0b00100000, 0b01111111, 0b11111111, 0b11000000});
  const ByteVector pixels = pixels_of(bitmap);
  REQUIRE(pixels.size() == 60);
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    CHECK(pixels[i] == (i / 3 == 2 || i / 3 == 9 || i >= 30 ? 0 : 255));
  }
  check_truncations(bitmap);
  CHECK(contains(error_of(from_text("P4 100000 100000 ")), "limit"));
  CHECK(contains(error_of(from_text("P4 x")), "width and height"));
  CHECK(contains(error_of(from_text("P3 1 1 255\n1 2 3")), "only binary"));
  CHECK(contains(error_of(from_text("P6 1 1 0\nabc")), "1 to 65535"));
  CHECK(contains(error_of(from_text("P5 0 1 255\nabc")), "0 x 1"));
}

TEST_CASE("BMP: rows from the bottom, palettes shorter than their indices") {
  ByteVector file = {'B', 'M', 0, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0};
  append(&file, {1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 24, 0});
  file.insert(file.end(), 24, 0);
  append(&file, {1, 2, 3, 0, 4, 5, 6, 0});
  CHECK(pixels_of(file) == ByteVector{6, 5, 4, 3, 2, 1});
  check_truncations(ByteVector(file.begin(), file.end() - 1));

  ByteVector palette = {'B', 'M', 0, 0, 0, 0, 0, 0, 0, 0, 58, 0, 0, 0, 40, 0, 0, 0};
  append(&palette, {2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 8, 0});
  palette.insert(palette.end(), 16, 0);
  append(&palette, {1, 0, 0, 0, 0, 0, 0, 0, 7, 8, 9, 0});
  append(&palette, {0, 99, 0, 0});
  CHECK(pixels_of(palette) == ByteVector{9, 8, 7, 99, 99, 99});
  palette[30] = 1;  // run-length coding
  CHECK(contains(error_of(palette), "run-length"));
  file[22] = 0;  // height INT_MIN
  file[25] = 0x80;
  CHECK(contains(error_of(file), "claims"));
}

TEST_CASE("TGA: rows from the bottom, both codings, nothing for random bytes") {
  const ByteVector header = {0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 24, 0};
  ByteVector file = header;
  append(&file, {1, 2, 3, 4, 5, 6});
  CHECK(pixels_of(file) == ByteVector{6, 5, 4, 3, 2, 1});
  check_truncations(file);
  ByteVector packed = header;
  packed[2] = 10;
  append(&packed, {0x81, 1, 2, 3});
  CHECK(pixels_of(packed) == ByteVector{3, 2, 1, 3, 2, 1});
  check_truncations(packed);
}

TEST_CASE("GIF: the first frame, with the colour of transparent pixels") {
  // 2 x 1 screen, a frame of one pixel at the right: codes clear, 1, end of two bits and more.
  ByteVector file = from_text("GIF89a");
  append(&file, {2, 0, 1, 0, 0x80, 0, 0, 10, 20, 30, 40, 50, 60});
  append(&file, {0x21, 0xF9, 4, 1, 0, 0, 1, 0});
  append(&file, {0x2C, 1, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0b01001100, 0b00000001, 0, 0x3B});
  CHECK(pixels_of(file) == ByteVector{40, 50, 60, 40, 50, 60});
  check_truncations(ByteVector(file.begin(), file.end() - 1));

  ByteVector none(file.begin(), file.begin() + 27);  // up to the frame
  append(&none, {0x3B});
  CHECK(contains(error_of(none), "holds no picture"));
}
