// Decoding files made byte by byte: what is no picture, what is too large, how files are read, and
// JPEG. Pillow judges whole pictures in image_judge.
#include "xception/image.h"

#include <sys/stat.h>

#include <fstream>
#include <limits>
#include <string>
#include <thread>

#include "decoding.h"
#include "image_bytes.h"
#include "temp_dir.h"
#include "testing.h"

using namespace xception;
using namespace xception::test;

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
