#include "kernels/tensor_map.h"

#include <cuda_runtime_api.h>

#include <string>

#include "kernels/launch.h"

namespace xception {
namespace {

constexpr const char* kEncode = "cuTensorMapEncodeTiled";

// The driver's function, by way of the runtime: we do not link the driver.
cudaError_t find_encode(void** function, cudaDriverEntryPointQueryResult* found) {
#if CUDART_VERSION >= 12050
  constexpr unsigned kSince = 12000;  // the CUDA version whose function of that name is meant
  return cudaGetDriverEntryPointByVersion(kEncode, function, kSince, cudaEnableDefault, found);
#else
  return cudaGetDriverEntryPoint(kEncode, function, cudaEnableDefault, found);
#endif
}

}  // namespace

Status make_tensor_map(Numeric numeric, const void* matrix, std::int64_t rows, int columns,
                       int box_rows, int box_columns, CUtensorMap* map) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  if (const cudaError_t error = find_encode(&function, &found); error != cudaSuccess) {
    return cuda_failure(std::string("asking for ") + kEncode, error);
  }
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    return {Code::kDevice,
            std::string("the driver has no ") + kEncode + "; install one of CUDA 12 or later"};
  }
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  const CUtensorMapDataType type = numeric == Numeric::kFp16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                             : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const cuuint64_t extents[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t pitches[] = {static_cast<cuuint64_t>(columns) * element_bytes(numeric)};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(box_columns),
                            static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[] = {1, 1};
  const CUresult result =
      encode(map, type, 2, const_cast<void*>(matrix), extents, pitches, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS
             ? Status()
             : Status(Code::kDevice, std::string(kEncode) + " refuses " + std::to_string(rows) +
                                         " rows of " + std::to_string(columns) +
                                         " elements (error " + std::to_string(result) + ')');
}

}  // namespace xception
