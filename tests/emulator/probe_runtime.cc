// What test_runtime_process.cc runs in processes of their own: probe_runtime WHAT prints what it
// finds and exits with the CUDA error it ends with.

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>
#include <thread>

#include "tests/emulator/test_runtime_kernels.h"

namespace {

// One line a device.
cudaError_t list_devices() {
  int count = -1;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    return error;
  }
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties;
    if (const cudaError_t error = cudaGetDeviceProperties(&properties, device);
        error != cudaSuccess) {
      return error;
    }
    std::printf("%d sm_%d%d %zu\n", device, properties.major, properties.minor,
                properties.totalGlobalMem);
  }
  return cudaSuccess;
}

cudaError_t print_versions() {
  int driver = -1;
  int runtime = -1;
  (void)cudaDriverGetVersion(&driver);
  (void)cudaRuntimeGetVersion(&runtime);
  std::printf("driver %s runtime %s\n", driver == 0 ? "none" : "some",
              runtime > 0 ? "some" : "none");
  return cudaGetLastError();
}

// Fills memory by a kernel and prints an element. The first error is the result.
cudaError_t fill_memory() {
  int* data = nullptr;
  int value = 0;
  cudaError_t first = cudaSuccess;
  const auto keep = [&](cudaError_t error) { first = first == cudaSuccess ? error : first; };
  keep(cudaSetDevice(0));
  keep(cudaMalloc(reinterpret_cast<void**>(&data), 400));
  keep(xception::emulator::fill(data, 40, 100, nullptr));
  keep(cudaMemcpy(&value, data + 99, sizeof(value), cudaMemcpyDeviceToHost));
  keep(cudaFree(data));
  std::printf("value %d\n", value);
  return first;
}

cudaError_t leave_things() {
  void* pointer = nullptr;
  cudaStream_t stream = nullptr;
  (void)cudaMalloc(&pointer, 1234);
  (void)cudaStreamCreate(&stream);
  return cudaGetLastError();
}

cudaError_t copy_between_devices() {
  int* a = nullptr;
  int* b = nullptr;
  (void)cudaMalloc(reinterpret_cast<void**>(&a), 400);
  (void)xception::emulator::fill(a, 5, 100, nullptr);
  (void)cudaDeviceSynchronize();
  (void)cudaSetDevice(1);
  (void)cudaMalloc(reinterpret_cast<void**>(&b), 400);
  (void)cudaMemcpyPeer(b, 1, a, 0, 400);
  (void)xception::emulator::increment(b, 100, nullptr);
  int value = 0;
  (void)cudaMemcpy(&value, b + 99, sizeof(value), cudaMemcpyDeviceToHost);
  std::printf("value %d\n", value);
  // Each thread has a current device of its own.
  std::thread([] {
    int device = -1;
    (void)cudaGetDevice(&device);
    std::printf("thread on %d\n", device);
  }).join();
  // A stream belongs to one device.
  cudaStream_t stream = nullptr;
  (void)cudaStreamCreate(&stream);
  (void)cudaSetDevice(0);
  std::printf("%s\n", cudaGetErrorName(xception::emulator::fill(a, 1, 100, stream)));
  // A fault stays on its device.
  (void)xception::emulator::write_past(a, 100, nullptr);
  std::printf("%s\n", cudaGetErrorName(cudaDeviceSynchronize()));
  (void)cudaSetDevice(1);
  std::printf("%s\n", cudaGetErrorName(cudaDeviceSynchronize()));
  (void)cudaStreamDestroy(stream);
  (void)cudaFree(b);
  (void)cudaFree(a);
  return cudaSuccess;
}

}  // namespace

int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "";
  cudaError_t error = cudaErrorInvalidValue;
  if (std::strcmp(what, "devices") == 0) {
    error = list_devices();
  } else if (std::strcmp(what, "versions") == 0) {
    error = print_versions();
  } else if (std::strcmp(what, "fill") == 0) {
    error = fill_memory();
  } else if (std::strcmp(what, "leave") == 0) {
    error = leave_things();
  } else if (std::strcmp(what, "peers") == 0) {
    error = copy_between_devices();
  }
  std::printf("%s\n", cudaGetErrorName(error));
  return error == cudaSuccess ? 0 : 1;
}
