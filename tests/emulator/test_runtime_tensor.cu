#include "tests/emulator/test_runtime_tensor.h"

#include <cstdint>

namespace xception::emulator {
namespace {

constexpr int kConsumers = 4;  // warps

// Nothing of this is there before sm_90.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
constexpr int kSlots = 3;
constexpr unsigned kBoxBytes = kRingColumns * kRingRows * 4;

__device__ unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

__device__ void init(std::uint64_t* barrier, unsigned count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count)
               : "memory");
}

__device__ void arrive(std::uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
               : "memory");
}

__device__ void arrive_expecting(std::uint64_t* barrier, unsigned bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}

__device__ void wait(std::uint64_t* barrier, unsigned parity) {
  asm volatile(
      "{\n.reg .pred done;\nLOOP:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra LOOP;\n}" ::"r"(
          shared_address(barrier)),
      "r"(parity)
      : "memory");
}

__device__ void copy_box(int* target, const CUtensorMap* map, int column, int row,
                         std::uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3}], [%4];" ::"r"(shared_address(target)),
      "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier))
      : "memory");
}

template <RingFault kFault>
__device__ void run_ring(const CUtensorMap& map, int column, int first_row, int* dst) {
  __shared__ alignas(1024) int slots[kSlots][kRingRows][kRingColumns];
  __shared__ std::uint64_t full[kSlots];
  __shared__ std::uint64_t empty[kSlots];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kSlots; ++i) {
      init(&full[i], 1);
      if (kFault != RingFault::kNotInitialised) {
        init(&empty[i], kConsumers);
      }
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  if (warp == kConsumers) {
    if (lane == 0) {
      for (int i = 0; i < kRingTiles; ++i) {
        const int slot = i % kSlots;
        if (kFault != RingFault::kHasty) {
          wait(&empty[slot], (i / kSlots + 1) % 2);
        }
        arrive_expecting(&full[slot], kBoxBytes + (kFault == RingFault::kWrongBytes ? 16 : 0));
        if (kFault == RingFault::kTwoArrivals) {
          arrive(&full[slot]);
        }
        copy_box(&slots[slot][0][0], &map, column, first_row + i * kRingRows, &full[slot]);
      }
    }
    return;
  }
  int sums[kRingRows / kConsumers] = {};
  for (int i = 0; i < kRingTiles; ++i) {
    const int slot = i % kSlots;
    if (kFault != RingFault::kNoWait) {
      wait(&full[slot], i / kSlots % 2);
    }
    if (kFault == RingFault::kEarlyRelease && lane == 0) {
      arrive(&empty[slot]);
    }
    for (int row = warp; row < kRingRows; row += kConsumers) {
      sums[row / kConsumers] += slots[slot][row][lane ^ (row % 8 * 4)];
    }
    if (kFault == RingFault::kEarlyRelease || kFault == RingFault::kNoRelease) {
      continue;
    }
    if (kFault != RingFault::kNoSyncwarp) {
      __syncwarp();
    }
    if (lane == 0) {
      arrive(&empty[slot]);
    }
  }
  for (int row = warp; row < kRingRows; row += kConsumers) {
    dst[row * kRingColumns + lane] = sums[row / kConsumers];
  }
}

#endif

template <RingFault kFault>
__global__ void ring(const __grid_constant__ CUtensorMap map, int column, int first_row, int* dst) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  run_ring<kFault>(map, column, first_row, dst);
#else
  __trap();
#endif
}

template <int kFault = 0>
cudaError_t launch(RingFault fault, const CUtensorMap& map, int column, int first_row, int* dst) {
  if constexpr (kFault == static_cast<int>(RingFault::kCount)) {
    return cudaErrorInvalidValue;
  } else {
    if (static_cast<int>(fault) != kFault) {
      return launch<kFault + 1>(fault, map, column, first_row, dst);
    }
    ring<static_cast<RingFault>(kFault)><<<1, 32 * (kConsumers + 1)>>>(map, column, first_row, dst);
    const cudaError_t launched = cudaGetLastError();
    const cudaError_t ran = cudaDeviceSynchronize();
    return launched != cudaSuccess ? launched : ran;
  }
}

}  // namespace

cudaError_t sum_boxes(RingFault fault, const CUtensorMap& map, int column, int first_row,
                      int* dst) {
  return launch(fault, map, column, first_row, dst);
}

}  // namespace xception::emulator
