// What becomes of pictures and arrays where memory is not to be had.
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "allocations.h"
#include "image_bytes.h"
#include "mallocs.h"
#include "temp_dir.h"
#include "testing.h"
#include "xception/image.h"

using namespace xception;

namespace {

// Runs `operation` with each of its allocations failing in turn; without a failure it gives
// `expected`.
void check_each_failure(const std::string& name, Code expected,
                        const std::function<Code()>& operation) {
  INFO(name);
  int failures = -1;
  for (bool done = false; !done; ++failures) {
    INFO("allocation " << failures + 1);
    allocations::fail_after(failures + 1);
    const Code code = operation();
    done = allocations::cancel_failure();  // it lay beyond the last allocation
    CHECK(code == (done ? expected : Code::kOutOfMemory));
  }
  CHECK(failures > 0);
  // Memory that is out stays so, for the sentence about it too.
  for (int i = 0; i < failures; ++i) {
    allocations::fail_from(i);
    const Code code = operation();
    allocations::cancel_failure();
    CHECK(code == Code::kOutOfMemory);
  }
}

}  // namespace

TEST_CASE("Every allocation of the image library that fails is a status") {
  const TempDir folder;
  const std::string array = folder.path("an array whose name is no short string.npy");
  const std::string missing = folder.path("nothing with a name as long/x.npy");
  const std::vector<float> values(12);
  const std::vector<std::int64_t> shape = {3, 4};
  REQUIRE(write_npy(array, {1, 3, 2, 2}, values.data()).ok());
  const std::string picture = folder.path("a picture whose name is no short string.ppm");
  const std::string text = "P6 2 1 255\nabcdef";
  std::FILE* const file = std::fopen(picture.c_str(), "wb");
  REQUIRE(file != nullptr);
  CHECK(std::fwrite(text.data(), 1, text.size(), file) == text.size());
  CHECK(std::fclose(file) == 0);
  const Image image = {2, 1, std::vector<std::uint8_t>(6)};
  const Image none = {2, 2, {}};
  Preprocess preprocess;
  preprocess.size = 4;
  Preprocess wrong = preprocess;
  wrong.size = 0;

  check_each_failure("write", Code::kOk,
                     [&] { return write_npy(array, shape, values.data()).code(); });
  check_each_failure("write into no folder", Code::kIo,
                     [&] { return write_npy(missing, shape, values.data()).code(); });
  check_each_failure("read", Code::kOk, [&] { return read_npy(array).status().code(); });
  check_each_failure("read nothing", Code::kNotFound,
                     [&] { return read_npy(missing).status().code(); });
  check_each_failure("decode", Code::kOk,
                     [&] { return decode_image_file(picture).status().code(); });
  check_each_failure("decode no picture", Code::kBadImage,
                     [&] { return decode_image_file(array).status().code(); });
  check_each_failure("decode nothing", Code::kNotFound,
                     [&] { return decode_image_file(missing).status().code(); });
  check_each_failure("decode an empty file", Code::kBadImage,
                     [&] { return decode_image({}).status().code(); });
  check_each_failure("resize", Code::kOk,
                     [&] { return resize(image, 3, 3, Interpolation::kBicubic).status().code(); });
  check_each_failure("resize to nothing", Code::kInvalidArgument,
                     [&] { return resize(image, 0, 3, Interpolation::kBicubic).status().code(); });
  check_each_failure("fit", Code::kOk, [&] { return fit(image, preprocess).status().code(); });
  check_each_failure("fit no image", Code::kInvalidArgument,
                     [&] { return fit(none, preprocess).status().code(); });
  check_each_failure("fit to nothing", Code::kInvalidArgument,
                     [&] { return fit(image, wrong).status().code(); });
}

// libjpeg and stb_image are C: what they cannot get is no fault of the picture.
TEST_CASE("A picture for which a library finds no memory is not called damaged") {
  if (!mallocs::kCanFail) {
    return;
  }
  using test::ByteVector;
  const ByteVector rows(
      2 * (1 + 2 * 8));  // two rows of two pixels of four 16-bit samples, not filtered
  const std::pair<const char*, ByteVector> pictures[] = {
      {"JPEG", test::jpeg()},
      {"progressive JPEG", test::progressive_jpeg(2)},
      {"16-bit PNG", test::png(2, 2, 16, 6, rows)},
  };
  for (const auto& [name, bytes] : pictures) {
    INFO(name);
    const std::span<const std::byte> file = std::as_bytes(std::span(bytes));
    REQUIRE(decode_image(file).ok());
    int failures = 0;
    std::int64_t ahead = 0;
    for (bool done = false; !done; ++ahead) {
      INFO("request " << ahead);
      mallocs::fail_after(ahead);
      const Code code = decode_image(file).status().code();
      done = mallocs::cancel_failure();  // it lay beyond the last request
      if (done || code == Code::kOk) {   // libjpeg asks for less then
        CHECK(code == Code::kOk);
      } else {
        CHECK(code == Code::kOutOfMemory);
        ++failures;
      }
    }
    CHECK(failures > 3);
  }
}
