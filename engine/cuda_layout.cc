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

}  // namespace xception
