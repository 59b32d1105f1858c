#include "engine/backend_cuda_step.h"

#include <cstring>
#include <span>
#include <vector>

#include "kernels/bn_relu.h"
#include "kernels/conv3x3.h"
#include "kernels/depthwise.h"
#include "kernels/linear.h"
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
    Result<std::unique_ptr<Step>> step =
        std::visit([this](const auto& op) { return prepare(op); }, request_.node.op);
    if (!step.ok()) {
      return step.status().with_context("layer '" + request_.node.name + "'");
    }
    return step;
  }

 private:
  using Made = Result<std::unique_ptr<Step>>;
  using Packed = std::shared_ptr<const Parameters>;

  Made prepare(const Input&) { return Status(Code::kInternal, "an input is no step"); }
  Made prepare(const Conv2d& conv);
  Made prepare(const BatchNorm& norm);
  Made prepare(const Relu&);
  Made prepare(const Add&);
  Made prepare(const MaxPool& pool);
  Made prepare(const AvgPool& pool);
  Made prepare(const GlobalAvgPool&);

  template <class Launch>
  Made step(std::string implementation, Packed packed, Launch launch) {
    return std::unique_ptr<Step>(std::make_unique<CudaStep>(
        std::move(implementation), std::move(packed), CudaStep::Launch(std::move(launch))));
  }

  // The kernels of everything but linear layers and global averages write the working type.
  Status check_result_type() const {
    if (!request_.is_result || element_bytes(context_.numeric) == sizeof(float)) {
      return {};
    }
    return {Code::kUnsupported, "a network that ends in " + describe(request_.node.op) +
                                    " has no float32 result in " + numeric_name(context_.numeric) +
                                    "; use --precision fp32"};
  }

  using Pack = std::vector<std::byte> (*)(const ConvProblem&, Numeric, const float*);
  Result<Packed> pack(const char* kernel, const Conv2d& conv, const ConvProblem& problem,
                      Pack pack_weights);
  Result<Packed> upload(const Blob& blob);

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

Result<StepMaker::Packed> StepMaker::upload(const Blob& blob) {
  auto parameters = std::make_shared<Parameters>();
  parameters->device = context_.device.index;
  parameters->bytes = blob.bytes().size();
  Result<DeviceMemory> memory =
      allocate_device(parameters->bytes, "weights of layer '" + request_.node.name + "'");
  XC_RETURN_IF_ERROR(memory.status());
  parameters->memory = *std::move(memory);
  XC_RETURN_IF_ERROR(
      to_status(cudaMemcpyAsync(parameters->memory.get(), blob.bytes().data(), parameters->bytes,
                                cudaMemcpyHostToDevice, context_.stream),
                "copy weights to the device"));
  XC_RETURN_IF_ERROR(
      to_status(cudaStreamSynchronize(context_.stream), "copy weights to the device"));
  return Packed(std::move(parameters));
}

// Packs and uploads, or finds what another session or an earlier repetition did.
Result<StepMaker::Packed> StepMaker::pack(const char* kernel, const Conv2d& conv,
                                          const ConvProblem& problem, Pack pack_weights) {
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
    Result<Packed> uploaded = upload(blob);
    XC_RETURN_IF_ERROR(uploaded.status());
    auto parameters = std::const_pointer_cast<Parameters>(*uploaded);
    const auto* const base = static_cast<const std::byte*>(parameters->memory.get());
    const auto vector = [base](bool there, std::size_t offset) {
      return there ? reinterpret_cast<const float*>(base + offset) : nullptr;
    };
    parameters->weights = base;
    parameters->shift = vector(shifts, shift);
    parameters->second_scale = vector(second, second_scale);
    parameters->second_shift = vector(second, second_shift);
    return std::shared_ptr<const void>(std::move(parameters));
  };
  const std::string key = context_.device.name + '|' + numeric_name(context_.numeric) + '|' +
                          kernel + '|' + conv.weight->name + (conv.folded ? "|folded" : "|plain") +
                          (conv.second_affine != nullptr ? "|second" : "");
  Result<std::shared_ptr<const void>> held = cache_.get(key, make);
  XC_RETURN_IF_ERROR(held.status());
  return std::static_pointer_cast<const Parameters>(*held);
}

StepMaker::Made StepMaker::prepare(const Conv2d& conv) {
  const ConvProblem problem = conv_problem(conv, request_.src[0]);
  const auto numeric = context_.numeric;
  const auto gpu = context_.gpu;
  Stream const stream = context_.stream;
  const Shape& src = request_.src[0];

  if (conv.size == 1 && request_.is_result && src.h == 1 && src.w == 1 && !conv.add) {
    const Result<Packed> packed = pack("linear", conv, problem, pack_linear);
    XC_RETURN_IF_ERROR(packed.status());
    LinearArgs args;
    args.weights = (*packed)->weights;
    args.epilogue = epilogue(conv, **packed);
    return step("linear", *packed, [=](const StepBuffers& buffers) mutable {
      args.src = buffers.src[0];
      args.dst = reinterpret_cast<float*>(buffers.dst);
      return linear(problem, numeric, args, stream);
    });
  }
  XC_RETURN_IF_ERROR(check_result_type());
  const auto convolution = [&](const char* name, Pack pack_weights, std::string implementation,
                               auto launch) -> Made {
    const Result<Packed> packed = pack(name, conv, problem, pack_weights);
    XC_RETURN_IF_ERROR(packed.status());
    return step(std::move(implementation), *packed,
                [=, weights = (*packed)->weights, fixed = epilogue(conv, **packed),
                 adds = conv.add](const StepBuffers& buffers) {
                  DeviceEpilogue epilogue = fixed;
                  epilogue.residual = adds ? buffers.src[1] : nullptr;
                  return launch(problem, numeric, gpu,
                                DenseArgs{buffers.src[0], weights, buffers.dst, epilogue}, stream);
                });
  };
  if (conv.depthwise && conv.size == 3) {
    return convolution("depthwise", pack_depthwise, "depthwise", depthwise);
  }
  if (!conv.depthwise && conv.size == 3) {
    return convolution("conv3x3", pack_conv3x3, describe_conv3x3(problem, numeric, gpu), conv3x3);
  }
  if (!conv.depthwise && conv.size == 1) {
    return convolution("pointwise", pack_pointwise, describe_pointwise(problem, numeric, gpu),
                       pointwise);
  }
  return Status(Code::kUnsupported, describe(request_.node.op) + " has no CUDA kernel");
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
