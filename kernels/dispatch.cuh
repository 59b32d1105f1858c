// From a Numeric and a number of channels to the kernel that is compiled for them.
#pragma once

#include <type_traits>

#include "kernels/gpu.h"
#include "kernels/vector.cuh"

namespace xception {

// Calls f(T{}) with the type that the numeric is kept in.
template <class F>
auto dispatch(Numeric numeric, F&& f) {
  switch (numeric) {
    case Numeric::kFp16:
      return f(__half{});
    case Numeric::kBf16:
      return f(__nv_bfloat16{});
    case Numeric::kFp32:
    case Numeric::kTf32:
      break;
  }
  return f(float{});
}

// Calls f(T{}, width) for pixels of `channels` channels: width, a std::integral_constant, is how
// many of them one access moves. That is 16 bytes, but pictures of up to four channels have no more
// than four.
template <class F>
auto dispatch_vector(Numeric numeric, int channels, F&& f) {
  return dispatch(numeric, [&](auto element) {
    using T = decltype(element);
    constexpr int kFour = 4;
    if (channel_stride(channels) == kFour) {
      return f(element, std::integral_constant<int, kFour>{});
    }
    return f(element, std::integral_constant<int, kVectorWidth<T>>{});
  });
}

}  // namespace xception
