// Decoding files made byte by byte: what is no picture, what is too large, how files are read, and
// JPEG. Pillow judges whole pictures in image_judge.
#include "xception/image.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "decoding.h"
#include "image_bytes.h"
#include "temp_dir.h"
#include "testing.h"

using namespace xception;
using namespace xception::test;

TEST_CASE("Too many pixels are refused by the header alone") {
  CHECK(error_of(png(100000, 100000, 8, 2, {0})) ==
        "the picture claims 100000 x 100000 pixels, limit 178956970 pixels in all; scale it down "
        "or raise the limit (max-pixels)");
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
  // A side that no int holds, below the limit of pixels.
  for (const char* sides : {"1 4294967297", "4294967297 1"}) {
    CHECK(contains(error_of(from_text("P6 " + std::string(sides) + " 255\nabc"), options),
                   "limit 1099511627776 pixels"));
  }
}

TEST_CASE("A file of more than 1 GiB is refused whatever it holds") {
  const std::size_t size = (std::size_t{1} << 30) + 1;
  // Of which one page is ever touched.
  void* const memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  std::memcpy(memory, "P6 1 1 255\nabc", 14);
  const Result<DecodedImage> decoded = decode_image({static_cast<const std::byte*>(memory), size});
  CHECK(::munmap(memory, size) == 0);
  REQUIRE_FALSE(decoded.ok());
  CHECK(contains(decoded.status().message(), "more than 1 GiB"));
}

TEST_CASE("A picture that takes more than 1 GiB beside its file is refused") {
  DecodeOptions options;
  options.max_pixels = std::numeric_limits<std::int64_t>::max();
  const auto check = [&](ByteVector header, std::size_t data) {
    header.resize(header.size() + data);
    CHECK(error_of(header, options) ==
          "decoding the picture of 20000 x 20000 pixels needs more than 1 GiB; scale it down");
  };
  check(from_text("P4 20000 20000 "), 2500 * 20000);
  ByteVector bmp = {'B', 'M', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0};
  append(&bmp, {0x20, 0x4E, 0x20, 0x4E, 1, 0, 1, 0});
  check(bmp, 6 + 2500 * 20000);
  check({0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0x4E, 0x20, 0x4E, 8, 0},
        2 * 20000 * 20000 / 128);
}

TEST_CASE("The memory that a picture takes is told before it is taken") {
  std::vector<std::int64_t> told;
  DecodeOptions options;
  options.before_allocating = [&told](std::int64_t bytes) { told.push_back(bytes); };
  pixels_of(png(16, 8, 1, 0, ByteVector(24, 0)), options);
  CHECK(told == std::vector<std::int64_t>{12 * 16 * 8});
  told.clear();
  pixels_of(png(16, 8, 16, 0, ByteVector(8 * 33, 0)), options);
  CHECK(told == std::vector<std::int64_t>{24 * 16 * 8});
  for (const bool apply_exif : {false, true}) {
    told.clear();
    options.apply_exif = apply_exif;
    pixels_of(jpeg(exif(6)), options);
    REQUIRE(told.size() == (apply_exif ? 2 : 1));
    CHECK(told[0] >= 3 * 16 * 8);
    CHECK(told.back() == (apply_exif ? 2 * 3 * 16 * 8 : told[0]));  // both, while it is turned
  }
  const TempDir folder;
  const std::string text = "P6 200 200 255\n" + std::string(3 * 200 * 200, 'x');
  std::ofstream(folder.path("x"), std::ios::binary) << text;
  told.clear();
  CHECK(decode_image_file(folder.path("x"), options).ok());
  CHECK(told == std::vector<std::int64_t>{static_cast<std::int64_t>(text.size()) + 1, 120'000});
#ifdef XCEPTION_HAVE_JPEG
  told.clear();
  pixels_of(progressive_jpeg(2), options);
  CHECK(told == std::vector<std::int64_t>{(3 + 2) * 16 * 8});  // and its coefficients
#endif
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

#ifdef XCEPTION_HAVE_JPEG
TEST_CASE("JPEG: damage that leaves a picture is a warning") {
  CHECK(decode_image(as_bytes(jpeg()))->warnings.empty());
  ByteVector damaged = jpeg();
  damaged.resize(damaged.size() - 4);
  append(&damaged, {0b11101110, 0b11101110, 0b10001111, 0xFF, 0xD9});  // 17 bits | 0 | 0 | 0
  const Result<DecodedImage> decoded = decode_image(as_bytes(damaged));
  REQUIRE(decoded.ok());
  REQUIRE(decoded->warnings.size() == 1);
  CHECK(contains(decoded->warnings[0], "the JPEG data is damaged ("));
  CHECK(contains(decoded->warnings[0], "some pixels may be wrong"));
}

TEST_CASE("JPEG: two colours are refused") {
  ByteVector file = jpeg();
  const ByteVector begin = {0xFF, 0xC0, 0, 11};
  const auto header = std::search(file.begin(), file.end(), begin.begin(), begin.end());
  header[3] = 14;
  header[9] = 2;
  const ByteVector second = {2, 0x11, 0};
  file.insert(header + 13, second.begin(), second.end());
  CHECK(error_of(file) == "the JPEG file has 2 colour components; 1, 3 or 4 are read");
}

TEST_CASE("JPEG: a small picture may have 500 scans") {
  CHECK(pixels_of(progressive_jpeg(500)) == pixels_of(jpeg()));
  CHECK(contains(error_of(progressive_jpeg(501)), "more than 500 scans"));
}
#endif

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
    ByteVector filled = {0xFF, 0xFF};  // before the marker
    append(&filled, exif(e.orientation));
    CHECK(pixels_of(jpeg(filled), apply) == turned->image.pixels);
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
  CHECK(contains(error_of(from_text("1234ftypavif")), "AVIF"));
  CHECK(contains(error_of(from_text("1234ftypheic")), "HEIC"));
  CHECK(contains(error_of(from_text("1234ftypmif1")), "HEIC"));
  CHECK(contains(error_of(from_text("II*zzzzz")), "TIFF"));
  CHECK(contains(error_of(from_text("MMzzzzzz")), "TIFF"));
  CHECK(contains(error_of(from_text("\x93NUMPY\x01")), "raw input"));
}

// To a file, or into a pipe for which somebody waits.
void write_bytes(const std::string& path, const ByteVector& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

TEST_CASE("Reading files: what is wrong with them is said") {
  const TempDir folder;
  const std::string path = folder.path("a.jpg");
  write_bytes(path, jpeg());
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

TEST_CASE("Reading files: no descriptor is left open") {
  const TempDir folder;
  const std::string path = folder.path("a.jpg");
  write_bytes(path, jpeg());
  std::ofstream(folder.path("text.png")) << "hello";
  const int before = ::dup(0);
  REQUIRE(before >= 0);
  ::close(before);  // the lowest number that is free
  CHECK(decode_image_file(path).ok());
  CHECK_FALSE(decode_image_file(folder.path("text.png")).ok());
  CHECK_FALSE(decode_image_file(folder.path("")).ok());
  CHECK(::fcntl(before, F_GETFD) == -1);
}

TEST_CASE("Reading a pipe: whole, and closed without a byte") {
  const TempDir folder;
  for (const bool empty : {false, true}) {
    const std::string path = folder.path(empty ? "empty" : "full");
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    std::thread writer([&] { write_bytes(path, empty ? ByteVector{} : jpeg()); });
    const Result<DecodedImage> decoded = decode_image_file(path);
    writer.join();
    CHECK(decoded.ok() != empty);
    CHECK((!empty || contains(decoded.status().message(), "empty")));
  }
}

TEST_CASE("Reading a pipe: what comes bit by bit is told by all of its head") {
  const TempDir folder;
  const std::string path = folder.path("slow");
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  bool written = false;
  std::thread writer([&] {
    // Read and write, for no signal to end the tests where nobody reads on.
    const int pipe = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    const ByteVector bytes = jpeg();
    written = ::write(pipe, bytes.data(), 1) == 1;
    for (int waiting = 1; written && waiting > 0; std::this_thread::yield()) {
      written = ::ioctl(pipe, FIONREAD, &waiting) == 0;  // until that byte was read alone
    }
    written = written && ::write(pipe, bytes.data() + 1, bytes.size() - 1) > 0;
    ::close(pipe);
  });
  const Result<DecodedImage> decoded = decode_image_file(path);
  writer.join();
  CHECK(written);
  INFO(decoded.status().message());
  CHECK(decoded.ok());
}
