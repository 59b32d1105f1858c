// Kernels that the tests of the runtime launch, behind functions, so that the tests need no nvcc.
#pragma once

#include <cuda_runtime_api.h>

namespace xception::emulator {

// A structure that is passed to a kernel by value, with holes in it.
struct Recipe {
  char offset = 0;
  double factor = 0;
  short step = 0;
  const float* bias = nullptr;
};

// Each queues one launch with enough threads for n elements and returns cudaGetLastError().
cudaError_t fill(int* dst, int value, int n, cudaStream_t stream);
cudaError_t increment(int* data, int n, cudaStream_t stream);
cudaError_t add(const float* a, const float* b, float* dst, int n, cudaStream_t stream);
cudaError_t apply(const Recipe& recipe, const float* src, float* dst, int n, cudaStream_t stream);
// dst[0] = sum of src, by one block through shared memory and shuffles.
cudaError_t sum(const float* src, float* dst, int n, cudaStream_t stream);
// dst[i] = n - 1 - i, through dynamic shared memory of n ints.
cudaError_t reverse(int* dst, int n, cudaStream_t stream);
// Adds coefficient[i % 4] to the variable `total` from n threads.
cudaError_t add_coefficients(int n, cudaStream_t stream);

// Faults.
cudaError_t write_past(int* data, int n, cudaStream_t stream);  // data[n]
cudaError_t read_misaligned(const int* data, int* dst, cudaStream_t stream);
cudaError_t fail_assertion(const int* data, cudaStream_t stream);  // where *data is not 7
cudaError_t trap(cudaStream_t stream);

// Host functions that stand for the kernels and variables, for cudaFunc* and cudaMemcpyToSymbol.
const void* fill_kernel();
const void* reverse_kernel();
const void* at_most_64_kernel();  // __launch_bounds__(64)
const void* many_registers_kernel();
const void* static_shared_kernel();  // 1024 bytes
const void* coefficient_symbol();    // int[4], {1, 10, 100, 1000}
const void* total_symbol();          // int, 0

}  // namespace xception::emulator
