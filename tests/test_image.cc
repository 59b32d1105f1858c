// Decoding, rule by rule, on files made byte by byte; Pillow judges whole pictures in image_judge.
#include "xception/image.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <thread>

#include "image_bytes.h"
#include "temp_dir.h"
#include "testing.h"

using namespace xception;
using namespace xception::test;
namespace fs = std::filesystem;

namespace {

ByteVector pixels_of(const ByteVector& file, const DecodeOptions& options = {}) {
  const Result<DecodedImage> decoded = decode_image(as_bytes(file), options);
  INFO(decoded.status().message());
  REQUIRE(decoded.ok());
  return decoded->image.pixels;
}

std::string error_of(const ByteVector& file, const DecodeOptions& options = {}) {
  const Result<DecodedImage> decoded = decode_image(as_bytes(file), options);
  REQUIRE_FALSE(decoded.ok());
  CHECK(decoded.status().code() == Code::kBadImage);
  return decoded.status().message();
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Every beginning of the file is refused.
void check_truncations(const ByteVector& file) {
  for (std::size_t size = 0; size < file.size(); ++size) {
    const ByteVector cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
    INFO("cut to " << size << " of " << file.size());
    CHECK_FALSE(error_of(cut).empty());
  }
  CHECK(decode_image(as_bytes(file)).ok());
}

}  // namespace

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

TEST_CASE("Too many pixels are refused by the header alone") {
  CHECK(error_of(png(100000, 100000, 8, 2, {0})) ==
        "the picture claims 100000 x 100000 pixels, limit 178956970 pixels in all; scale it down "
        "or raise the limit (--max-pixels)");
  CHECK(contains(error_of(jpeg({}, 65500, 65500)), "65500 x 65500"));
  CHECK(contains(error_of(from_text("P6 4294967297 4294967297 255\n")), "claims"));
  DecodeOptions options;
  options.max_pixels = 127;
  CHECK(contains(error_of(jpeg(), options), "16 x 8 pixels, limit 127"));
  options.max_pixels = 128;
  CHECK(pixels_of(jpeg(), options).size() == 384);
  options.max_pixels = std::numeric_limits<std::int64_t>::max();
  std::int64_t bytes = 0;
  options.before_allocating = [&bytes](std::int64_t asked) { bytes = asked; };
  for (const char* sides : {"2147483647 2147483647", "1048576 1048577"}) {
    CHECK(contains(error_of(from_text("P6 " + std::string(sides) + " 255\n"), options),
                   "limit 1099511627776 pixels"));
    CHECK(bytes == 0);
  }
  CHECK(contains(error_of(from_text("P6 1048576 1048576 255\n"), options), "truncated"));
  CHECK(bytes == std::int64_t{3} << 40);
}

TEST_CASE("JPEG: blocks, truncation, missing data under an end marker") {
  const ByteVector pixels = pixels_of(jpeg());
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    REQUIRE(pixels[i] == (i / 3 % 16 < 8 ? 128 : 228));
  }
  check_truncations(jpeg());
  ByteVector half = jpeg();
  half.erase(half.end() - 4, half.end() - 2);  // the data, but not the end marker
#ifdef XCEPTION_HAVE_JPEG
  CHECK(contains(error_of(half), "truncated"));
#endif
}

TEST_CASE("JPEG: a picture takes the memory of another where it suffices") {
  const ByteVector pixels = pixels_of(jpeg());
  for (const std::size_t bytes :
       {std::size_t{0}, pixels.size() - 1, pixels.size(), std::size_t{5000}}) {
    Image recycled{1, 1, ByteVector(bytes, 77)};
    const std::uint8_t* const memory = recycled.pixels.data();
    const Result<DecodedImage> decoded = decode_image(as_bytes(jpeg()), {}, std::move(recycled));
    REQUIRE(decoded.ok());
    CHECK(decoded->image.width == 16);
    CHECK(decoded->image.height == 8);
    CHECK(decoded->image.pixels == pixels);
#ifdef XCEPTION_HAVE_JPEG
    CHECK((bytes < pixels.size() || decoded->image.pixels.data() == memory));
#endif
  }
}

TEST_CASE("JPEG: the EXIF orientation is applied when asked for") {
  DecodeOptions apply;
  apply.apply_exif = true;
  struct Expected {
    std::uint8_t orientation;
    int width, height;
    std::uint8_t top_left, bottom_right;
  };
  // The right half is the brighter one, so rows cannot be told apart, but corners can.
  for (const Expected& e :
       {Expected{1, 16, 8, 128, 228}, Expected{2, 16, 8, 228, 128}, Expected{3, 16, 8, 228, 128},
        Expected{4, 16, 8, 128, 228}, Expected{5, 8, 16, 128, 228}, Expected{6, 8, 16, 128, 228},
        Expected{7, 8, 16, 228, 128}, Expected{8, 8, 16, 228, 128}, Expected{9, 16, 8, 128, 228}}) {
    INFO("orientation " << int{e.orientation});
    const ByteVector file = jpeg(exif(e.orientation));
    const Result<DecodedImage> turned = decode_image(as_bytes(file), apply);
    REQUIRE(turned.ok());
    CHECK(turned->image.width == e.width);
    CHECK(turned->image.height == e.height);
    CHECK(turned->image.pixels.front() == e.top_left);
    CHECK(turned->image.pixels.back() == e.bottom_right);
    CHECK(decode_image(as_bytes(file))->image.width == 16);
  }
  for (const std::uint8_t directory : {std::uint8_t{0}, std::uint8_t{9}, std::uint8_t{255}}) {
    CHECK(decode_image(as_bytes(jpeg(exif(6, directory))), apply)->image.width == 16);
  }
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

TEST_CASE("Files that are no pictures are named as such") {
  CHECK(error_of({}) == "the file is empty");
  CHECK(contains(error_of(from_text("Not a picture, but text in a file named cat.jpg\n")), "text"));
  CHECK(contains(error_of({'R', 'I', 'F', 'F', 1, 2, 3, 4, 'W', 'E', 'B', 'P', 0}), "WebP"));
  CHECK(contains(error_of({0, 1, 2, 3, 250, 251}), "no picture"));
  CHECK(contains(error_of(from_text("%PDF-1.4")), "PDF"));
  CHECK(contains(error_of(from_text("\x93NUMPY\x01")), "--raw-input"));
}

TEST_CASE("Reading files: what is wrong with them is said") {
  const TempDir folder;
  const std::string path = folder.path("a.jpg");
  const ByteVector bytes = jpeg();
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  CHECK(decode_image_file(path).ok());
  const Status missing = decode_image_file(folder.path("none.jpg")).status();
  CHECK(missing.code() == Code::kNotFound);
  CHECK(contains(missing.message(), "none.jpg"));
  CHECK(decode_image_file(path + "/inside").status().code() == Code::kNotFound);
  const Status directory = decode_image_file(folder.path("")).status();
  CHECK(directory.code() == Code::kIo);
  CHECK(contains(directory.message(), "directory"));
  std::ofstream(folder.path("empty.png")).flush();
  CHECK(contains(decode_image_file(folder.path("empty.png")).status().message(), "empty"));
  std::ofstream(folder.path("text.png")) << "hello";
  const Status text = decode_image_file(folder.path("text.png")).status();
  CHECK(text.code() == Code::kBadImage);
  CHECK(contains(text.message(), "text.png"));
}

TEST_CASE("Reading a pipe: whole, and closed without a byte") {
  const TempDir folder;
  for (const bool empty : {false, true}) {
    const std::string path = folder.path(empty ? "empty" : "full");
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    std::thread writer([&] {
      std::ofstream out(path, std::ios::binary);
      const ByteVector bytes = empty ? ByteVector{} : jpeg();
      out.write(reinterpret_cast<const char*>(bytes.data()),
                static_cast<std::streamsize>(bytes.size()));
    });
    const Result<DecodedImage> decoded = decode_image_file(path);
    writer.join();
    CHECK(decoded.ok() != empty);
    CHECK((!empty || contains(decoded.status().message(), "empty")));
  }
}
