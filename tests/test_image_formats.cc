// PNG, PNM, TGA and PSD, rule by rule, on files made byte by byte.
#include <algorithm>
#include <cstdint>
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

TEST_CASE("PNG: a palette is expanded, its transparency ignored, what it lacks is black") {
  ByteVector extra = png_chunk("PLTE", {1, 2, 3, 4, 5, 6});
  append(&extra, png_chunk("tRNS", {0, 9}));
  CHECK(pixels_of(png(3, 1, 8, 3, {0, 1, 0, 200}, extra)) == ByteVector{4, 5, 6, 1, 2, 3, 0, 0, 0});
}

TEST_CASE("PNG: a palette of more than 256 colours, or of part of one, is refused") {
  const auto with_palette = [](std::size_t bytes) {
    return png(1, 1, 8, 3, {0, 255}, png_chunk("PLTE", ByteVector(bytes, 9)));
  };
  CHECK(pixels_of(with_palette(256 * 3)) == ByteVector{9, 9, 9});
  for (const unsigned bytes : {1U, 4U, 257U * 3}) {
    INFO(bytes << " bytes");
    CHECK(contains(error_of(with_palette(bytes)), "its palette has an impossible size"));
  }
}

TEST_CASE("PNG: the average filter rounds down") {
  CHECK(pixels_of(png(2, 2, 8, 0, {3, 11, 20, 3, 10, 20})) ==
        ByteVector{11, 11, 11, 25, 25, 25, 15, 15, 15, 40, 40, 40});
}

TEST_CASE("PNG: methods that are not in the standard are refused") {
  // Of compression, of filters, of interlacing.
  for (const ByteVector& methods : {ByteVector{1, 0, 0}, {0, 1, 0}, {0, 0, 2}}) {
    ByteVector header = {0, 0, 0, 1, 0, 0, 0, 1, 8, 0};
    append(&header, methods);
    const ByteVector chunk = png_chunk("IHDR", header);
    ByteVector file = png(1, 1, 8, 0, {0, 7});
    std::copy(chunk.begin(), chunk.end(), file.begin() + 8);
    CHECK_FALSE(error_of(file).empty());
  }
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

TEST_CASE("PNG: a side that stb_image does not take is named") {
  CHECK(error_of(png(178956970, 1, 1, 0, {0, 0})) ==
        "a PNG file of this kind is read up to 16777216 pixels a side, and this one is 178956970 x "
        "1; "
        "scale it down");
  CHECK(contains(error_of(png(1, 16777217, 16, 0, {0, 0})), "1 x 16777217"));
}

TEST_CASE("PNG: empty data chunks are stepped over") {
  const ByteVector empty = png_chunk("IDAT", {});
  CHECK(pixels_of(png(1, 1, 16, 0, {0, 0x12, 0xFF}, empty)) == ByteVector{0x12, 0x12, 0x12});
  CHECK(pixels_of(png(1, 1, 8, 0, {0, 7}, empty)) == ByteVector{7, 7, 7});
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
  CHECK(pixels_of({'P', '5', ' ', '1', ' ', '1', ' ', '9', '\n', 200}) ==
        ByteVector{255, 255, 255});  // above the maximum
  const ByteVector deep = {'P', '5', ' ', '1', ' ',  '1',  ' ', '6',
                           '5', '5', '3', '5', '\n', 0x12, 0xFF};
  CHECK(pixels_of(deep) == ByteVector{0x12, 0x12, 0x12});
  CHECK(decode_image(as_bytes(deep))->warnings.size() == 1);
  check_truncations(from_text("P6 1 2 255\nabcdef"));
  for (const char* header : {"P5\n2# c\n 1\n255\n", "P5#\r2 1#\n 255\n", "P5 2 1 2#5\n55\n"}) {
    CHECK(pixels_of(from_text(std::string(header) + "Az")) ==
          ByteVector{'A', 'A', 'A', 'z', 'z', 'z'});
  }
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
  for (const char* text : {"P6 1 1 0\nabc", "P5 1 1 65536\nab", "P6 1 1 65536\nabcdef"}) {
    CHECK(contains(error_of(from_text(text)), "1 to 65535"));
  }
  CHECK(contains(error_of(from_text("P5 0 1 255\nabc")), "0 x 1"));
}

TEST_CASE("TGA: rows from the bottom, both codings, nothing for random bytes") {
  const ByteVector header = {0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 24, 0};
  ByteVector file = header;
  append(&file, {1, 2, 3, 4, 5, 6});
  CHECK(pixels_of(file) == ByteVector{6, 5, 4, 3, 2, 1});
  check_truncations(file);
  for (const std::uint8_t descriptor :
       ByteVector{9, 0x40, 0x80}) {  // more than 8 bits, interleaved
    ByteVector none = file;
    none[17] = descriptor;
    CHECK_FALSE(decode_image(as_bytes(none)).ok());
  }
  ByteVector packed = header;
  packed[2] = 10;
  append(&packed, {0x81, 1, 2, 3});
  CHECK(pixels_of(packed) == ByteVector{3, 2, 1, 3, 2, 1});
  check_truncations(packed);
}

TEST_CASE("TGA: a palette whose entries are no whole bytes") {
  const ByteVector file = {0, 1, 1, 0, 0, 2, 0, 15, 0, 0, 0, 0, 1, 0, 1, 0, 8, 0, 1, 2, 3, 4, 1};
  check_truncations(file);
}

TEST_CASE("TGA: from the right and from the top, and what is interleaved is no picture") {
  ByteVector file = {0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2, 0, 24, 0};
  append(&file, {1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4});
  const auto gray = [](const ByteVector& pixels) {
    ByteVector first;
    for (std::size_t i = 0; i < pixels.size(); i += 3) {
      first.push_back(pixels[i]);
    }
    return first;
  };
  CHECK(gray(pixels_of(file)) == ByteVector{3, 4, 1, 2});
  file[17] = 0x10;
  CHECK(gray(pixels_of(file)) == ByteVector{4, 3, 2, 1});
  file[17] = 0x20;
  CHECK(gray(pixels_of(file)) == ByteVector{1, 2, 3, 4});
  file[17] = 0x30;
  CHECK(gray(pixels_of(file)) == ByteVector{2, 1, 4, 3});
  for (const std::uint8_t interleaved : ByteVector{0x40, 0x80}) {
    file[17] = interleaved;
    CHECK(contains(error_of(file), "no picture"));
  }
}

TEST_CASE("TGA: a packet may go on in the next row") {
  ByteVector file = {0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2, 0, 8, 0x20};
  append(&file, {0x82, 7, 0x00, 8});
  CHECK(pixels_of(file) == ByteVector{7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 8, 8});
  check_truncations(file);
}

TEST_CASE("TGA: what the palette lacks is black, in front of it and behind") {
  ByteVector file = {0, 1, 1, 0, 0, 2, 0, 24, 0, 0, 0, 0, 4, 0, 1, 0, 8, 0, 10, 20, 30, 40, 50, 60};
  append(&file, {0, 1, 2, 255});
  CHECK(pixels_of(file) == ByteVector{30, 20, 10, 60, 50, 40, 0, 0, 0, 0, 0, 0});
  file[3] = 1;  // its first entry is that of index 1
  CHECK(pixels_of(file) == ByteVector{0, 0, 0, 30, 20, 10, 60, 50, 40, 0, 0, 0});
  file[4] = 255;  // beyond every index
  CHECK(pixels_of(file) == ByteVector(12, 0));
  file[4] = 0;
  file[16] = 16;
  append(&file, {2, 0, 0, 0});
  CHECK(pixels_of(file) == ByteVector{0, 0, 0, 0, 0, 0, 60, 50, 40, 0, 0, 0});
}

TEST_CASE("TGA: five bits a colour, and bits of a palette that there is none of") {
  ByteVector file = {0, 0, 2, 0, 0, 0, 0, 24, 0, 0, 0, 0, 1, 0, 1, 0, 16, 0, 0x41, 0x0C};
  CHECK(pixels_of(file) == ByteVector{24, 16, 8});
  file[7] = 3;
  CHECK(contains(error_of(file), "no picture"));
}

TEST_CASE("TGA: nothing is taken for pixels that the file has no bytes for") {
  for (const std::uint8_t type : ByteVector{2, 3, 10, 11}) {
    const auto bits = static_cast<std::uint8_t>(type % 8 == 2 ? 32 : 8);
    ByteVector file = {0, 0, type, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 0x34, 0x41, 0x34, bits, 0};
    append(&file, {255, 1, 2, 3, 4});
    CHECK(contains(error_of(file), "truncated"));
  }
}

namespace {

struct Psd {
  std::uint8_t channels, depth, mode;
  bool packed;
};

// A PSD of 2 x 2 pixels and no sections.
ByteVector psd(const Psd& kind, const ByteVector& data) {
  ByteVector file = from_text("8BPS");
  append(&file, {0, 1, 0, 0, 0, 0, 0, 0, 0, kind.channels, 0, 0, 0, 2, 0, 0, 0, 2});
  append(&file, {0, kind.depth, 0, kind.mode});
  file.insert(file.end(), 12, 0);
  append(&file, {0, static_cast<std::uint8_t>(kind.packed ? 1 : 0)});
  append(&file, data);
  return file;
}

constexpr std::uint8_t kRgb = 3;
constexpr std::uint8_t kCmyk = 4;

}  // namespace

TEST_CASE("PSD: three channels of 8 or 16 bits, plain or packed, and all of the others there") {
  const ByteVector expected = {1, 5, 9, 2, 6, 10, 3, 7, 11, 4, 8, 12};
  const ByteVector plain = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0, 0, 0};
  CHECK(pixels_of(psd({3, 8, kRgb, false}, plain)) == expected);
  CHECK(pixels_of(psd({4, 8, kRgb, false}, plain)) == expected);
  check_truncations(psd({4, 8, kRgb, false}, plain));

  ByteVector deep;
  ByteVector packed;
  for (std::size_t row = 0; row < 8; ++row) {
    append(&packed, {0, 3});
  }
  for (std::size_t i = 0; i < plain.size(); ++i) {
    append(&deep, {plain[i], 99});
    if (i % 2 == 0) {
      append(&packed, {1, plain[i], plain[i + 1]});  // two bytes as they are
    }
  }
  CHECK(pixels_of(psd({4, 16, kRgb, false}, deep)) == expected);
  check_truncations(psd({4, 16, kRgb, false}, deep));
  CHECK(pixels_of(psd({4, 8, kRgb, true}, packed)) == expected);
  check_truncations(psd({4, 8, kRgb, true}, packed));
}

TEST_CASE("PSD: packed rows are unpacked one by one") {
  const ByteVector runs = {255, 1, 255, 2, 255, 3, 255, 4, 255, 5, 255, 6};  // two of each
  ByteVector data;
  for (int row = 0; row < 6; ++row) {
    append(&data, {0, 2});
  }
  const std::size_t sizes = data.size();
  append(&data, runs);
  CHECK(pixels_of(psd({3, 8, kRgb, true}, data)) == ByteVector{1, 3, 5, 1, 3, 5, 2, 4, 6, 2, 4, 6});
  data[1] = 3;  // takes the next row's first byte
  append(&data, {0});
  CHECK(contains(error_of(psd({3, 8, kRgb, true}, data)), "a packed row is shorter"));
  data[1] = 2;
  data[sizes] = 128;  // stands for nothing
  CHECK(contains(error_of(psd({3, 8, kRgb, true}, data)), "a packed row is shorter"));
  data[1] = 3;
  data[sizes] = 255;
  data.pop_back();
  data.insert(data.begin() + static_cast<std::ptrdiff_t>(sizes), 128);
  CHECK(pixels_of(psd({3, 8, kRgb, true}, data)) == ByteVector{1, 3, 5, 1, 3, 5, 2, 4, 6, 2, 4, 6});
  // Rows of no bytes at all, of a picture that would take 537 MB.
  ByteVector empty = psd({3, 8, kRgb, true}, ByteVector(std::size_t{2} * 3 * 13377, 0));
  empty[16] = empty[20] = 0x34;
  empty[17] = empty[21] = 0x41;
  CHECK(contains(error_of(empty), "truncated"));
}

TEST_CASE("PSD: other colours and samples are refused") {
  struct Case {
    Psd kind;
    const char* words;
  };
  for (const Case& c : {Case{{4, 8, kCmyk, false}, "not in RGB colours"},
                        Case{{2, 8, kRgb, false}, "not in RGB colours"},
                        Case{{3, 16, kRgb, true}, "packs 16-bit samples"},
                        Case{{3, 32, kRgb, false}, "samples of neither 8 nor 16 bits"},
                        Case{{3, 1, kRgb, false}, "samples of neither 8 nor 16 bits"}}) {
    INFO(c.words);
    CHECK(contains(error_of(psd(c.kind, ByteVector(64, 7))), c.words));
  }
  ByteVector file = psd({3, 8, kRgb, false}, ByteVector(64, 7));
  file[39] = 2;
  CHECK(contains(error_of(file), "compressed in a way that is not read (2)"));
  file[5] = 2;
  CHECK(contains(error_of(file), "of the large kind"));
}
