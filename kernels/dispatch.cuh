// From a Numeric to the kernel that is compiled for its type.
#pragma once

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

}  // namespace xception
