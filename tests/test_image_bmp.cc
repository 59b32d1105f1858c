// BMP, rule by rule, on files made byte by byte.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "decoding.h"
#include "image_bytes.h"
#include "testing.h"
#include "xception/image.h"

using namespace xception;
using namespace xception::test;

namespace {

ByteVector little32(std::uint32_t v) {
  ByteVector bytes = big32(v);
  std::reverse(bytes.begin(), bytes.end());
  return bytes;
}

struct Bmp {
  std::uint8_t bits;
  std::uint32_t pixels_at;
  std::uint8_t header = 40;
  std::uint32_t compression = 0;
  std::uint32_t colours = 0;
  std::uint32_t width = 1;
  std::uint32_t height = 1;
  std::uint8_t planes = 1;
};

// The headers and what follows the first 40 bytes of the second, its own end included.
ByteVector bmp(const Bmp& b, const ByteVector& rest) {
  ByteVector file = {'B', 'M', 0, 0, 0, 0, 0, 0, 0, 0};
  for (const std::uint32_t v : {b.pixels_at, std::uint32_t{b.header}, b.width, b.height}) {
    append(&file, little32(v));
  }
  append(&file, {b.planes, 0, b.bits, 0});
  for (const std::uint32_t v : {b.compression, 0U, 0U, 0U, b.colours, 0U}) {
    append(&file, little32(v));
  }
  append(&file, rest);
  return file;
}

// Of `zeros` bytes and then `more`.
ByteVector behind(std::size_t zeros, const ByteVector& more) {
  ByteVector bytes(zeros);
  append(&bytes, more);
  return bytes;
}

ByteVector masks(std::uint32_t red, std::uint32_t green, std::uint32_t blue) {
  ByteVector bytes = little32(red);
  append(&bytes, little32(green));
  append(&bytes, little32(blue));
  return bytes;
}

}  // namespace

TEST_CASE("BMP: rows from the bottom, or from the top where the height is negative") {
  Bmp kind = {24, 54};
  kind.height = 2;
  const ByteVector rows = {1, 2, 3, 0, 4, 5, 6};  // the last one's padding may be left out
  CHECK(pixels_of(bmp(kind, rows)) == ByteVector{6, 5, 4, 3, 2, 1});
  check_truncations(bmp(kind, rows));
  kind.height = static_cast<std::uint32_t>(-2);
  CHECK(pixels_of(bmp(kind, rows)) == ByteVector{3, 2, 1, 6, 5, 4});
  kind.height = 0x80000000U;
  CHECK(contains(error_of(bmp(kind, rows)), "claims"));
}

TEST_CASE("BMP: colours of 16, 24 and 32 bits, each under headers of every length") {
  for (const unsigned header : {40U, 52U, 56U, 64U, 108U, 124U}) {
    for (const unsigned gap : {0U, 1U, 2U, 1024U}) {  // behind the headers, a palette perhaps
      INFO("a header of " << header << " bytes, a gap of " << gap);
      Bmp kind = {24, 14 + header + gap, static_cast<std::uint8_t>(header)};
      const std::size_t before = header - 40 + gap;
      CHECK(pixels_of(bmp(kind, behind(before, {1, 2, 3}))) == ByteVector{3, 2, 1});
      kind.bits = 32;
      CHECK(pixels_of(bmp(kind, behind(before, {1, 2, 3, 9}))) == ByteVector{3, 2, 1});
      kind.bits = 16;  // five bits a colour; values as Pillow rounds them
      CHECK(pixels_of(bmp(kind, behind(before, {0x41, 0x0C}))) == ByteVector{24, 16, 8});
    }
  }
  Bmp kind = {24, 0};  // right behind the header
  kind.planes = 0;     // nobody minds
  CHECK(pixels_of(bmp(kind, {1, 2, 3})) == ByteVector{3, 2, 1});
  kind.pixels_at = 53;
  CHECK(contains(error_of(bmp(kind, {1, 2, 3})), "its pixels begin inside its header"));
}

TEST_CASE("BMP: masks say which bits are which colour") {
  const ByteVector m565 = masks(0xF800, 0x7E0, 0x1F);
  const auto read = [](Bmp kind, const ByteVector& colours, std::size_t gap,
                       const ByteVector& pixel) {
    kind.compression = 3;
    ByteVector rest = colours;
    append(&rest, behind(gap, pixel));
    return bmp(kind, rest);
  };
  // Behind a header of 40 bytes there are three of them or four, the longer ones have them inside.
  for (const Bmp& kind : {Bmp{16, 66}, Bmp{16, 70}, Bmp{16, 66, 52}, Bmp{16, 70, 56},
                          Bmp{16, 122, 108}, Bmp{16, 0}}) {
    const std::size_t gap = kind.pixels_at == 0 ? 0 : kind.pixels_at - 66;
    CHECK(pixels_of(read(kind, m565, gap, {0x41, 0x18})) == ByteVector{24, 8, 8});
  }
  CHECK(pixels_of(read({24, 66}, masks(0xFF0000, 0xFF00, 0xFF), 0, {1, 2, 3})) ==
        ByteVector{3, 2, 1});
  CHECK(pixels_of(read({32, 66}, masks(0xFF, 0xFF00, 0xFF0000), 0, {1, 2, 3, 9})) ==
        ByteVector{1, 2, 3});
  CHECK(pixels_of(read({32, 66}, masks(0xFF000000, 0xFF0000, 0xFF00), 0, {9, 1, 2, 3})) ==
        ByteVector{3, 2, 1});
  CHECK(pixels_of(read({32, 66}, masks(0, 0, 0), 0, {1, 2, 3, 9})) == ByteVector{3, 2, 1});
  CHECK(pixels_of(read({32, 66}, masks(0xFFFFFFFF, 0x3FF, 1), 0, {255, 255, 255, 255})) ==
        ByteVector{255, 255, 255});
  for (const ByteVector& wrong : {masks(0, 0xFF00, 0xFF), masks(0xF0F, 0xF0, 1)}) {
    CHECK(contains(error_of(read({32, 66}, wrong, 0, {1, 2, 3, 9})), "its colour masks"));
  }
  CHECK(contains(error_of(read({16, 54}, m565, 0, {1, 2})), "begin inside its header"));
}

TEST_CASE("BMP: a palette ends where the pixels begin, and what it lacks is black") {
  Bmp kind = {8, 58, 40, 0, 1, 2};
  const ByteVector entry = {7, 8, 9, 0};
  const auto with_entries = [&](std::size_t count, const ByteVector& rest) {
    ByteVector bytes;
    for (std::size_t i = 0; i < count; ++i) {
      append(&bytes, entry);
    }
    append(&bytes, rest);
    return bytes;
  };
  CHECK(pixels_of(bmp(kind, with_entries(1, {0, 99, 0, 0}))) == ByteVector{9, 8, 7, 0, 0, 0});
  check_truncations(bmp(kind, with_entries(1, {0, 99})));  // without the row's padding
  kind.colours = 0;                                        // all, which there is no room for
  CHECK(pixels_of(bmp(kind, with_entries(1, {0, 99, 0, 0}))) == ByteVector{9, 8, 7, 0, 0, 0});
  // Said to be right behind the header, or nowhere: behind the palette.
  for (const std::uint32_t pixels_at : {54U, 0U}) {
    kind.pixels_at = pixels_at;
    kind.colours = 3;
    CHECK(pixels_of(bmp(kind, with_entries(3, {2, 3, 0, 0}))) == ByteVector{9, 8, 7, 0, 0, 0});
    kind.colours = 0;
    CHECK(pixels_of(bmp(kind, with_entries(256, {255, 0}))) == ByteVector{9, 8, 7, 9, 8, 7});
  }
  kind.pixels_at = 53;
  CHECK(contains(error_of(bmp(kind, with_entries(256, {0, 0}))), "begin inside its header"));
  kind.pixels_at = 255;
  CHECK(contains(error_of(bmp(kind, with_entries(1, {0, 99, 0, 0}))), "truncated"));
  kind.colours = 257;
  CHECK(contains(error_of(bmp(kind, with_entries(257, {0, 99, 0, 0}))),
                 "its palette has an impossible size"));
}

TEST_CASE("BMP: indices of one and four bits") {
  Bmp kind = {1, 62, 40, 0, 2, 10};
  ByteVector rest = {1, 1, 1, 0, 2, 2, 2, 0, 0b01000000, 0b01111111, 0, 0};
  ByteVector expected(30, 1);
  for (const std::size_t pixel : {1U, 9U}) {
    std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(3 * pixel), 3, std::uint8_t{2});
  }
  CHECK(pixels_of(bmp(kind, rest)) == expected);
  kind.bits = 4;
  kind.width = 3;
  CHECK(pixels_of(bmp(kind, {1, 1, 1, 0, 2, 2, 2, 0, 0x10, 0x1F, 0, 0})) ==
        ByteVector{2, 2, 2, 1, 1, 1, 2, 2, 2});
}

TEST_CASE("BMP: the shortest header, whose palette has entries of three bytes") {
  const auto shortest = [](std::uint8_t pixels_at, std::uint8_t bits, const ByteVector& rest) {
    ByteVector file = {'B', 'M', 0, 0, 0, 0, 0, 0, 0, 0, pixels_at, 0, 0, 0, 12, 0, 0, 0};
    append(&file, {1, 0, 1, 0, 1, 0, bits, 0});
    append(&file, rest);
    return file;
  };
  CHECK(pixels_of(shortest(32, 1, {1, 2, 3, 4, 5, 6, 0x80, 0, 0, 0})) == ByteVector{6, 5, 4});
  CHECK(pixels_of(shortest(32, 8, {1, 2, 3, 4, 5, 6, 1, 0, 0, 0})) == ByteVector{6, 5, 4});
  CHECK(pixels_of(shortest(26, 24, {1, 2, 3, 0})) == ByteVector{3, 2, 1});
  check_truncations(shortest(32, 8, {1, 2, 3, 4, 5, 6, 1}));
}

TEST_CASE("BMP: what is not read is named") {
  Bmp kind = {8, 58, 40, 0, 1};
  const ByteVector rest(16);
  for (const std::uint32_t coding : {1U, 2U}) {  // of 8 bits and of 4
    kind.compression = coding;
    CHECK(contains(error_of(bmp(kind, rest)), "run-length"));
  }
  for (const std::uint32_t coding : {3U, 4U, 6U, 9U}) {
    kind.compression = coding;
    CHECK(error_of(bmp(kind, rest)) == "the BMP file is compressed in a way that is not read (" +
                                           std::to_string(coding) + "); convert it to PNG");
  }
  kind.compression = 0;
  kind.bits = 2;
  CHECK(contains(error_of(bmp(kind, rest)), "pixels of 2 bits"));
  kind.header = 39;
  CHECK(contains(error_of(bmp(kind, rest)), "a header of an unknown kind"));
}

TEST_CASE("BMP: nothing is taken for pixels that the file has no bytes for") {
  for (const std::uint8_t bits :
       {std::uint8_t{1}, std::uint8_t{8}, std::uint8_t{24}, std::uint8_t{32}}) {
    Bmp kind = {bits, 58, 40, 0, 1, 13377, 13377};
    CHECK(contains(error_of(bmp(kind, {1, 2, 3, 4, 5})), "truncated"));
  }
  DecodeOptions options;
  options.max_pixels = std::numeric_limits<std::int64_t>::max();
  Bmp widest = {32, 54, 40, 0, 0, INT32_MAX, INT32_MAX};
  CHECK_FALSE(error_of(bmp(widest, {1, 2, 3, 4}), options).empty());
}
