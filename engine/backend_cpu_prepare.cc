#include "engine/backend_cpu_prepare.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "engine/backend_cpu_separable.h"
#include "engine/backend_cpu_step.h"
#include "engine/backend_cpu_window.h"
#include "engine/backend_host.h"
#include "engine/onednn.h"
#include "engine/openmp.h"

namespace xception::cpu {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

onednn::WindowDims window_dims(const Window& w) {
  return {
      {w.size, w.size}, {w.stride, w.stride}, {w.pad.top, w.pad.left}, {w.pad.bottom, w.pad.right}};
}

// Prepares the step of one node; one overload an operation.
class StepMaker {
 public:
  StepMaker(const StepRequest& request, memory::data_type type, const WeightFile& file,
            WeightCache& cache, const dnnl::stream& stream, Staging& staging)
      : request_(request),
        type_(type),
        file_(file),
        cache_(cache),
        staging_(staging),
        step_(std::make_unique<CpuStep>(stream)) {
    attr_.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  }

  Result<std::unique_ptr<RangedStep>> make() {
    const bool bf16 = type_ == memory::data_type::bf16;
    if (std::holds_alternative<MaxPool>(request_.node.op)) {
      Result<std::unique_ptr<MaxPoolStep>> made = make_max_pool_step(request_, bf16);
      XC_RETURN_IF_ERROR(made.status());
      return std::unique_ptr<RangedStep>(*std::move(made));
    }
    if (const auto* conv = std::get_if<Conv2d>(&request_.node.op); conv && conv->depthwise) {
      Result<std::unique_ptr<DepthwiseStep>> made =
          make_depthwise_step(request_, bf16, file_, cache_);
      XC_RETURN_IF_ERROR(made.status());
      return std::unique_ptr<RangedStep>(*std::move(made));
    }
    if (std::holds_alternative<SeparableChain>(request_.node.op)) {
      return make_separable_step(request_, type_, file_, cache_, staging_);
    }
    XC_RETURN_IF_ERROR(
        std::visit([this](const auto& op) { return prepare(op); }, request_.node.op));
    return std::unique_ptr<RangedStep>(std::move(step_));
  }

 private:
  static memory::desc nhwc(const Shape& shape, memory::data_type type) {
    return {dims_of(shape), type, Tag::nhwc};
  }
  memory::data_type type(bool is_wide) const { return is_wide ? memory::data_type::f32 : type_; }
  memory::data_type src_type(std::size_t i) const { return type(request_.src_is_wide(i)); }
  memory::data_type dst_type() const { return type(request_.dst_is_wide); }
  memory::desc src_desc(std::size_t i) const { return nhwc(request_.src[i], src_type(i)); }
  memory::desc dst_desc() const { return nhwc(request_.dst, dst_type()); }
  Argument dst() const { return {DNNL_ARG_DST, CpuStep::unbound(dst_desc()), Place::kDst}; }
  static Argument at(int id, const memory::desc& desc, Place place) {
    return {id, CpuStep::unbound(desc), place};
  }

  // A value a channel, broadcast over pixels; `values` must outlive the step.
  static Argument vector(int id, const memory::desc& desc, const std::vector<float>& values) {
    return {id, memory(desc, cpu_engine(), const_cast<float*>(values.data())), Place::kDst, 0,
            true};
  }
  static memory::desc per_channel(int channels) {
    return {{1, channels, 1, 1}, memory::data_type::f32, Tag::nhwc};
  }

  static int post_op_arg(int position) {
    return DNNL_ARG_ATTR_MULTIPLE_POST_OP(position) | DNNL_ARG_SRC_1;
  }

  Status prepare(const Input&) { return {Code::kInternal, "an input is no step"}; }
  Status prepare(const SeparableChain&) { return {Code::kInternal, "it is no single primitive"}; }
  Status prepare(const MaxPool&) { return {Code::kInternal, "max pooling is no primitive"}; }
  Status prepare(const Conv2d& conv);
  Status prepare(const BatchNorm& norm);
  Status prepare(const Relu&);
  Status prepare(const Add&);
  Status prepare(const AvgPool& pool) {
    return average(window_dims(pool_problem(pool, request_.src[0]).window));
  }
  Status prepare(const GlobalAvgPool&) {
    const Shape& src = request_.src[0];
    return average({{src.h, src.w}, {src.h, src.w}, {0, 0}, {0, 0}});
  }
  Status average(const onednn::WindowDims& window);
  Argument in_workspace(const memory::desc& values);
  void convert(Argument src, Argument dst);

  // Positions of those that take an argument; the second of `second` is the next one.
  struct PostOps {
    std::optional<int> second;
    std::optional<int> residual;
  };

  Shape gather_strided(const Conv2d& conv, Argument& src);
  PostOps set_post_ops(const Conv2d& conv, const Shape& dst, memory::data_type made);
  Result<std::shared_ptr<const PackedConv>> pack(const Conv2d& conv, const memory::desc& packed);

  const StepRequest& request_;
  memory::data_type type_;
  const WeightFile& file_;
  WeightCache& cache_;
  Staging& staging_;
  std::unique_ptr<CpuStep> step_;
  dnnl::primitive_attr attr_;
};

// Has every stride-th pixel of the source copied to the workspace, and makes `src` point there.
Shape StepMaker::gather_strided(const Conv2d& conv, Argument& src) {
  const Shape gathered = {request_.dst.n, request_.dst.h, request_.dst.w, request_.src[0].c};
  const memory::desc desc = nhwc(gathered, src_type(0));
  const std::size_t offset = step_->reserve_workspace(desc.get_size());
  const std::size_t pixel_bytes = nhwc({1, 1, 1, gathered.c}, src_type(0)).get_size();
  step_->set_gather({request_.src[0], gathered, conv.stride, pixel_bytes, offset});
  src = {DNNL_ARG_SRC, CpuStep::unbound(desc), Place::kWorkspace, offset};
  return gathered;
}

memory::dims weight_dims(const Conv2d& conv, int in_channels) {
  return {conv.out_channels, in_channels, conv.size, conv.size};
}

// A few rows at a time, which are scaled and summed while they are in the cache. Gives the largest
// sum of absolute values of a row.
Result<double> read_weights(const Conv2d& conv, const WeightFile& file, std::span<float> weights) {
  constexpr std::size_t kPieceValues = std::size_t{1} << 16U;
  const std::size_t rows = static_cast<std::size_t>(conv.out_channels);
  const std::size_t row = weights.size() / rows;
  const std::size_t piece = std::max<std::size_t>(kPieceValues / row, 1);
  double largest = 0;
  for (std::size_t first = 0; first < rows; first += piece) {
    const std::size_t count = std::min(piece, rows - first);
    const std::span<float> rows_read = weights.subspan(first * row, count * row);
    XC_RETURN_IF_ERROR(read_scaled_rows(conv, file, first, rows_read));
    largest = std::max(largest, largest_row(rows_read, row));
  }
  return largest;
}

// Packs into `packed`, or finds what another session or an earlier repetition packed.
Result<std::shared_ptr<const PackedConv>> StepMaker::pack(const Conv2d& conv,
                                                          const memory::desc& packed) {
  const auto make = [&]() -> Result<std::shared_ptr<const void>> {
    const auto elements = static_cast<std::size_t>(conv.weight->elements());
    const Result<std::span<float>> weights = staging_.take(file_, elements);
    XC_RETURN_IF_ERROR(weights.status());
    const Result<double> largest = read_weights(conv, file_, *weights);
    XC_RETURN_IF_ERROR(largest.status());
    auto result = std::make_shared<PackedConv>();
    result->reach = reach_of(conv, *largest);
    const memory::desc plain(weight_dims(conv, request_.src[0].c), memory::data_type::f32,
                             Tag::oihw);
    memory source(plain, cpu_engine(), weights->data());
    Result<std::shared_ptr<std::byte>> storage = allocate_host(packed.get_size(), Pages::kOrdinary);
    XC_RETURN_IF_ERROR(storage.status());
    result->storage = *std::move(storage);
    result->weights = memory(packed, cpu_engine(), result->storage.get());
    const ThreadScope scope(1);  // other threads prepare other steps
    dnnl::stream stream(cpu_engine());
    dnnl::reorder(source, result->weights).execute(stream, source, result->weights);
    stream.wait();
    if (conv.affine != nullptr) {
      result->bias = to_floats(conv.affine->shift);
    }
    if (conv.second_affine != nullptr) {
      result->second_scale = to_floats(conv.second_affine->scale);
      result->second_shift = to_floats(conv.second_affine->shift);
    }
    return std::shared_ptr<const void>(std::move(result));
  };
  // Another shape may have chosen another format for the same tensor; it gets the next number.
  for (int format = 0;; ++format) {
    const std::string key = conv.weight->name + (conv.folded ? "|folded|" : "|plain|") +
                            (conv.second_affine ? "second|" : "") + std::to_string(format);
    Result<std::shared_ptr<const void>> held = cache_.get("cpu|" + key, make);
    XC_RETURN_IF_ERROR(held.status());
    auto result = std::static_pointer_cast<const PackedConv>(*held);
    if (result->weights.get_desc() == packed) {
      return result;
    }
  }
}

// All pixels of all pictures as one row of one picture.
Shape one_row(const Shape& shape) {
  const std::int64_t pixels = shape.elements() / shape.c;
  return pixels <= std::numeric_limits<int>::max() ? Shape{1, 1, static_cast<int>(pixels), shape.c}
                                                   : shape;
}

// What stands behind the sum, of type `made`, in the primitive's post-ops.
StepMaker::PostOps StepMaker::set_post_ops(const Conv2d& conv, const Shape& dst,
                                           memory::data_type made) {
  PostOps positions;
  dnnl::post_ops ops;
  if (conv.relu) {
    onednn::append_relu(ops);
  }
  if (conv.second_affine != nullptr) {
    positions.second = ops.len();
    ops.append_binary(dnnl::algorithm::binary_mul, per_channel(conv.out_channels));
    ops.append_binary(dnnl::algorithm::binary_add, per_channel(conv.out_channels));
  }
  // oneDNN adds cheapest to what stands in the destination, as the first thing after the sum.
  if (conv.add && ops.len() == 0 && request_.second_is_free && src_type(1) == dst_type() &&
      made == dst_type()) {
    ops.append_sum();
    step_->set_overwrites_second();
  } else if (conv.add) {
    positions.residual = ops.len();
    ops.append_binary(dnnl::algorithm::binary_add, nhwc(dst, src_type(1)));
  }
  if (conv.final_relu) {
    onednn::append_relu(ops);
  }
  attr_.set_post_ops(ops);
  return positions;
}

Status StepMaker::prepare(const Conv2d& conv) {
  Argument src = at(DNNL_ARG_SRC, src_desc(0), Place::kSrc0);
  ConvProblem problem = conv_problem(conv, request_.src[0]);
  const memory::data_type product = src_type(0);
  if (conv.size == 1 && conv.stride > 1 && conv.pad == 0) {
    problem.src = gather_strided(conv, src);
    problem.window.stride = 1;
  }
  Shape dst = request_.dst;
  if (problem.window == Window{}) {
    // It takes each pixel by itself, and oneDNN multiplies a picture at a time: with maps of 4 or
    // 16 pixels its matrices would be as small as that.
    problem.src = one_row(problem.src);
    dst = one_row(dst);
    src.value = CpuStep::unbound(nhwc(problem.src, product));
  }
  // oneDNN has no convolution of float32 into bf16.
  const memory::data_type made = product == memory::data_type::f32 ? product : dst_type();
  const PostOps post_ops = set_post_ops(conv, dst, made);

  const memory::desc any(weight_dims(conv, request_.src[0].c), product, Tag::any);
  const memory::desc bias = conv.affine != nullptr
                                ? memory::desc({conv.out_channels}, memory::data_type::f32, Tag::x)
                                : memory::desc();
  const auto desc = onednn::convolution(cpu_engine(), nhwc(problem.src, product), any, bias,
                                        nhwc(dst, made), window_dims(problem.window), attr_);
  Result<std::shared_ptr<const PackedConv>> packed = pack(conv, desc.weights_desc());
  XC_RETURN_IF_ERROR(packed.status());
  const PackedConv& parameters = **packed;
  step_->set_packed(*packed);
  step_->set_reach(parameters.reach);

  Argument result = made == dst_type() ? at(DNNL_ARG_DST, nhwc(dst, made), Place::kDst)
                                       : in_workspace(nhwc(dst, made));
  result.id = DNNL_ARG_DST;
  std::vector<Argument> arguments = {src, result};
  arguments.push_back({DNNL_ARG_WEIGHTS, parameters.weights, Place::kDst, 0, true});
  if (conv.affine != nullptr) {
    arguments.push_back(vector(DNNL_ARG_BIAS, bias, parameters.bias));
  }
  if (post_ops.second) {
    const memory::desc channel = per_channel(conv.out_channels);
    arguments.push_back(vector(post_op_arg(*post_ops.second), channel, parameters.second_scale));
    arguments.push_back(
        vector(post_op_arg(*post_ops.second + 1), channel, parameters.second_shift));
  }
  if (post_ops.residual) {
    arguments.push_back(at(post_op_arg(*post_ops.residual), nhwc(dst, src_type(1)), Place::kSrc1));
  }
  step_->add_call(desc, dnnl::convolution_forward(desc), std::move(arguments));
  if (made != dst_type()) {
    result.value = CpuStep::unbound(nhwc(request_.dst, made));
    convert(result, this->dst());
  }
  return {};
}

Argument StepMaker::in_workspace(const memory::desc& values) {
  return {DNNL_ARG_SRC, CpuStep::unbound(values), Place::kWorkspace,
          step_->reserve_workspace(values.get_size())};
}

// Has `src` copied to `dst`, of the other type.
void StepMaker::convert(Argument src, Argument dst) {
  src.id = DNNL_ARG_FROM;
  dst.id = DNNL_ARG_TO;
  dnnl::primitive_attr attr;  // without what another primitive does besides
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::reorder::primitive_desc desc(cpu_engine(), src.value.get_desc(), cpu_engine(),
                                           dst.value.get_desc(), attr);
  step_->add_call(desc, dnnl::reorder(desc), {std::move(src), std::move(dst)});
}

// Only where it was not folded: y = scale * x, then + shift.
Status StepMaker::prepare(const BatchNorm& norm) {
  const int channels = request_.dst.c;
  auto parameters = std::make_shared<PackedConv>();
  parameters->second_scale = to_floats(norm.affine->scale);
  parameters->second_shift = to_floats(norm.affine->shift);
  step_->set_reach({reach_of(*norm.affine)});

  dnnl::post_ops ops;
  ops.append_binary(dnnl::algorithm::binary_add, per_channel(channels));
  attr_.set_post_ops(ops);
  const auto desc = onednn::binary(cpu_engine(), dnnl::algorithm::binary_mul, src_desc(0),
                                   per_channel(channels), dst_desc(), attr_);
  step_->add_call(desc, dnnl::binary(desc),
                  {at(DNNL_ARG_SRC_0, src_desc(0), Place::kSrc0),
                   vector(DNNL_ARG_SRC_1, per_channel(channels), parameters->second_scale),
                   vector(post_op_arg(0), per_channel(channels), parameters->second_shift), dst()});
  step_->set_packed(std::move(parameters));
  return {};
}

// oneDNN's has one type, so that where there are two it comes behind the rounding, which is the
// same.
Status StepMaker::prepare(const Relu&) {
  Argument src = at(DNNL_ARG_SRC, src_desc(0), Place::kSrc0);
  if (src_type(0) != dst_type()) {
    convert(src, dst());
    src.place = Place::kDst;
    src.value = CpuStep::unbound(dst_desc());
  }
  const auto desc = onednn::relu(cpu_engine(), dst_desc(), attr_);
  step_->add_call(desc, dnnl::eltwise_forward(desc), {src, dst()});
  return {};
}

Status StepMaker::prepare(const Add&) {
  const memory::desc values = src_desc(0);
  step_->set_reach({.adds = true});
  const auto desc =
      onednn::binary(cpu_engine(), dnnl::algorithm::binary_add, values, values, dst_desc(), attr_);
  step_->add_call(
      desc, dnnl::binary(desc),
      {at(DNNL_ARG_SRC_0, values, Place::kSrc0), at(DNNL_ARG_SRC_1, values, Place::kSrc1), dst()});
  return {};
}

Status StepMaker::average(const onednn::WindowDims& window) {
  step_->set_reach({{static_cast<double>(window.size[0] * window.size[1])}});  // their sum
  Argument src = at(DNNL_ARG_SRC, src_desc(0), Place::kSrc0);
  if (src_type(0) != dst_type()) {
    const Argument wide = in_workspace(nhwc(request_.src[0], dst_type()));
    convert(src, wide);  // oneDNN pools no bf16 into float32
    src = wide;
  }
  const auto desc = onednn::pooling(cpu_engine(), dnnl::algorithm::pooling_avg_exclude_padding,
                                    src.value.get_desc(), dst_desc(), window, attr_);
  step_->add_call(desc, dnnl::pooling_forward(desc), {src, dst()});
  return {};
}

}  // namespace

Result<std::span<float>> Staging::take(const WeightFile& file, std::size_t count) {
  if (count > values) {
    std::size_t most = count;
    for (const TensorEntry& entry : file.entries()) {
      if (entry.type != StoredType::kI64) {  // no weights
        most = std::max(most, static_cast<std::size_t>(entry.elements()));
      }
    }
    Result<std::shared_ptr<std::byte>> made = allocate_host(most * sizeof(float), Pages::kOrdinary);
    XC_RETURN_IF_ERROR(made.status());
    memory = *std::move(made);
    values = most;
  }
  return std::span(reinterpret_cast<float*>(memory.get()), count);
}

Result<std::unique_ptr<RangedStep>> prepare_step(const StepRequest& request, memory::data_type type,
                                                 const WeightFile& file, WeightCache& cache,
                                                 const dnnl::stream& stream, Staging& staging) {
  Result<std::unique_ptr<RangedStep>> step = Status(Code::kInternal, "no step was made");
  XC_RETURN_IF_ERROR(make_primitives("layer '" + request.node.name + "'", [&] {
    step = StepMaker(request, type, file, cache, stream, staging).make();
    return step.status();
  }));
  return step;
}

}  // namespace xception::cpu
