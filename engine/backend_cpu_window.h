// Steps of the CPU backend that run loops of our own instead of oneDNN's: depthwise convolutions
// and max pools.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "engine/backend.h"
#include "engine/backend_cpu_loops.h"
#include "engine/backend_cpu_range.h"

namespace xception::cpu {

struct DepthwiseParameters;

// Rows of a step's source, n * h + y at line % count.
struct Lines {
  const std::byte* data = nullptr;
  int count = 0;
};

// A depthwise Conv2d.
class DepthwiseStep : public RangedStep {
 public:
  DepthwiseStep(const DepthwiseTask& task, std::shared_ptr<const DepthwiseParameters> parameters);

  std::string implementation() const override;
  std::size_t workspace_bytes() const override { return 0; }
  std::size_t parameter_bytes() const override;
  const void* parameters() const override { return parameters_.get(); }
  Status bind(const StepBuffers& buffers) override;
  Status run() override;
  double reach(double first, double added) const override;

  const WindowTask& window() const { return task_.slide; }

  // Rows [begin, end) of the output, n * h + p, to `dst` alone, on the calling thread.
  void run_rows(const Lines& src, int begin, int end, std::byte* dst) const;

 private:
  const Loops& loops_;
  DepthwiseTask task_;
  std::shared_ptr<const DepthwiseParameters> parameters_;
};

// A MaxPool.
class MaxPoolStep : public RangedStep {
 public:
  explicit MaxPoolStep(const WindowTask& task);

  std::string implementation() const override;
  std::size_t workspace_bytes() const override { return 0; }
  std::size_t parameter_bytes() const override { return 0; }
  const void* parameters() const override { return nullptr; }
  Status bind(const StepBuffers& buffers) override;
  Status run() override;
  double reach(double first, double added) const override { return first + added; }

  const WindowTask& window() const { return task_; }

  // Rows [begin, end) of the output, n * h + p, where it is bound to, on the calling thread.
  void run_rows(const Lines& src, int begin, int end) const;

 private:
  const Loops& loops_;
  WindowTask task_;
};

// The step of a MaxPool node, on float32 activations, or on bf16 ones but for those that the
// request names. oneDNN's pooling of NHWC takes four to five times as long (2.1 against 0.5 ms on
// two Zen 3 cores at 147 x 147 x 128), which would be 7 % of the paper's network. Fails with
// kUnsupported for windows above 3x3.
Result<std::unique_ptr<MaxPoolStep>> make_max_pool_step(const StepRequest& request, bool bf16);

// The step of a depthwise Conv2d. oneDNN cannot apply a ReLU to what it reads, and splits the work
// between threads without regard to who wrote the source: two threads took longer than one for 19 x
// 19 x 728 (0.077 against 0.060 ms on two Zen 5 cores). Fails with kUnsupported for a window that
// pads by its own size, and with the weight file's errors.
Result<std::unique_ptr<DepthwiseStep>> make_depthwise_step(const StepRequest& request, bool bf16,
                                                           const WeightFile& file,
                                                           WeightCache& cache);

}  // namespace xception::cpu
