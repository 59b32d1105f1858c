#include "engine/backend_cudnn.h"

#include <cudnn.h>

#include <array>
#include <string_view>
#include <utility>

#include "kernels/numeric.h"

// The functions for one convolution by itself are marked as old in cuDNN 9, in favour of graphs of
// operations; they run the same kernels.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace xception::cuda {
namespace {

Status to_status(cudnnStatus_t status, std::string_view what) {
  if (status == CUDNN_STATUS_SUCCESS) {
    return {};
  }
  return {status == CUDNN_STATUS_NOT_SUPPORTED ? Code::kUnsupported : Code::kDevice,
          std::string(what) + ": " + cudnnGetErrorString(status)};
}

// Owns a handle or descriptor; Create and Destroy are cuDNN's pair for it.
template <class T, cudnnStatus_t (*Create)(T*), cudnnStatus_t (*Destroy)(T)>
class Owned {
 public:
  Owned() : status_(Create(&handle_)) {}
  ~Owned() {
    if (status_ == CUDNN_STATUS_SUCCESS) {
      static_cast<void>(Destroy(handle_));
    }
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;

  cudnnStatus_t status() const { return status_; }
  T get() const { return handle_; }

 private:
  T handle_ = nullptr;
  cudnnStatus_t status_;
};

using Handle = Owned<cudnnHandle_t, cudnnCreate, cudnnDestroy>;
using TensorDescriptor =
    Owned<cudnnTensorDescriptor_t, cudnnCreateTensorDescriptor, cudnnDestroyTensorDescriptor>;
using FilterDescriptor =
    Owned<cudnnFilterDescriptor_t, cudnnCreateFilterDescriptor, cudnnDestroyFilterDescriptor>;
using ConvolutionDescriptor = Owned<cudnnConvolutionDescriptor_t, cudnnCreateConvolutionDescriptor,
                                    cudnnDestroyConvolutionDescriptor>;

cudnnDataType_t data_type(Numeric numeric) {
  switch (numeric) {
    case Numeric::kFp16:
      return CUDNN_DATA_HALF;
    case Numeric::kBf16:
      return CUDNN_DATA_BFLOAT16;
    case Numeric::kFp32:
    case Numeric::kTf32:
      break;
  }
  return CUDNN_DATA_FLOAT;
}

// cuDNN is told of the channels between c and the stride too: they are zero, and dense tensors are
// what its kernels are made for.
class Convolution : public CudnnConvolution {
 public:
  explicit Convolution(std::shared_ptr<Handle> handle) : handle_(std::move(handle)) {}

  Status set(const ConvProblem& problem, Numeric numeric);

  std::string name() const override {
    return "cudnn algorithm " + std::to_string(static_cast<int>(algorithm_));
  }
  std::size_t workspace_bytes() const override { return workspace_bytes_; }
  Status run(const void* src, const void* weights, void* dst, void* workspace,
             Stream stream) override {
    constexpr float kOne = 1;
    constexpr float kZero = 0;
    XC_RETURN_IF_ERROR(to_status(cudnnSetStream(handle_->get(), stream), "convolution by cuDNN"));
    return to_status(cudnnConvolutionForward(handle_->get(), &kOne, src_.get(), src, filter_.get(),
                                             weights, convolution_.get(), algorithm_, workspace,
                                             workspace_bytes_, &kZero, dst_.get(), dst),
                     "convolution by cuDNN");
  }

 private:
  Status choose_algorithm();

  std::shared_ptr<Handle> handle_;
  TensorDescriptor src_;
  TensorDescriptor dst_;
  FilterDescriptor filter_;
  ConvolutionDescriptor convolution_;
  cudnnConvolutionFwdAlgo_t algorithm_{};
  std::size_t workspace_bytes_ = 0;
};

// Tensor cores for 16 bits, and for tf32, which is what they make of float32. fp32 is exact: FMA,
// as neither the default nor the tensor operations promise of float32.
cudnnMathType_t math_type(Numeric numeric) {
  return numeric == Numeric::kFp32 ? CUDNN_FMA_MATH : CUDNN_TENSOR_OP_MATH;
}

Status Convolution::set(const ConvProblem& problem, Numeric numeric) {
  const Window& window = problem.window;
  const Padding& pad = window.pad;
  if (pad.top != pad.bottom || pad.left != pad.right) {
    return {Code::kUnsupported, "cuDNN pads both sides alike"};
  }
  const Shape dst = problem.dst();
  const int c = channel_stride(problem.src.c);
  const int k = channel_stride(problem.k);
  const cudnnDataType_t type = data_type(numeric);
  const std::array statuses = {
      src_.status(),
      dst_.status(),
      filter_.status(),
      convolution_.status(),
      cudnnSetTensor4dDescriptor(src_.get(), CUDNN_TENSOR_NHWC, type, problem.src.n, c,
                                 problem.src.h, problem.src.w),
      cudnnSetTensor4dDescriptor(dst_.get(), CUDNN_TENSOR_NHWC, type, dst.n, k, dst.h, dst.w),
      cudnnSetFilter4dDescriptor(filter_.get(), type, CUDNN_TENSOR_NHWC, k,
                                 problem.depthwise ? 1 : c, window.size, window.size),
      cudnnSetConvolution2dDescriptor(convolution_.get(), pad.top, pad.left, window.stride,
                                      window.stride, 1, 1, CUDNN_CROSS_CORRELATION,
                                      CUDNN_DATA_FLOAT),
      cudnnSetConvolutionGroupCount(convolution_.get(), problem.depthwise ? c : 1),
      cudnnSetConvolutionMathType(convolution_.get(), math_type(numeric)),
  };
  for (const cudnnStatus_t status : statuses) {
    XC_RETURN_IF_ERROR(to_status(status, "describe a convolution to cuDNN"));
  }
  return choose_algorithm();
}

// The first that can run, of those that cuDNN names, fastest first as it thinks. Workspaces are
// asked for anew: those of the list may belong to another math type than the descriptor's.
Status Convolution::choose_algorithm() {
  constexpr std::size_t kMostWorkspace = std::size_t{1} << 30;  // FFTs may want more than all else
  const std::string what = "let cuDNN choose an algorithm";
  int count = 0;
  XC_RETURN_IF_ERROR(
      to_status(cudnnGetConvolutionForwardAlgorithmMaxCount(handle_->get(), &count), what));
  std::vector<cudnnConvolutionFwdAlgoPerf_t> choices(static_cast<std::size_t>(count));
  XC_RETURN_IF_ERROR(to_status(cudnnGetConvolutionForwardAlgorithm_v7(
                                   handle_->get(), src_.get(), filter_.get(), convolution_.get(),
                                   dst_.get(), count, &count, choices.data()),
                               what));
  choices.resize(static_cast<std::size_t>(count));
  for (const cudnnConvolutionFwdAlgoPerf_t& choice : choices) {
    std::size_t bytes = 0;
    if (choice.status == CUDNN_STATUS_SUCCESS &&
        cudnnGetConvolutionForwardWorkspaceSize(handle_->get(), src_.get(), filter_.get(),
                                                convolution_.get(), dst_.get(), choice.algo,
                                                &bytes) == CUDNN_STATUS_SUCCESS &&
        bytes <= kMostWorkspace) {
      algorithm_ = choice.algo;
      workspace_bytes_ = bytes;
      return {};
    }
  }
  return {Code::kUnsupported, "cuDNN has no algorithm for it"};
}

class Library : public Cudnn {
 public:
  explicit Library(std::shared_ptr<Handle> handle) : handle_(std::move(handle)) {}

  Result<std::shared_ptr<CudnnConvolution>> prepare(const ConvProblem& problem,
                                                    Numeric numeric) override {
    auto convolution = std::make_shared<Convolution>(handle_);
    XC_RETURN_IF_ERROR(convolution->set(problem, numeric));
    return std::shared_ptr<CudnnConvolution>(std::move(convolution));
  }

 private:
  std::shared_ptr<Handle> handle_;
};

}  // namespace

Result<std::shared_ptr<Cudnn>> start_cudnn() {
  auto handle = std::make_shared<Handle>();
  const std::string what = "cuDNN needs a real GPU, and memory of it";
  XC_RETURN_IF_ERROR(to_status(handle->status(), what));
  return std::shared_ptr<Cudnn>(std::make_shared<Library>(std::move(handle)));
}

std::vector<std::byte> pack_cudnn(const ConvProblem& problem, Numeric numeric,
                                  const float* weights) {
  const int c = problem.depthwise ? 1 : problem.src.c;
  const int stride = problem.depthwise ? 1 : channel_stride(problem.src.c);
  const int taps = problem.window.size * problem.window.size;
  std::vector<float> values(static_cast<std::size_t>(channel_stride(problem.k)) *
                            static_cast<std::size_t>(taps * stride));
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  for (std::int64_t k = 0; k < problem.k; ++k) {
    for (int i = 0; i < c; ++i) {
      for (int tap = 0; tap < taps; ++tap) {
        values[at((k * taps + tap) * stride + i)] = weights[(k * c + i) * taps + tap];
      }
    }
  }
  std::vector<std::byte> packed(values.size() * element_bytes(numeric));
  to_numeric(values, numeric, packed.data());
  return packed;
}

}  // namespace xception::cuda
