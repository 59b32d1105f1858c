// Each kernel is a template of whether it has its fault, so that the two differ in nothing else.

#undef NDEBUG  // for the device's assert
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cassert>
#include <cstdint>
#include <numeric>
#include <vector>

#include "tests/emulator/test_runtime_faults.h"

namespace xception::emulator {
namespace {

constexpr int kThreads = 64;  // two warps
constexpr int kCount = 256;

// An array on the device: 0, 1, 2, ... or undefined.
struct Array {
  explicit Array(int count, bool defined = true) {
    cudaMalloc(&data, static_cast<std::size_t>(count) * sizeof(int));
    if (defined) {
      std::vector<int> values(static_cast<std::size_t>(count));
      std::iota(values.begin(), values.end(), 0);
      cudaMemcpy(data, values.data(), values.size() * sizeof(int), cudaMemcpyHostToDevice);
      cudaDeviceSynchronize();
    }
  }
  ~Array() { cudaFree(data); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  int* data = nullptr;
};

cudaError_t finish() {
  const cudaError_t launched = cudaGetLastError();
  const cudaError_t ran = cudaDeviceSynchronize();
  return launched != cudaSuccess ? launched : ran;
}

// Most cases: src and dst of kCount elements, some blocks of kThreads.
using TwoArrays = void (*)(const int* src, int* dst);
template <TwoArrays kFaulty, TwoArrays kRight, int kBlocks = 1>
cudaError_t run_two(bool faulty) {
  const Array src(kCount);
  const Array dst(kCount);
  (faulty ? kFaulty : kRight)<<<kBlocks, kThreads>>>(src.data, dst.data);
  return finish();
}

// --- Shared memory and barriers

// Writes a tile that is read too early otherwise: the fault is then the race, and not that nobody
// has written yet.
__device__ void clear(int* tile) {
  tile[threadIdx.x] = 0;
  __syncthreads();
}

template <bool kFaulty>
__global__ void missing_barrier(const int* src, int* dst) {
  __shared__ int tile[kThreads];
  const unsigned i = threadIdx.x;
  clear(tile);
  tile[i] = src[i];
  if (!kFaulty) {
    __syncthreads();
  }
  dst[i] = tile[kThreads - 1 - i];
}

// The next turn overwrites what other warps may still be reading.
template <bool kFaulty>
__global__ void missing_second_barrier(const int* src, int* dst) {
  __shared__ int tile[kThreads];
  const unsigned i = threadIdx.x;
  int sum = 0;
  for (unsigned turn = 0; turn < kCount / kThreads; ++turn) {
    tile[i] = src[turn * kThreads + i];
    __syncthreads();
    sum += tile[kThreads - 1 - i];
    if (!kFaulty) {
      __syncthreads();
    }
  }
  dst[i] = sum;
}

template <bool kFaulty>
__global__ void missing_syncwarp(const int* src, int* dst) {
  __shared__ int tile[kThreads];
  const unsigned i = threadIdx.x;
  tile[i] = src[i];
  if (!kFaulty) {
    __syncwarp();
  }
  dst[i] = tile[i ^ 1];
}

template <bool kFaulty>
__global__ void syncwarp_across_warps(const int* src, int* dst) {
  __shared__ int tile[kThreads];
  const unsigned i = threadIdx.x;
  clear(tile);
  tile[i] = src[i];
  if (kFaulty) {
    __syncwarp();
  } else {
    __syncthreads();
  }
  dst[i] = tile[i ^ 32];
}

template <bool kFaulty>
__global__ void different_values_at_one_place(const int* src, int* dst) {
  __shared__ int tile[kThreads];
  const unsigned i = threadIdx.x;
  if (i < 32) {
    tile[0] = kFaulty ? src[i] : src[0];
  }
  __syncthreads();
  dst[i] = tile[0];
}

template <bool kFaulty>
__global__ void plain_add_in_shared(const int* src, int* dst) {
  __shared__ int sum;
  if (threadIdx.x == 0) {
    sum = 0;
  }
  __syncthreads();
  if (kFaulty) {
    sum += src[threadIdx.x];
  } else {
    atomicAdd(&sum, src[threadIdx.x]);
  }
  __syncthreads();
  dst[threadIdx.x] = sum;
}

__device__ void arrive(int id) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "n"(kThreads) : "memory");
}
__device__ void await(int id) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(kThreads) : "memory");
}

// Warp 0 fills a buffer that warp 1 empties: barrier 1 says full, barrier 2 empty.
template <bool kFaulty>
__global__ void producer_waits_too_late(const int* src, int* dst) {
  __shared__ int buffer[32];
  const unsigned lane = threadIdx.x % 32;
  int sum = 0;
  for (unsigned turn = 0; turn < 4; ++turn) {
    if (threadIdx.x < 32) {
      if (turn > 0 && !kFaulty) {
        await(2);
      }
      buffer[lane] = src[turn * 32 + lane];
      if (turn > 0 && kFaulty) {
        await(2);
      }
      arrive(1);
    } else {
      await(1);
      sum += buffer[lane ^ 1];
      if (turn < 3) {
        arrive(2);
      }
    }
  }
  dst[threadIdx.x] = sum;
}

// A barrier in a branch that not every thread of a warp takes: the others wait at another one.
template <bool kFaulty>
__global__ void divergent_syncthreads(const int* src, int* dst) {
  const unsigned i = threadIdx.x;
  if (kFaulty && src[i] % 2 == 0) {
    asm volatile("bar.sync 1;" ::: "memory");
    dst[i] = 1;
  } else {
    asm volatile("bar.sync 2;" ::: "memory");
    dst[i] = 2;
  }
}

template <bool kFaulty>
__global__ void barrier_of_too_many(const int* src, int* dst) {
  asm volatile("bar.sync 1, %0;" ::"n"(kFaulty ? 2 * kThreads : kThreads) : "memory");
  dst[threadIdx.x] = src[threadIdx.x];
}

template <bool kFaulty>
__global__ void shuffle_with_a_stranger(const int* src, int* dst) {
  const unsigned i = threadIdx.x;
  int value = src[i];
  if (i < 16 || !kFaulty) {
    value += __shfl_xor_sync(0xffffffff, value, 1);
  }
  dst[i] = value;
}

template <bool kFaulty>
__global__ void shuffle_outside_its_mask(const int* src, int* dst) {
  const unsigned i = threadIdx.x;
  dst[i] = __shfl_xor_sync(kFaulty ? 0x0000ffff : 0xffffffff, src[i], 1);
}

// --- cp.async

__device__ void copy_async(void* dst, const void* src) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                   static_cast<std::uint32_t>(__cvta_generic_to_shared(dst))),
               "l"(src)
               : "memory");
}
__device__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kLeft>
__device__ void wait_group() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

enum class AsyncFault {
  kNone,
  kNoWait,
  kNoCommit,
  kWaitForTooFew,
  kNoBarrier,
  kOverwrite,
  kMisaligned
};

// A pipeline of two buffers; each thread copies its own 16 bytes and reads its neighbour's.
template <AsyncFault kFault>
__global__ void pipeline(const int* src, int* dst) {
  constexpr int kTurns = 4;
  __shared__ alignas(16) int tile[2][kThreads + 4];
  const unsigned i = threadIdx.x;
  const unsigned part = i % 16;
  const auto load = [&](int turn) {
    const int shift = kFault == AsyncFault::kMisaligned ? 2 : 0;
    if (i < 16) {
      copy_async(&tile[turn % 2][4 * part + shift], &src[turn * kThreads + 4 * part]);
    }
    if (kFault != AsyncFault::kNoCommit) {
      commit();
    }
  };
  if (kFault == AsyncFault::kNoBarrier) {
    clear(tile[0]);
    clear(tile[1]);
  }
  int sum = 0;
  load(0);
  for (int turn = 0; turn < kTurns; ++turn) {
    if (turn + 1 < kTurns) {
      load(turn + 1);
      if (kFault == AsyncFault::kOverwrite && i < 16) {
        tile[(turn + 1) % 2][4 * part] = 0;
      }
      if (kFault != AsyncFault::kNoWait) {
        wait_group<kFault == AsyncFault::kWaitForTooFew ? 2 : 1>();
      }
    } else {
      wait_group<0>();
    }
    if (kFault != AsyncFault::kNoBarrier) {
      __syncthreads();
    }
    sum += tile[turn % 2][i];
    __syncthreads();
  }
  dst[i] = sum;
}

template <AsyncFault kFault>
cudaError_t run_pipeline(bool faulty) {
  return run_two<pipeline<kFault>, pipeline<AsyncFault::kNone>>(faulty);
}

// --- Bounds and alignment

template <bool kFaulty>
__global__ void load_past_the_end(const int* src, int* dst) {
  dst[threadIdx.x] = src[threadIdx.x + kCount - kThreads + (kFaulty ? 1 : 0)];
}

template <bool kFaulty>
__global__ void store_past_the_end(const int* src, int* dst) {
  dst[threadIdx.x + kCount - kThreads + (kFaulty ? 1 : 0)] = src[threadIdx.x];
}

template <bool kFaulty>
__global__ void negative_index(const int* src, int* dst) {
  dst[threadIdx.x] = src[static_cast<int>(threadIdx.x) - (kFaulty ? 1 : 0)];
}

template <bool kFaulty>
__global__ void vector_over_the_end(const int* src, int* dst) {
  // The last whole vector starts kCount - 4 elements in.
  const int4 value = *reinterpret_cast<const int4*>(src + kCount - (kFaulty ? 0 : 4));
  dst[threadIdx.x] = value.x;
}

template <bool kFaulty>
__global__ void misaligned_load(const int* src, int* dst) {
  const int4 value =
      *reinterpret_cast<const int4*>(src + (kFaulty ? threadIdx.x : 4 * threadIdx.x % kCount));
  dst[threadIdx.x] = value.x + value.w;
}

template <bool kFaulty>
__global__ void misaligned_store(const int* src, int* dst) {
  *reinterpret_cast<int2*>(dst + 2 * threadIdx.x + (kFaulty ? 1 : 0)) = make_int2(src[0], src[1]);
}

template <bool kFaulty>
__global__ void shared_past_the_end(const int* src, int* dst) {
  extern __shared__ int dynamic[];
  dynamic[threadIdx.x + (kFaulty ? 1 : 0)] = src[threadIdx.x];
  __syncthreads();
  dst[threadIdx.x] = kFaulty ? 0 : dynamic[threadIdx.x];
}

template <bool kFaulty>
cudaError_t launch_shared_past_the_end() {
  const Array src(kCount);
  const Array dst(kCount);
  shared_past_the_end<kFaulty><<<1, kThreads, kThreads * sizeof(int)>>>(src.data, dst.data);
  return finish();
}

template <bool kFaulty>
__global__ void misaligned_shared_load(const int* src, int* dst) {
  __shared__ alignas(16) int tile[4 * kThreads + 4];
  const unsigned i = threadIdx.x;
  for (unsigned at = i; at < 4 * kThreads + 4; at += kThreads) {
    tile[at] = src[at % kCount];
  }
  __syncthreads();
  const int4 value = *reinterpret_cast<const int4*>(&tile[4 * i + (kFaulty ? 1 : 0)]);
  dst[i] = value.x + value.w;
}

__device__ std::uint32_t load_matrix(const void* row) {
  std::uint32_t value = 0;
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
               : "=r"(value)
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
  return value;
}

// One 8 x 8 matrix of 16-bit elements is 32 ints; rows are 4 of them.
template <int kShift>
__global__ void matrix_rows(const int* src, int* dst) {
  __shared__ alignas(16) int tile[32];
  const unsigned lane = threadIdx.x % 32;
  if (threadIdx.x < 32) {
    tile[lane] = src[lane];
    __syncwarp();
    dst[lane] = static_cast<int>(load_matrix(&tile[4 * (lane % 8)] + kShift));
  }
}

template <bool kFaulty>
__global__ void local_array_past_the_end(const int* src, int* dst) {
  int local[8];
  for (int i = 0; i < 8; ++i) {
    local[i] = src[i];
  }
  // The index is known at run time only, so the array stays in memory.
  const int first = src[0] + (kFaulty ? 4096 : 0);
  dst[threadIdx.x] = local[first + static_cast<int>(threadIdx.x % 8)];
}

// --- Memory never written, or no longer there

template <bool kFaulty>
__global__ void uninitialised_shared(const int* src, int* dst) {
  __shared__ int tile[kThreads];
  const unsigned i = threadIdx.x;
  if (!kFaulty || i % 2 == 0) {
    tile[i] = src[i];
  }
  __syncthreads();
  dst[i] = tile[i];
}

__global__ void copy(const int* src, int* dst) { dst[threadIdx.x] = src[threadIdx.x]; }

cudaError_t uninitialised_global(bool faulty) {
  const Array src(kCount, !faulty);
  const Array dst(kCount);
  copy<<<1, kThreads>>>(src.data, dst.data);
  return finish();
}

__global__ void copy_halves(const __half* src, __half* dst, int count) {
  const auto i = static_cast<int>(8 * threadIdx.x);
  if (i < count) {
    *reinterpret_cast<int4*>(dst + i) = *reinterpret_cast<const int4*>(src + i);
  }
}

// 100 halves are 12 vectors and a half: the padding behind them is read too.
cudaError_t padding_not_written(bool faulty) {
  const Array src(52, false);
  const Array dst(52);
  const std::vector<std::uint16_t> values(104, 0x3c00);
  cudaMemcpy(src.data, values.data(), faulty ? 200 : 208, cudaMemcpyHostToDevice);
  copy_halves<<<1, 32>>>(reinterpret_cast<const __half*>(src.data),
                         reinterpret_cast<__half*>(dst.data), 104);
  return finish();
}

cudaError_t use_after_free(bool faulty) {
  const Array dst(kCount);
  int* kept = nullptr;
  {
    const Array src(kCount);
    kept = src.data;
    if (!faulty) {
      copy<<<1, kThreads>>>(kept, dst.data);
    }
  }
  if (faulty) {
    copy<<<1, kThreads>>>(kept, dst.data);
  }
  return finish();
}

cudaError_t host_pointer(bool faulty) {
  const Array src(kCount);
  const Array dst(kCount);
  const std::vector<int> on_the_host(kCount);
  copy<<<1, kThreads>>>(faulty ? on_the_host.data() : src.data, dst.data);
  return finish();
}

// --- Races between blocks

template <bool kFaulty>
__global__ void blocks_write_one_place(const int* src, int* dst) {
  dst[threadIdx.x + (kFaulty ? 0 : blockIdx.x * kThreads)] = src[threadIdx.x];
}

template <bool kFaulty>
__global__ void reads_what_another_block_writes(const int* src, int* dst) {
  const unsigned i = blockIdx.x * kThreads + threadIdx.x;
  const int neighbour = kFaulty ? dst[(i + kThreads) % kCount] : src[(i + kThreads) % kCount];
  dst[i] = neighbour;
}

template <bool kFaulty>
__global__ void counts_without_atomics(const int* src, int* dst) {
  if (kFaulty) {
    dst[0] += src[threadIdx.x];
  } else {
    atomicAdd(&dst[0], src[threadIdx.x]);
  }
}

template <bool kFaulty>
__global__ void reads_a_running_sum(const int* src, int* dst) {
  atomicAdd(&dst[0], src[threadIdx.x]);
  if (kFaulty) {
    dst[1 + blockIdx.x] = dst[0];
  }
}

// The two halves of a word belong to different blocks, which is fine; two bytes of a half are not.
template <bool kFaulty>
__global__ void neighbours_in_a_word(const int* src, int* dst) {
  auto* halves = reinterpret_cast<std::uint16_t*>(dst);
  const unsigned last = 2 * kCount - 1;
  const unsigned at = threadIdx.x * 4 + blockIdx.x;
  halves[kFaulty && blockIdx.x == 3 ? (at + 1) % last : at] = static_cast<std::uint16_t>(src[0]);
}

// --- Streams

__global__ void fill(int* dst, int value) { dst[threadIdx.x] = value; }

// A kernel of one stream reads what a kernel of another writes.
cudaError_t missing_event(bool faulty) {
  const Array between(kThreads, false);
  const Array dst(kThreads);
  cudaStream_t first = nullptr;
  cudaStream_t second = nullptr;
  cudaEvent_t filled = nullptr;
  cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking);
  cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking);
  cudaEventCreateWithFlags(&filled, cudaEventDisableTiming);
  fill<<<1, kThreads, 0, first>>>(between.data, 1);
  cudaEventRecord(filled, first);
  if (!faulty) {
    cudaStreamWaitEvent(second, filled, 0);
  }
  copy<<<1, kThreads, 0, second>>>(between.data, dst.data);
  const cudaError_t error = finish();
  cudaEventDestroy(filled);
  cudaStreamDestroy(second);
  cudaStreamDestroy(first);
  return error;
}

// --- Dependent launches

enum class EarlyFault {
  kNone,
  kStore,
  kAtomic,
  kLoad,
  kAsyncCopy,
  kReadOnlyLoad,
  kNoWait,
};

// The weights are there long before; the kernel that fills the input may still be running.
template <EarlyFault kFault>
__global__ void starts_early(const int* weights, const int* input, int* dst) {
  __shared__ alignas(16) int tile[4 * kThreads];
  const unsigned i = threadIdx.x;
  int sum = weights[i] + __ldg(&weights[i + 1]);
  if (kFault == EarlyFault::kStore) {
    dst[i] = 0;
  }
  if (kFault == EarlyFault::kAtomic) {
    atomicAdd(&dst[i], 1);
  }
  if (kFault == EarlyFault::kLoad) {
    sum += input[i];
  }
#if __CUDA_ARCH__ >= 900
  copy_async(&tile[4 * i], kFault == EarlyFault::kAsyncCopy ? &input[4 * i] : &weights[4 * i]);
  commit();
  if (kFault == EarlyFault::kNoWait && i % 32 == 5) {
    return;
  }
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;");
  wait_group<0>();
#else
  tile[4 * i] = 0;
#endif
  sum += kFault == EarlyFault::kReadOnlyLoad ? __ldg(&input[i]) : input[i];
  dst[i] = sum + tile[4 * i];
}

// A kernel and the one behind it, twice, by themselves or as a graph.
template <EarlyFault kFault>
cudaError_t run_behind_another(bool early, bool captured) {
  const Array weights(kCount);
  const Array input(kCount, false);
  const Array dst(kCount);
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  cudaStreamCreate(&stream);
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = early ? 1 : 0;
  cudaLaunchConfig_t configuration{};
  configuration.gridDim = dim3(1);
  configuration.blockDim = dim3(kThreads);
  configuration.stream = stream;
  configuration.attrs = &attribute;
  configuration.numAttrs = 1;
  const auto launch_both = [&] {
    fill<<<1, kCount, 0, stream>>>(input.data, 1);
    cudaLaunchKernelEx(&configuration, starts_early<kFault>, static_cast<const int*>(weights.data),
                       static_cast<const int*>(input.data), dst.data);
  };
  if (captured) {
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed);
    launch_both();
    cudaStreamEndCapture(stream, &graph);
    cudaGraphInstantiate(&exec, graph, 0);
  }
  for (int turn = 0; turn < 2; ++turn) {
    captured ? static_cast<void>(cudaGraphLaunch(exec, stream)) : launch_both();
  }
  const cudaError_t error = finish();
  if (captured) {
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
  }
  cudaStreamDestroy(stream);
  return error;
}

// What is a fault in a dependent launch is none in a plain one.
template <EarlyFault kFault, bool kCaptured>
cudaError_t run_early(bool faulty) {
  if (faulty) {
    return run_behind_another<kFault>(true, kCaptured);
  }
  const cudaError_t right = run_behind_another<EarlyFault::kNone>(true, kCaptured);
  const cudaError_t plain = run_behind_another<kFault>(false, kCaptured);
  return right != cudaSuccess ? right : plain;
}

// --- The kernel gives up, or never ends

template <bool kFaulty>
__global__ void failed_assertion(const int* src, int* dst) {
  assert(src[threadIdx.x] < (kFaulty ? 40 : kCount));
  dst[threadIdx.x] = 1;
}

template <bool kFaulty>
__global__ void trapped(const int* src, int* dst) {
  if (kFaulty && src[threadIdx.x] == 33) {
    __trap();
  }
  dst[threadIdx.x] = 1;
}

template <bool kFaulty>
__global__ void endless_loop(const int* src, int* dst) {
  const volatile int* value = src;
  while (*value != (kFaulty ? -1 : 0)) {
  }
  dst[threadIdx.x] = 1;
}

// --- What the host does wrong

cudaError_t double_free(bool faulty) {
  int* data = nullptr;
  cudaMalloc(&data, 1024);
  const cudaError_t first = cudaFree(data);
  return faulty ? cudaFree(data) : first;
}

cudaError_t free_of_the_middle(bool faulty) {
  char* data = nullptr;
  cudaMalloc(&data, 1024);
  const cudaError_t error = cudaFree(data + (faulty ? 256 : 0));
  if (faulty) {
    cudaFree(data);
  }
  return error;
}

cudaError_t copy_past_the_end(bool faulty) {
  const Array dst(kCount);
  const std::vector<int> values(kCount + 1);
  const cudaError_t error = cudaMemcpy(
      dst.data, values.data(), (kCount + (faulty ? 1 : 0)) * sizeof(int), cudaMemcpyHostToDevice);
  cudaGetLastError();
  return error;
}

cudaError_t too_many_threads(bool faulty) {
  const Array src(2048);
  const Array dst(2048);
  copy<<<1, faulty ? 1025 : 1024>>>(src.data, dst.data);
  return finish();
}

__global__ void use_dynamic_shared(const int* src, int* dst) {
  extern __shared__ int dynamic[];
  dynamic[threadIdx.x] = src[threadIdx.x];
  __syncthreads();
  dst[threadIdx.x] = dynamic[threadIdx.x];
}

cudaError_t shared_without_opt_in(bool faulty) {
  const Array src(kCount);
  const Array dst(kCount);
  constexpr int kBytes = 60 << 10;
  cudaFuncSetAttribute(use_dynamic_shared, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       faulty ? 48 << 10 : kBytes);
  use_dynamic_shared<<<1, kThreads, kBytes>>>(src.data, dst.data);
  return finish();
}

constexpr const char* kRace = "shared race";
constexpr const char* kAsync = "async copy not waited for";
constexpr const char* kBounds = "out of bounds";
constexpr const char* kAlignment = "misaligned address";
constexpr const char* kUninitialised = "uninitialised read";
constexpr const char* kGlobal = "global race";
constexpr const char* kDependent = "dependent launch";
constexpr const char* kDivergent = "divergent barrier";
constexpr const char* kDeadlock = "deadlock";
constexpr const char* kTrap = "trap";

constexpr cudaError_t kFailed = cudaErrorLaunchFailure;
constexpr cudaError_t kIllegal = cudaErrorIllegalAddress;

#define XC_FAULT(kernel, kind, error, ...) \
  { #kernel, kind, error, 75, false, run_two < kernel < true>, kernel < false>, ##__VA_ARGS__> }

#define XC_EARLY_FAULT(name, fault, says)                                                       \
  {name, kDependent, kFailed, 90, false, run_early<EarlyFault::fault, false>, says}, {          \
    name ", captured", kDependent, kFailed, 90, false, run_early<EarlyFault::fault, true>, says \
  }

constexpr PlantedFault kFaults[] = {
    XC_FAULT(missing_barrier, kRace, kFailed),
    XC_FAULT(missing_second_barrier, kRace, kFailed),
    XC_FAULT(missing_syncwarp, kRace, kFailed),
    XC_FAULT(syncwarp_across_warps, kRace, kFailed),
    XC_FAULT(different_values_at_one_place, kRace, kFailed),
    XC_FAULT(plain_add_in_shared, kRace, kFailed),
    XC_FAULT(producer_waits_too_late, kRace, kFailed),
    XC_FAULT(divergent_syncthreads, kDivergent, kFailed),
    XC_FAULT(barrier_of_too_many, kDeadlock, cudaErrorLaunchTimeout),
    XC_FAULT(shuffle_with_a_stranger, kDivergent, kFailed),
    XC_FAULT(shuffle_outside_its_mask, kDivergent, kFailed),
    {"no wait", kAsync, kFailed, 80, false, run_pipeline<AsyncFault::kNoWait>},
    {"no commit", kAsync, kFailed, 80, false, run_pipeline<AsyncFault::kNoCommit>},
    {"wait for too few groups", kAsync, kFailed, 80, false,
     run_pipeline<AsyncFault::kWaitForTooFew>},
    {"overwritten in flight", kAsync, kFailed, 80, false, run_pipeline<AsyncFault::kOverwrite>},
    {"wait without barrier", kRace, kFailed, 80, false, run_pipeline<AsyncFault::kNoBarrier>},
    {"misaligned cp.async", kAlignment, cudaErrorMisalignedAddress, 80, false,
     run_pipeline<AsyncFault::kMisaligned>},
    XC_FAULT(load_past_the_end, kBounds, kIllegal),
    XC_FAULT(store_past_the_end, kBounds, kIllegal),
    XC_FAULT(negative_index, kBounds, kIllegal),
    XC_FAULT(vector_over_the_end, kBounds, kIllegal),
    XC_FAULT(misaligned_load, kAlignment, cudaErrorMisalignedAddress),
    XC_FAULT(misaligned_store, kAlignment, cudaErrorMisalignedAddress),
    {"shared_past_the_end", kBounds, kIllegal, 75, false,
     [](bool faulty) {
       return faulty ? launch_shared_past_the_end<true>() : launch_shared_past_the_end<false>();
     }},
    XC_FAULT(misaligned_shared_load, kAlignment, cudaErrorMisalignedAddress),
    {"ldmatrix of misaligned rows", kAlignment, cudaErrorMisalignedAddress, 75, false,
     run_two<matrix_rows<1>, matrix_rows<0>>},
    {"ldmatrix out of bounds", kBounds, kIllegal, 75, false,
     run_two<matrix_rows<4>, matrix_rows<0>>},
    XC_FAULT(local_array_past_the_end, kBounds, kIllegal),
    XC_FAULT(uninitialised_shared, kUninitialised, kFailed),
    {"uninitialised_global", kUninitialised, kFailed, 75, false, uninitialised_global},
    {"padding_not_written", kUninitialised, kFailed, 75, false, padding_not_written},
    {"use_after_free", "use after free", kIllegal, 75, false, use_after_free},
    {"host_pointer", kBounds, kIllegal, 75, false, host_pointer},
    XC_FAULT(blocks_write_one_place, kGlobal, kFailed, 4),
    XC_FAULT(reads_what_another_block_writes, kGlobal, kFailed, 4),
    XC_FAULT(counts_without_atomics, kGlobal, kFailed, 4),
    XC_FAULT(reads_a_running_sum, kGlobal, kFailed, 4),
    XC_FAULT(neighbours_in_a_word, kGlobal, kFailed, 4),
    {"missing_event", kUninitialised, kFailed, 75, true, missing_event},
    XC_EARLY_FAULT("early store", kStore, "write at"),
    XC_EARLY_FAULT("early atomic", kAtomic, "atomic access at"),
    XC_EARLY_FAULT("early load", kLoad, "before griddepcontrol.wait"),
    XC_EARLY_FAULT("early cp.async", kAsyncCopy, "before griddepcontrol.wait"),
    XC_EARLY_FAULT("read-only load", kReadOnlyLoad, "by ld.global.nc"),
    XC_EARLY_FAULT("exit without a wait", kNoWait, "exits without griddepcontrol.wait"),
    XC_FAULT(failed_assertion, kTrap, cudaErrorAssert),
    XC_FAULT(trapped, kTrap, kFailed),
    XC_FAULT(endless_loop, kDeadlock, cudaErrorLaunchTimeout),
    {"double_free", "", cudaErrorInvalidValue, 75, false, double_free},
    {"free_of_the_middle", "", cudaErrorInvalidValue, 75, false, free_of_the_middle},
    {"copy_past_the_end", "", cudaErrorInvalidValue, 75, false, copy_past_the_end},
    {"too_many_threads", "", cudaErrorInvalidConfiguration, 75, false, too_many_threads},
    {"shared_without_opt_in", "", cudaErrorInvalidValue, 75, false, shared_without_opt_in},
};

}  // namespace

std::span<const PlantedFault> planted_faults() { return kFaults; }

}  // namespace xception::emulator
