// What an epilogue does, as an operation of its own: batch norm, ReLU and addition where they
// follow no convolution that could take them along.
#pragma once

#include "kernels/gpu.h"
#include "xception/status.h"
#include "xception/tensor.h"

namespace xception {

// Activations on the device of one shape and numeric. `dst` may be `src`, or the epilogue's
// residual, or both. A batch norm is the epilogue's second affine, a ReLU before it `relu`, one
// behind it or behind an addition `final_relu`.
struct BnReluArgs {
  const void* src = nullptr;
  void* dst = nullptr;
  DeviceEpilogue epilogue;
};

// Enqueues dst = epilogue(src). Fails with kDevice.
[[nodiscard]] Status bn_relu(const Shape& shape, Numeric numeric, const GpuInfo& gpu,
                             const BnReluArgs& args, Stream stream);

}  // namespace xception
