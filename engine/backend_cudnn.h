// Convolutions by cuDNN, in the place of ours, but for that of pictures: what a user of the library
// would have otherwise, to compare with. Everything else stays as the CUDA backend has it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "kernels/gpu.h"
#include "kernels/problem.h"
#include "xception/status.h"

namespace xception::cuda {

// One convolution, without an epilogue, of tensors in the kernels' layout.
class CudnnConvolution {
 public:
  virtual ~CudnnConvolution() = default;
  virtual std::string name() const = 0;  // "cudnn algorithm 1"
  virtual std::size_t workspace_bytes() const = 0;
  // All on the device; `weights` as pack_cudnn() made them.
  virtual Status run(const void* src, const void* weights, void* dst, void* workspace,
                     Stream stream) = 0;
};

// cuDNN on one device. One thread at a time.
class Cudnn {
 public:
  virtual ~Cudnn() = default;
  virtual Result<std::shared_ptr<CudnnConvolution>> prepare(const ConvProblem& problem,
                                                            Numeric numeric) = 0;
};

// On the thread's device. Fails with kUnsupported where this build has no cuDNN, and with kDevice
// where cuDNN does not start there: it needs a real GPU.
Result<std::shared_ptr<Cudnn>> start_cudnn();

// Weights from PyTorch's order to [k][size][size][c], c and k (depthwise: k alone) up to their
// channel stride, zero in between.
std::vector<std::byte> pack_cudnn(const ConvProblem& problem, Numeric numeric,
                                  const float* weights);

}  // namespace xception::cuda
