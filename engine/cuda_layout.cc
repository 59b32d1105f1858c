#include "engine/cuda_layout.h"

#include <algorithm>
#include <cstring>

#include "kernels/numeric.h"

namespace xception {

void to_device_layout(const float* src, const Shape& shape, Numeric numeric, std::byte* dst) {
  const std::size_t channels = static_cast<std::size_t>(shape.c);
  const std::size_t pixels =
      static_cast<std::size_t>(shape.elements()) / std::max<std::size_t>(channels, 1);
  const std::size_t used = channels * element_bytes(numeric);
  const std::size_t pixel_bytes =
      static_cast<std::size_t>(channel_stride(shape.c)) * element_bytes(numeric);
  for (std::size_t pixel = 0; pixel < pixels; ++pixel, dst += pixel_bytes) {
    to_numeric({src + pixel * channels, channels}, numeric, dst);
    std::memset(dst + used, 0, pixel_bytes - used);
  }
}

void from_device_layout(const std::byte* src, const Shape& shape, Numeric numeric, float* dst) {
  const std::size_t channels = static_cast<std::size_t>(shape.c);
  const std::size_t pixels =
      static_cast<std::size_t>(shape.elements()) / std::max<std::size_t>(channels, 1);
  const std::size_t pixel_bytes =
      static_cast<std::size_t>(channel_stride(shape.c)) * element_bytes(numeric);
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    from_numeric(src + pixel * pixel_bytes, numeric, {dst + pixel * channels, channels});
  }
}

void to_picture_layout(const float* src, Layout layout, const Shape& shape, Numeric numeric,
                       std::byte* dst) {
  const std::size_t height = static_cast<std::size_t>(shape.h);
  const std::size_t width = static_cast<std::size_t>(shape.w);
  const std::size_t samples = kPictureColours * width;
  const std::size_t used = samples * element_bytes(numeric);
  const std::size_t row_bytes =
      static_cast<std::size_t>(picture_row(shape.w)) * element_bytes(numeric);
  for (int n = 0; n < shape.n; ++n, src += height * samples) {
    for (std::size_t y = 0; y < height; ++y, dst += row_bytes) {
      if (layout == Layout::kNHWC) {
        to_numeric({src + y * samples, samples}, numeric, dst);
      } else {
        for (std::size_t i = 0; i < samples; ++i) {
          const std::size_t x = i / kPictureColours;
          const std::size_t c = i % kPictureColours;
          to_numeric({src + (c * height + y) * width + x, 1}, numeric,
                     dst + i * element_bytes(numeric));
        }
      }
      std::memset(dst + used, 0, row_bytes - used);
    }
  }
}

}  // namespace xception
