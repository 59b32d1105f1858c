// The output is cut into strips of whole rows, as many for one thread as for another. A thread
// makes a strip of the depthwise convolution in a buffer of its own and has oneDNN multiply it
// there and then, so that what lies between the two comes out of the cache and is never written to
// memory.
#include "engine/backend_cpu_separable.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend_cpu_step.h"
#include "engine/backend_cpu_window.h"
#include "engine/openmp.h"
#include "engine/plan.h"

namespace xception::cpu {
namespace {

// Strips of the rows of an output: of two lengths, the longer by one row.
struct Strips {
  int rows = 0;
  int per_thread = 0;
  int count = 0;

  int first_row(int strip) const { return static_cast<int>(std::int64_t{strip} * rows / count); }
  int shorter() const { return rows / count; }
  int longer() const { return shorter() + (rows % count == 0 ? 0 : 1); }
};

// Of about 256 pixels, or of one row where that is longer: oneDNN's blocks of rows are full, and a
// strip of 728 channels takes three quarters of a MiB.
Strips cut(const Shape& dst, int threads) {
  constexpr int kPixels = 256;
  Strips strips;
  strips.rows = dst.n * dst.h;
  const int rows = std::max(kPixels / dst.w, 1) * threads;
  strips.per_thread = std::min((strips.rows + rows - 1) / rows, strips.rows / threads);
  strips.count = strips.per_thread * threads;
  return strips;
}

// What one thread has to itself.
struct Worker {
  std::array<std::unique_ptr<Step>, 2> multiply;  // a shorter strip, a longer one
  std::byte* strip = nullptr;
  StepBuffers buffers;  // of the multiplication
  Status status;
};

// Bytes of a row of pixels.
struct RowBytes {
  std::size_t between = 0;
  std::size_t residual = 0;
  std::size_t dst = 0;
};

class SeparableStep : public Step {
 public:
  SeparableStep(std::unique_ptr<DepthwiseStep> depthwise, std::vector<Worker> workers,
                const Strips& strips, const RowBytes& row_bytes)
      : depthwise_(std::move(depthwise)),
        workers_(std::move(workers)),
        strips_(strips),
        row_bytes_(row_bytes) {
    for (const std::unique_ptr<Step>& step : workers_[0].multiply) {
      scratch_bytes_ = std::max(scratch_bytes_, arena_aligned(step->workspace_bytes()));
    }
  }

  std::string implementation() const override {
    return depthwise_->implementation() + ", " + pointwise().implementation();
  }
  std::size_t workspace_bytes() const override { return workers_.size() * worker_bytes(); }
  std::size_t parameter_bytes() const override {
    // oneDNN may have chosen another format for the other length, and then there are both.
    const Step& other = *workers_[0].multiply[1];
    const bool shared = other.parameters() == pointwise().parameters();
    return depthwise_->parameter_bytes() + pointwise().parameter_bytes() +
           (shared ? 0 : other.parameter_bytes());
  }
  const void* parameters() const override { return pointwise().parameters(); }
  bool overwrites_second() const override { return pointwise().overwrites_second(); }

  Status bind(const StepBuffers& buffers) override {
    buffers_ = buffers;
    std::byte* workspace = buffers.workspace;
    for (Worker& worker : workers_) {
      worker.strip = workspace;
      worker.buffers = {buffers.src, buffers.dst, workspace + strip_bytes()};
      worker.buffers.src[0] = worker.strip;
      workspace += worker_bytes();
      // run() binds them to strip after strip. The first time allocates, which no run may.
      for (const std::unique_ptr<Step>& step : worker.multiply) {
        XC_RETURN_IF_ERROR(step->bind(worker.buffers));
      }
    }
    return depthwise_->bind({{buffers.src[0]}, nullptr, nullptr});
  }

  Status run() override {
    for (Worker& worker : workers_) {
      worker.status = {};  // a smaller team leaves some out
    }
    parallel_for(strips_.count, [this](int begin, int end) {
      // A smaller team than was asked for has longer pieces, of which no two begin with strips of
      // the same worker.
      Worker& worker = workers_[static_cast<std::size_t>(begin / strips_.per_thread)];
      // oneDNN allocates a little for each primitive that it executes, and where that fails nobody
      // catches what leaves a thread of a team.
      worker.status = guarded("separable", [&]() -> Status {
        for (int strip = begin; strip < end; ++strip) {
          XC_RETURN_IF_ERROR(
              run_strip(worker, strips_.first_row(strip), strips_.first_row(strip + 1)));
        }
        return {};
      });
    });
    for (const Worker& worker : workers_) {
      XC_RETURN_IF_ERROR(worker.status);
    }
    return {};
  }

 private:
  const Step& pointwise() const { return *workers_[0].multiply[0]; }
  std::size_t strip_bytes() const {
    return arena_aligned(static_cast<std::size_t>(strips_.longer()) * row_bytes_.between);
  }
  std::size_t worker_bytes() const { return strip_bytes() + scratch_bytes_; }

  Status run_strip(Worker& worker, int begin, int end) const {
    depthwise_->run_rows(begin, end, worker.strip);
    const auto row = static_cast<std::size_t>(begin);
    if (buffers_.src.size() == 2) {
      worker.buffers.src[1] = buffers_.src[1] + row * row_bytes_.residual;
    }
    worker.buffers.dst = buffers_.dst + row * row_bytes_.dst;
    Step& step = *worker.multiply[end - begin == strips_.shorter() ? 0 : 1];
    XC_RETURN_IF_ERROR(step.bind(worker.buffers));
    return step.run();
  }

  std::unique_ptr<DepthwiseStep> depthwise_;
  std::vector<Worker> workers_;
  Strips strips_;
  RowBytes row_bytes_;
  std::size_t scratch_bytes_ = 0;
  StepBuffers buffers_;
};

// The pointwise convolution of `rows` rows, as one row of one picture.
Result<std::unique_ptr<Step>> prepare_strip(const StepRequest& request, const Shape& dst, int rows,
                                            dnnl::memory::data_type type, const WeightFile& file,
                                            WeightCache& cache, Staging& staging) {
  const auto& conv = std::get<SeparableConv>(request.node.op);
  const Node node = {request.node.name, conv.pointwise, request.node.inputs};
  const int pixels = rows * dst.w;
  StepRequest strip{node,
                    {{1, 1, pixels, conv.depthwise.out_channels}},
                    {1, 1, pixels, dst.c},
                    request.dst_is_wide,
                    request.second_is_free,
                    {false, request.src_is_wide(1)}};
  if (request.src.size() == 2) {
    strip.src.push_back(strip.dst);
  }
  return prepare_step(strip, type, file, cache, dnnl::stream(cpu_engine()), staging);
}

}  // namespace

bool gains_by_strips(const SeparableConv& conv, const Shape& src, dnnl::memory::data_type type,
                     int threads) {
  // Bytes that stay in the caches anyway: with 100 to 500 KB between them, joined convolutions took
  // as long as separate ones.
  constexpr std::int64_t kCached = std::int64_t{1} << 20U;
  const Shape between = conv_problem(conv.depthwise, src).dst();
  const std::int64_t pixels = between.elements() / between.c;
  if (!OpenMp::find().present() || pixels > std::numeric_limits<int>::max()) {
    return false;
  }
  // Rows do not divide as finely as oneDNN divides pixels and channels: no thread may have more
  // than a tenth above its share.
  const std::int64_t rows = std::int64_t{between.n} * between.h;
  const std::int64_t most = (rows + threads - 1) / threads;
  if (10 * most * threads > 11 * rows) {
    return false;
  }
  // What lies between is saved, pixels * c; a thread reads the weights, c * k, once a strip. Those
  // all threads read from the cache that they share, and that a thread finds what another wrote
  // costs more: on two Emerald Rapids cores 361 pixels gained 3 % with 728 channels and a strip a
  // thread, and lost 3 % on one core with two strips; 800 with 1536 and two strips came out even.
  constexpr std::int64_t kDearer = 3;
  const auto bytes =
      between.elements() * static_cast<std::int64_t>(dnnl::memory::data_type_size(type));
  return bytes > kCached && kDearer * pixels > std::int64_t{conv.pointwise.out_channels} *
                                                   cut(between, threads).per_thread;
}

Result<std::unique_ptr<Step>> make_separable_step(const StepRequest& request,
                                                  dnnl::memory::data_type type,
                                                  const WeightFile& file, WeightCache& cache,
                                                  Staging& staging) {
  const auto& conv = std::get<SeparableConv>(request.node.op);
  const Node node = {request.node.name, conv.depthwise, {request.node.inputs[0]}};
  const Shape between = conv_problem(conv.depthwise, request.src[0]).dst();
  const bool bf16 = type == dnnl::memory::data_type::bf16;
  Result<std::unique_ptr<DepthwiseStep>> depthwise = make_depthwise_step(
      {node, {request.src[0]}, between, false, false, {request.src_is_wide(0)}}, bf16, file, cache);
  XC_RETURN_IF_ERROR(depthwise.status());

  const int threads = scope_threads();
  const Strips strips = cut(request.dst, threads);
  const ThreadScope scope(1);  // a strip is one thread's
  std::vector<Worker> workers(static_cast<std::size_t>(threads));
  for (Worker& worker : workers) {
    const std::array<int, 2> rows = {strips.shorter(), strips.longer()};
    for (std::size_t i = 0; i < rows.size(); ++i) {
      Result<std::unique_ptr<Step>> multiply =
          prepare_strip(request, request.dst, rows[i], type, file, cache, staging);
      XC_RETURN_IF_ERROR(multiply.status());
      worker.multiply[i] = *std::move(multiply);
    }
  }
  const auto row = [type](const Shape& shape, bool is_wide) {
    return static_cast<std::size_t>(shape.w) * static_cast<std::size_t>(shape.c) *
           (is_wide ? sizeof(float) : dnnl::memory::data_type_size(type));
  };
  return std::unique_ptr<Step>(std::make_unique<SeparableStep>(
      *std::move(depthwise), std::move(workers), strips,
      RowBytes{row(between, false), row(request.dst, request.src_is_wide(1)),
               row(request.dst, request.dst_is_wide)}));
}

}  // namespace xception::cpu
