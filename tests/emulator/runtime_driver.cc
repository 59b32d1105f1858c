// The one function of the driver API that the runtime gives out: tensor maps are encoded by it.

#include <cuda.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <string_view>

#include "tests/emulator/runtime_state.h"
#include "tests/emulator/tensor_map.h"

using namespace xception::emulator;  // NOLINT(google-build-using-namespace)

namespace {

static_assert(sizeof(CUtensorMap) == kTensorMapBytes);
static_assert(alignof(CUtensorMap) % kTensorMapAlignment == 0);

// Bytes of an element, 0 for types that change what they copy or are packed.
std::uint32_t element_bytes(CUtensorMapDataType type) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8:
      return 1;
    case CU_TENSOR_MAP_DATA_TYPE_UINT16:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
      return 2;
    case CU_TENSOR_MAP_DATA_TYPE_UINT32:
    case CU_TENSOR_MAP_DATA_TYPE_INT32:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
      return 4;
    case CU_TENSOR_MAP_DATA_TYPE_UINT64:
    case CU_TENSOR_MAP_DATA_TYPE_INT64:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT64:
      return 8;
    default:
      return 0;
  }
}

constexpr std::uint32_t kSwizzles[] = {0, 32, 64, 128};  // by CUtensorMapSwizzle

// Counts among the calls that can be made to fail, as every call of the runtime does.
CUresult encode_tiled(CUtensorMap* target, CUtensorMapDataType type, cuuint32_t rank, void* address,
                      const cuuint64_t* extents, const cuuint64_t* strides, const cuuint32_t* box,
                      const cuuint32_t* element_strides, CUtensorMapInterleave interleave,
                      CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                      CUtensorMapFloatOOBfill fill) {
  CUresult result = CUDA_SUCCESS;
  const cudaError_t error = runtime_call(kNoContext, [&](Runtime& runtime, Lock&) {
    const auto refuse = [&](CUresult why) {
      result = why;
      return cudaSuccess;
    };
    if (runtime.current().profile.arch < 90) {
      return refuse(CUDA_ERROR_NOT_SUPPORTED);
    }
    if (target == nullptr || reinterpret_cast<std::uintptr_t>(target) % kTensorMapAlignment != 0 ||
        rank < 1 || rank > kMostTensorRank || address == nullptr || extents == nullptr ||
        box == nullptr || element_strides == nullptr || (rank > 1 && strides == nullptr) ||
        promotion < CU_TENSOR_MAP_L2_PROMOTION_NONE ||
        promotion > CU_TENSOR_MAP_L2_PROMOTION_L2_256B) {
      return refuse(CUDA_ERROR_INVALID_VALUE);
    }
    TensorMap map;
    map.rank = static_cast<int>(rank);
    map.element_bytes = element_bytes(type);
    // What the driver knows and the emulator does not.
    if (map.element_bytes == 0 || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE ||
        swizzle < CU_TENSOR_MAP_SWIZZLE_NONE || swizzle > CU_TENSOR_MAP_SWIZZLE_128B ||
        fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) {
      return refuse(CUDA_ERROR_NOT_SUPPORTED);
    }
    map.swizzle_bytes = kSwizzles[swizzle];
    map.address = reinterpret_cast<std::uintptr_t>(address);
    map.strides[0] = map.element_bytes;
    for (std::size_t i = 0; i < rank; ++i) {
      map.extents[i] = extents[i];
      map.box[i] = box[i];
      if (i > 0) {
        map.strides[i] = strides[i - 1];
      }
      if (element_strides[i] != 1) {
        return refuse(CUDA_ERROR_INVALID_VALUE);
      }
    }
    if (!is_valid(map)) {
      return refuse(CUDA_ERROR_INVALID_VALUE);
    }
    encode(map, std::span<std::byte, kTensorMapBytes>(reinterpret_cast<std::byte*>(target),
                                                      kTensorMapBytes));
    return cudaSuccess;
  });
  return error == cudaSuccess ? result : static_cast<CUresult>(error);
}

cudaError_t find_driver_function(const char* symbol, void** function,
                                 cudaDriverEntryPointQueryResult* status) {
  return runtime_call(kNoContext, [&](Runtime&, Lock&) {
    if (symbol == nullptr || function == nullptr) {
      return cudaErrorInvalidValue;
    }
    const bool known = std::string_view(symbol) == "cuTensorMapEncodeTiled";
    *function = known ? reinterpret_cast<void*>(encode_tiled) : nullptr;
    if (status != nullptr) {
      *status = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    }
    return known || status != nullptr ? cudaSuccess : cudaErrorSymbolNotFound;
  });
}

}  // namespace

extern "C" {

cudaError_t cudaGetDriverEntryPoint(const char* symbol, void** function,
                                    unsigned long long /*flags*/,
                                    cudaDriverEntryPointQueryResult* status) {
  return find_driver_function(symbol, function, status);
}

#if CUDART_VERSION >= 12050
cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function,
                                             unsigned /*version*/, unsigned long long /*flags*/,
                                             cudaDriverEntryPointQueryResult* status) {
  return find_driver_function(symbol, function, status);
}
#endif
}
