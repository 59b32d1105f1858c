// Allocation, copies and fills over the CUDA runtime API.

#include <algorithm>
#include <cstring>
#include <numeric>

#include "tests/emulator/test_runtime_fixture.h"
#include "tests/random.h"

namespace xception::emulator {
namespace {

std::vector<int> counting(int count) {
  std::vector<int> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 0);
  return values;
}

TEST_CASE("memory is allocated, measured and given back") {
  std::size_t before = 0;
  std::size_t total = 0;
  REQUIRE_CUDA(cudaMemGetInfo(&before, &total));
  CHECK(before <= total);
  {
    const DeviceArray<int> array(1 << 20);
    CHECK(reinterpret_cast<std::uintptr_t>(array.get()) % 256 == 0);
    std::size_t now = 0;
    REQUIRE_CUDA(cudaMemGetInfo(&now, nullptr));
    CHECK(now + (4 << 20) <= before);
  }
  std::size_t after = 0;
  REQUIRE_CUDA(cudaMemGetInfo(&after, &total));
  CHECK(after == before);
  CHECK(nothing_lives());
}

TEST_CASE("allocation refuses what cannot be") {
  void* pointer = &pointer;
  CHECK_CUDA(cudaErrorInvalidValue, cudaMalloc(nullptr, 4));
  CHECK_CUDA(cudaSuccess, cudaMalloc(&pointer, 0));
  CHECK(pointer == nullptr);
  CHECK_CUDA(cudaErrorMemoryAllocation, cudaMalloc(&pointer, std::size_t{1} << 50));
  CHECK(pointer == nullptr);
  CHECK_CUDA(cudaErrorMemoryAllocation, cudaGetLastError());
  CHECK_CUDA(cudaSuccess, cudaGetLastError());
  CHECK_CUDA(cudaSuccess, cudaFree(nullptr));
  int local = 0;
  CHECK_CUDA(cudaErrorInvalidValue, cudaFree(&local));
  const DeviceArray<int> array(8);
  CHECK_CUDA(cudaErrorInvalidValue, cudaFree(array.get() + 1));
}

TEST_CASE("memory is freed once") {
  XC_NEEDS_EMULATOR();
  void* pointer = nullptr;
  REQUIRE_CUDA(cudaMalloc(&pointer, 64));
  CHECK_CUDA(cudaSuccess, cudaFree(pointer));
  CHECK_CUDA(cudaErrorInvalidValue, cudaFree(pointer));
  int value = 0;
  CHECK_CUDA(cudaErrorInvalidValue,
             cudaMemcpy(&value, pointer, sizeof(value), cudaMemcpyDeviceToHost));
  CHECK_CUDA(cudaErrorInvalidValue, cudaMemcpy(&value, pointer, sizeof(value), cudaMemcpyDefault));
}

TEST_CASE("copies go both ways and within the device") {
  const std::vector<int> values = counting(1000);
  const DeviceArray<int> a(values);
  const DeviceArray<int> b(values.size());
  CHECK_CUDA(cudaSuccess, cudaMemcpy(b.get(), a.get(), a.bytes(), cudaMemcpyDeviceToDevice));
  CHECK(b.values() == values);
  std::vector<int> part(10);
  CHECK_CUDA(cudaSuccess, cudaMemcpy(part.data(), b.get() + 7, 40, cudaMemcpyDefault));
  CHECK(part == std::vector<int>(values.begin() + 7, values.begin() + 17));
  CHECK_CUDA(cudaSuccess, cudaMemcpy(part.data(), values.data(), 40, cudaMemcpyHostToHost));
  CHECK(part[9] == 9);
}

TEST_CASE("copies refuse wrong directions and sizes") {
  std::vector<int> host(16);
  const DeviceArray<int> device(16);
  const std::size_t bytes = device.bytes();
  CHECK_CUDA(cudaErrorInvalidValue,
             cudaMemcpy(host.data(), device.get(), bytes, cudaMemcpyHostToDevice));
  CHECK_CUDA(cudaErrorInvalidValue,
             cudaMemcpy(device.get(), host.data(), bytes, cudaMemcpyDeviceToDevice));
  CHECK_CUDA(cudaErrorInvalidMemcpyDirection,
             cudaMemcpy(device.get(), host.data(), bytes, static_cast<cudaMemcpyKind>(7)));
  CHECK_CUDA(cudaErrorInvalidValue,
             cudaMemcpy(device.get() + 1, host.data(), bytes, cudaMemcpyHostToDevice));
  CHECK_CUDA(cudaErrorInvalidValue, cudaMemcpy(nullptr, host.data(), 4, cudaMemcpyHostToDevice));
  CHECK_CUDA(cudaSuccess, cudaMemcpy(device.get(), host.data(), 0, cudaMemcpyHostToDevice));
  CHECK_CUDA(cudaErrorInvalidValue, cudaMemset(device.get(), 0, bytes + 1));
  CHECK_CUDA(cudaErrorInvalidResourceHandle,
             cudaMemcpyAsync(device.get(), host.data(), bytes, cudaMemcpyHostToDevice,
                             reinterpret_cast<cudaStream_t>(std::uintptr_t{0x1234} << 48)));
}

TEST_CASE("rows are copied and filled with their pitch") {
  constexpr std::size_t kWidth = 5;
  constexpr std::size_t kRows = 4;
  std::vector<unsigned char> host(kWidth * kRows);
  std::iota(host.begin(), host.end(), static_cast<unsigned char>(1));
  void* device = nullptr;
  std::size_t pitch = 0;
  REQUIRE_CUDA(cudaMallocPitch(&device, &pitch, kWidth, kRows));
  CHECK(pitch % 32 == 0);
  CHECK_CUDA(cudaSuccess, cudaMemcpy2D(device, pitch, host.data(), kWidth, kWidth, kRows,
                                       cudaMemcpyHostToDevice));
  CHECK_CUDA(cudaSuccess, cudaMemset2D(static_cast<char*>(device) + pitch + 1, pitch, 0xAB, 2, 2));
  std::vector<unsigned char> back(kWidth * kRows);
  CHECK_CUDA(cudaSuccess, cudaMemcpy2D(back.data(), kWidth, device, pitch, kWidth, kRows,
                                       cudaMemcpyDeviceToHost));
  std::vector<unsigned char> expected = host;
  for (const std::size_t row : {1, 2}) {
    expected[row * kWidth + 1] = 0xAB;
    expected[row * kWidth + 2] = 0xAB;
  }
  CHECK(back == expected);
  CHECK_CUDA(cudaErrorInvalidPitchValue, cudaMemcpy2D(back.data(), kWidth - 1, device, pitch,
                                                      kWidth, 2, cudaMemcpyDeviceToHost));
  CHECK_CUDA(cudaErrorInvalidValue, cudaMemcpy2D(back.data(), kWidth, device, pitch, kWidth,
                                                 kRows + 1, cudaMemcpyDeviceToHost));
  CHECK_CUDA(cudaSuccess, cudaFree(device));
}

TEST_CASE("a copy from pinned memory reads it as late as the synchronisation") {
  XC_NEEDS_EMULATOR();
  const TestSeed lazy(0);
  const TestStream stream;
  const PinnedArray<int> source(4, 1);
  const DeviceArray<int> device(4);
  REQUIRE_CUDA(cudaMemcpyAsync(device.get(), source.get(), source.bytes(), cudaMemcpyHostToDevice,
                               stream.get()));
  source.get()[2] = 5;  // a mistake on a GPU, which may or may not see it
  REQUIRE_CUDA(cudaStreamSynchronize(stream.get()));
  CHECK(device.values() == std::vector<int>{1, 1, 5, 1});
}

TEST_CASE("a copy from pageable memory is staged in the call") {
  const TestStream stream;
  std::vector<int> source(4, 1);
  const DeviceArray<int> device(4);
  REQUIRE_CUDA(cudaMemcpyAsync(device.get(), source.data(), device.bytes(), cudaMemcpyHostToDevice,
                               stream.get()));
  source[2] = 5;
  REQUIRE_CUDA(cudaStreamSynchronize(stream.get()));
  CHECK(device.values() == std::vector<int>{1, 1, 1, 1});
}

TEST_CASE("a copy to pinned memory lands with the synchronisation, to pageable in the call") {
  const TestSeed lazy(0);
  const TestStream stream;
  const DeviceArray<int> device(std::vector<int>{1, 2, 3});
  const PinnedArray<int> pinned(3, 9);
  REQUIRE_CUDA(cudaMemcpyAsync(pinned.get(), device.get(), device.bytes(), cudaMemcpyDeviceToHost,
                               stream.get()));
  if (emulator_control() != nullptr) {
    CHECK(pinned.values() == std::vector<int>{9, 9, 9});
  }
  std::vector<int> pageable(3);
  REQUIRE_CUDA(cudaMemcpyAsync(pageable.data(), device.get(), device.bytes(),
                               cudaMemcpyDeviceToHost, stream.get()));
  CHECK(pageable == std::vector<int>{1, 2, 3});
  CHECK(pinned.values() == std::vector<int>{1, 2, 3});  // the same stream, before
}

TEST_CASE("an upload from pageable memory orders nothing for a stream that does not block") {
  XC_NEEDS_EMULATOR();
  const TestSeed lazy(0);
  const TestStream stream;
  const DeviceArray<int> device(std::vector<int>{1});
  const PinnedArray<int> result(1);
  const int two = 2;
  REQUIRE_CUDA(cudaMemcpy(device.get(), &two, sizeof(two), cudaMemcpyHostToDevice));
  REQUIRE_CUDA(cudaMemcpyAsync(result.get(), device.get(), sizeof(two), cudaMemcpyDeviceToHost,
                               stream.get()));
  REQUIRE_CUDA(cudaStreamSynchronize(stream.get()));
  CHECK(result.get()[0] == 1);
  REQUIRE_CUDA(cudaDeviceSynchronize());
  CHECK(device.values() == std::vector<int>{2});
}

TEST_CASE("pinned memory is known as such") {
  {
    const PinnedArray<int> pinned(100);
    cudaPointerAttributes attributes;
    REQUIRE_CUDA(cudaPointerGetAttributes(&attributes, pinned.get() + 50));
    CHECK(attributes.type == cudaMemoryTypeHost);
    const DeviceArray<int> device(4);
    REQUIRE_CUDA(cudaPointerGetAttributes(&attributes, device.get() + 1));
    CHECK(attributes.type == cudaMemoryTypeDevice);
    CHECK(attributes.device == 0);
    CHECK(attributes.devicePointer == device.get() + 1);
    std::vector<int> plain(4);
    REQUIRE_CUDA(cudaPointerGetAttributes(&attributes, plain.data()));
    CHECK(attributes.type == cudaMemoryTypeUnregistered);
  }
  void* pointer = nullptr;
  CHECK_CUDA(cudaSuccess, cudaHostAlloc(&pointer, 100, cudaHostAllocPortable));
  unsigned flags = 0;
  CHECK_CUDA(cudaSuccess, cudaHostGetFlags(&flags, pointer));
  CHECK((flags & cudaHostAllocPortable) != 0);
  CHECK_CUDA(cudaSuccess, cudaFreeHost(pointer));
  CHECK_CUDA(cudaErrorInvalidValue, cudaFreeHost(pointer));
  CHECK_CUDA(cudaErrorInvalidValue, cudaHostAlloc(&pointer, 100, 0x80));
  CHECK(nothing_lives());
}

TEST_CASE("memory of the program's own can be pinned") {
  std::vector<int> values(1024, 3);
  const std::size_t bytes = values.size() * sizeof(int);
  CHECK_CUDA(cudaSuccess, cudaHostRegister(values.data(), bytes, cudaHostRegisterDefault));
  CHECK_CUDA(cudaErrorHostMemoryAlreadyRegistered,
             cudaHostRegister(values.data() + 8, 64, cudaHostRegisterDefault));
  const DeviceArray<int> device(values.size());
  const TestStream stream;
  REQUIRE_CUDA(
      cudaMemcpyAsync(device.get(), values.data(), bytes, cudaMemcpyHostToDevice, stream.get()));
  CHECK_CUDA(cudaSuccess, cudaStreamSynchronize(stream.get()));
  CHECK_CUDA(cudaSuccess, cudaHostUnregister(values.data()));
  CHECK_CUDA(cudaErrorHostMemoryNotRegistered, cudaHostUnregister(values.data()));
  CHECK(device.values() == values);
}

TEST_CASE("freeing waits for work that is queued") {
  const TestStream stream;
  const DeviceArray<int> device(std::vector<int>(64, 4));
  void* other = nullptr;
  REQUIRE_CUDA(cudaMalloc(&other, 64));
  int* pinned = nullptr;
  REQUIRE_CUDA(cudaMallocHost(reinterpret_cast<void**>(&pinned), device.bytes()));
  std::fill(pinned, pinned + 64, 6);
  REQUIRE_CUDA(
      cudaMemcpyAsync(device.get(), pinned, device.bytes(), cudaMemcpyHostToDevice, stream.get()));
  CHECK_CUDA(cudaSuccess, cudaFreeHost(pinned));
  CHECK(device.values() == std::vector<int>(64, 6));
  CHECK_CUDA(cudaSuccess, cudaFree(other));
}

TEST_CASE("memory of a pool is freed in stream order") {
  const TestStream stream;
  cudaMemPool_t pool = nullptr;
  REQUIRE_CUDA(cudaDeviceGetDefaultMemPool(&pool, 0));
  const auto used = [&] {
    std::uint64_t bytes = 0;
    REQUIRE_CUDA(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &bytes));
    return bytes;
  };
  const std::uint64_t before = used();
  void* pointer = nullptr;
  REQUIRE_CUDA(cudaMallocAsync(&pointer, 4096, stream.get()));
  CHECK(used() >= before + 4096);
  CHECK_CUDA(cudaSuccess, cudaMemsetAsync(pointer, 1, 4096, stream.get()));
  CHECK_CUDA(cudaSuccess, cudaFreeAsync(pointer, stream.get()));
  CHECK_CUDA(cudaSuccess, cudaStreamSynchronize(stream.get()));
  CHECK(used() == before);
  std::uint64_t threshold = 12345;
  CHECK_CUDA(cudaSuccess,
             cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold));
  threshold = 0;
  CHECK_CUDA(cudaSuccess,
             cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold));
  CHECK(threshold == 12345);
  CHECK_CUDA(cudaSuccess, cudaMemPoolTrimTo(pool, 0));
  CHECK_CUDA(cudaErrorInvalidValue, cudaMemPoolDestroy(pool));
}

TEST_CASE("a pool of the program's own can be allocated from") {
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = 0;
  cudaMemPool_t pool = nullptr;
  REQUIRE_CUDA(cudaMemPoolCreate(&pool, &properties));
  void* pointer = nullptr;
  CHECK_CUDA(cudaSuccess, cudaMallocFromPoolAsync(&pointer, 256, pool, nullptr));
  CHECK_CUDA(cudaSuccess, cudaFree(pointer));
  CHECK_CUDA(cudaSuccess, cudaMemPoolDestroy(pool));
  CHECK_CUDA(cudaErrorInvalidValue, cudaMallocFromPoolAsync(&pointer, 256, pool, nullptr));
}

TEST_CASE("what the emulator lacks is an error") {
  XC_NEEDS_EMULATOR();
  void* pointer = nullptr;
  CHECK_CUDA(cudaErrorNotSupported, cudaMallocManaged(&pointer, 64, cudaMemAttachGlobal));
  CHECK_CUDA(cudaErrorNotSupported, cudaHostAlloc(&pointer, 64, cudaHostAllocMapped));
  const PinnedArray<int> pinned(4);
  CHECK_CUDA(cudaErrorNotSupported, cudaHostGetDevicePointer(&pointer, pinned.get(), 0));
  int value = 1;
  CHECK_CUDA(cudaSuccess, cudaDeviceGetAttribute(&value, cudaDevAttrManagedMemory, 0));
  CHECK(value == 0);
}

}  // namespace
}  // namespace xception::emulator
