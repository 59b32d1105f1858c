// Probabilities of logits.
#pragma once

#include "kernels/gpu.h"
#include "xception/status.h"

namespace xception {

// Enqueues exp(x - m) / sum of exp(x - m) over each of `rows` rows of `columns` values, m the row's
// maximum. float32 on the device, rows channel_stride(columns) apart, zero behind `columns`. `dst`
// may be `src`. Fails with kDevice.
[[nodiscard]] Status softmax(int rows, int columns, const float* src, float* dst, Stream stream);

}  // namespace xception
