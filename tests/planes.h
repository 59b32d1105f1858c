// The other layout of pictures.
#pragma once

#include <cstddef>
#include <vector>

#include "xception/tensor.h"

namespace xception {

// From NHWC to NCHW.
inline std::vector<float> to_planes(const std::vector<float>& nhwc, const Shape& shape) {
  const auto channels = static_cast<std::size_t>(shape.c);
  const auto pixels = static_cast<std::size_t>(shape.h * shape.w);
  std::vector<float> planes(nhwc.size());
  for (std::size_t i = 0; i < nhwc.size(); ++i) {
    const std::size_t pixel = i / channels;  // of all pictures
    const std::size_t plane = pixel / pixels * channels + i % channels;
    planes[plane * pixels + pixel % pixels] = nhwc[i];
  }
  return planes;
}

}  // namespace xception
