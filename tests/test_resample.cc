// Resize, crop, pad and normalise: the rules that Pillow's pictures in image_judge do not show.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "engine/resample.h"
#include "engine/resample_loops.h"
#include "random.h"
#include "testing.h"

using namespace xception;

namespace {

// Red is the column, green the row, blue noise.
Image ramp(int width, int height) {
  Image image{width, height, {}};
  std::uint32_t state = 12345;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      state = state * 1664525U + 1013904223U;
      image.pixels.push_back(static_cast<std::uint8_t>(x));
      image.pixels.push_back(static_cast<std::uint8_t>(y));
      image.pixels.push_back(static_cast<std::uint8_t>(state >> 24));
    }
  }
  return image;
}

std::array<int, 3> at(const Image& image, int x, int y) {
  const std::size_t i = (static_cast<std::size_t>(y) * static_cast<std::size_t>(image.width) +
                         static_cast<std::size_t>(x)) *
                        3;
  return {image.pixels[i], image.pixels[i + 1], image.pixels[i + 2]};
}

Image crop(const Image& image, int x, int y, int width, int height) {
  Image part{width, height, {}};
  for (int row = y; row < y + height; ++row) {
    for (int column = x; column < x + width; ++column) {
      for (const int v : at(image, column, row)) {
        part.pixels.push_back(static_cast<std::uint8_t>(v));
      }
    }
  }
  return part;
}

constexpr auto kAll = {Interpolation::kNearest, Interpolation::kBilinear, Interpolation::kBicubic};

}  // namespace

TEST_CASE("Every instruction set adds the same weights to the same bytes") {
  XC_RANDOM(random);
  const auto draw = [&](std::size_t count) {
    std::vector<std::uint8_t> bytes(count);
    std::generate(bytes.begin(), bytes.end(), [&] { return random.integer(0, 255); });
    return bytes;
  };
  const ResampleLoops& loops = select_resample_loops();
  const int width = 200;
  RowKernels kernels;
  while (kernels.ends.size() < 50) {
    const std::int64_t taps = loops.padded(random.integer(1, 100));
    for (std::int64_t i = 0; i < taps; ++i) {  // large ones let sums pass 32 bits
      kernels.weights.push_back(random.integer(0, 4) == 0 ? random.integer(INT32_MIN, INT32_MAX)
                                                          : random.integer(-300'000, 400'000));
    }
    kernels.firsts.push_back(random.integer(0, width - static_cast<int>(taps)));
    kernels.ends.push_back(kernels.weights.size());
  }
  const std::vector<std::uint8_t> row = draw(width * 3);
  std::vector<std::uint8_t> expected(kernels.ends.size() * 3);
  std::vector<std::uint8_t> made(expected.size());
  kBaselineResampleLoops.resample_row(kernels, row.data(), expected.data());
  loops.resample_row(kernels, row.data(), made.data());
  CHECK(made == expected);

  for (std::size_t count = 0; count < 50; ++count) {
    const std::vector<std::uint8_t> bytes = draw(count);
    const auto weight = static_cast<std::uint32_t>(random.integer(INT32_MIN, INT32_MAX));
    std::vector<std::uint32_t> sums(count, 123);
    std::vector<std::uint32_t> others = sums;
    kBaselineResampleLoops.add_row(weight, bytes.data(), count, sums.data());
    loops.add_row(weight, bytes.data(), count, others.data());
    CHECK(others == sums);
  }
}

TEST_CASE("Rows are resampled as columns are") {
  // Columns have no instruction set's padding, and a row that is too short for it has none.
  const auto turned = [](const Image& image) {
    Image other{image.height, image.width, {}};
    for (int x = 0; x < image.width; ++x) {
      for (int y = 0; y < image.height; ++y) {
        for (const int v : at(image, x, y)) {
          other.pixels.push_back(static_cast<std::uint8_t>(v));
        }
      }
    }
    return other;
  };
  for (int width = 1; width <= 40; ++width) {
    const Image image = ramp(width, 3);
    for (const int other : {1, 2, 7, width - 1, width + 1, 3 * width, 300}) {
      for (const auto interpolation : {Interpolation::kBilinear, Interpolation::kBicubic}) {
        INFO(width << " to " << other);
        if (other > 0) {
          const Result<Image> row = resize(image, other, 3, interpolation);
          const Result<Image> column = resize(turned(image), 3, other, interpolation);
          REQUIRE((row.ok() && column.ok()));
          CHECK(row->pixels == turned(*column).pixels);
        }
      }
    }
  }
}

TEST_CASE("Bilinear upscaling by two, by hand") {
  const Image image{2, 1, {0, 0, 0, 255, 255, 255}};
  const Result<Image> wide = resize(image, 4, 1, Interpolation::kBilinear);
  REQUIRE(wide.ok());
  CHECK(at(*wide, 0, 0)[0] == 0);
  CHECK(at(*wide, 1, 0)[0] == 64);
  CHECK(at(*wide, 2, 0)[0] == 191);
  CHECK(at(*wide, 3, 0)[0] == 255);
}

TEST_CASE("A window holds the bytes of resizing and then cropping") {
  const Image image = ramp(37, 53);
  for (const Interpolation interpolation : kAll) {
    for (const auto& [width, height] : {std::array{11, 90}, std::array{80, 20}, std::array{37, 30},
                                        std::array{50, 53}, std::array{1, 1}}) {
      const Result<Image> whole = resize(image, width, height, interpolation);
      REQUIRE(whole.ok());
      const int x = width / 3;
      const int y = height / 4;
      const ResizeWindow window{width, height, x, y, (width + 1) / 2, (height + 1) / 2};
      const Image part = resize_window(image, window, interpolation);
      CHECK(part.pixels == crop(*whole, x, y, window.width, window.height).pixels);
    }
  }
  const auto check_end = [](const Image& row, int width, int end, Interpolation interpolation) {
    const Result<Image> whole = resize(row, width, 1, interpolation);
    REQUIRE(whole.ok());
    const Image part = resize_window(row, {width, 1, width - end, 0, end, 1}, interpolation);
    CHECK(part.pixels == crop(*whole, width - end, 0, end, 1).pixels);
  };
  // Pillow adds up steps to the nearest pixels, and their rounding shows in the middle of these.
  check_end(Image{2, 1, {0, 0, 0, 255, 255, 255}}, 29, 15, Interpolation::kNearest);
  // The weights of so many columns are made part by part: the second begins in the middle of this.
  check_end(crop(image, 0, 0, 5, 1), 3'400'000, 90'000, Interpolation::kBicubic);
}

TEST_CASE("A resize to the same size changes nothing, and a flat picture stays flat") {
  const Image image = ramp(20, 10);
  Image flat{7, 300, std::vector<std::uint8_t>(7 * 300 * 3, 201)};
  for (const Interpolation interpolation : kAll) {
    CHECK(resize(image, 20, 10, interpolation)->pixels == image.pixels);
    const Result<Image> small = resize(flat, 5, 3, interpolation);
    CHECK(small->pixels == std::vector<std::uint8_t>(45, 201));
    CHECK(resize(flat, 50, 301, interpolation)->pixels ==
          std::vector<std::uint8_t>(50 * 301 * 3, 201));
  }
}

TEST_CASE("Resizing refuses what is no picture and no size") {
  const Image image = ramp(3, 3);
  for (const auto& [width, height] :
       {std::array{0, 1}, std::array{1, -1}, std::array{1 << 20, 1 << 20}}) {
    CHECK(resize(image, width, height, Interpolation::kBicubic).status().code() ==
          Code::kInvalidArgument);
  }
  for (const Image& bad : {Image{}, Image{2, 2, {1, 2, 3}}, Image{-1, -1, {1, 2, 3}}}) {
    CHECK(resize(bad, 2, 2, Interpolation::kNearest).status().code() == Code::kInvalidArgument);
    CHECK(fit(bad, Preprocess{}).status().code() == Code::kInvalidArgument);
  }
}

TEST_CASE("The centre crop's offset is rounded half to even") {
  Preprocess p;  // 299 of 318: 9.5 is 10; of 320: 10.5 is 10
  p.crop_pct = 0.94;
  CHECK(at(*fit(ramp(318, 318), p), 0, 0)[0] == 10);
  p.crop_pct = 0.9345;
  CHECK(at(*fit(ramp(319, 320), p), 0, 0)[1] == 10);
  p.size = 100;  // 145 of 245: 72.5 is 72
  p.crop_pct = 100.0 / 245;
  CHECK(at(*fit(ramp(245, 245), p), 0, 0)[0] == 72);
}

TEST_CASE("A resized picture that is smaller than the input gets black sides, the even part left") {
  Preprocess p;
  p.size = 8;
  p.crop_pct = 1.6;  // short side 5
  const Image image{5, 5, std::vector<std::uint8_t>(75, 255)};
  const Result<Image> padded = fit(image, p);
  CHECK(at(*padded, 0, 1)[0] == 0);
  CHECK(at(*padded, 1, 1)[0] == 255);
  CHECK(at(*padded, 5, 5)[0] == 255);
  CHECK(at(*padded, 6, 5)[0] == 0);
}

TEST_CASE("Borders have the colour of the mean") {
  Preprocess p;
  p.size = 6;
  p.mode = ResizeMode::kBorder;
  p.mean = {0.5F, 0.3F, 0.0F};  // 127.5 and 76.5 are ties, and go to the even side
  const Result<Image> fitted = fit(Image{6, 3, std::vector<std::uint8_t>(54, 9)}, p);
  CHECK(at(*fitted, 0, 0) == std::array{128, 76, 0});
  CHECK(at(*fitted, 0, 1) == std::array{9, 9, 9});
  CHECK(at(*fitted, 5, 3) == std::array{9, 9, 9});
  CHECK(at(*fitted, 5, 4) == std::array{128, 76, 0});
  // That of a mean beyond the colours is the nearest; a side is never rounded away.
  p.mean = {2.0F, -1.0F, 0.0F};
  const Result<Image> thin = fit(Image{1, 100, std::vector<std::uint8_t>(300, 9)}, p);
  CHECK(at(*thin, 0, 0) == std::array{255, 0, 0});
  CHECK(at(*thin, 2, 0) == std::array{9, 9, 9});
  CHECK(at(*thin, 3, 5) == std::array{255, 0, 0});
}

TEST_CASE("Pictures inside keep_min..keep_max are kept") {
  Preprocess p;
  p.size = 32;
  p.mode = ResizeMode::kSquash;
  p.keep_min = 17;
  p.keep_max = 32;
  CHECK(fit(ramp(17, 32), p)->pixels == ramp(17, 32).pixels);
  CHECK(fit(ramp(16, 32), p)->width == 32);
  CHECK(fit(ramp(20, 33), p)->height == 32);
}

TEST_CASE("Long strips are fitted without making the whole resized picture") {
  const Image strip{1, 100000, std::vector<std::uint8_t>(300000, 77)};
  for (const Interpolation interpolation : kAll) {
    for (const ResizeMode mode : {ResizeMode::kCenter, ResizeMode::kSquash}) {
      Preprocess p;
      p.mode = mode;
      p.interpolation = interpolation;
      CHECK(fit(strip, p)->pixels == std::vector<std::uint8_t>(299 * 299 * 3, 77));
    }
  }
}

TEST_CASE("A picture one pixel wide is resampled as a row of the same pixels is") {
  Image column = crop(ramp(3, 5000), 2, 0, 1, 5000);
  const Image row{5000, 1, column.pixels};
  for (const Interpolation interpolation : kAll) {
    for (const int height : {1, 17, 299, 5000, 7001}) {
      const Result<Image> expected = resize(row, height, 1, interpolation);
      const Result<Image> wide = resize(column, 9, height, interpolation);
      REQUIRE((expected.ok() && wide.ok()));
      bool equal = true;
      for (int y = 0; y < height; ++y) {
        for (int x = 0; x < 9; ++x) {
          equal = equal && at(*wide, x, y) == at(*expected, y, 0);
        }
      }
      CHECK(equal);
    }
  }
}

TEST_CASE("Millions of rows are not widened, but where they are a pixel wide") {
  Preprocess p;
  p.mode = ResizeMode::kSquash;
  const int height = 1'800'000;
  const Image two{2, height, std::vector<std::uint8_t>(std::size_t{2} * height * 3, 77)};
  for (const Interpolation interpolation : {Interpolation::kBilinear, Interpolation::kBicubic}) {
    p.interpolation = interpolation;
    const Status status = fit(two, p).status();
    CHECK(status.code() == Code::kBadImage);
    CHECK(status.message() ==
          "the picture of 2 x 1800000 pixels is too long for its width: on the way to 299 x 299 it "
          "would be more than 536870912 pixels; cut it into parts");
    CHECK(resize(two, 299, 7, interpolation).status().code() == Code::kBadImage);
  }
  const std::vector<std::uint8_t> flat(std::size_t{299} * 299 * 3, 77);
  p.interpolation = Interpolation::kNearest;
  CHECK(fit(two, p)->pixels == flat);
  p.interpolation = Interpolation::kBicubic;
  p.mode = ResizeMode::kCenter;
  CHECK(fit(two, p)->pixels == flat);
  p.mode = ResizeMode::kSquash;
  const Image one{1, 2 * height, two.pixels};
  CHECK(fit(one, p)->pixels == flat);
}

TEST_CASE("Fitting refuses sizes and shares that cannot be meant") {
  const Image image = ramp(4, 4);
  for (const int size : {0, -5, 1 << 20}) {
    Preprocess p;
    p.size = size;
    CHECK(fit(image, p).status().code() == Code::kInvalidArgument);
  }
  for (const double pct : {0.0, -1.0, 1e-9, 1e9, std::numeric_limits<double>::quiet_NaN()}) {
    Preprocess p;
    p.crop_pct = pct;
    CHECK(fit(image, p).status().code() == Code::kInvalidArgument);
  }
  for (const float mean : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    Preprocess p;
    p.mean[1] = mean;
    CHECK(fit(image, p).status().code() == Code::kInvalidArgument);
  }
}

TEST_CASE("Normalising rounds after each operation") {
  Preprocess p;
  p.mean = {0.485F, 0.456F, 0.406F};
  p.std = {0.229F, 0.224F, 0.225F};
  std::vector<std::uint8_t> bytes;
  for (int v = 0; v < 256; ++v) {
    bytes.insert(bytes.end(), 3, static_cast<std::uint8_t>(v));
  }
  std::vector<float> out(bytes.size());
  normalise(bytes.data(), 256, p, out.data());
  for (std::size_t i = 0; i < out.size(); ++i) {
    volatile float value = static_cast<float>(bytes[i]) / 255.0F;
    value = value - p.mean[i % 3];
    value = value / p.std[i % 3];
    REQUIRE(out[i] == value);
  }
}
