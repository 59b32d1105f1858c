// The output is cut into strips of whole rows, as many for one thread as for another. A thread
// makes a strip of the depthwise convolution in a buffer of its own and has oneDNN multiply it
// there and then, so that what lies between the two comes out of the cache and is never written to
// memory.
//
// Where more is chained, a strip is a row, and a thread keeps the last rows that each convolution
// made, as many as the window behind it is high: whoever makes a row has those made first that it
// reads and that are not there yet. Rows at the seam of two threads' parts are made by both.
//
// Tried and dropped: one level of Strassen's products for a strip of 190 pixels, 728 channels wide.
// On two Emerald Rapids cores each of the seven ran as fast as the whole when alone, but their
// weights and sums drove each other out of the cache: 1.01 to 1.03 of the time, Winograd's variant
// included.
#include "engine/backend_cpu_separable.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend_cpu_step.h"
#include "engine/backend_cpu_strips.h"
#include "engine/backend_cpu_window.h"
#include "engine/openmp.h"
#include "engine/plan.h"

namespace xception::cpu {
namespace {

using Type = dnnl::memory::data_type;

// A convolution of the chain, as the threads share it.
struct Link {
  std::unique_ptr<DepthwiseStep> depthwise;
  std::size_t between_row = 0;  // bytes of what lies between its two
  std::size_t dst_row = 0;
  int kept = 0;  // rows of its output that a thread keeps; 0: it is the chain's
};

// The same, as a thread has it to itself.
struct OwnLink {
  std::array<std::unique_ptr<RangedStep>, 2>
      multiply;               // a shorter strip, a longer one if there is any
  std::byte* kept = nullptr;  // row r at r % Link::kept
  int made = 0;               // rows, all before this one
  StepBuffers buffers;        // of the multiplication
};

struct Worker {
  std::vector<OwnLink> links;
  std::byte* between = nullptr;  // a strip of a depthwise convolution, one at a time
  Status status;
};

class SeparableStep : public RangedStep {
 public:
  SeparableStep(std::vector<Link> links, std::unique_ptr<MaxPoolStep> pool,
                std::vector<Worker> workers, const Strips& strips, std::size_t residual_row)
      : links_(std::move(links)),
        pool_(std::move(pool)),
        workers_(std::move(workers)),
        strips_(strips),
        residual_row_(residual_row) {
    for (std::size_t i = 0; i < links_.size(); ++i) {
      const std::size_t strip = static_cast<std::size_t>(strips_.longer()) * links_[i].between_row;
      between_bytes_ = std::max(between_bytes_, arena_aligned(strip));
      for (const std::unique_ptr<RangedStep>& step : workers_[0].links[i].multiply) {
        const std::size_t bytes = step == nullptr ? 0 : step->workspace_bytes();
        scratch_bytes_ = std::max(scratch_bytes_, arena_aligned(bytes));
      }
    }
  }

  // Of all links; what the next one has too, once.
  std::string implementation() const override {
    std::string names = links_[0].depthwise->implementation();
    for (std::size_t i = 0; i < links_.size(); ++i) {
      const std::string name = ", " + multiply(i).implementation();
      names += names.ends_with(name) ? "" : name;
    }
    return names;
  }
  std::size_t workspace_bytes() const override { return workers_.size() * worker_bytes(); }
  std::size_t parameter_bytes() const override {
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < links_.size(); ++i) {
      // oneDNN may have chosen another format for the other length, and then there are both.
      const Step* other = workers_[0].links[i].multiply[1].get();
      const bool shared = other == nullptr || other->parameters() == multiply(i).parameters();
      bytes += links_[i].depthwise->parameter_bytes() + multiply(i).parameter_bytes() +
               (shared ? 0 : other->parameter_bytes());
    }
    return bytes;
  }
  const void* parameters() const override { return multiply(0).parameters(); }
  double reach(double first, double added) const override {
    double last = first;
    double largest = 0;
    for (std::size_t i = 0; i < links_.size(); ++i) {
      const double between = links_[i].depthwise->reach(last, 0);
      last = multiply(i).reach(between, added);
      largest = std::max({largest, between, last});
    }
    return std::max(largest, pool_ == nullptr ? last : pool_->reach(last, added));
  }
  bool overwrites_second() const override {
    return pool_ == nullptr && multiply(links_.size() - 1).overwrites_second();
  }

  Status bind(const StepBuffers& buffers) override {
    buffers_ = buffers;
    std::byte* workspace = buffers.workspace;
    for (Worker& worker : workers_) {
      std::byte* const scratch = std::exchange(workspace, workspace + scratch_bytes_);
      worker.between = std::exchange(workspace, workspace + between_bytes_);
      for (std::size_t i = 0; i < links_.size(); ++i) {
        OwnLink& own = worker.links[i];
        own.kept = std::exchange(workspace, workspace + kept_bytes(links_[i]));
        own.buffers = {{worker.between}, buffers.dst, scratch};
        if (pool_ == nullptr && i + 1 == links_.size() && buffers.src.size() == 2) {
          own.buffers.src.push_back(buffers.src[1]);
        }
        // A run binds them to strip after strip. The first time allocates, which no run may.
        for (const std::unique_ptr<RangedStep>& step : own.multiply) {
          XC_RETURN_IF_ERROR(step == nullptr ? Status() : step->bind(own.buffers));
        }
      }
    }
    return pool_ == nullptr ? Status() : pool_->bind(buffers);
  }

  Status run() override {
    for (Worker& worker : workers_) {
      worker.status = {};  // a smaller team leaves some out
    }
    parallel_pieces(strips_.count, [this](int begin, int end, int thread) {
      Worker& worker = workers_[static_cast<std::size_t>(thread)];
      for (OwnLink& own : worker.links) {
        own.made = 0;
      }
      // oneDNN allocates a little for each primitive that it executes, and where that fails nobody
      // catches what leaves a thread of a team.
      worker.status = catch_onednn("separable", [&]() -> Status {
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
  const RangedStep& multiply(std::size_t link) const {
    return *workers_[0].links[link].multiply[0];
  }

  static std::size_t kept_bytes(const Link& link) {
    return arena_aligned(static_cast<std::size_t>(link.kept) * link.dst_row);
  }
  std::size_t worker_bytes() const {
    std::size_t bytes = scratch_bytes_ + between_bytes_;
    for (const Link& link : links_) {
      bytes += kept_bytes(link);
    }
    return bytes;
  }

  // Rows [begin, end) of the output.
  Status run_strip(Worker& worker, int begin, int end) {
    if (pool_ != nullptr) {
      const Result<Lines> src = source(worker, links_.size(), pool_->window(), begin);
      XC_RETURN_IF_ERROR(src.status());
      pool_->run_rows(*src, begin, end);
      return {};
    }
    const std::size_t last = links_.size() - 1;
    StepBuffers& buffers = worker.links[last].buffers;
    const auto row = static_cast<std::size_t>(begin);
    if (buffers.src.size() == 2) {
      buffers.src[1] = buffers_.src[1] + row * residual_row_;
    }
    return make_rows(worker, last, begin, end, buffers_.dst + row * links_[last].dst_row);
  }

  // Rows of the output of link i.
  Status make_rows(Worker& worker, std::size_t i, int begin, int end, std::byte* dst) {
    OwnLink& own = worker.links[i];
    const DepthwiseStep& depthwise = *links_[i].depthwise;
    const Result<Lines> src = source(worker, i, depthwise.window(), begin);
    XC_RETURN_IF_ERROR(src.status());
    depthwise.run_rows(*src, begin, end, worker.between);
    own.buffers.dst = dst;
    const bool is_longer = own.multiply[1] != nullptr && end - begin == strips_.longer();
    Step& step = *own.multiply[is_longer ? 1 : 0];
    XC_RETURN_IF_ERROR(step.bind(own.buffers));
    return step.run();
  }

  // Where link i, or the pool behind the last one, finds what `row` of its window reads: has link
  // i - 1 make it.
  Result<Lines> source(Worker& worker, std::size_t i, const WindowTask& window, int row) {
    if (i == 0) {
      return Lines{buffers_.src[0], rows_of(window.src)};
    }
    const Link& before = links_[i - 1];
    OwnLink& own = worker.links[i - 1];
    const int picture = row / window.dst.h * window.src.h;
    const int top = row % window.dst.h * window.window.stride - window.window.pad.top;
    const int end = picture + std::min(top + window.window.size, window.src.h);
    own.made = std::max(own.made, picture + std::max(top, 0));
    for (; own.made < end; ++own.made) {
      const auto place = static_cast<std::size_t>(own.made % before.kept);
      XC_RETURN_IF_ERROR(
          make_rows(worker, i - 1, own.made, own.made + 1, own.kept + place * before.dst_row));
    }
    return Lines{own.kept, before.kept};
  }

  std::vector<Link> links_;
  std::unique_ptr<MaxPoolStep> pool_;  // or null
  std::vector<Worker> workers_;
  Strips strips_;
  std::size_t residual_row_;
  std::size_t between_bytes_ = 0;
  std::size_t scratch_bytes_ = 0;
  StepBuffers buffers_;
};

// Makes the parts of a chain's step.
class ChainMaker {
 public:
  ChainMaker(const StepRequest& request, Type type, const WeightFile& file, WeightCache& cache,
             Staging& staging)
      : request_(request),
        chain_(std::get<SeparableChain>(request.node.op)),
        shapes_(chain_shapes(chain_, request.src[0])),
        threads_(scope_threads()),
        strips_(is_pair(chain_) ? cut_evenly(request.dst, threads_)
                                : Strips{rows_of(request.dst), rows_of(request.dst)}),
        type_(type),
        file_(file),
        cache_(cache),
        staging_(staging) {}

  Result<std::unique_ptr<RangedStep>> make() {
    std::vector<Link> links;
    for (std::size_t i = 0; i < chain_.convs.size(); ++i) {
      Result<Link> link = make_link(i);
      XC_RETURN_IF_ERROR(link.status());
      links.push_back(*std::move(link));
    }
    const ThreadScope scope(1);  // a strip is one thread's
    std::vector<Worker> workers(static_cast<std::size_t>(threads_));
    for (Worker& worker : workers) {
      for (std::size_t i = 0; i < chain_.convs.size(); ++i) {
        Result<OwnLink> own = make_own(i);
        XC_RETURN_IF_ERROR(own.status());
        worker.links.push_back(*std::move(own));
      }
    }
    std::unique_ptr<MaxPoolStep> pool;
    if (chain_.pool) {
      const Node node = {request_.node.name, *chain_.pool, request_.node.inputs};
      Result<std::unique_ptr<MaxPoolStep>> made =
          make_max_pool_step({node,
                              {shapes_[chain_.convs.size()]},
                              request_.dst,
                              request_.dst_is_wide,
                              false,
                              {false, request_.src_is_wide(1)}},
                             is_bf16());
      XC_RETURN_IF_ERROR(made.status());
      pool = *std::move(made);
    }
    return std::unique_ptr<RangedStep>(
        std::make_unique<SeparableStep>(std::move(links), std::move(pool), std::move(workers),
                                        strips_, row_bytes(request_.dst, request_.src_is_wide(1))));
  }

 private:
  bool is_bf16() const { return type_ == Type::bf16; }
  // Whether what link i makes is what the chain makes.
  bool is_last(std::size_t i) const { return i + 2 == shapes_.size(); }

  std::size_t row_bytes(const Shape& shape, bool is_wide) const {
    return static_cast<std::size_t>(shape.w) * static_cast<std::size_t>(shape.c) *
           (is_wide ? sizeof(float) : dnnl::memory::data_type_size(type_));
  }

  Result<Link> make_link(std::size_t i) {
    const Conv2d& conv = chain_.convs[i].depthwise;
    const Node node = {request_.node.name, conv, {request_.node.inputs[0]}};
    const Shape between = conv_problem(conv, shapes_[i]).dst();
    Result<std::unique_ptr<DepthwiseStep>> depthwise = make_depthwise_step(
        {node, {shapes_[i]}, between, false, false, {i == 0 && request_.src_is_wide(0)}}, is_bf16(),
        file_, cache_);
    XC_RETURN_IF_ERROR(depthwise.status());
    Link link;
    link.depthwise = *std::move(depthwise);
    link.between_row = row_bytes(between, false);
    link.dst_row = row_bytes(shapes_[i + 1], is_last(i) && request_.dst_is_wide);
    if (!is_last(i)) {
      link.kept =
          i + 1 < chain_.convs.size() ? chain_.convs[i + 1].depthwise.size : chain_.pool->size;
    }
    return link;
  }

  Result<OwnLink> make_own(std::size_t i) {
    OwnLink own;
    const std::array<int, 2> rows = {strips_.shorter(), strips_.longer()};
    for (std::size_t length = 0; length < (rows[0] == rows[1] ? 1 : 2); ++length) {
      Result<std::unique_ptr<RangedStep>> multiply = make_multiply(i, rows[length]);
      XC_RETURN_IF_ERROR(multiply.status());
      own.multiply[length] = *std::move(multiply);
    }
    return own;
  }

  // The pointwise convolution of `rows` rows, as one row of one picture.
  Result<std::unique_ptr<RangedStep>> make_multiply(std::size_t i, int rows) {
    const SeparableConv& conv = chain_.convs[i];
    const Node node = {request_.node.name, conv.pointwise, request_.node.inputs};
    const int pixels = rows * shapes_[i + 1].w;
    StepRequest strip{node,
                      {{1, 1, pixels, conv.depthwise.out_channels}},
                      {1, 1, pixels, shapes_[i + 1].c},
                      is_last(i) && request_.dst_is_wide,
                      is_last(i) && request_.second_is_free,
                      {false, request_.src_is_wide(1)}};
    if (conv.pointwise.add) {
      strip.src.push_back(strip.dst);
    }
    return prepare_step(strip, type_, file_, cache_, dnnl::stream(cpu_engine()), staging_);
  }

  const StepRequest& request_;
  const SeparableChain& chain_;
  std::vector<Shape> shapes_;
  int threads_;
  Strips strips_;
  Type type_;
  const WeightFile& file_;
  WeightCache& cache_;
  Staging& staging_;
};

}  // namespace

Result<std::unique_ptr<RangedStep>> make_separable_step(const StepRequest& request, Type type,
                                                        const WeightFile& file, WeightCache& cache,
                                                        Staging& staging) {
  return ChainMaker(request, type, file, cache, staging).make();
}

}  // namespace xception::cpu
