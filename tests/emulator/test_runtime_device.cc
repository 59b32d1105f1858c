// Devices over the CUDA runtime API: properties, attributes, limits, versions.

#include <cuda.h>

#include <cstring>

#include "tests/emulator/test_runtime_fixture.h"

namespace xception::emulator {
namespace {

TEST_CASE("properties and attributes say the same") {
  int count = 0;
  REQUIRE_CUDA(cudaGetDeviceCount(&count));
  REQUIRE(count >= 1);
  cudaDeviceProp properties;
  REQUIRE_CUDA(cudaGetDeviceProperties(&properties, 0));
  CHECK(std::strlen(properties.name) > 0);
  const auto attribute = [](cudaDeviceAttr which) {
    int value = -1;
    CHECK_CUDA(cudaSuccess, cudaDeviceGetAttribute(&value, which, 0));
    return value;
  };
  CHECK(attribute(cudaDevAttrComputeCapabilityMajor) == properties.major);
  CHECK(attribute(cudaDevAttrComputeCapabilityMinor) == properties.minor);
  CHECK(attribute(cudaDevAttrMultiProcessorCount) == properties.multiProcessorCount);
  CHECK(attribute(cudaDevAttrMaxThreadsPerBlock) == 1024);
  CHECK(attribute(cudaDevAttrWarpSize) == 32);
  CHECK(attribute(cudaDevAttrMaxGridDimY) == 65535);
  CHECK(attribute(cudaDevAttrMaxSharedMemoryPerBlock) == 48 << 10);
  CHECK(static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)) ==
        properties.sharedMemPerBlockOptin);
  CHECK(static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor)) ==
        properties.sharedMemPerMultiprocessor);
  CHECK(attribute(cudaDevAttrL2CacheSize) == properties.l2CacheSize);
  CHECK(properties.regsPerBlock == 65536);
  std::size_t total = 0;
  REQUIRE_CUDA(cudaMemGetInfo(nullptr, &total));
  CHECK(total == properties.totalGlobalMem);
}

TEST_CASE("devices that are not there are refused") {
  int value = 0;
  cudaDeviceProp properties;
  CHECK_CUDA(cudaErrorInvalidDevice, cudaSetDevice(99));
  CHECK_CUDA(cudaErrorInvalidDevice, cudaSetDevice(-1));
  CHECK_CUDA(cudaErrorInvalidDevice, cudaGetDeviceProperties(&properties, 99));
  CHECK_CUDA(cudaErrorInvalidDevice, cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, 99));
  CHECK_CUDA(cudaErrorInvalidValue, cudaGetDeviceCount(nullptr));
  char text[32];
  CHECK_CUDA(cudaErrorInvalidDevice, cudaDeviceGetPCIBusId(text, sizeof(text), 99));
  CHECK_CUDA(cudaErrorInvalidValue, cudaDeviceGetPCIBusId(text, 4, 0));
  (void)cudaGetLastError();
  CHECK_CUDA(cudaSuccess, cudaDeviceGetPCIBusId(text, sizeof(text), 0));
  CHECK(std::strlen(text) == 12);
  CHECK_CUDA(cudaSuccess, cudaGetDevice(&value));
  CHECK(value == 0);
}

TEST_CASE("limits and flags are kept") {
  std::size_t value = 0;
  CHECK_CUDA(cudaSuccess, cudaDeviceGetLimit(&value, cudaLimitStackSize));
  CHECK(value >= 1024);
  CHECK_CUDA(cudaSuccess, cudaDeviceSetLimit(cudaLimitPrintfFifoSize, 4 << 20));
  CHECK_CUDA(cudaSuccess, cudaDeviceGetLimit(&value, cudaLimitPrintfFifoSize));
  CHECK(value >= std::size_t{4} << 20);
  CHECK_CUDA(cudaErrorUnsupportedLimit, cudaDeviceSetLimit(static_cast<cudaLimit>(7), 1));
  CHECK_CUDA(cudaErrorInvalidValue, cudaDeviceGetLimit(nullptr, cudaLimitStackSize));
  (void)cudaGetLastError();
  CHECK_CUDA(cudaSuccess, cudaSetDeviceFlags(cudaDeviceScheduleBlockingSync));
  unsigned flags = 0;
  CHECK_CUDA(cudaSuccess, cudaGetDeviceFlags(&flags));
  CHECK((flags & cudaDeviceScheduleMask) == cudaDeviceScheduleBlockingSync);
}

TEST_CASE("versions and error texts are there") {
  int runtime = 0;
  int driver = 0;
  CHECK_CUDA(cudaSuccess, cudaRuntimeGetVersion(&runtime));
  CHECK_CUDA(cudaSuccess, cudaDriverGetVersion(&driver));
  CHECK(runtime >= 12040);
  CHECK(driver >= runtime / 1000 * 1000);
  CHECK(std::string(cudaGetErrorName(cudaErrorNoKernelImageForDevice)) ==
        "cudaErrorNoKernelImageForDevice");
  CHECK(std::string(cudaGetErrorString(cudaErrorMemoryAllocation)) == "out of memory");
  CHECK(std::string(cudaGetErrorString(static_cast<cudaError_t>(1001))) ==
        "unrecognized error code");
}

TEST_CASE("a reset takes everything away") {
  XC_NEEDS_EMULATOR();
  void* pointer = nullptr;
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  REQUIRE_CUDA(cudaMalloc(&pointer, 64));
  REQUIRE_CUDA(cudaStreamCreate(&stream));
  REQUIRE_CUDA(cudaEventCreate(&event));
  REQUIRE_CUDA(cudaMemsetAsync(pointer, 0, 64, stream));
  CHECK_CUDA(cudaSuccess, cudaDeviceReset());
  CHECK(nothing_lives());
  CHECK_CUDA(cudaErrorInvalidResourceHandle, cudaStreamSynchronize(stream));
  CHECK_CUDA(cudaErrorInvalidValue, cudaFree(pointer));
  (void)cudaGetLastError();
}

cudaError_t find_driver_function(const char* name, void** function,
                                 cudaDriverEntryPointQueryResult* status) {
#if CUDART_VERSION >= 13000
  return cudaGetDriverEntryPointByVersion(name, function, 12000, cudaEnableDefault, status);
#else
  return cudaGetDriverEntryPoint(name, function, cudaEnableDefault, status);
#endif
}

TEST_CASE("of the driver API there is one function to find") {
  XC_NEEDS_EMULATOR();
  void* function = &function;
  cudaDriverEntryPointQueryResult status = cudaDriverEntryPointSuccess;
  CHECK_CUDA(cudaSuccess, find_driver_function("cuInit", &function, &status));
  CHECK(function == nullptr);
  CHECK(status == cudaDriverEntryPointSymbolNotFound);
  CHECK_CUDA(cudaErrorSymbolNotFound, find_driver_function("cuInit", &function, nullptr));
  CHECK_CUDA(cudaErrorInvalidValue, find_driver_function("cuInit", nullptr, &status));
  CHECK_CUDA(cudaErrorInvalidValue, find_driver_function(nullptr, &function, &status));
  (void)cudaGetLastError();
  CHECK_CUDA(cudaSuccess, find_driver_function("cuTensorMapEncodeTiled", &function, &status));
  CHECK(function != nullptr);
  CHECK(status == cudaDriverEntryPointSuccess);
  CHECK_CUDA(cudaSuccess, find_driver_function("cuTensorMapEncodeTiled", &function, nullptr));
  emulator_control()->fail_call(1);
  CHECK(find_driver_function("cuTensorMapEncodeTiled", &function, &status) != cudaSuccess);
  (void)cudaGetLastError();
}

TEST_CASE("tensor maps are checked as they are encoded") {
  XC_NEEDS_EMULATOR();
  cudaDeviceProp properties;
  REQUIRE_CUDA(cudaGetDeviceProperties(&properties, 0));
  void* function = nullptr;
  cudaDriverEntryPointQueryResult status = cudaDriverEntryPointSymbolNotFound;
  REQUIRE_CUDA(find_driver_function("cuTensorMapEncodeTiled", &function, &status));
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  struct Arguments {
    CUtensorMap map{};
    CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    cuuint32_t rank = 2;
    std::uintptr_t address = 4096;
    cuuint64_t extents[5] = {100, 30, 4, 4, 4};
    cuuint64_t strides[4] = {208, 16 * 400, 16 * 4000, 16 * 40000};
    cuuint32_t box[5] = {64, 32, 1, 1, 1};
    cuuint32_t element_strides[5] = {1, 1, 1, 1, 1};
    CUtensorMapInterleave interleave = CU_TENSOR_MAP_INTERLEAVE_NONE;
    CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B;
    CUtensorMapFloatOOBfill fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
  };
  const auto result = [&](const auto& change) {
    Arguments a;
    change(a);
    return encode(&a.map, a.type, a.rank, reinterpret_cast<void*>(a.address), a.extents, a.strides,
                  a.box, a.element_strides, a.interleave, a.swizzle,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_128B, a.fill);
  };
  const auto good = [](Arguments&) {};
  if (properties.major < 9) {
    CHECK(result(good) == CUDA_ERROR_NOT_SUPPORTED);
    return;
  }
  CHECK(result(good) == CUDA_SUCCESS);
  CHECK(result([](Arguments& a) { a.rank = 5; }) == CUDA_SUCCESS);
  CHECK(result([](Arguments& a) { a.extents[1] = cuuint64_t{1} << 32; }) == CUDA_SUCCESS);
  const auto refused = [&](const auto& change) {
    CHECK(result(change) == CUDA_ERROR_INVALID_VALUE);
  };
  refused([](Arguments& a) { a.rank = 0; });
  refused([](Arguments& a) { a.rank = 6; });
  refused([](Arguments& a) { a.address = 4104; });
  refused([](Arguments& a) { a.address = 0; });
  refused([](Arguments& a) { a.extents[1] = 0; });
  refused([](Arguments& a) { a.extents[0] = (cuuint64_t{1} << 32) + 1; });
  refused([](Arguments& a) { a.strides[0] = 200; });
  refused([](Arguments& a) { a.strides[0] = cuuint64_t{1} << 40; });
  refused([](Arguments& a) { a.box[1] = 0; });
  refused([](Arguments& a) { a.box[1] = 257; });
  refused([](Arguments& a) { a.box[0] = 60; });
  refused([](Arguments& a) { a.box[0] = 72; });
  refused([](Arguments& a) { a.swizzle = CU_TENSOR_MAP_SWIZZLE_64B; });
  refused([](Arguments& a) { a.element_strides[1] = 2; });
  CHECK(result([](Arguments& a) { a.interleave = CU_TENSOR_MAP_INTERLEAVE_16B; }) ==
        CUDA_ERROR_NOT_SUPPORTED);
  CHECK(result([](Arguments& a) { a.fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA; }) ==
        CUDA_ERROR_NOT_SUPPORTED);
  emulator_control()->fail_call(1);
  CHECK(result(good) != CUDA_SUCCESS);
  (void)cudaGetLastError();
}

}  // namespace
}  // namespace xception::emulator
