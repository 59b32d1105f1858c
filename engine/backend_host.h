// What the backends of the host's processor share: one run at a time, on the thread that asks.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "engine/backend.h"

namespace xception {

class HostBackend : public Backend {
 public:
  Result<std::shared_ptr<std::byte>> allocate(std::size_t bytes) override;
  Status run(std::span<const std::unique_ptr<Step>> steps, const AfterStep& after) override;

  int slots() const override { return 1; }
  Status set_plan(const BoundPlan& plan) override;
  Status stage(std::size_t slot, const Pictures& pictures) override;
  Status start(std::size_t slot, const AfterStep& after) override;
  Status finish(std::size_t slot, float* result) override;
  Status enqueue(const Pictures& pictures, float* result, CUstream_st* stream) override;
  void drain() override {}
  Status time_steps(std::size_t slot, std::span<double> seconds) override;
  Result<double> time_network(std::size_t slot) override;
  Result<double> time_step(std::size_t step, int runs) override;

 protected:
  const BoundPlan& plan() const { return plan_; }

  // From what stands staged, float32 NHWC, to the plan's input. Allocates nothing.
  virtual Status copy_staged();
  // Where that is, from set_plan() on.
  float* staged() { return staged_.data(); }

 private:
  BoundPlan plan_;
  std::vector<float> staged_;
};

// Host memory. kLarge is for an arena, which every run goes through: in large pages, where the
// system has them, runs of the paper's network take 1.5 % less. Packed weights are read once a run,
// in order, and gain half of that; but their pages must be cleared before the first result, and in
// a virtual machine a large page is often one that the host has to find and clear too: 69 to 287 ms
// until the first result, against 86 to 104 in ordinary pages.
enum class Pages { kOrdinary, kLarge };
Result<std::shared_ptr<std::byte>> allocate_host(std::size_t bytes, Pages pages);

}  // namespace xception
