#include "engine/backend_cpu_window.h"

#include <algorithm>
#include <dnnl.hpp>
#include <string>
#include <utility>

#include "engine/backend_cpu_loops.h"
#include "engine/backend_cpu_step.h"
#include "engine/openmp.h"

namespace xception::cpu {

struct DepthwiseParameters {
  std::vector<float> weights;  // [size][size][c]
  std::vector<float> shift;
  std::vector<float> split_weights;  // as DepthwiseTask has them where src is bf16, else none
  std::vector<float> split_shift;
  std::vector<float> second_scale;
  std::vector<float> second_shift;
  StepReach reach;
};

namespace {

// By what oneDNN goes by, so that ONEDNN_MAX_CPU_ISA limits both.
const Loops& select_loops() {
#ifdef XC_X86_LOOPS
  if (has_isa(dnnl::cpu_isa::avx512_core)) {
    return kAvx512Loops;
  }
  if (has_isa(dnnl::cpu_isa::avx2) && __builtin_cpu_supports("fma")) {
    return kAvx2Loops;
  }
#endif
  return kBaselineLoops;
}

// Calls run(piece) on all threads at once. The pieces are those of oneDNN's 1x1 convolutions, from
// one of which the source comes: a thread finds in its cache what it wrote. They go by channel
// where there is one picture that has more channels than pixels, else by pixel.
template <class Run>
void for_pieces(const WindowTask& task, const Run& run) {
  constexpr int kChannels = 64;
  const int rows = task.dst.n * task.dst.h;
  const int channels = task.dst.c;
  if (task.src.n == 1 && task.src.h * static_cast<std::int64_t>(task.src.w) < channels) {
    parallel_for((channels + kChannels - 1) / kChannels, [&](int begin, int end) {
      run(Piece{0, rows, begin * kChannels, std::min(end * kChannels, channels)});
    });
  } else {
    parallel_for(rows, [&](int begin, int end) { run(Piece{begin, end, 0, channels}); });
  }
}

void point(WindowTask& task, const StepBuffers& buffers) {
  task.src_data = buffers.src[0];
  task.src_lines = task.src.n * task.src.h;
  task.residual = buffers.src.size() == 2 ? buffers.src[1] : nullptr;
  task.dst_data = buffers.dst;
}

// What the loops take of a window: at least one pixel of every window lies in the picture.
Status check_window(const StepRequest& request, const Window& window, int largest) {
  const int pad = std::max({window.pad.top, window.pad.left, window.pad.bottom, window.pad.right});
  if (window.size <= largest && pad < window.size) {
    return {};
  }
  return {Code::kUnsupported, "layer '" + request.node.name + "' (" + describe(request.node.op) +
                                  "): the CPU backend has no window of " +
                                  std::to_string(window.size) + "x" + std::to_string(window.size) +
                                  " padded by " + std::to_string(pad) + " for it"};
}

WindowTask window_task(const StepRequest& request, const Window& window, bool bf16) {
  return {request.src[0],
          request.dst,
          window,
          bf16 && !request.src_is_wide(0),
          bf16 && !request.dst_is_wide,
          bf16 && !request.src_is_wide(1)};
}

// Of every row of `channels` values.
std::vector<float> even_then_odd(const std::vector<float>& rows, std::size_t channels) {
  const std::size_t half = (channels + 1) / 2;
  std::vector<float> split(rows.size() / channels * 2 * half);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t c = i % channels;
    split[(i / channels * 2 + c % 2) * half + c / 2] = rows[i];
  }
  return split;
}

// [c][1][size][size] -> [size][size][c]; split too, where src is bf16.
Result<std::shared_ptr<const void>> pack_depthwise(const Conv2d& conv, bool split,
                                                   const WeightFile& file) {
  const Result<std::vector<float>> weights = read_scaled_weights(conv, file);
  XC_RETURN_IF_ERROR(weights.status());
  auto packed = std::make_shared<DepthwiseParameters>();
  packed->weights.resize(weights->size());
  const auto channels = static_cast<std::size_t>(conv.out_channels);
  const std::size_t taps = weights->size() / channels;
  packed->reach = reach_of(conv, largest_row(*weights, taps));
  for (std::size_t c = 0; c < channels; ++c) {
    for (std::size_t tap = 0; tap < taps; ++tap) {
      packed->weights[tap * channels + c] = (*weights)[c * taps + tap];
    }
  }
  if (conv.affine != nullptr) {
    packed->shift = to_floats(conv.affine->shift);
  }
  if (split) {
    packed->split_weights = even_then_odd(packed->weights, channels);
    packed->split_shift = even_then_odd(packed->shift, channels);
  }
  if (conv.second_affine != nullptr) {
    packed->second_scale = to_floats(conv.second_affine->scale);
    packed->second_shift = to_floats(conv.second_affine->shift);
  }
  return std::shared_ptr<const void>(std::move(packed));
}

const float* pointer(const std::vector<float>& values) {
  return values.empty() ? nullptr : values.data();
}

}  // namespace

DepthwiseStep::DepthwiseStep(const DepthwiseTask& task,
                             std::shared_ptr<const DepthwiseParameters> parameters)
    : loops_(select_loops()), task_(task), parameters_(std::move(parameters)) {}

std::string DepthwiseStep::implementation() const { return std::string("own:") + loops_.name; }

std::size_t DepthwiseStep::parameter_bytes() const {
  const DepthwiseParameters& p = *parameters_;
  return sizeof(float) * (p.weights.size() + p.shift.size() + p.split_weights.size() +
                          p.split_shift.size() + p.second_scale.size() + p.second_shift.size());
}

Status DepthwiseStep::bind(const StepBuffers& buffers) {
  point(task_.slide, buffers);
  return {};
}

Status DepthwiseStep::run() {
  for_pieces(task_.slide, [this](const Piece& piece) { loops_.depthwise(task_, piece); });
  return {};
}

double DepthwiseStep::reach(double first, double added) const {
  return parameters_->reach.of(first, added);
}

void DepthwiseStep::run_rows(const Lines& src, int begin, int end, std::byte* dst) const {
  DepthwiseTask rows = task_;
  rows.slide.src_data = src.data;
  rows.slide.src_lines = src.count;
  rows.slide.dst_data = dst;
  rows.first_row = begin;
  loops_.depthwise(rows, {begin, end, 0, rows.slide.dst.c});
}

MaxPoolStep::MaxPoolStep(const WindowTask& task) : loops_(select_loops()), task_(task) {}

std::string MaxPoolStep::implementation() const { return std::string("own:") + loops_.name; }

Status MaxPoolStep::bind(const StepBuffers& buffers) {
  point(task_, buffers);
  return {};
}

Status MaxPoolStep::run() {
  for_pieces(task_, [this](const Piece& piece) { loops_.max_pool(task_, piece); });
  return {};
}

void MaxPoolStep::run_rows(const Lines& src, int begin, int end) const {
  WindowTask rows = task_;
  rows.src_data = src.data;
  rows.src_lines = src.count;
  loops_.max_pool(rows, {begin, end, 0, rows.dst.c});
}

Result<std::unique_ptr<MaxPoolStep>> make_max_pool_step(const StepRequest& request, bool bf16) {
  const auto& max = std::get<MaxPool>(request.node.op);
  const Window window = pool_problem(max, request.src[0]).window;
  XC_RETURN_IF_ERROR(check_window(request, window, 3));
  return std::make_unique<MaxPoolStep>(window_task(request, window, bf16));
}

Result<std::unique_ptr<DepthwiseStep>> make_depthwise_step(const StepRequest& request, bool bf16,
                                                           const WeightFile& file,
                                                           WeightCache& cache) {
  const auto& conv = std::get<Conv2d>(request.node.op);
  const Window window = conv_problem(conv, request.src[0]).window;
  constexpr int kAnySize = 1 << 16;
  XC_RETURN_IF_ERROR(check_window(request, window, kAnySize));
  const bool split = bf16 && !request.src_is_wide(0);
  const std::string key = std::string("cpu loops|") + conv.weight->name + '|' +
                          (conv.folded ? "folded|" : "plain|") +
                          (conv.second_affine ? "second|" : "") + (split ? "split" : "whole");
  const Result<std::shared_ptr<const void>> held =
      cache.get(key, [&] { return pack_depthwise(conv, split, file); });
  XC_RETURN_IF_ERROR(held.status());
  auto parameters = std::static_pointer_cast<const DepthwiseParameters>(*held);

  DepthwiseTask task;
  task.slide = window_task(request, window, bf16);
  task.relu_on_load = conv.relu_on_load;
  task.weights = parameters->weights.data();
  task.epilogue.shift = pointer(parameters->shift);
  task.split_weights = split ? parameters->split_weights.data() : task.weights;
  task.split_shift = split ? pointer(parameters->split_shift) : task.epilogue.shift;
  task.epilogue.relu = conv.relu;
  task.epilogue.second_scale = pointer(parameters->second_scale);
  task.epilogue.second_shift = pointer(parameters->second_shift);
  task.epilogue.final_relu = conv.final_relu;
  return std::make_unique<DepthwiseStep>(task, std::move(parameters));
}

}  // namespace xception::cpu
