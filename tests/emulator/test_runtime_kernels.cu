#include "tests/emulator/test_runtime_kernels.h"

#undef NDEBUG  // fail_assertion() is about assert
#include <cassert>

namespace xception::emulator {
namespace {

constexpr int kThreads = 128;
constexpr int kManyRegisters = 120;

__constant__ int coefficient[4] = {1, 10, 100, 1000};
__device__ int total;

int blocks_for(int n) { return (n + kThreads - 1) / kThreads; }

__device__ int thread_index() { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }

__global__ void fill_device(int* dst, int value, int n) {
  const int i = thread_index();
  if (i < n) {
    dst[i] = value;
  }
}

__global__ void increment_device(int* data, int n) {
  const int i = thread_index();
  if (i < n) {
    data[i] += 1;
  }
}

__global__ void add_device(const float* a, const float* b, float* dst, int n) {
  const int i = thread_index();
  if (i < n) {
    dst[i] = a[i] + b[i];
  }
}

__global__ void apply_device(Recipe recipe, const float* src, float* dst, int n) {
  const int i = thread_index();
  if (i < n) {
    const double value = recipe.factor * src[i] + recipe.bias[i % recipe.step] + recipe.offset;
    dst[i] = static_cast<float>(value);
  }
}

__global__ void sum_device(const float* src, float* dst, int n) {
  __shared__ float partial[kThreads / 32];
  float value = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
    value += src[i];
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    value += __shfl_down_sync(~0U, value, lanes);
  }
  if (threadIdx.x % 32 == 0) {
    partial[threadIdx.x / 32] = value;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    float whole = 0;
    for (const float each : partial) {
      whole += each;
    }
    *dst = whole;
  }
}

__global__ void reverse_device(int* dst, int n) {
  extern __shared__ int values[];
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
    values[i] = i;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
    dst[i] = values[n - 1 - i];
  }
}

__global__ void add_coefficients_device(int n) {
  const int i = thread_index();
  if (i < n) {
    atomicAdd(&total, coefficient[i % 4]);
  }
}

__global__ void write_past_device(int* data, int n) { data[n] = 1; }

__global__ void read_misaligned_device(const int* data, int* dst) {
  *dst = *reinterpret_cast<const int*>(reinterpret_cast<const char*>(data) + 2);
}

__global__ void fail_assertion_device(const int* data) { assert(*data == 7); }

__global__ void trap_device() { __trap(); }

__global__ void __launch_bounds__(64) at_most_64_device(int* dst) { dst[threadIdx.x] = 1; }

// Loads everything before it stores anything, in an order that allows no register twice.
__global__ void many_registers_device(const float* src, float* dst) {
  float values[kManyRegisters];
#pragma unroll
  for (int i = 0; i < kManyRegisters; ++i) {
    values[i] = src[i * 33 + static_cast<int>(threadIdx.x)];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kManyRegisters; ++i) {
    dst[i * 35 + static_cast<int>(threadIdx.x)] = values[kManyRegisters - 1 - i] * values[i];
  }
}

__global__ void static_shared_device(int* dst) {
  __shared__ int values[256];
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  dst[threadIdx.x] = values[255 - threadIdx.x];
}

}  // namespace

cudaError_t fill(int* dst, int value, int n, cudaStream_t stream) {
  fill_device<<<blocks_for(n), kThreads, 0, stream>>>(dst, value, n);
  return cudaGetLastError();
}

cudaError_t increment(int* data, int n, cudaStream_t stream) {
  increment_device<<<blocks_for(n), kThreads, 0, stream>>>(data, n);
  return cudaGetLastError();
}

cudaError_t add(const float* a, const float* b, float* dst, int n, cudaStream_t stream) {
  add_device<<<blocks_for(n), kThreads, 0, stream>>>(a, b, dst, n);
  return cudaGetLastError();
}

cudaError_t apply(const Recipe& recipe, const float* src, float* dst, int n, cudaStream_t stream) {
  apply_device<<<blocks_for(n), kThreads, 0, stream>>>(recipe, src, dst, n);
  return cudaGetLastError();
}

cudaError_t sum(const float* src, float* dst, int n, cudaStream_t stream) {
  sum_device<<<1, kThreads, 0, stream>>>(src, dst, n);
  return cudaGetLastError();
}

cudaError_t reverse(int* dst, int n, cudaStream_t stream) {
  reverse_device<<<1, kThreads, n * sizeof(int), stream>>>(dst, n);
  return cudaGetLastError();
}

cudaError_t add_coefficients(int n, cudaStream_t stream) {
  add_coefficients_device<<<blocks_for(n), kThreads, 0, stream>>>(n);
  return cudaGetLastError();
}

cudaError_t write_past(int* data, int n, cudaStream_t stream) {
  write_past_device<<<1, 1, 0, stream>>>(data, n);
  return cudaGetLastError();
}

cudaError_t read_misaligned(const int* data, int* dst, cudaStream_t stream) {
  read_misaligned_device<<<1, 1, 0, stream>>>(data, dst);
  return cudaGetLastError();
}

cudaError_t fail_assertion(const int* data, cudaStream_t stream) {
  fail_assertion_device<<<1, 1, 0, stream>>>(data);
  return cudaGetLastError();
}

cudaError_t trap(cudaStream_t stream) {
  trap_device<<<1, 1, 0, stream>>>();
  return cudaGetLastError();
}

const void* fill_kernel() { return reinterpret_cast<const void*>(fill_device); }
const void* reverse_kernel() { return reinterpret_cast<const void*>(reverse_device); }
const void* at_most_64_kernel() { return reinterpret_cast<const void*>(at_most_64_device); }
const void* many_registers_kernel() { return reinterpret_cast<const void*>(many_registers_device); }
const void* static_shared_kernel() { return reinterpret_cast<const void*>(static_shared_device); }
const void* coefficient_symbol() { return coefficient; }
const void* total_symbol() { return &total; }

}  // namespace xception::emulator
