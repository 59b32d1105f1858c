// The same of image input: see test_c_interface.cc.
#include <algorithm>
#include <cstring>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "c_status.h"
#include "image_bytes.h"
#include "temp_dir.h"
#include "testing.h"
#include "xception/c/image.h"
#include "xception/image.h"

namespace xception {
namespace {

constexpr char kPicture[] = "P6 4 2 255\nabcdefghijklmnopqrstuvwx";
constexpr char kGray16[] = "P5 1 1 65535\nab";  // which gets a warning

void count_bytes(void* context, std::int64_t bytes) {
  *static_cast<std::int64_t*>(context) += bytes;
}

}  // namespace

TEST_CASE("C: pictures are decoded, resized, fitted and normalised as by C++") {
  const Result<DecodedImage> expected = decode_image(std::as_bytes(std::span(kPicture)));
  REQUIRE(expected.ok());
  xception_image* image = nullptr;
  std::int64_t asked = 0;
  const xception_decode_options options = {0, true, count_bytes, &asked};
  require_ok(xception_image_decode(kPicture, sizeof kPicture, &options, &image));
  CHECK(asked > 0);
  REQUIRE(image->width == 4);
  REQUIRE(image->height == 2);
  CHECK(std::memcmp(image->pixels, "abcdefghijklmnopqrstuvwx", 24) == 0);
  CHECK(image->decoder == std::string(expected->decoder));
  CHECK(image->warning_count == 0);

  const auto check_equal = [](const xception_image* made, const Result<Image>& cpp) {
    REQUIRE(cpp.ok());
    CHECK(made->width == cpp->width);
    CHECK(made->height == cpp->height);
    CHECK(std::memcmp(made->pixels, cpp->pixels.data(), cpp->pixels.size()) == 0);
    CHECK(made->decoder == std::string());
    CHECK(made->warning_count == 0);
  };
  xception_image* other = nullptr;
  require_ok(xception_image_decode(kGray16, sizeof kGray16, nullptr, &other));
  REQUIRE(other->warning_count == 1);
  CHECK_THAT(other->warnings[0], containing("16-bit gray"));
  xception_image_free(other);
  require_ok(xception_image_resize(image, 7, 3, XCEPTION_BILINEAR, &other));
  check_equal(other, resize(expected->image, 7, 3, Interpolation::kBilinear));
  xception_image_free(other);
  const Preprocess preprocess = {
      .size = 5, .mode = ResizeMode::kBorder, .interpolation = Interpolation::kNearest};
  xception_preprocess same = {
      5, 0, 0, XCEPTION_BORDER, 0.8, XCEPTION_NEAREST, {0.5F, 0.5F, 0.5F}, {0.5F, 0.5F, 0.5F}};
  require_ok(xception_image_fit(image, &same, &other));
  check_equal(other, fit(expected->image, preprocess));
  std::vector<float> values(75);
  std::vector<float> expected_values(75);
  require_ok(xception_normalise(other->pixels, 25, &same, values.data()));
  normalise(other->pixels, 25, preprocess, expected_values.data());
  CHECK(values == expected_values);
  xception_image_free(other);

  require_ok(xception_image_make(4, 2, &other));
  CHECK(std::all_of(other->pixels, other->pixels + 24, [](int sample) { return sample == 0; }));
  std::memcpy(other->pixels, image->pixels, 24);
  xception_image* fitted = nullptr;
  require_ok(xception_image_fit(other, &same, &fitted));
  check_equal(fitted, fit(expected->image, preprocess));
  xception_image_free(fitted);
  xception_image_free(other);
  xception_image_free(image);
}

TEST_CASE("C: options of decoding arrive") {
  const test::ByteVector turned = test::jpeg(test::exif(6));
  const TempDir folder;
  const std::string path = folder.path("turned.jpg");
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(turned.data()),
             static_cast<std::streamsize>(turned.size()));
  const xception_decode_options apply = {0, true, nullptr, nullptr};
  xception_image* image = nullptr;
  require_ok(xception_image_decode(turned.data(), turned.size(), nullptr, &image));
  CHECK(image->width == 16);
  xception_image_free(image);
  require_ok(xception_image_decode(turned.data(), turned.size(), &apply, &image));
  CHECK(image->width == 8);
  xception_image_free(image);
  require_ok(xception_image_decode_file(path.c_str(), &apply, &image));
  CHECK(image->width == 8);
  xception_image_free(image);
}

TEST_CASE("C: pictures that are none are refused") {
  xception_image* image = nullptr;
  const xception_decode_options small = {7, false, nullptr, nullptr};
  check_fails(xception_image_decode(kPicture, sizeof kPicture, &small, &image), XCEPTION_BAD_IMAGE,
              "4 x 2");
  check_fails(xception_image_decode(kPicture, 20, nullptr, &image), XCEPTION_BAD_IMAGE, "");
  check_fails(xception_image_decode_file("/no/such/file", nullptr, &image), XCEPTION_NOT_FOUND,
              "/no/such/file");
  check_invalid(xception_image_decode_file(nullptr, nullptr, &image), "path is null");
  check_invalid(xception_image_decode(nullptr, 1, nullptr, &image), "bytes is null");
  check_invalid(xception_image_make(0, 3, &image), "0 x 3");
  check_invalid(xception_image_make(65536, 65536, &image), "65536 x 65536");
  check_invalid(xception_image_make(1, 1, nullptr), "null");
  CHECK(image == nullptr);
  require_ok(xception_image_make(1, 1, &image));
  xception_image* other = nullptr;
  check_invalid(xception_image_resize(image, 0, 1, XCEPTION_BICUBIC, &other), "0 x 1");
  check_invalid(xception_image_resize(image, 1, 1, static_cast<xception_interpolation>(3), &other),
                "xception_interpolation: 3");
  check_invalid(xception_image_resize(nullptr, 1, 1, XCEPTION_BICUBIC, &other), "image is null");
  xception_preprocess preprocess = {1, 0, 0, XCEPTION_SQUASH, 1, XCEPTION_BICUBIC, {}, {1, 1, 1}};
  check_invalid(xception_image_fit(image, nullptr, &other), "preprocess is null");
  preprocess.mode = static_cast<xception_resize_mode>(3);
  check_invalid(xception_image_fit(image, &preprocess, &other), "xception_resize_mode: 3");
  check_invalid(xception_normalise(nullptr, 1, &preprocess, nullptr), "src is null");
  CHECK(other == nullptr);
  xception_image_free(image);
}

}  // namespace xception
