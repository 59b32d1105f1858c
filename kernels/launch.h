// Launching a kernel so that whatever goes wrong comes back as a Status.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>
#include <type_traits>

#include "kernels/gpu.h"
#include "xception/status.h"

namespace xception {

// "WHAT: cudaErrorName: its text".
inline Status cuda_failure(const std::string& what, cudaError_t error) {
  return {error == cudaErrorMemoryAllocation ? Code::kOutOfMemory : Code::kDevice,
          what + ": " + cudaGetErrorName(error) + ": " + cudaGetErrorString(error)};
}

// `what` has more blocks than a grid: shapes are the caller's.
inline Status too_large_for_launch(const std::string& what) {
  return {Code::kInvalidArgument,
          what + ": too large for one launch; use a smaller batch, or smaller pictures"};
}

// Shared memory that any kernel may have; more is asked for, kernel by kernel.
constexpr std::size_t kSharedBytesWithoutOptIn = 48 << 10;

struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;  // dynamic, a block
  // A dependent launch: the kernel may start while the one before it in the stream still runs, and
  // calls await_previous_kernel().
  bool dependent = false;
};

// Whether a kernel of ours may: from sm_90 on, for code for an older GPU has nothing that would
// wait, and in 16 bits. In 32 bits it did harm: on an H100 xception took 3.3 ms in fp32 at batch 1
// with it, and 1.4 without, probably because blocks that come early find multiprocessors unevenly
// taken.
constexpr bool launches_dependent(int arch, Numeric numeric) {
  return arch >= 90 && element_bytes(numeric) == 2;
}

// Enqueues `kernel`. `name` makes the operation and its shape for a message and is called only
// then. The error is that of this launch: one that an earlier call left behind stays where it is.
template <class Name, class... Params>
[[nodiscard]] Status launch(Name&& name, void (*kernel)(Params...), const LaunchShape& shape,
                            Stream stream, const std::type_identity_t<Params>&... params) {
  if (shape.shared_bytes > kSharedBytesWithoutOptIn) {
    const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(shape.shared_bytes));
    if (error != cudaSuccess) {
      return cuda_failure(name() + ", asking for shared memory", error);
    }
  }
  // The driver copies the parameters before it returns and writes none of them.
  void* pointers[] = {const_cast<void*>(static_cast<const void*>(&params))...};
  cudaLaunchAttribute early = {};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t configuration = {};
  configuration.gridDim = shape.grid;
  configuration.blockDim = shape.block;
  configuration.dynamicSmemBytes = shape.shared_bytes;
  configuration.stream = stream;
  configuration.attrs = &early;
  configuration.numAttrs = shape.dependent ? 1 : 0;
  const cudaError_t error =
      cudaLaunchKernelExC(&configuration, reinterpret_cast<const void*>(kernel), pointers);
  return error == cudaSuccess ? Status() : cuda_failure(name(), error);
}

}  // namespace xception
