#include "engine/backend_cuda_step.h"

#include <cstring>
#include <functional>
#include <span>
#include <vector>

#include "engine/cuda_layout.h"
#include "kernels/bn_relu.h"
#include "kernels/conv3x3.h"
#include "kernels/depthwise.h"
#include "kernels/linear.h"
#include "kernels/picture_conv.h"
#include "kernels/pointwise.h"
#include "kernels/pool.h"

namespace xception::cuda {
namespace {

// What becomes one piece of device memory: parts that each start on a boundary.
class Blob {
 public:
  std::size_t append(std::span<const std::byte> part) {
    constexpr std::size_t kBoundary =
        256;  // a texture line, two cache lines, what cudaMalloc gives
    bytes_.resize((bytes_.size() + kBoundary - 1) / kBoundary * kBoundary);
    const std::size_t offset = bytes_.size();
    bytes_.insert(bytes_.end(), part.begin(), part.end());
    return offset;
  }

  // A value a channel, as float32, zeros behind them up to the channel stride.
  std::size_t append(const std::vector<double>& channels) {
    std::vector<float> values = to_floats(channels);
    values.resize(static_cast<std::size_t>(channel_stride(static_cast<int>(channels.size()))));
    return append(std::as_bytes(std::span(values)));
  }

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

// Prepares the step of one node; one overload an operation.
class StepMaker {
 public:
  StepMaker(const StepRequest& request, const StepContext& context, const WeightFile& file,
            WeightCache& cache)
      : request_(request), context_(context), file_(file), cache_(cache) {}

  Result<std::unique_ptr<Step>> make() {
    Result<std::unique_ptr<Step>> step = visit();
    if (!step.ok()) {
      return step.status().with_context("layer '" + request_.node.name + "'");
    }
    return step;
  }

 private:
  using Made = Result<std::unique_ptr<Step>>;
  using Packed = std::shared_ptr<const Parameters>;

  // The layout of pictures is known to one kernel alone, and every network begins with it.
  bool reads_pictures() const {
    for (std::size_t i = 0; i < request_.src.size(); ++i) {
      if (request_.node.inputs[i] == 0 && request_.src[i].c == kPictureColours) {
        return true;
      }
    }
    return false;
  }

  Made visit() {
    const auto* conv = std::get_if<Conv2d>(&request_.node.op);
    const bool dense3x3 = conv != nullptr && !conv->depthwise && conv->size == kPictureSize;
    if (reads_pictures() && (!dense3x3 || request_.src.size() > 1)) {
      return Status(Code::kUnsupported,
                    describe(request_.node.op) + " has no CUDA kernel that reads pictures");
    }
    return std::visit([this](const auto& op) { return prepare(op); }, request_.node.op);
  }

  Made prepare(const Input&) { return Status(Code::kInternal, "an input is no step"); }
  Made prepare(const SeparableChain&) {
    return Status(Code::kInternal, "the CUDA backend joins no convolutions");
  }
  Made prepare(const Conv2d& conv);
  Made prepare(const BatchNorm& norm);
  Made prepare(const Relu&);
  Made prepare(const Add&);
  Made prepare(const MaxPool& pool);
  Made prepare(const AvgPool& pool);
  Made prepare(const GlobalAvgPool&);

  template <class Launch>
  Made step(std::string implementation, Packed packed, Launch launch) {
    return std::unique_ptr<Step>(
        std::make_unique<CudaStep>(request_.node.name, std::move(implementation), context_.stream,
                                   std::move(packed), CudaStep::Launch(std::move(launch))));
  }

  // The kernels of everything but linear layers and global averages write the working type.
  Status check_result_type() const {
    if (!request_.dst_is_wide || element_bytes(context_.numeric) == sizeof(float)) {
      return {};
    }
    return {Code::kUnsupported, "a network that ends in " + describe(request_.node.op) +
                                    " has no float32 result in " + numeric_name(context_.numeric) +
                                    "; use precision fp32"};
  }

  using Pack =
      std::function<std::vector<std::byte>(const ConvProblem&, Numeric, const float* weights)>;
  Result<Packed> pack(const char* kernel, const Conv2d& conv, const ConvProblem& problem,
                      const Pack& pack_weights);
  Result<std::shared_ptr<Parameters>> upload(const Blob& blob) const;

  template <class Args, class Launcher>
  Made convolution(const char* name, const Conv2d& conv, const ConvProblem& problem,
                   const Pack& pack_weights, Launcher launcher, std::string implementation);
  Made linear_layer(const Conv2d& conv, const ConvProblem& problem);
  Made cudnn_convolution(const Conv2d& conv, const ConvProblem& problem);
  Made elementwise(const char* name, Packed packed, const DeviceEpilogue& epilogue);

  DeviceEpilogue epilogue(const Conv2d& conv, const Parameters& packed) const {
    DeviceEpilogue epilogue;
    epilogue.shift = packed.shift;
    epilogue.relu = conv.relu;
    epilogue.second_scale = packed.second_scale;
    epilogue.second_shift = packed.second_shift;
    epilogue.final_relu = conv.final_relu;
    return epilogue;
  }

  const StepRequest& request_;
  const StepContext& context_;
  const WeightFile& file_;
  WeightCache& cache_;
};

Result<std::shared_ptr<Parameters>> StepMaker::upload(const Blob& blob) const {
  auto parameters = std::make_shared<Parameters>();
  parameters->device = context_.device.index;
  parameters->bytes = blob.bytes().size();
  Result<DeviceMemory> memory = allocate_device(parameters->bytes, "weights", kSmallerWeights);
  XC_RETURN_IF_ERROR(memory.status());
  parameters->memory = *std::move(memory);
  XC_RETURN_IF_ERROR(
      to_status(cudaMemcpyAsync(parameters->memory.get(), blob.bytes().data(), parameters->bytes,
                                cudaMemcpyHostToDevice, context_.stream),
                "copy weights to the device"));
  XC_RETURN_IF_ERROR(
      to_status(cudaStreamSynchronize(context_.stream), "copy weights to the device"));
  return parameters;
}

// Packs and uploads, or finds what another session or an earlier repetition did.
Result<StepMaker::Packed> StepMaker::pack(const char* kernel, const Conv2d& conv,
                                          const ConvProblem& problem, const Pack& pack_weights) {
  const auto make = [&]() -> Result<std::shared_ptr<const void>> {
    Blob blob;
    {
      const Result<std::vector<float>> weights = read_scaled_weights(conv, file_);
      XC_RETURN_IF_ERROR(weights.status());
      blob.append(pack_weights(problem, context_.numeric, weights->data()));
    }
    const bool shifts = conv.affine != nullptr;
    const bool second = conv.second_affine != nullptr;
    const std::size_t shift = shifts ? blob.append(conv.affine->shift) : 0;
    const std::size_t second_scale = second ? blob.append(conv.second_affine->scale) : 0;
    const std::size_t second_shift = second ? blob.append(conv.second_affine->shift) : 0;
    Result<std::shared_ptr<Parameters>> uploaded = upload(blob);
    XC_RETURN_IF_ERROR(uploaded.status());
    std::shared_ptr<Parameters> parameters = *std::move(uploaded);
    parameters->weights = parameters->memory.get();
    parameters->shift = shifts ? parameters->floats(shift) : nullptr;
    parameters->second_scale = second ? parameters->floats(second_scale) : nullptr;
    parameters->second_shift = second ? parameters->floats(second_shift) : nullptr;
    return std::shared_ptr<const void>(std::move(parameters));
  };
  const std::string key = context_.device.name + '|' + numeric_name(context_.numeric) + '|' +
                          kernel + " s" + std::to_string(problem.window.stride) + '|' +
                          conv.weight->name + (conv.folded ? "|folded" : "|plain") +
                          (conv.second_affine != nullptr ? "|second" : "");
  Result<std::shared_ptr<const void>> held = cache_.get(key, make);
  XC_RETURN_IF_ERROR(held.status());
  return std::static_pointer_cast<const Parameters>(*held);
}

// The last layer, of features to logits: float32 whatever the numeric.
StepMaker::Made StepMaker::linear_layer(const Conv2d& conv, const ConvProblem& problem) {
  const auto pack_weights = [](const ConvProblem& p, Numeric numeric, const float* weights) {
    return pack_linear({p.src.n, p.src.c, p.k}, numeric, weights);
  };
  const Result<Packed> packed = pack("linear", conv, problem, pack_weights);
  XC_RETURN_IF_ERROR(packed.status());
  const LinearProblem product = {problem.src.n, problem.src.c, problem.k};
  return step("linear", *packed,
              [product, weights = (*packed)->weights, bias = (*packed)->shift,
               numeric = context_.numeric](const StepBuffers& buffers, Stream stream) {
                return linear(
                    product, numeric,
                    {buffers.src[0], weights, bias, reinterpret_cast<float*>(buffers.dst)}, stream);
              });
}

// Whether what stands behind a convolution is a bias at most.
bool is_plain(const Conv2d& conv) {
  return !conv.relu_on_load && !conv.relu && conv.second_affine == nullptr && !conv.add &&
         !conv.final_relu;
}

StepMaker::Made StepMaker::prepare(const Conv2d& conv) {
  const Shape& src = request_.src[0];
  const ConvProblem problem = conv_problem(conv, src);
  if (conv.size == 1 && request_.dst_is_wide && src.h == 1 && src.w == 1 && is_plain(conv)) {
    return linear_layer(conv, problem);
  }
  XC_RETURN_IF_ERROR(check_result_type());
  if (reads_pictures()) {  // cuDNN does not know their layout
    return convolution<DenseArgs>("picture_conv", conv, problem, pack_picture, picture_conv,
                                  describe_picture(problem, context_.numeric, context_.gpu));
  }
  if (context_.cudnn != nullptr) {
    return cudnn_convolution(conv, problem);
  }
  if (conv.depthwise && conv.size == 3) {
    const auto pack_weights = [this](const ConvProblem& p, Numeric numeric, const float* weights) {
      return pack_depthwise(p, numeric, context_.gpu, weights);
    };
    return convolution<DepthwiseArgs>("depthwise", conv, problem, pack_weights, depthwise,
                                      describe_depthwise(problem, context_.numeric, context_.gpu));
  }
  if (!conv.depthwise && conv.size == 3) {
    return convolution<DenseArgs>("conv3x3", conv, problem, pack_conv3x3, conv3x3,
                                  describe_conv3x3(problem, context_.numeric, context_.gpu));
  }
  if (!conv.depthwise && conv.size == 1) {
    const auto pack_weights = [this](const ConvProblem& p, Numeric numeric, const float* weights) {
      return pack_pointwise(p, numeric, context_.gpu, weights);
    };
    return convolution<DenseArgs>("pointwise", conv, problem, pack_weights, pointwise,
                                  describe_pointwise(problem, context_.numeric, context_.gpu));
  }
  return Status(Code::kUnsupported, describe(request_.node.op) + " has no CUDA kernel");
}

// A kernel that takes an epilogue whole, residual included.
template <class Args, class Launcher>
StepMaker::Made StepMaker::convolution(const char* name, const Conv2d& conv,
                                       const ConvProblem& problem, const Pack& pack_weights,
                                       Launcher launcher, std::string implementation) {
  const Result<Packed> packed = pack(name, conv, problem, pack_weights);
  XC_RETURN_IF_ERROR(packed.status());
  Args args;
  args.weights = (*packed)->weights;
  args.epilogue = epilogue(conv, **packed);
  return step(std::move(implementation), *packed,
              [=, adds = conv.add, numeric = context_.numeric, gpu = context_.gpu](
                  const StepBuffers& buffers, Stream stream) {
                Args bound = args;
                bound.src = buffers.src[0];
                bound.dst = buffers.dst;
                bound.epilogue.residual = adds ? buffers.src[1] : nullptr;
                return launcher(problem, numeric, gpu, bound, stream);
              });
}

// The convolution alone by cuDNN, on what a kernel of ours has made of its input where that needs a
// ReLU; the epilogue by another one.
StepMaker::Made StepMaker::cudnn_convolution(const Conv2d& conv, const ConvProblem& problem) {
  const Result<std::shared_ptr<CudnnConvolution>> made =
      context_.cudnn->prepare(problem, context_.numeric);
  XC_RETURN_IF_ERROR(made.status());
  const Result<Packed> packed = pack("cudnn", conv, problem, pack_cudnn);
  XC_RETURN_IF_ERROR(packed.status());
  const std::size_t rectified = conv.relu_on_load ? device_bytes(problem.src, context_.numeric) : 0;
  const auto launch = [=, convolution = *made, weights = (*packed)->weights,
                       fixed = epilogue(conv, **packed), adds = conv.add, plain = is_plain(conv),
                       dst = request_.dst, numeric = context_.numeric,
                       gpu = context_.gpu](const StepBuffers& buffers, Stream stream) -> Status {
    const std::byte* src = buffers.src[0];
    if (rectified > 0) {
      BnReluArgs relu = {src, buffers.workspace, {}};
      relu.epilogue.relu = true;
      XC_RETURN_IF_ERROR(bn_relu(problem.src, numeric, gpu, relu, stream));
      src = buffers.workspace;
    }
    XC_RETURN_IF_ERROR(
        convolution->run(src, weights, buffers.dst, buffers.workspace + rectified, stream));
    if (plain && fixed.shift == nullptr) {
      return {};
    }
    BnReluArgs rest = {buffers.dst, buffers.dst, fixed};
    rest.epilogue.residual = adds ? buffers.src[1] : nullptr;
    return bn_relu(dst, numeric, gpu, rest, stream);
  };
  return std::unique_ptr<Step>(std::make_unique<CudaStep>(request_.node.name, (*made)->name(),
                                                          context_.stream, *packed, launch,
                                                          rectified + (*made)->workspace_bytes()));
}

// What no convolution took along: one kernel that is nothing but an epilogue.
StepMaker::Made StepMaker::elementwise(const char* name, Packed packed,
                                       const DeviceEpilogue& epilogue) {
  XC_RETURN_IF_ERROR(check_result_type());
  return step(name, std::move(packed),
              [=, adds = request_.src.size() > 1, shape = request_.dst, numeric = context_.numeric,
               gpu = context_.gpu](const StepBuffers& buffers, Stream stream) {
                BnReluArgs args = {buffers.src[0], buffers.dst, epilogue};
                args.epilogue.residual = adds ? buffers.src[1] : nullptr;
                return bn_relu(shape, numeric, gpu, args, stream);
              });
}

StepMaker::Made StepMaker::prepare(const BatchNorm& norm) {
  Blob blob;
  const std::size_t scale = blob.append(norm.affine->scale);
  const std::size_t shift = blob.append(norm.affine->shift);
  const Result<std::shared_ptr<Parameters>> packed = upload(blob);
  XC_RETURN_IF_ERROR(packed.status());
  DeviceEpilogue epilogue;
  epilogue.second_scale = (*packed)->floats(scale);
  epilogue.second_shift = (*packed)->floats(shift);
  return elementwise("batch_norm", *packed, epilogue);
}

StepMaker::Made StepMaker::prepare(const Relu&) {
  DeviceEpilogue epilogue;
  epilogue.relu = true;
  return elementwise("relu", nullptr, epilogue);
}

StepMaker::Made StepMaker::prepare(const Add&) { return elementwise("add", nullptr, {}); }

StepMaker::Made StepMaker::prepare(const MaxPool& pool) {
  XC_RETURN_IF_ERROR(check_result_type());
  const PoolProblem problem = pool_problem(pool, request_.src[0]);
  return step(
      "max_pool", nullptr,
      [=, adds = pool.add, numeric = context_.numeric](const StepBuffers& buffers, Stream stream) {
        const PoolArgs args = {buffers.src[0], buffers.dst, adds ? buffers.src[1] : nullptr};
        return max_pool(problem, numeric, args, stream);
      });
}

StepMaker::Made StepMaker::prepare(const AvgPool& pool) {
  const PoolProblem problem = pool_problem(pool, request_.src[0]);
  if (problem.src.h == problem.window.size && problem.src.w == problem.window.size) {
    return prepare(GlobalAvgPool{});
  }
  XC_RETURN_IF_ERROR(check_result_type());
  return step("avg_pool", nullptr,
              [=, numeric = context_.numeric](const StepBuffers& buffers, Stream stream) {
                return avg_pool(problem, numeric, {buffers.src[0], buffers.dst}, stream);
              });
}

StepMaker::Made StepMaker::prepare(const GlobalAvgPool&) {
  return step(
      "global_avg_pool", nullptr,
      [shape = request_.src[0], to_float = request_.dst_is_wide, numeric = context_.numeric](
          const StepBuffers& buffers, Stream stream) {
        return global_avg_pool(shape, numeric, {buffers.src[0], buffers.dst, to_float}, stream);
      });
}

}  // namespace

Parameters::~Parameters() {
  const DeviceScope scope(device);
  memory.reset();
}

Result<std::unique_ptr<Step>> prepare_step(const StepRequest& request, const StepContext& context,
                                           const WeightFile& file, WeightCache& cache) {
  return StepMaker(request, context, file, cache).make();
}

}  // namespace xception::cuda
