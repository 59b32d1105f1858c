// The CPU backend: every node is one oneDNN primitive, or two, on NHWC activations; depthwise
// convolutions and max pools are loops of our own (backend_cpu_window.h), and large ones run strip
// by strip or row by row with the 1x1 convolutions behind or before them (backend_cpu_separable.h).
//
// What stands behind a convolution goes into the primitive's post-ops, so an activation is written
// once. The weights' packed format is oneDNN's own choice; activations are never reordered. A
// strided 1x1 convolution first gathers the pixels it reads into the workspace: oneDNN 2.6 has no
// AVX2 kernel for the strided case that comes near its 1x1 kernel (77-116 against 180-190 GFLOP/s
// on two Zen 3 cores at 64 -> 128 and 728 -> 1024 channels).
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <vector>

#include "engine/backend_cpu_prepare.h"
#include "engine/backend_cpu_range.h"
#include "engine/backend_cpu_step.h"
#include "engine/backend_cpu_strips.h"
#include "engine/backend_host.h"
#include "engine/openmp.h"
#include "engine/processors.h"
#include "engine/wide_values.h"
#include "kernels/numeric.h"

namespace xception {
namespace {

using cpu::cpu_engine;
using cpu::CpuStep;
using cpu::dims_of;
using cpu::make_primitives;
using dnnl::memory;
using Tag = memory::format_tag;

class CpuBackend : public HostBackend {
 public:
  CpuBackend(int threads, memory::data_type type)
      : threads_(threads), type_(type), stream_(cpu_engine()) {}

  std::string device() const override { return "cpu"; }
  int threads() const override { return threads_; }

  std::vector<bool> wide_values(const Graph& graph,
                                const std::vector<Shape>& shapes) const override {
    return type_ == memory::data_type::f32 ? Backend::wide_values(graph, shapes)
                                           : xception::wide_values(graph, shapes);
  }

  std::size_t value_bytes(const Shape& shape, bool is_wide) const override {
    return static_cast<std::size_t>(shape.elements()) * memory::data_type_size(type(is_wide));
  }

  bool joins(const SeparableChain& chain, const Shape& src) const override {
    return cpu::gains_by_strips(chain, src, type_, threads_);
  }

  Result<std::unique_ptr<Step>> prepare(const StepRequest& request, const WeightFile& file,
                                        WeightCache& cache) override {
    const ThreadScope scope(threads_);
    cpu::Staging staging = take_staging();
    Result<std::unique_ptr<cpu::RangedStep>> step =
        cpu::prepare_step(request, type_, file, cache, stream_, staging);
    const std::scoped_lock lock(mutex_);
    idle_staging_.push_back(std::move(staging));
    XC_RETURN_IF_ERROR(step.status());
    return std::unique_ptr<Step>(*std::move(step));
  }
  void finish_preparing() override { idle_staging_.clear(); }

  Status copy_in(const float* src, const Shape& shape, bool is_wide, std::byte* dst) override {
    if (type(is_wide) == memory::data_type::f32) {
      std::memcpy(dst, src, value_bytes(shape, is_wide));
      return {};
    }
    auto* const narrow = reinterpret_cast<std::uint16_t*>(dst);
    std::transform(src, src + shape.elements(), narrow, to_bf16);
    return {};
  }

  Status copy_out(const std::byte* src, const Shape& shape, bool is_wide, float* dst) override {
    if (type(is_wide) == memory::data_type::f32) {
      std::memcpy(dst, src, value_bytes(shape, is_wide));
      return {};
    }
    const auto* const narrow = reinterpret_cast<const std::uint16_t*>(src);
    std::transform(narrow, narrow + shape.elements(), dst, from_bf16);
    return {};
  }

  Status set_plan(const BoundPlan& bound) override {
    XC_RETURN_IF_ERROR(HostBackend::set_plan(bound));
    guard_.set_plan(bound, type_ == memory::data_type::bf16);
    return type(bound.input().is_wide) == memory::data_type::f32 ? Status() : prepare_narrowing();
  }

  Status copy_staged() override {
    if (narrowing_ == nullptr) {
      return HostBackend::copy_staged();
    }
    const ThreadScope scope(threads_);
    return narrowing_->run();
  }

  Status run(std::span<const std::unique_ptr<Step>> steps, const AfterStep& after) override {
    const ThreadScope scope(threads_);
    if (steps.data() != plan().steps.data() || steps.size() != plan().steps.size()) {
      return HostBackend::run(steps, after);  // a part of the plan, or of none, as in tests
    }
    guard_.look(0);
    // What it captures must fit into a std::function without memory of its own.
    return HostBackend::run(steps, [this, &after](std::size_t step) {
      guard_.look(step + 1);
      if (step + 1 == plan().steps.size()) {
        guard_.mark_result();
      }
      return after ? after(step) : Status();
    });
  }

 private:
  memory::data_type type(bool is_wide) const { return is_wide ? memory::data_type::f32 : type_; }

  // One for each thread that prepares.
  cpu::Staging take_staging() {
    const std::scoped_lock lock(mutex_);
    if (idle_staging_.empty()) {
      return {};
    }
    cpu::Staging staging = std::move(idle_staging_.back());
    idle_staging_.pop_back();
    return staging;
  }

  // Once, as steps are: a primitive that is made and called by the way allocates.
  Status prepare_narrowing() {
    const ThreadScope scope(threads_);
    return make_primitives("prepare to convert pictures", [&] {
      const memory::dims dims = dims_of(plan().input().shape);
      const memory::desc from(dims, memory::data_type::f32, Tag::nhwc);
      const memory::desc to(dims, type_, Tag::nhwc);
      const dnnl::reorder::primitive_desc desc(cpu_engine(), from, cpu_engine(), to);
      narrowing_ = std::make_unique<CpuStep>(stream_);
      narrowing_->add_call(desc, dnnl::reorder(desc),
                           {{DNNL_ARG_SRC, CpuStep::unbound(from), cpu::Place::kSrc0},
                            {DNNL_ARG_DST, CpuStep::unbound(to), cpu::Place::kDst}});
      return narrowing_->bind(
          {{reinterpret_cast<std::byte*>(staged())}, plan().input().data, nullptr});
    });
  }

  int threads_;
  memory::data_type type_;
  dnnl::stream stream_;
  cpu::RangeGuard guard_;
  std::unique_ptr<CpuStep> narrowing_;  // of staged pictures, where the type is not theirs
  std::mutex mutex_;
  std::vector<cpu::Staging> idle_staging_;
};

}  // namespace

Result<std::unique_ptr<Backend>> make_cpu_backend(const SessionOptions& options) {
  const bool bf16 = options.precision == Precision::kBf16;
  const bool has_bf16 = cpu::has_isa(dnnl::cpu_isa::avx512_core_bf16);
  if (!bf16 && options.precision != Precision::kFp32) {
    return Status(Code::kUnsupported, std::string("the CPU backend has no ") +
                                          precision_name(options.precision) +
                                          "; use precision fp32" + (has_bf16 ? " or bf16" : ""));
  }
  if (bf16 && !has_bf16) {
    return Status(Code::kUnsupported,
                  "precision bf16 needs a CPU with AVX512_BF16, which this one has not; use "
                  "precision fp32");
  }
  const OpenMp& omp = OpenMp::find();
  if (options.threads > 0 && !omp.present()) {
    return Status(Code::kUnsupported,
                  "this oneDNN was built without OpenMP, so the number of threads cannot be set; "
                  "leave the number of threads at 0");
  }
  const int most = omp.present() ? std::min(omp.get_max_threads(), usable_processors()) : 1;
  const int threads = options.threads > 0 ? options.threads : most;
  std::unique_ptr<Backend> backend;
  XC_RETURN_IF_ERROR(make_primitives("start oneDNN", [&] {
    backend = std::make_unique<CpuBackend>(threads,
                                           bf16 ? memory::data_type::bf16 : memory::data_type::f32);
    return Status();
  }));
  return backend;
}

}  // namespace xception
