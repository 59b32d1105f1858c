// The CPU backend: every node is one oneDNN primitive, or two, on NHWC activations.
//
// What stands behind a convolution or a max pool goes into the primitive's post-ops, so an
// activation is written once. The weights' packed format is oneDNN's own choice; activations are
// never reordered. A strided 1x1 convolution first gathers the pixels it reads into the workspace:
// oneDNN 2.6 has no AVX2 kernel for the strided case that comes near its 1x1 kernel (77-116 against
// 180-190 GFLOP/s on two Zen 3 cores at 64 -> 128 and 728 -> 1024 channels).
#include <dlfcn.h>

#include <cstring>
#include <new>
#include <utility>

#include "engine/backend.h"
#include "engine/onednn.h"

namespace xception {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

// Turns what oneDNN throws into a status.
template <class F>
Status guarded(const std::string& what, F&& body) {
  try {
    return body();
  } catch (const dnnl::error& error) {
    const bool no_memory = error.status == dnnl_out_of_memory;
    return {no_memory ? Code::kOutOfMemory : Code::kInternal, what + ": oneDNN: " + error.message};
  } catch (const std::bad_alloc&) {
    return {Code::kOutOfMemory, what + ": out of memory"};
  }
}

// The OpenMP runtime that oneDNN runs on, looked up in the process: which one that is was decided
// where oneDNN was built, and linking another would set the threads of the wrong one.
struct OpenMp {
  int (*get_max_threads)() = nullptr;
  void (*set_num_threads)(int) = nullptr;

  OpenMp() {
    get_max_threads = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_max_threads"));
    set_num_threads = reinterpret_cast<void (*)(int)>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
  }
  bool present() const { return get_max_threads != nullptr && set_num_threads != nullptr; }
};

// Sets the number of threads for the calling thread, and puts it back.
class ThreadScope {
 public:
  ThreadScope(const OpenMp& omp, int threads) : omp_(omp) {
    if (omp_.present()) {
      before_ = omp_.get_max_threads();
      omp_.set_num_threads(threads);
    }
  }
  ~ThreadScope() {
    if (omp_.present()) {
      omp_.set_num_threads(before_);
    }
  }
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  const OpenMp& omp_;
  int before_ = 0;
};

memory::dims dims_of(const Shape& s) { return {s.n, s.c, s.h, s.w}; }

onednn::WindowDims window_dims(const Window& w) {
  return {
      {w.size, w.size}, {w.stride, w.stride}, {w.pad.top, w.pad.left}, {w.pad.bottom, w.pad.right}};
}

std::vector<float> to_floats(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

// A convolution's weights as its primitive wants them, with the vectors of its epilogue.
struct PackedConv {
  memory weights;  // empty where a batch norm stands alone
  std::vector<float> bias;
  std::vector<float> second_scale;
  std::vector<float> second_shift;

  std::size_t bytes() const {
    return (weights ? weights.get_desc().get_size() : 0) +
           (bias.size() + second_scale.size() + second_shift.size()) * sizeof(float);
  }
};

// Which buffer of the step an argument of a primitive is.
enum class Place { kSrc0, kSrc1, kDst, kWorkspace };

struct Argument {
  int id = 0;  // DNNL_ARG_*
  memory value;
  Place place = Place::kDst;
  std::size_t offset = 0;  // bytes into that buffer
  bool fixed = false;      // points to packed parameters already
};

struct Call {
  dnnl::primitive primitive;
  std::vector<Argument> arguments;
  std::vector<dnnl_exec_arg_t> raw;  // the same as oneDNN's C interface takes them, made by bind
};

class CpuStep : public Step {
 public:
  explicit CpuStep(dnnl::stream stream) : stream_(std::move(stream)) {}

  std::string implementation() const override { return implementation_; }
  std::size_t workspace_bytes() const override { return workspace_bytes_; }
  std::size_t parameter_bytes() const override { return packed_ ? packed_->bytes() : 0; }
  const void* parameters() const override { return packed_.get(); }

  Status bind(const StepBuffers& buffers) override {
    return guarded("bind", [&] {
      for (Call& call : calls_) {
        call.raw.clear();
        for (Argument& argument : call.arguments) {
          if (!argument.fixed) {
            argument.value.set_data_handle(address(argument, buffers));
          }
          call.raw.push_back({argument.id, argument.value.get()});
        }
      }
      return Status();
    });
  }

  // Through the C interface, which neither allocates nor throws.
  Status run() override {
    for (const Call& call : calls_) {
      const dnnl_status_t status = dnnl_primitive_execute(
          call.primitive.get(), stream_.get(), static_cast<int>(call.raw.size()), call.raw.data());
      if (status != dnnl_success) {
        return {Code::kInternal,
                "oneDNN failed to run " + implementation_ + ": status " + std::to_string(status)};
      }
    }
    return {};
  }

  template <class PrimitiveDesc, class Primitive>
  void add_call(const PrimitiveDesc& desc, const Primitive& primitive,
                std::vector<Argument> arguments) {
    if (const std::size_t scratch = desc.scratchpad_desc().get_size(); scratch > 0) {
      arguments.push_back({DNNL_ARG_SCRATCHPAD, unbound(desc.scratchpad_desc()), Place::kWorkspace,
                           reserve_workspace(scratch)});
    }
    implementation_ = desc.impl_info_str();
    calls_.push_back({primitive, std::move(arguments), {}});
  }

  // Bytes at the returned offset of the workspace, for the whole of the step.
  std::size_t reserve_workspace(std::size_t bytes) {
    constexpr std::size_t kLine = 64;
    return std::exchange(workspace_bytes_, workspace_bytes_ + (bytes + kLine - 1) / kLine * kLine);
  }

  void set_packed(std::shared_ptr<const PackedConv> packed) { packed_ = std::move(packed); }

  static memory unbound(const memory::desc& desc);

 private:
  static std::byte* address(const Argument& argument, const StepBuffers& buffers) {
    switch (argument.place) {
      case Place::kSrc0:
        return buffers.src[0] + argument.offset;
      case Place::kSrc1:
        return buffers.src[1] + argument.offset;
      case Place::kDst:
        return buffers.dst + argument.offset;
      case Place::kWorkspace:
        return buffers.workspace + argument.offset;
    }
    return nullptr;
  }

  dnnl::stream stream_;
  std::vector<Call> calls_;
  std::shared_ptr<const PackedConv> packed_;
  std::string implementation_;
  std::size_t workspace_bytes_ = 0;
};

// One engine a process: it is stateless for CPUs, and primitives of one cannot use memory of
// another.
const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory CpuStep::unbound(const memory::desc& desc) { return {desc, cpu_engine(), DNNL_MEMORY_NONE}; }

// Prepares the step of one node; one overload an operation.
class StepMaker {
 public:
  StepMaker(const StepRequest& request, memory::data_type type, const WeightFile& file,
            WeightCache& cache, const dnnl::stream& stream)
      : request_(request),
        type_(type),
        file_(file),
        cache_(cache),
        stream_(stream),
        step_(std::make_unique<CpuStep>(stream)) {
    attr_.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  }

  Result<std::unique_ptr<Step>> make() {
    XC_RETURN_IF_ERROR(guarded("layer '" + request_.node.name + "'", [&] {
      return std::visit([this](const auto& op) { return prepare(op); }, request_.node.op);
    }));
    return std::unique_ptr<Step>(std::move(step_));
  }

 private:
  memory::desc nhwc(const Shape& shape) const { return {dims_of(shape), type_, Tag::nhwc}; }
  memory::desc dst_desc() const {
    return {dims_of(request_.dst), request_.is_result ? memory::data_type::f32 : type_, Tag::nhwc};
  }
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
  Status prepare(const Conv2d& conv);
  Status prepare(const BatchNorm& norm);
  Status prepare(const Relu&);
  Status prepare(const Add&);
  Status prepare(const MaxPool& pool);
  Status prepare(const AvgPool& pool) {
    return average(pool_problem(pool, request_.src[0]).window);
  }
  Status prepare(const GlobalAvgPool&);

  Status average(const Window& window) {
    onednn::WindowDims dims = window_dims(window);
    return pool(dnnl::algorithm::pooling_avg_exclude_padding, dims, false);
  }
  Status pool(dnnl::algorithm algorithm, const onednn::WindowDims& window, bool add);

  Shape gather_strided(const Conv2d& conv, Argument& src);
  Result<std::shared_ptr<const PackedConv>> pack(const Conv2d& conv, const memory::desc& packed);

  const StepRequest& request_;
  memory::data_type type_;
  const WeightFile& file_;
  WeightCache& cache_;
  const dnnl::stream& stream_;
  std::unique_ptr<CpuStep> step_;
  dnnl::primitive_attr attr_;
};

// Copies every stride-th pixel of the source to the workspace, and makes `src` point there. A
// picture at a time: with an odd height the strided views of a batch would overlap, which oneDNN
// refuses.
Shape StepMaker::gather_strided(const Conv2d& conv, Argument& src) {
  const Shape full = {1, request_.src[0].h, request_.src[0].w, request_.src[0].c};
  const Shape gathered = {1, request_.dst.h, request_.dst.w, full.c};
  const memory::dim pixel = full.c;
  const memory::dim row = pixel * full.w;
  const memory::desc view(dims_of(gathered), type_,
                          {row * full.h, 1, row * conv.stride, pixel * conv.stride});
  const memory::desc dense = nhwc(gathered);
  const std::size_t full_bytes = nhwc(full).get_size();
  const Shape batch = {request_.src[0].n, gathered.h, gathered.w, gathered.c};
  const std::size_t offset = step_->reserve_workspace(nhwc(batch).get_size());
  const dnnl::reorder::primitive_desc desc(cpu_engine(), view, cpu_engine(), dense, attr_);
  const dnnl::reorder gather(desc);
  for (std::size_t n = 0; n < static_cast<std::size_t>(batch.n); ++n) {
    step_->add_call(desc, gather,
                    {{DNNL_ARG_SRC, CpuStep::unbound(view), Place::kSrc0, n * full_bytes},
                     {DNNL_ARG_DST, CpuStep::unbound(dense), Place::kWorkspace,
                      offset + n * dense.get_size()}});
  }
  src = {DNNL_ARG_SRC, CpuStep::unbound(nhwc(batch)), Place::kWorkspace, offset};
  return batch;
}

memory::dims weight_dims(const Conv2d& conv, int in_channels) {
  return conv.depthwise ? memory::dims{conv.out_channels, 1, 1, conv.size, conv.size}
                        : memory::dims{conv.out_channels, in_channels, conv.size, conv.size};
}

// Packs into `packed`, or finds what another session or an earlier repetition packed.
Result<std::shared_ptr<const PackedConv>> StepMaker::pack(const Conv2d& conv,
                                                          const memory::desc& packed) {
  const auto make = [&]() -> Result<std::shared_ptr<const void>> {
    Result<std::vector<float>> weights = read_scaled_weights(conv, file_);
    XC_RETURN_IF_ERROR(weights.status());
    auto result = std::make_shared<PackedConv>();
    const memory::desc plain(weight_dims(conv, request_.src[0].c), memory::data_type::f32,
                             conv.depthwise ? Tag::goihw : Tag::oihw);
    memory source(plain, cpu_engine(), weights->data());
    result->weights = memory(packed, cpu_engine());
    dnnl::stream stream = stream_;
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

Status StepMaker::prepare(const Conv2d& conv) {
  Argument src = at(DNNL_ARG_SRC, nhwc(request_.src[0]), Place::kSrc0);
  ConvProblem problem = conv_problem(conv, request_.src[0]);
  if (conv.size == 1 && conv.stride > 1) {
    problem.src = gather_strided(conv, src);
    problem.window.stride = 1;
  }

  dnnl::post_ops ops;
  std::vector<int> second(2);
  int residual = 0;
  if (conv.relu) {
    onednn::append_relu(ops);
  }
  if (conv.second_affine != nullptr) {
    second = {ops.len(), ops.len() + 1};
    ops.append_binary(dnnl::algorithm::binary_mul, per_channel(conv.out_channels));
    ops.append_binary(dnnl::algorithm::binary_add, per_channel(conv.out_channels));
  }
  if (conv.add) {
    residual = ops.len();
    ops.append_binary(dnnl::algorithm::binary_add, nhwc(request_.dst));
  }
  if (conv.final_relu) {
    onednn::append_relu(ops);
  }
  attr_.set_post_ops(ops);

  const memory::desc any(weight_dims(conv, request_.src[0].c), type_, Tag::any);
  const memory::desc bias = conv.affine != nullptr
                                ? memory::desc({conv.out_channels}, memory::data_type::f32, Tag::x)
                                : memory::desc();
  const auto desc = onednn::convolution(cpu_engine(), nhwc(problem.src), any, bias, dst_desc(),
                                        window_dims(problem.window), attr_);
  Result<std::shared_ptr<const PackedConv>> packed = pack(conv, desc.weights_desc());
  XC_RETURN_IF_ERROR(packed.status());
  const PackedConv& parameters = **packed;
  step_->set_packed(*packed);

  std::vector<Argument> arguments = {src, dst()};
  arguments.push_back({DNNL_ARG_WEIGHTS, parameters.weights, Place::kDst, 0, true});
  if (conv.affine != nullptr) {
    arguments.push_back(vector(DNNL_ARG_BIAS, bias, parameters.bias));
  }
  if (conv.second_affine != nullptr) {
    const memory::desc channel = per_channel(conv.out_channels);
    arguments.push_back(vector(post_op_arg(second[0]), channel, parameters.second_scale));
    arguments.push_back(vector(post_op_arg(second[1]), channel, parameters.second_shift));
  }
  if (conv.add) {
    arguments.push_back(at(post_op_arg(residual), nhwc(request_.dst), Place::kSrc1));
  }
  step_->add_call(desc, dnnl::convolution_forward(desc), std::move(arguments));
  return {};
}

// Only where it was not folded: y = scale * x, then + shift.
Status StepMaker::prepare(const BatchNorm& norm) {
  const int channels = request_.dst.c;
  auto parameters = std::make_shared<PackedConv>();
  parameters->second_scale = to_floats(norm.affine->scale);
  parameters->second_shift = to_floats(norm.affine->shift);

  dnnl::post_ops ops;
  ops.append_binary(dnnl::algorithm::binary_add, per_channel(channels));
  attr_.set_post_ops(ops);
  const auto desc = onednn::binary(cpu_engine(), dnnl::algorithm::binary_mul, nhwc(request_.src[0]),
                                   per_channel(channels), dst_desc(), attr_);
  step_->add_call(desc, dnnl::binary(desc),
                  {at(DNNL_ARG_SRC_0, nhwc(request_.src[0]), Place::kSrc0),
                   vector(DNNL_ARG_SRC_1, per_channel(channels), parameters->second_scale),
                   vector(post_op_arg(0), per_channel(channels), parameters->second_shift), dst()});
  step_->set_packed(std::move(parameters));
  return {};
}

Status StepMaker::prepare(const Relu&) {
  const memory::desc values = nhwc(request_.src[0]);
  const auto desc = onednn::relu(cpu_engine(), values, attr_);
  step_->add_call(desc, dnnl::eltwise_forward(desc),
                  {at(DNNL_ARG_SRC, values, Place::kSrc0), dst()});
  return {};
}

Status StepMaker::prepare(const Add&) {
  const memory::desc values = nhwc(request_.src[0]);
  const auto desc =
      onednn::binary(cpu_engine(), dnnl::algorithm::binary_add, values, values, dst_desc(), attr_);
  step_->add_call(
      desc, dnnl::binary(desc),
      {at(DNNL_ARG_SRC_0, values, Place::kSrc0), at(DNNL_ARG_SRC_1, values, Place::kSrc1), dst()});
  return {};
}

Status StepMaker::prepare(const MaxPool& max) {
  const PoolProblem problem = pool_problem(max, request_.src[0]);
  return pool(dnnl::algorithm::pooling_max, window_dims(problem.window), max.add);
}

Status StepMaker::prepare(const GlobalAvgPool&) {
  const Shape& src = request_.src[0];
  return pool(dnnl::algorithm::pooling_avg_exclude_padding,
              {{src.h, src.w}, {src.h, src.w}, {0, 0}, {0, 0}}, false);
}

Status StepMaker::pool(dnnl::algorithm algorithm, const onednn::WindowDims& window, bool add) {
  std::vector<Argument> arguments = {at(DNNL_ARG_SRC, nhwc(request_.src[0]), Place::kSrc0), dst()};
  if (add) {
    dnnl::post_ops ops;
    ops.append_binary(dnnl::algorithm::binary_add, nhwc(request_.dst));
    attr_.set_post_ops(ops);
    arguments.push_back(at(post_op_arg(0), nhwc(request_.dst), Place::kSrc1));
  }
  const auto desc =
      onednn::pooling(cpu_engine(), algorithm, nhwc(request_.src[0]), dst_desc(), window, attr_);
  step_->add_call(desc, dnnl::pooling_forward(desc), std::move(arguments));
  return {};
}

class CpuBackend : public Backend {
 public:
  CpuBackend(int threads, memory::data_type type)
      : threads_(threads), type_(type), stream_(cpu_engine()) {}

  std::string device() const override { return "cpu"; }
  int threads() const override { return threads_; }

  std::size_t value_bytes(const Shape& shape, bool is_result) const override {
    const bool wide = is_result || type_ == memory::data_type::f32;
    return static_cast<std::size_t>(shape.elements()) * (wide ? 4 : 2);
  }

  Result<std::unique_ptr<Step>> prepare(const StepRequest& request, const WeightFile& file,
                                        WeightCache& cache) override {
    const ThreadScope scope(omp_, threads_);
    return StepMaker(request, type_, file, cache, stream_).make();
  }

  Result<std::shared_ptr<std::byte>> allocate(std::size_t bytes) override {
    return allocate_host(bytes);
  }

  Status copy_in(const float* src, const Shape& shape, std::byte* dst) override {
    if (type_ == memory::data_type::f32) {
      std::memcpy(dst, src, value_bytes(shape, false));
      return {};
    }
    return convert(shape, memory::data_type::f32, const_cast<float*>(src), type_, dst);
  }

  Status copy_out(const std::byte* src, const Shape& shape, bool is_result, float* dst) override {
    if (is_result || type_ == memory::data_type::f32) {
      std::memcpy(dst, src, value_bytes(shape, is_result));
      return {};
    }
    return convert(shape, type_, const_cast<std::byte*>(src), memory::data_type::f32, dst);
  }

  Status run(std::span<const std::unique_ptr<Step>> steps, const AfterStep& after) override {
    const ThreadScope scope(omp_, threads_);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      XC_RETURN_IF_ERROR(steps[i]->run());
      if (after) {
        XC_RETURN_IF_ERROR(after(i));
      }
    }
    return {};
  }

 private:
  Status convert(const Shape& shape, memory::data_type from, void* src, memory::data_type to,
                 void* dst) {
    const ThreadScope scope(omp_, threads_);
    return guarded("convert activations", [&] {
      memory source({dims_of(shape), from, Tag::nhwc}, cpu_engine(), src);
      memory target({dims_of(shape), to, Tag::nhwc}, cpu_engine(), dst);
      dnnl::reorder(source, target).execute(stream_, source, target);
      stream_.wait();
      return Status();
    });
  }

  OpenMp omp_;
  int threads_;
  memory::data_type type_;
  dnnl::stream stream_;
};

bool cpu_has_bf16() {
  const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
  // ISAs are bit sets: one that contains AVX512_BF16 has all of its bits.
  const auto bits = static_cast<unsigned>(isa);
  const auto bf16 = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return (bits & bf16) == bf16;
}

}  // namespace

Result<std::unique_ptr<Backend>> make_cpu_backend(const SessionOptions& options) {
  const bool bf16 = options.precision == Precision::kBf16;
  if (!bf16 && options.precision != Precision::kFp32) {
    return Status(Code::kUnsupported, std::string("the CPU backend has no ") +
                                          precision_name(options.precision) +
                                          "; use --precision fp32 or bf16");
  }
  if (bf16 && !cpu_has_bf16()) {
    return Status(Code::kUnsupported,
                  "precision bf16 needs a CPU with AVX512_BF16, which this one is not; use "
                  "--precision fp32");
  }
  const OpenMp omp;
  if (options.threads > 0 && !omp.present()) {
    return Status(Code::kUnsupported,
                  "this oneDNN was built without OpenMP, so the number of threads cannot be set; "
                  "leave --threads out");
  }
  const int threads =
      options.threads > 0 ? options.threads : (omp.present() ? omp.get_max_threads() : 1);
  std::unique_ptr<Backend> backend;
  XC_RETURN_IF_ERROR(guarded("start oneDNN", [&] {
    backend = std::make_unique<CpuBackend>(threads,
                                           bf16 ? memory::data_type::bf16 : memory::data_type::f32);
    return Status();
  }));
  return backend;
}

}  // namespace xception
