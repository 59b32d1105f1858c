// GIF, rule by rule, on files made byte by byte.
#include <cstdint>

#include "decoding.h"
#include "image_bytes.h"
#include "testing.h"
#include "xception/image.h"

using namespace xception;
using namespace xception::test;

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

TEST_CASE("GIF: without a palette it is gray, and what a palette lacks is black") {
  const auto with_palette = [](std::uint8_t flags, const ByteVector& palette) {
    ByteVector file = from_text("GIF89a");
    append(&file, {1, 0, 1, 0, flags, 0, 0});
    append(&file, palette);
    append(&file, {0x2C, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0b01011100, 0b00000001, 0, 0x3B});  // 3
    return pixels_of(file);
  };
  CHECK(with_palette(0, {}) == ByteVector{3, 3, 3});
  CHECK(with_palette(0x80, {10, 20, 30, 40, 50, 60}) == ByteVector{0, 0, 0});
}

TEST_CASE("GIF: a frame of its own place, palette and no transparency") {
  ByteVector screen = from_text("GIF89a");
  append(&screen, {2, 0, 1, 0, 0x80, 0, 0, 10, 20, 30, 40, 50, 60});
  append(&screen, {0x21, 0xF9, 4, 0, 0, 0, 1, 0});  // an index that the flags do not speak of
  const auto with_frame = [&](std::uint8_t left, std::uint8_t top, const ByteVector& palette) {
    ByteVector file = screen;
    append(&file, {0x2C, left, 0, top, 0, 1, 0, 1, 0});
    append(&file, {static_cast<std::uint8_t>(palette.empty() ? 0 : 0x80)});
    append(&file, palette);
    append(&file, {2, 2, 0b01001100, 0b00000001, 0, 0x3B});
    return file;
  };
  CHECK(pixels_of(with_frame(1, 0, {})) == ByteVector{10, 20, 30, 40, 50, 60});
  CHECK(pixels_of(with_frame(0, 0, {})) == ByteVector{40, 50, 60, 10, 20, 30});
  CHECK(pixels_of(with_frame(1, 0, {1, 2, 3, 4, 5, 6})) == ByteVector{1, 2, 3, 4, 5, 6});
  // Outside the screen, which grows then.
  CHECK(pixels_of(with_frame(2, 0, {})) == ByteVector{10, 20, 30, 10, 20, 30, 40, 50, 60});
  CHECK(pixels_of(with_frame(0, 1, {})) ==
        ByteVector{10, 20, 30, 10, 20, 30, 40, 50, 60, 10, 20, 30});
  screen[6] = screen[8] = 0;
  CHECK(pixels_of(with_frame(0, 0, {})) == ByteVector{40, 50, 60});
}

namespace {

// A GIF of gray indices; `raster` is the size of codes and one sub-block.
ByteVector gray_gif(std::uint8_t width, std::uint8_t height, const ByteVector& raster,
                    std::uint8_t flags = 0) {
  ByteVector file = from_text("GIF89a");
  append(&file, {width, 0, height, 0, 0, 0, 0});
  append(&file, {0x2C, 0, 0, 0, 0, width, 0, height, 0, flags, raster[0],
                 static_cast<std::uint8_t>(raster.size() - 1)});
  file.insert(file.end(), raster.begin() + 1, raster.end());
  append(&file, {0, 0x3B});
  return file;
}

ByteVector each_three_times(const ByteVector& grays) {
  ByteVector pixels;
  for (const std::uint8_t gray : grays) {
    append(&pixels, ByteVector(3, gray));
  }
  return pixels;
}

}  // namespace

TEST_CASE("GIF: codes stand for strings, and need not begin with one that clears them") {
  // 1, then 6 which is being made of it: 1 1; then 7, 1 1 1; then the end in four bits.
  const ByteVector raster = {2, 0b11110001, 0b00001011};
  CHECK(pixels_of(gray_gif(6, 1, raster)) == each_three_times(ByteVector(6, 1)));
  // Only as many pixels as there are; what is behind them does not matter.
  CHECK(pixels_of(gray_gif(4, 1, raster)) == each_three_times(ByteVector(4, 1)));
  CHECK(contains(error_of(gray_gif(7, 1, raster)), "truncated"));
  // Codes that nothing has been made of yet: 7 as the first, and behind 1.
  CHECK(contains(error_of(gray_gif(4, 1, {2, 0b00000111})), "a code stands for nothing"));
  CHECK(contains(error_of(gray_gif(4, 1, {2, 0b00111001})), "a code stands for nothing"));
  CHECK(contains(error_of(gray_gif(4, 1, {12, 0, 0, 0, 0})), "wider than 12 bits"));
  CHECK(contains(error_of(gray_gif(0, 1, raster)), "0 x 1"));
}

TEST_CASE("GIF: interlaced rows") {
  // 0 and 1 in turn, as literals of two bits: no string is used, and codes grow all the same.
  CHECK(pixels_of(gray_gif(1, 5, {2, 0b00011100, 0b00010001, 0b01000011}, 0x40)) !=
        pixels_of(gray_gif(1, 5, {2, 0b00011100, 0b00010001, 0b01000011})));
}

TEST_CASE("GIF: stray bytes between blocks are stepped over") {
  ByteVector file = gray_gif(1, 1, {2, 0b00101001});
  CHECK(pixels_of(file) == ByteVector{1, 1, 1});
  const ByteVector stray = {0, 0x21, 0xFE, 1, 'c', 0, 0, 7};
  file.insert(file.begin() + 13, stray.begin(), stray.end());
  CHECK(pixels_of(file) == ByteVector{1, 1, 1});
  check_truncations(ByteVector(file.begin(), file.end() - 1));
}

TEST_CASE("GIF: nothing is taken for pixels that the file has no bytes for") {
  ByteVector file = gray_gif(1, 1, {2, 0b00101001});
  CHECK(contains(error_of(gray_gif(1, 0, {2, 0b00101001})), "1 x 0"));
  file[18] = file[20] = 0x41;  // the frame's sides
  file[19] = file[21] = 0x34;
  CHECK(contains(error_of(file), "truncated"));
  file[6] = file[8] = 9;
  file[18] = file[19] = 0;
  CHECK(contains(error_of(file), "its first picture has no pixels"));
}
