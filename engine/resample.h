// Pillow's resampling, for a part of the result only.
#pragma once

#include <cstdint>

#include "xception/image.h"
#include "xception/status.h"

namespace xception {

// The part [x, x + width) x [y, y + height) of the picture resized to full_width x full_height,
// which is never made: a strip of 1 x 100,000 pixels would take gigabytes.
struct ResizeWindow {
  std::int64_t full_width = 0;
  std::int64_t full_height = 0;
  std::int64_t x = 0;
  std::int64_t y = 0;
  int width = 0;
  int height = 0;
};

// Rows are made as wide as the window first, all that it touches. Fails with kBadImage where that
// is more than anybody waits for: millions of rows that are a few pixels wide.
Status check_resize(const Image& image, const ResizeWindow& window, Interpolation interpolation);

// The same bytes as resizing and then cropping. The window lies inside the full picture; the image
// and the window are not empty. Throws std::bad_alloc.
Image resize_window(const Image& image, const ResizeWindow& window, Interpolation interpolation);

// kInvalidArgument unless the image has positive sides and as many bytes as they say.
Status check_image(const Image& image);

}  // namespace xception
