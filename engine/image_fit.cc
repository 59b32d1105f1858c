// The geometry and the numbers of torchvision's and timm's evaluation transforms.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string>

#include "decimal.h"
#include "no_throw.h"
#include "resample.h"

namespace xception {
namespace {

constexpr double kMaxShortSide = 1 << 20;

// half to even, as Python's round().
std::int64_t round_half_even(double value) {
  return static_cast<std::int64_t>(std::nearbyint(value));
}

// Along one side: which part of the resized picture is kept, and where it lands on the canvas.
struct Placement {
  std::int64_t source = 0;
  int target = 0;
  int count = 0;
};

// The middle `size` of `full`, or all of it with zeros on both sides.
Placement centre(std::int64_t full, int size) {
  Placement place;
  if (full >= size) {
    place.source = round_half_even(static_cast<double>(full - size) / 2.0);
    place.count = size;
  } else {
    place.target = (size - static_cast<int>(full)) / 2;
    place.count = static_cast<int>(full);
  }
  return place;
}

struct Extent {
  std::int64_t width = 0;
  std::int64_t height = 0;
};

// torchvision's Resize(int): the short side as asked, the long one truncated.
Extent short_side_to(const Image& image, std::int64_t side) {
  const int low = std::min(image.width, image.height);
  const int high = std::max(image.width, image.height);
  const auto long_side =
      static_cast<std::int64_t>(static_cast<double>(side * high) / static_cast<double>(low));
  return image.width <= image.height ? Extent{side, long_side} : Extent{long_side, side};
}

// timm's ResizeKeepRatio with longest = 1; a side is never rounded away.
Extent long_side_to(const Image& image, int side) {
  const double ratio =
      std::max(static_cast<double>(image.height) / side, static_cast<double>(image.width) / side);
  return {std::max<std::int64_t>(round_half_even(image.width / ratio), 1),
          std::max<std::int64_t>(round_half_even(image.height / ratio), 1)};
}

// round(255 * mean) with the decimal number that was meant: 0.3F is above 0.3, and 76.5 is a tie.
std::uint8_t border_colour(float mean) {
  const std::string text = decimal(mean);
  double meant = static_cast<double>(mean);
  std::from_chars(text.data(), text.data() + text.size(), meant);
  return static_cast<std::uint8_t>(round_half_even(std::clamp(255.0 * meant, 0.0, 255.0)));
}

Status check_preprocess(const Preprocess& preprocess) {
  if (preprocess.size < 1 || preprocess.size > kMaxSide) {
    return Status(Code::kInvalidArgument, "an input size of " + std::to_string(preprocess.size) +
                                              " pixels is not possible; 1 to " +
                                              std::to_string(kMaxSide) + " are");
  }
  const double side = std::floor(preprocess.size / preprocess.crop_pct);
  if (preprocess.mode == ResizeMode::kCenter && !(side >= 1 && side <= kMaxShortSide)) {
    return Status(Code::kInvalidArgument,
                  "crop_pct " + decimal(preprocess.crop_pct) +
                      " is not possible; it is the share of the short side that is kept, such as "
                      "0.875");
  }
  const auto is_number = [](float value) { return std::isfinite(value); };
  if (!std::all_of(preprocess.mean.begin(), preprocess.mean.end(), is_number)) {
    return Status(Code::kInvalidArgument, "the mean of pixels must be three finite numbers");
  }
  return Status();
}

Extent resized_extent(const Image& image, const Preprocess& preprocess) {
  switch (preprocess.mode) {
    case ResizeMode::kSquash:
      return {preprocess.size, preprocess.size};
    case ResizeMode::kBorder:
      return long_side_to(image, preprocess.size);
    case ResizeMode::kCenter:
      break;
  }
  return short_side_to(
      image, static_cast<std::int64_t>(std::floor(preprocess.size / preprocess.crop_pct)));
}

Result<Image> fit_checked(const Image& image, const Preprocess& preprocess) {
  const int size = preprocess.size;
  const Extent full = resized_extent(image, preprocess);
  const Placement x = centre(full.width, size);
  const Placement y = centre(full.height, size);
  const ResizeWindow window = {full.width, full.height, x.source, y.source, x.count, y.count};
  XC_RETURN_IF_ERROR(check_resize(image, window, preprocess.interpolation));
  Image part = resize_window(image, window, preprocess.interpolation);
  if (x.count == size && y.count == size) {
    return part;
  }
  Image canvas;
  canvas.width = size;
  canvas.height = size;
  canvas.pixels.resize(static_cast<std::size_t>(size) * static_cast<std::size_t>(size) * 3);
  if (preprocess.mode == ResizeMode::kBorder) {
    std::array<std::uint8_t, 3> colour{};
    std::transform(preprocess.mean.begin(), preprocess.mean.end(), colour.begin(), border_colour);
    for (std::size_t i = 0; i < canvas.pixels.size(); ++i) {
      canvas.pixels[i] = colour[i % 3];
    }
  }
  for (std::int64_t row = 0; row < y.count; ++row) {
    std::copy_n(part.pixels.data() + row * x.count * 3, x.count * 3,
                canvas.pixels.data() + ((y.target + row) * size + x.target) * 3);
  }
  return canvas;
}

}  // namespace

Result<Image> fit(const Image& image, const Preprocess& preprocess) {
  const auto no_memory = [&] {
    return "not enough memory to fit a picture to " + std::to_string(preprocess.size) + " pixels";
  };
  return no_throw(no_memory, [&]() -> Result<Image> {
    XC_RETURN_IF_ERROR(check_image(image));
    XC_RETURN_IF_ERROR(check_preprocess(preprocess));
    const int low = std::min(image.width, image.height);
    const int high = std::max(image.width, image.height);
    if (preprocess.keep_max > 0 && low >= preprocess.keep_min && high <= preprocess.keep_max) {
      return image;
    }
    return fit_checked(image, preprocess);
  });
}

void normalise(const std::uint8_t* src, std::int64_t pixels, const Preprocess& preprocess,
               float* dst) {
  const NormalisationTable table = normalisation_table(preprocess);
  for (std::int64_t i = 0; i < pixels; ++i, src += 3, dst += 3) {
    dst[0] = table[0][src[0]];
    dst[1] = table[1][src[1]];
    dst[2] = table[2][src[2]];
  }
}

}  // namespace xception
