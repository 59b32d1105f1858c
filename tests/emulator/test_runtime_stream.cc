// Streams, events and host functions over the CUDA runtime API: what is ordered, and that nothing
// else is.

#include <algorithm>
#include <atomic>
#include <thread>

#include "tests/emulator/test_runtime_fixture.h"
#include "tests/random.h"

namespace xception::emulator {
namespace {

// One byte that fills and copies hand on.
using Bytes = std::vector<unsigned char>;

TEST_CASE("streams have flags, priorities and numbers") {
  int least = 1;
  int greatest = 1;
  REQUIRE_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  CHECK(least == 0);
  CHECK(greatest < least);
  cudaStream_t stream = nullptr;
  REQUIRE_CUDA(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, greatest));
  int priority = 0;
  unsigned flags = 0;
  CHECK_CUDA(cudaSuccess, cudaStreamGetPriority(stream, &priority));
  CHECK(priority == greatest);
  CHECK_CUDA(cudaSuccess, cudaStreamGetFlags(stream, &flags));
  CHECK(flags == cudaStreamNonBlocking);
  unsigned long long id = 0;
  unsigned long long default_id = 0;
  CHECK_CUDA(cudaSuccess, cudaStreamGetId(stream, &id));
  CHECK_CUDA(cudaSuccess, cudaStreamGetId(nullptr, &default_id));
  CHECK(id != default_id);
  CHECK_CUDA(cudaSuccess, cudaStreamQuery(stream));
  CHECK_CUDA(cudaSuccess, cudaStreamDestroy(stream));
  CHECK_CUDA(cudaErrorInvalidValue, cudaStreamCreateWithFlags(&stream, 0x40));
  CHECK_CUDA(cudaErrorInvalidValue, cudaStreamCreate(nullptr));
  CHECK(nothing_lives());
}

TEST_CASE("a handle that was destroyed stays unknown") {
  XC_NEEDS_EMULATOR();
  cudaStream_t old = nullptr;
  REQUIRE_CUDA(cudaStreamCreate(&old));
  REQUIRE_CUDA(cudaStreamDestroy(old));
  const TestStream other;
  CHECK_CUDA(cudaErrorInvalidResourceHandle, cudaStreamSynchronize(old));
  CHECK_CUDA(cudaErrorInvalidResourceHandle, cudaStreamDestroy(old));
  cudaEvent_t event = nullptr;
  REQUIRE_CUDA(cudaEventCreate(&event));
  REQUIRE_CUDA(cudaEventDestroy(event));
  CHECK_CUDA(cudaErrorInvalidResourceHandle, cudaEventRecord(event, other.get()));
}

TEST_CASE("work of one stream runs in order, whatever the seed") {
  XC_RANDOM(random);
  for (int round = 0; round < 30; ++round) {
    const TestSeed seed(static_cast<std::uint64_t>(random.integer(0, 1 << 30)));
    const TestStream stream;
    const DeviceArray<unsigned char> device(16);
    const PinnedArray<unsigned char> result(16);
    unsigned char last = 0;
    for (int i = random.integer(1, 20); i > 0; --i) {
      last = static_cast<unsigned char>(random.integer(0, 255));
      REQUIRE_CUDA(cudaMemsetAsync(device.get(), last, 16, stream.get()));
    }
    REQUIRE_CUDA(
        cudaMemcpyAsync(result.get(), device.get(), 16, cudaMemcpyDeviceToHost, stream.get()));
    REQUIRE_CUDA(cudaMemsetAsync(device.get(), 0, 16, stream.get()));
    REQUIRE_CUDA(cudaStreamSynchronize(stream.get()));
    CHECK(result.values() == Bytes(16, last));
  }
}

// Writes on one stream, reads on another; the result where `ordered` links the two by an event.
unsigned char handed_over(bool ordered, unsigned flags) {
  const TestStream writer(flags);
  const TestStream reader(flags);
  const TestEvent written(cudaEventDisableTiming);
  const DeviceArray<unsigned char> device(Bytes(1, 1));
  const PinnedArray<unsigned char> result(1);
  REQUIRE_CUDA(cudaMemsetAsync(device.get(), 2, 1, writer.get()));
  if (ordered) {
    REQUIRE_CUDA(cudaEventRecord(written.get(), writer.get()));
    REQUIRE_CUDA(cudaStreamWaitEvent(reader.get(), written.get(), 0));
  }
  REQUIRE_CUDA(
      cudaMemcpyAsync(result.get(), device.get(), 1, cudaMemcpyDeviceToHost, reader.get()));
  REQUIRE_CUDA(cudaStreamSynchronize(reader.get()));
  const unsigned char value = *result.get();
  REQUIRE_CUDA(cudaDeviceSynchronize());
  return value;
}

TEST_CASE("an event orders streams, whatever the seed") {
  for (std::uint64_t i = 0; i < 30; ++i) {
    const TestSeed seed(i);
    CHECK(handed_over(true, cudaStreamNonBlocking) == 2);
    CHECK(handed_over(true, cudaStreamDefault) == 2);
  }
}

TEST_CASE("without an event the order of streams is open") {
  XC_NEEDS_EMULATOR();
  int early = 0;
  int late = 0;
  for (std::uint64_t i = 0; i < 30; ++i) {
    const TestSeed seed(i);
    ++(handed_over(false, cudaStreamNonBlocking) == 2 ? early : late);
  }
  CHECK(early > 0);
  CHECK(late >= 10);  // every third seed runs only what is waited for
}

TEST_CASE("waiting for an event that was recorded anew waits for what it was at the call") {
  XC_NEEDS_EMULATOR();
  const TestSeed lazy(0);
  const TestStream a;
  const TestStream b;
  const TestEvent event;
  const DeviceArray<unsigned char> device(Bytes(2, 0));
  const PinnedArray<unsigned char> result(2);
  REQUIRE_CUDA(cudaMemsetAsync(device.get(), 1, 1, a.get()));
  REQUIRE_CUDA(cudaEventRecord(event.get(), a.get()));
  REQUIRE_CUDA(cudaStreamWaitEvent(b.get(), event.get(), 0));
  REQUIRE_CUDA(cudaMemsetAsync(device.get() + 1, 1, 1, a.get()));
  REQUIRE_CUDA(cudaEventRecord(event.get(), a.get()));
  REQUIRE_CUDA(cudaMemcpyAsync(result.get(), device.get(), 2, cudaMemcpyDeviceToHost, b.get()));
  REQUIRE_CUDA(cudaStreamSynchronize(b.get()));
  CHECK(result.values() == Bytes{1, 0});
  REQUIRE_CUDA(cudaDeviceSynchronize());
}

TEST_CASE("the legacy stream waits for blocking streams, and they for it") {
  for (std::uint64_t i = 0; i < 12; ++i) {
    const TestSeed seed(i);
    const TestStream blocking(cudaStreamDefault);
    const DeviceArray<unsigned char> device(Bytes(1, 0));
    const PinnedArray<unsigned char> result(2);
    REQUIRE_CUDA(cudaMemsetAsync(device.get(), 1, 1, blocking.get()));
    REQUIRE_CUDA(cudaMemcpyAsync(result.get(), device.get(), 1, cudaMemcpyDeviceToHost, nullptr));
    REQUIRE_CUDA(cudaMemsetAsync(device.get(), 2, 1, cudaStreamPerThread));
    REQUIRE_CUDA(cudaMemsetAsync(device.get(), 3, 1, nullptr));
    REQUIRE_CUDA(
        cudaMemcpyAsync(result.get() + 1, device.get(), 1, cudaMemcpyDeviceToHost, blocking.get()));
    REQUIRE_CUDA(cudaStreamSynchronize(blocking.get()));
    CHECK(result.values() == Bytes{1, 3});
  }
}

TEST_CASE("a stream that does not block is not waited for by the legacy stream") {
  XC_NEEDS_EMULATOR();
  const TestSeed lazy(0);
  const TestStream stream(cudaStreamNonBlocking);
  const DeviceArray<unsigned char> device(Bytes(1, 0));
  const PinnedArray<unsigned char> result(1);
  REQUIRE_CUDA(cudaMemsetAsync(device.get(), 1, 1, stream.get()));
  REQUIRE_CUDA(cudaMemcpy(result.get(), device.get(), 1, cudaMemcpyDeviceToHost));
  CHECK(*result.get() == 0);
  REQUIRE_CUDA(cudaDeviceSynchronize());
  CHECK(device.values() == Bytes{1});
}

TEST_CASE("each thread has a default stream of its own") {
  XC_NEEDS_EMULATOR();
  const TestSeed lazy(0);
  const DeviceArray<unsigned char> device(Bytes(1, 0));
  const PinnedArray<unsigned char> result(1);
  REQUIRE_CUDA(cudaMemsetAsync(device.get(), 1, 1, cudaStreamPerThread));
  std::thread([&] {
    (void)cudaMemcpyAsync(result.get(), device.get(), 1, cudaMemcpyDeviceToHost,
                          cudaStreamPerThread);
    (void)cudaStreamSynchronize(cudaStreamPerThread);
  }).join();
  CHECK(*result.get() == 0);
  REQUIRE_CUDA(cudaStreamSynchronize(cudaStreamPerThread));
  CHECK(device.values() == Bytes{1});
}

TEST_CASE("queries get there by asking") {
  const TestStream stream;
  const TestEvent event;
  const DeviceArray<unsigned char> device(64);
  CHECK_CUDA(cudaSuccess, cudaEventQuery(event.get()));  // never recorded
  for (int i = 0; i < 5; ++i) {
    REQUIRE_CUDA(cudaMemsetAsync(device.get(), i, 64, stream.get()));
  }
  REQUIRE_CUDA(cudaEventRecord(event.get(), stream.get()));
  REQUIRE_CUDA(cudaMemsetAsync(device.get(), 9, 64, stream.get()));
  cudaError_t status = cudaErrorNotReady;
  int asked = 0;
  while ((status = cudaEventQuery(event.get())) == cudaErrorNotReady && asked < 1000000) {
    ++asked;
  }
  CHECK_CUDA(cudaSuccess, status);
  asked = 0;
  while ((status = cudaStreamQuery(stream.get())) == cudaErrorNotReady && asked < 1000000) {
    ++asked;
  }
  CHECK_CUDA(cudaSuccess, status);
  (void)cudaGetLastError();
  CHECK(device.values() == Bytes(64, 9));
}

TEST_CASE("events measure time") {
  const TestSeed lazy(0);
  const TestStream stream;
  const TestEvent start;
  const TestEvent end;
  const TestEvent untimed(cudaEventDisableTiming);
  float milliseconds = -1;
  CHECK_CUDA(cudaErrorInvalidResourceHandle,
             cudaEventElapsedTime(&milliseconds, start.get(), end.get()));
  REQUIRE_CUDA(cudaEventRecord(start.get(), stream.get()));
  REQUIRE_CUDA(cudaEventRecord(end.get(), stream.get()));
  REQUIRE_CUDA(cudaEventRecord(untimed.get(), stream.get()));
  if (emulator_control() != nullptr) {
    CHECK_CUDA(cudaErrorNotReady, cudaEventElapsedTime(&milliseconds, start.get(), end.get()));
  }
  REQUIRE_CUDA(cudaEventSynchronize(end.get()));
  CHECK_CUDA(cudaSuccess, cudaEventElapsedTime(&milliseconds, start.get(), end.get()));
  CHECK(milliseconds >= 0);
  REQUIRE_CUDA(cudaStreamSynchronize(stream.get()));
  CHECK_CUDA(cudaErrorInvalidResourceHandle,
             cudaEventElapsedTime(&milliseconds, start.get(), untimed.get()));
  (void)cudaGetLastError();
}

TEST_CASE("a host function runs in stream order and may not call the runtime") {
  struct Seen {
    const unsigned char* result;
    unsigned char value = 0;
    cudaError_t error = cudaSuccess;
  };
  const TestStream stream;
  const DeviceArray<unsigned char> device(Bytes(1, 0));
  const PinnedArray<unsigned char> result(1);
  Seen seen{result.get()};
  REQUIRE_CUDA(cudaMemsetAsync(device.get(), 7, 1, stream.get()));
  REQUIRE_CUDA(
      cudaMemcpyAsync(result.get(), device.get(), 1, cudaMemcpyDeviceToHost, stream.get()));
  REQUIRE_CUDA(cudaLaunchHostFunc(
      stream.get(),
      [](void* data) {
        auto* all = static_cast<Seen*>(data);
        all->value = *all->result;
        all->error = cudaDeviceSynchronize();
      },
      &seen));
  REQUIRE_CUDA(cudaStreamSynchronize(stream.get()));
  CHECK(seen.value == 7);
  CHECK_CUDA(cudaErrorNotPermitted, seen.error);
  CHECK_CUDA(cudaErrorInvalidValue, cudaLaunchHostFunc(stream.get(), nullptr, nullptr));
  (void)cudaGetLastError();
}

TEST_CASE("a stream that is destroyed still finishes its work") {
  const DeviceArray<unsigned char> device(Bytes(4, 0));
  cudaStream_t stream = nullptr;
  REQUIRE_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  REQUIRE_CUDA(cudaMemsetAsync(device.get(), 1, 4, stream));
  REQUIRE_CUDA(cudaStreamDestroy(stream));
  CHECK(device.values() == Bytes(4, 1));
  REQUIRE_CUDA(cudaDeviceSynchronize());
}

TEST_CASE("threads queue and wait at once") {
  constexpr int kThreads = 4;
  constexpr int kRounds = 50;
  XC_RANDOM(random);
  const TestSeed seed(static_cast<std::uint64_t>(random.integer(0, 1 << 30)));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&wrong, t] {
      cudaStream_t stream = nullptr;
      unsigned char* device = nullptr;
      unsigned char* result = nullptr;
      bool ok = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess &&
                cudaMalloc(reinterpret_cast<void**>(&device), 8) == cudaSuccess &&
                cudaMallocHost(reinterpret_cast<void**>(&result), 8) == cudaSuccess;
      for (int i = 0; ok && i < kRounds; ++i) {
        const int value = (t * kRounds + i) % 256;
        ok = cudaMemsetAsync(device, value, 8, stream) == cudaSuccess &&
             cudaMemcpyAsync(result, device, 8, cudaMemcpyDeviceToHost, stream) == cudaSuccess &&
             cudaLaunchHostFunc(
                 stream, [](void*) { std::this_thread::yield(); }, nullptr) == cudaSuccess &&
             cudaStreamSynchronize(stream) == cudaSuccess && result[7] == value;
      }
      wrong += ok ? 0 : 1;
      cudaFreeHost(result);
      cudaFree(device);
      cudaStreamDestroy(stream);
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(wrong == 0);
  CHECK(nothing_lives());
}

TEST_CASE("errors belong to the thread that made them") {
  CHECK_CUDA(cudaErrorInvalidValue, cudaMalloc(nullptr, 4));
  cudaError_t other = cudaErrorUnknown;
  std::thread([&] { other = cudaGetLastError(); }).join();
  CHECK_CUDA(cudaSuccess, other);
  CHECK_CUDA(cudaErrorInvalidValue, cudaPeekAtLastError());
  CHECK_CUDA(cudaErrorInvalidValue, cudaGetLastError());
  CHECK_CUDA(cudaSuccess, cudaGetLastError());
}

}  // namespace
}  // namespace xception::emulator
