// Devices over the CUDA runtime API: properties, attributes, limits, versions.

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

TEST_CASE("there is no driver API to find") {
  XC_NEEDS_EMULATOR();
  void* function = &function;
  cudaDriverEntryPointQueryResult status = cudaDriverEntryPointSuccess;
#if CUDART_VERSION >= 13000
  CHECK_CUDA(cudaSuccess, cudaGetDriverEntryPointByVersion("cuInit", &function, 12000,
                                                           cudaEnableDefault, &status));
#else
  CHECK_CUDA(cudaSuccess, cudaGetDriverEntryPoint("cuInit", &function, cudaEnableDefault, &status));
#endif
  CHECK(function == nullptr);
  CHECK(status == cudaDriverEntryPointSymbolNotFound);
}

}  // namespace
}  // namespace xception::emulator
