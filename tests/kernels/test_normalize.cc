// 8-bit pictures to those that the kernels read.
#include "kernels/normalize.h"

#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "device_fixture.h"
#include "planes.h"
#include "random.h"
#include "testing.h"
#include "xception/preprocess.h"

namespace xception {
namespace {

std::vector<std::byte> bytes_of(const std::vector<std::uint8_t>& samples) {
  const auto bytes = std::as_bytes(std::span<const std::uint8_t>(samples));
  return {bytes.begin(), bytes.end()};
}

void check_normalize(const Shape& shape, Numeric numeric, const std::vector<std::uint8_t>& samples,
                     const Preprocess& preprocess) {
  INFO(to_string(shape) << " " << numeric_name(numeric));
  const DeviceBuffer src(bytes_of(samples));
  NormalizeArgs args = {reinterpret_cast<const std::uint8_t*>(src.data()), nullptr, preprocess.mean,
                        preprocess.std};
  const DeviceBuffer dst(static_cast<std::size_t>(picture_elements(shape)) *
                         element_bytes(numeric));
  args.dst = dst.data();
  Values expected;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    expected.push_back(normalised(samples[i], i % 3, preprocess));
  }
  for (int run = 0; run < 2; ++run) {
    dst.poison();
    REQUIRE(normalize(shape, numeric, args, nullptr).ok());
    const std::string error = device_error();
    INFO(error);
    REQUIRE(error.empty());
    CHECK(same_bits(picture_values(dst, shape, numeric), rounded(numeric, expected)));
  }
}

TEST_CASE("every sample is normalised as on the host, to the bit") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  std::vector<std::uint8_t> samples;
  for (int sample = 0; sample < 256; ++sample) {
    samples.insert(samples.end(), 3, static_cast<std::uint8_t>(sample));
  }
  std::vector<Preprocess> preprocesses(4);
  preprocesses[1].mean = {0.485F, 0.456F, 0.406F};
  preprocesses[1].std = {0.229F, 0.224F, 0.225F};
  for (std::size_t c = 0; c < 3; ++c) {
    preprocesses[2].mean[c] = random.normal();
    preprocesses[2].std[c] = 0.1F + std::abs(random.normal());
    preprocesses[3].mean[c] = 0;
    preprocesses[3].std[c] = 1;
  }
  for (const Numeric numeric : kNumerics) {
    for (const Preprocess& preprocess : preprocesses) {
      check_normalize({1, 16, 16, 3}, numeric, samples, preprocess);
    }
  }
}

TEST_CASE("pictures of every size around a block's pixels are normalised") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  const std::vector<Shape> shapes = {{1, 1, 1, 3},   {1, 1, 2, 3},   {3, 1, 1, 3},   {1, 2, 2, 3},
                                     {1, 7, 73, 3},  {1, 16, 32, 3}, {1, 27, 19, 3}, {2, 32, 32, 3},
                                     {3, 17, 29, 3}, {1, 3, 1400, 3}};
  for (const Numeric numeric : kNumerics) {
    for (const Shape& shape : shapes) {
      std::vector<std::uint8_t> samples(static_cast<std::size_t>(shape.elements()));
      for (std::uint8_t& sample : samples) {
        sample = static_cast<std::uint8_t>(random.integer(0, 255));
      }
      check_normalize(shape, numeric, samples, {});
    }
  }
}

TEST_CASE("float32 pictures of either layout are rounded, zeros behind their rows") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  const std::vector<Shape> shapes = {{1, 1, 1, 3},   {1, 1, 2, 3},   {3, 1, 5, 3},
                                     {1, 2, 6, 3},   {2, 7, 16, 3},  {3, 17, 29, 3},
                                     {1, 3, 170, 3}, {2, 2, 1400, 3}};
  for (const Numeric numeric : kNumerics) {
    for (const Shape& shape : shapes) {
      INFO(to_string(shape) << " " << numeric_name(numeric));
      Values values = random.normals(shape.elements());
      values.front() = 1e30F;  // infinite in half precision
      const DeviceBuffer dst(static_cast<std::size_t>(picture_elements(shape)) *
                             element_bytes(numeric));
      for (const Layout layout : {Layout::kNHWC, Layout::kNCHW, Layout::kNHWC}) {
        const Values& as_given = layout == Layout::kNHWC ? values : to_planes(values, shape);
        const DeviceBuffer src(std::as_bytes(std::span(as_given)));
        dst.poison();
        REQUIRE(copy_pictures(shape, numeric, {src.floats(), layout, dst.data()}, nullptr).ok());
        const std::string error = device_error();
        INFO(error);
        REQUIRE(error.empty());
        CHECK(same_bits(picture_values(dst, shape, numeric), rounded(numeric, values)));
      }
    }
  }
}

TEST_CASE("normalize says what it cannot do") {
  NormalizeArgs args;
  const Status grey = normalize({1, 4, 4, 1}, Numeric::kFp16, args, nullptr);
  CHECK(grey.code() == Code::kInvalidArgument);
  CHECK(grey.message().find("1x4x4x1") != std::string::npos);
  alignas(4) constexpr std::uint8_t kSamples[8] = {};
  args.src = kSamples + 2;
  CHECK(normalize({1, 4, 4, 3}, Numeric::kFp16, args, nullptr).code() == Code::kInvalidArgument);
  args.src = nullptr;
  const Shape huge = {1 << 30, 64, 64, 3};
  CHECK(normalize(huge, Numeric::kFp16, args, nullptr).code() == Code::kInvalidArgument);
}

TEST_CASE("copy_pictures says what it cannot do") {
  CopyPicturesArgs args;
  const Status grey = copy_pictures({1, 4, 4, 1}, Numeric::kFp16, args, nullptr);
  CHECK(grey.code() == Code::kInvalidArgument);
  CHECK(grey.message().find("1x4x4x1") != std::string::npos);
  alignas(4) constexpr std::byte kSamples[8] = {};
  args.src = reinterpret_cast<const float*>(kSamples + 2);
  CHECK(copy_pictures({1, 4, 4, 3}, Numeric::kFp16, args, nullptr).code() ==
        Code::kInvalidArgument);
  args.src = nullptr;
  for (const Shape& huge : {Shape{1 << 30, 64, 64, 3}, Shape{1, 1, 1 << 27, 3}}) {
    CHECK(copy_pictures(huge, Numeric::kFp16, args, nullptr).code() == Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace xception
