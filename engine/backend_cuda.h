// The CUDA backend: every node is one kernel of kernels/, on a stream of its own.
//
// Activations and packed weights stay on the device. Of a run the host sees the pictures, which go
// there as they are (a kernel normalises or rounds them), and the result. The steps are recorded as
// a CUDA graph when the session is made, so that a run starts them with one call. Two slots let the
// pictures of the next run travel, on a stream of their own, while this one computes. A run whose
// pictures are on the device already goes to the caller's stream instead.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "engine/backend.h"
#include "engine/backend_cuda_step.h"
#include "engine/cuda_layout.h"
#include "engine/cuda_raii.h"

namespace xception::cuda {

// Pictures on the device, dense, as they were given.
struct DevicePictures {
  DevicePictures() = default;
  DevicePictures(const Pictures& given, const void* place)
      : data(place), pixels(given.pixels != nullptr), layout(given.layout) {
    if (pixels) {
      mean = given.normalisation->mean;
      std = given.normalisation->std;
    }
  }

  const void* data = nullptr;
  bool pixels = false;  // 8-bit samples with `mean` and `std`; else float32, normalised
  Layout layout = Layout::kNHWC;
  std::array<float, 3> mean{};
  std::array<float, 3> std{};
};

// The way of one run's pictures to the device, and of its result back.
struct Slot {
  PinnedMemory outgoing;
  DeviceMemory arrived;
  DevicePictures pictures;  // what has arrived
  PinnedMemory result;
  OwnedEvent uploaded;
  OwnedEvent done;
};

class CudaBackend : public Backend {
 public:
  CudaBackend(StepContext context, DevicePeak peak, OwnedStream compute, OwnedStream copies,
              const SessionOptions& options)
      : context_(std::move(context)),
        peak_(peak),
        compute_(std::move(compute)),
        copies_(std::move(copies)),
        use_graph_(options.cuda_graph),
        spin_wait_(options.spin_wait) {}
  ~CudaBackend() override;
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  std::string device() const override { return context_.device.name; }
  std::string description() const override { return context_.device.description; }
  DevicePeak peak() const override { return peak_; }
  int threads() const override { return 0; }
  int slots() const override { return static_cast<int>(slots_.size()); }

  std::size_t value_bytes(const Shape& shape, bool is_wide) const override {
    return device_bytes(shape, numeric_of(is_wide));
  }
  std::size_t input_bytes(const Shape& shape, bool /*is_wide*/) const override {
    return picture_bytes(shape, context_.numeric);
  }

  Result<std::unique_ptr<Step>> prepare(const StepRequest& request, const WeightFile& file,
                                        WeightCache& cache) override;
  Result<std::shared_ptr<std::byte>> allocate(std::size_t bytes) override;
  Status copy_in(const float* src, const Shape& shape, bool is_wide, std::byte* dst) override;
  Status copy_out(const std::byte* src, const Shape& shape, bool is_wide, float* dst) override;
  Status run(std::span<const std::unique_ptr<Step>> steps, const AfterStep& after) override;

  Status set_plan(const BoundPlan& plan) override;
  Status stage(std::size_t index, const Pictures& pictures) override;
  Status start(std::size_t index, const AfterStep& after) override;
  Status finish(std::size_t index, float* result) override;
  Status enqueue(const Pictures& pictures, float* result, Stream stream) override;
  void drain() override;
  Status time_steps(std::size_t index, std::span<double> seconds) override;
  Result<double> time_network(std::size_t index) override;
  Result<double> time_step(std::size_t step, int runs) override;

 private:
  const BoundPlan& plan() const { return plan_; }
  // Of the host's pictures, dense, at most.
  std::size_t staged_bytes() const {
    return static_cast<std::size_t>(plan().input().shape.elements()) * sizeof(float);
  }
  Numeric numeric_of(bool is_wide) const { return is_wide ? Numeric::kFp32 : context_.numeric; }

  // Does `body` with the device as the thread's. Once the device has failed for good, as it has
  // for this process after a kernel's fault, that is the answer to everything.
  template <class Body>
  Status on_device(const Body& body) {
    XC_RETURN_IF_ERROR(lost_);
    const DeviceScope scope(context_.device.index);
    XC_RETURN_IF_ERROR(scope.status());
    Status status = body();
    return status.ok() ? status : after_failure(std::move(status));
  }
  Status after_failure(Status status);

  Status make_slot(Slot& slot);
  Status record_steps();
  Result<OwnedGraphExec> record(const std::function<Status()>& body);
  Status feed_staged(const Slot& slot);
  Status feed(const DevicePictures& pictures, Stream stream);
  Status launch(const AfterStep& after);
  Status launch_on(Stream stream, bool capturing);
  template <class Body>
  Result<double> time(const Body& body);
  Status await_enqueued(Stream stream);
  Status enqueue_parts(const DevicePictures& pictures, float* result, Stream stream,
                       bool capturing);
  Status check_on_device(const char* what, const void* memory) const;
  Status wait(const char* what) { return to_status(cudaStreamSynchronize(compute_.get()), what); }

  StepContext context_;
  DevicePeak peak_;
  OwnedStream compute_;
  OwnedStream copies_;
  bool use_graph_;
  bool spin_wait_;
  OwnedGraphExec graph_;
  OwnedEvent enqueued_;           // the end of what was put on a caller's stream last,
  bool awaits_enqueued_ = false;  // which nothing has waited for
  BoundPlan plan_;
  std::array<Slot, 2> slots_;
  Status lost_;
};

}  // namespace xception::cuda
