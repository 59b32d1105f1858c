// Pillow's 8-bit resampling (its Resample.c, described in docs/images-pipeline.md), fed a source
// row at a time: each row is resampled horizontally to bytes once, then added to the sums of every
// output row whose kernel it lies in. So nothing the size of the picture is kept in between.
#include "resample.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "no_throw.h"
#include "resample_loops.h"

namespace xception {
namespace {

// Horizontal kernels held at a time; wider windows are done in blocks of columns.
constexpr std::int64_t kMaxTaps = std::int64_t{16} << 20;

double triangle(double x) { return std::abs(x) < 1.0 ? 1.0 - std::abs(x) : 0.0; }

// Keys' cubic with a = -0.5.
double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) {
    return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  }
  if (x < 2.0) {
    return (((x - 5) * x + 8) * x - 4) * a;
  }
  return 0.0;
}

// One axis of a resize: kernels of output positions over input positions.
class Axis {
 public:
  Axis(std::int64_t in, std::int64_t out, Interpolation interpolation)
      : in_(in),
        out_(out),
        filter_(interpolation == Interpolation::kBicubic ? cubic : triangle),
        scale_(static_cast<double>(in) / static_cast<double>(out)),
        filter_scale_(std::max(scale_, 1.0)),
        support_((interpolation == Interpolation::kBicubic ? 2.0 : 1.0) * filter_scale_) {}

  std::int64_t in() const { return in_; }
  bool unchanged() const { return in_ == out_; }
  std::int64_t max_taps() const {
    const double taps = std::ceil(support_) * 2 + 1;
    return static_cast<std::int64_t>(std::min(taps, static_cast<double>(in_)));
  }

  // Appends the weights of output position `x`; they belong to the inputs from *first on.
  void append_kernel(std::int64_t x, std::int64_t* first, std::vector<std::int32_t>* weights) {
    const double centre = (static_cast<double>(x) + 0.5) * scale_;
    const auto begin =
        std::max<std::int64_t>(static_cast<std::int64_t>(centre - support_ + 0.5), 0);
    const auto end = std::min(static_cast<std::int64_t>(centre + support_ + 0.5), in_);
    const double inverse = 1.0 / filter_scale_;
    real_.clear();
    real_.reserve(static_cast<std::size_t>(end - begin));  // of a strip they may be millions
    double sum = 0;
    for (std::int64_t i = 0; i < end - begin; ++i) {
      const double at = static_cast<double>(i) + static_cast<double>(begin) - centre + 0.5;
      real_.push_back(filter_(at * inverse));
      sum += real_.back();
    }
    for (const double w : real_) {
      const double k = (sum != 0.0 ? w / sum : w) * (1 << kWeightBits);
      weights->push_back(static_cast<std::int32_t>(k < 0 ? k - 0.5 : k + 0.5));
    }
    *first = begin;
  }

 private:
  std::int64_t in_;
  std::int64_t out_;
  double (*filter_)(double);
  double scale_;
  double filter_scale_;
  double support_;
  std::vector<double> real_;
};

// The horizontal pass for one block of output columns.
class HorizontalPass {
 public:
  HorizontalPass(const ResampleLoops& loops, Axis axis, std::int64_t x, int width)
      : loops_(loops), x_(x) {
    if (axis.unchanged()) {
      return;
    }
    kernels_.weights.reserve(static_cast<std::size_t>(width * loops.padded(axis.max_taps())));
    for (int i = 0; i < width; ++i) {
      append_kernel(axis, x + i);
    }
    row_.resize(static_cast<std::size_t>(width) * 3);
  }

  // 3 * width bytes, valid until the next call.
  const std::uint8_t* operator()(const std::uint8_t* source_row) {
    if (row_.empty()) {
      return source_row + x_ * 3;
    }
    loops_.resample_row(kernels_, source_row, row_.data());
    return row_.data();
  }

 private:
  // With zeros in front and behind up to a multiple of the loops' taps, all of it inside the row.
  void append_kernel(Axis& axis, std::int64_t x) {
    std::vector<std::int32_t>& weights = kernels_.weights;
    const std::size_t begin = weights.size();
    std::int64_t first = 0;
    axis.append_kernel(x, &first, &weights);
    const std::int64_t taps = static_cast<std::int64_t>(weights.size() - begin);
    const std::int64_t padded = loops_.padded(taps);
    const std::int64_t in_front = std::max<std::int64_t>(first + padded - axis.in(), 0);
    weights.insert(weights.begin() + static_cast<std::ptrdiff_t>(begin),
                   static_cast<std::size_t>(in_front), 0);
    weights.resize(begin + static_cast<std::size_t>(padded));
    kernels_.firsts.push_back(first - in_front);
    kernels_.ends.push_back(weights.size());
  }

  const ResampleLoops& loops_;
  std::int64_t x_;
  RowKernels kernels_;
  std::vector<std::uint8_t> row_;
};

// An output row that some source rows have still to be added to.
struct OpenRow {
  std::int64_t first = 0;
  std::vector<std::int32_t> weights;
  std::vector<std::uint32_t> sums;

  std::int64_t end() const { return first + static_cast<std::int64_t>(weights.size()); }
  void add(const ResampleLoops& loops, std::int64_t source_y, const std::uint8_t* row) {
    const std::int32_t weight = weights[static_cast<std::size_t>(source_y - first)];
    loops.add_row(static_cast<std::uint32_t>(weight), row, sums.size(), sums.data());
  }
};

// Columns [block_x, block_x + block_width) of the window.
void resample_block(const ResampleLoops& loops, const Image& image, const ResizeWindow& window,
                    Interpolation interpolation, int block_x, int block_width, Image* out) {
  HorizontalPass horizontal(loops, Axis(image.width, window.full_width, interpolation),
                            window.x + block_x, block_width);
  Axis vertical(image.height, window.full_height, interpolation);
  const auto source_row = [&](std::int64_t y) { return image.pixels.data() + y * image.width * 3; };
  const auto out_row = [&](std::int64_t y) {
    return out->pixels.data() + (y * out->width + block_x) * 3;
  };
  if (vertical.unchanged()) {
    for (int y = 0; y < window.height; ++y) {
      std::copy_n(horizontal(source_row(window.y + y)), block_width * 3, out_row(y));
    }
    return;
  }
  const auto open = [&](int y) {
    OpenRow row;
    vertical.append_kernel(window.y + y, &row.first, &row.weights);
    return row;
  };
  std::deque<OpenRow> rows;  // begins and ends of their kernels rise
  OpenRow next = open(0);
  int opened = 0;
  int written = 0;
  for (std::int64_t y = next.first; written < window.height; ++y) {
    while (opened < window.height && next.first <= y) {
      next.sums.assign(static_cast<std::size_t>(block_width) * 3, kHalf);
      ++opened;
      rows.push_back(std::exchange(next, opened < window.height ? open(opened) : OpenRow{}));
    }
    const std::uint8_t* row = horizontal(source_row(y));
    for (OpenRow& target : rows) {
      target.add(loops, y, row);
    }
    for (; !rows.empty() && rows.front().end() == y + 1; rows.pop_front(), ++written) {
      std::transform(rows.front().sums.begin(), rows.front().sums.end(), out_row(written), to_byte);
    }
  }
}

// The input positions that Pillow's nearest neighbour takes for [begin, begin + count). It steps
// through the whole row by adding, and its rounding adds up, so the steps before the window are
// taken too. -1 where the sum has left the picture, which Pillow paints black.
std::vector<std::int64_t> nearest_positions(std::int64_t in, std::int64_t out, std::int64_t begin,
                                            int count) {
  // Beyond this a row is larger than Pillow can hold, and nothing is left to agree with.
  constexpr std::int64_t kMaxSteps = std::int64_t{1} << 26;
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  double at = scale * 0.5;
  if (out <= kMaxSteps) {
    for (std::int64_t i = 0; i < begin; ++i) {
      at += scale;
    }
  } else {
    at += scale * static_cast<double>(begin);
  }
  std::vector<std::int64_t> positions;
  for (int i = 0; i < count; ++i, at += scale) {
    const auto position = static_cast<std::int64_t>(at);
    positions.push_back(position < in ? position : -1);
  }
  return positions;
}

void sample_nearest(const Image& image, const ResizeWindow& window, Image* out) {
  const std::vector<std::int64_t> columns =
      nearest_positions(image.width, window.full_width, window.x, window.width);
  const std::vector<std::int64_t> rows =
      nearest_positions(image.height, window.full_height, window.y, window.height);
  std::uint8_t* dst = out->pixels.data();
  for (const std::int64_t row : rows) {
    for (const std::int64_t column : columns) {
      if (row >= 0 && column >= 0) {
        std::copy_n(image.pixels.data() + (row * image.width + column) * 3, 3, dst);
      }
      dst += 3;
    }
  }
}

// A picture one pixel wide: a single weight of 1 makes each of its columns from the one there is,
// and that lies in memory as a row does. Widening each of millions of rows first, as below, would
// give the same bytes.
void resample_column(const ResampleLoops& loops, const Image& image, const ResizeWindow& window,
                     Interpolation interpolation, Image* out) {
  const Axis axis(image.height, window.full_height, interpolation);
  std::uint8_t* dst = out->pixels.data();
  for (int y = 0; y < window.height; ++y) {
    HorizontalPass column(loops, axis, window.y + y, 1);  // one kernel at a time: they may be large
    const std::uint8_t* pixel = column(image.pixels.data());
    for (int x = 0; x < window.width; ++x, dst += 3) {
      std::copy_n(pixel, 3, dst);
    }
  }
}

}  // namespace

Status check_image(const Image& image) {
  const auto expected = static_cast<std::uint64_t>(std::max(image.width, 0)) *
                        static_cast<std::uint64_t>(std::max(image.height, 0)) * 3;
  if (expected == 0 || image.pixels.size() != expected) {
    return Status(Code::kInvalidArgument,
                  "an image of " + std::to_string(image.width) + " x " +
                      std::to_string(image.height) + " pixels with " +
                      std::to_string(image.pixels.size()) +
                      " bytes is none; sides are positive and a pixel takes three bytes");
  }
  return Status();
}

Status check_resize(const Image& image, const ResizeWindow& window, Interpolation interpolation) {
  // Half a billion takes seconds. Pillow holds four bytes for each of them at once.
  constexpr double kMostWidened = 1 << 29;
  const double scale = static_cast<double>(image.height) / static_cast<double>(window.full_height);
  constexpr int kKernels = 4;  // that reach beyond the window, or less
  const double rows =
      std::min<double>(image.height, (window.height + kKernels) * std::max(scale, 1.0));
  const bool widened = image.width > 1 && interpolation != Interpolation::kNearest;
  if (widened && rows * window.width > kMostWidened) {
    return Status(
        Code::kBadImage,
        "the picture of " + std::to_string(image.width) + " x " + std::to_string(image.height) +
            " pixels is too long for its width: on the way to " +
            std::to_string(window.full_width) + " x " + std::to_string(window.full_height) +
            " it would be more than 536870912 pixels; cut it into parts");
  }
  return Status();
}

Image resize_window(const Image& image, const ResizeWindow& window, Interpolation interpolation) {
  Image out;
  out.width = window.width;
  out.height = window.height;
  out.pixels.resize(static_cast<std::size_t>(window.width) *
                    static_cast<std::size_t>(window.height) * 3);
  if (interpolation == Interpolation::kNearest) {
    sample_nearest(image, window, &out);
    return out;
  }
  const bool column = image.width == 1;
  const Axis axis(column ? image.height : image.width,
                  column ? window.full_height : window.full_width, interpolation);
  ResampleLoops loops = select_resample_loops();
  constexpr std::int64_t kFewTaps = 16;
  if (axis.max_taps() < kFewTaps || loops.padded(axis.max_taps()) > axis.in()) {
    // Vectors would add mostly zeros, or a padded kernel not fit the row.
    loops.taps = kBaselineResampleLoops.taps;
    loops.resample_row = kBaselineResampleLoops.resample_row;
  }
  if (column) {
    resample_column(loops, image, window, interpolation, &out);
    return out;
  }
  const std::int64_t columns = kMaxTaps / loops.padded(axis.max_taps());
  const int block = static_cast<int>(std::clamp<std::int64_t>(columns, 1, window.width));
  for (int x = 0; x < window.width; x += block) {
    resample_block(loops, image, window, interpolation, x, std::min(block, window.width - x), &out);
  }
  return out;
}

Result<Image> resize(const Image& image, int width, int height, Interpolation interpolation) {
  const auto size = [&] { return std::to_string(width) + " x " + std::to_string(height); };
  const auto no_memory = [&] { return "not enough memory to resize a picture to " + size(); };
  return no_throw(no_memory, [&]() -> Result<Image> {
    XC_RETURN_IF_ERROR(check_image(image));
    if (width <= 0 || height <= 0 || std::int64_t{width} * height > kMaxPixels) {
      return Status(Code::kInvalidArgument, "cannot resize to " + size() +
                                                " pixels; both sides must be positive and their "
                                                "product at most " +
                                                std::to_string(kMaxPixels));
    }
    const ResizeWindow whole = {width, height, 0, 0, width, height};
    XC_RETURN_IF_ERROR(check_resize(image, whole, interpolation));
    return resize_window(image, whole, interpolation);
  });
}

}  // namespace xception
