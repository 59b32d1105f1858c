// Tensor maps: what the copy hardware of Hopper GPUs knows of a tensor.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/gpu.h"
#include "xception/status.h"

namespace xception {

// Of a matrix of 16-bit elements in device memory, `rows` of `columns` elements that lie
// `columns` * 2 bytes apart, a multiple of 16: boxes of box_columns x box_rows, 128 bytes of a row,
// arrive in shared memory in the 128-byte swizzle. Fails with kDevice, where the driver cannot make
// it.
[[nodiscard]] Status make_tensor_map(Numeric numeric, const void* matrix, std::int64_t rows,
                                     int columns, int box_rows, int box_columns, CUtensorMap* map);

}  // namespace xception
