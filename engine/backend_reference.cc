// The backend of the double-precision loops. It is the oracle of the others: slow, and beyond
// doubt.
//
// In bf16 it rounds to bf16 what a backend does that accumulates in float32 and keeps bf16 in
// memory: activations but for what wide_values.h names, and what multiplies them if that is dense.
#include <cstring>
#include <new>

#include "engine/backend_host.h"
#include "engine/wide_values.h"
#include "kernels/reference.h"

namespace xception {
namespace {

// Kept as float32.
void round_all(float* values, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    values[i] = from_bf16(to_bf16(values[i]));
  }
}

struct ConvParameters {
  std::vector<float> weights;
  std::vector<float> shift;
  std::vector<float> second_scale;
  std::vector<float> second_shift;
};

class ReferenceStep : public Step {
 public:
  ReferenceStep(const StepRequest& request, bool bf16, std::shared_ptr<const ConvParameters> conv)
      : op_(request.node.op),
        src_(request.src),
        dst_(request.dst),
        rounds_(bf16 && !request.dst_is_wide),
        conv_(std::move(conv)) {}

  std::string implementation() const override { return "reference"; }
  std::size_t workspace_bytes() const override { return 0; }
  std::size_t parameter_bytes() const override {
    return conv_ == nullptr ? 0 : conv_->weights.size() * sizeof(float);
  }
  const void* parameters() const override { return conv_.get(); }

  Status bind(const StepBuffers& buffers) override {
    buffers_ = buffers;
    return {};
  }

  Status run() override {
    std::visit([this](const auto& op) { compute(op); }, op_);
    if (rounds_) {
      round_all(dst(), dst_.elements());
    }
    return {};
  }

 private:
  const float* src(std::size_t i) const { return reinterpret_cast<const float*>(buffers_.src[i]); }
  float* dst() const { return reinterpret_cast<float*>(buffers_.dst); }

  void compute(const Input&) const {}
  void compute(const SeparableChain&) const {}
  void compute(const Conv2d& conv) const {
    const auto pointer = [](const std::vector<float>& values) {
      return values.empty() ? nullptr : values.data();
    };
    Epilogue epilogue;
    epilogue.shift = pointer(conv_->shift);
    epilogue.relu = conv.relu;
    epilogue.second_scale = pointer(conv_->second_scale);
    epilogue.second_shift = pointer(conv_->second_shift);
    epilogue.residual = conv.add ? src(1) : nullptr;
    epilogue.final_relu = conv.final_relu;
    reference::conv(conv_problem(conv, src_[0]), src(0), conv_->weights.data(), epilogue, dst());
  }
  void compute(const BatchNorm& norm) const {
    const Affine& affine = *norm.affine;
    const std::size_t channels = affine.scale.size();
    for (std::size_t i = 0; i < static_cast<std::size_t>(dst_.elements()); ++i) {
      const std::size_t c = i % channels;
      dst()[i] = static_cast<float>(affine.scale[c] * src(0)[i] + affine.shift[c]);
    }
  }
  void compute(const Relu&) const { reference::relu(dst_.elements(), src(0), dst()); }
  void compute(const Add&) const { reference::add(dst_.elements(), src(0), src(1), dst()); }
  void compute(const MaxPool& pool) const {
    reference::max_pool(pool_problem(pool, src_[0]), src(0), pool.add ? src(1) : nullptr, dst());
  }
  void compute(const AvgPool& pool) const {
    reference::avg_pool(pool_problem(pool, src_[0]), src(0), dst());
  }
  void compute(const GlobalAvgPool&) const { reference::global_avg_pool(src_[0], src(0), dst()); }

  Op op_;
  std::vector<Shape> src_;
  Shape dst_;
  bool rounds_;
  std::shared_ptr<const ConvParameters> conv_;
  StepBuffers buffers_;
};

class ReferenceBackend : public HostBackend {
 public:
  explicit ReferenceBackend(bool bf16) : bf16_(bf16) {}

  std::string device() const override { return "reference"; }
  int threads() const override { return 1; }
  std::vector<bool> wide_values(const Graph& graph,
                                const std::vector<Shape>& shapes) const override {
    return bf16_ ? xception::wide_values(graph, shapes) : Backend::wide_values(graph, shapes);
  }

  std::size_t value_bytes(const Shape& shape, bool /*is_wide*/) const override {
    return static_cast<std::size_t>(shape.elements()) * sizeof(float);
  }

  Result<std::unique_ptr<Step>> prepare(const StepRequest& request, const WeightFile& file,
                                        WeightCache& /*cache*/) override {
    if (std::holds_alternative<SeparableChain>(request.node.op)) {
      return Status(Code::kInternal, "the reference backend joins no convolutions");
    }
    std::shared_ptr<ConvParameters> parameters;
    if (const auto* conv = std::get_if<Conv2d>(&request.node.op)) {
      Result<std::vector<float>> weights = read_scaled_weights(*conv, file);
      XC_RETURN_IF_ERROR(weights.status());
      parameters = std::make_shared<ConvParameters>();
      parameters->weights = *std::move(weights);
      if (bf16_ && !conv->depthwise && !request.src_is_wide(0)) {
        round_all(parameters->weights.data(),
                  static_cast<std::int64_t>(parameters->weights.size()));
      }
      if (conv->affine != nullptr) {
        parameters->shift = to_floats(conv->affine->shift);
      }
      if (conv->second_affine != nullptr) {
        parameters->second_scale = to_floats(conv->second_affine->scale);
        parameters->second_shift = to_floats(conv->second_affine->shift);
      }
    }
    return std::unique_ptr<Step>(
        std::make_unique<ReferenceStep>(request, bf16_, std::move(parameters)));
  }

  Status copy_in(const float* src, const Shape& shape, bool is_wide, std::byte* dst) override {
    auto* values = reinterpret_cast<float*>(dst);
    std::memcpy(values, src, value_bytes(shape, is_wide));
    if (bf16_ && !is_wide) {
      round_all(values, shape.elements());
    }
    return {};
  }

  Status copy_out(const std::byte* src, const Shape& shape, bool is_wide, float* dst) override {
    std::memcpy(dst, src, value_bytes(shape, is_wide));
    return {};
  }

 private:
  bool bf16_;
};

}  // namespace

Result<std::unique_ptr<Backend>> make_reference_backend(const SessionOptions& options) {
  if (options.precision != Precision::kFp32 && options.precision != Precision::kBf16) {
    return Status(Code::kUnsupported, std::string("the reference backend has no ") +
                                          precision_name(options.precision) + "; use fp32 or bf16");
  }
  return std::unique_ptr<Backend>(
      std::make_unique<ReferenceBackend>(options.precision == Precision::kBf16));
}

}  // namespace xception
