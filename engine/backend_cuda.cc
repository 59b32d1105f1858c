// The CUDA backend: every node is one kernel of kernels/, on a stream of its own.
//
// Activations and packed weights stay on the device. Of a run the host sees the pictures, which go
// there as they are (8-bit ones are normalised there), and the result. The steps are recorded as a
// CUDA graph when the session is made, so that a run starts them with one call. Two slots let the
// pictures of the next run travel, on a stream of their own, while this one computes.
#include <array>
#include <cstring>
#include <vector>

#include "engine/backend.h"
#include "engine/backend_cuda_step.h"
#include "engine/cuda_device.h"
#include "engine/cuda_layout.h"
#include "engine/cuda_raii.h"
#include "kernels/normalize.h"
#include "kernels/tiles.h"

namespace xception::cuda {
namespace {

// The way of one run's pictures to the device, and of its result back.
struct Slot {
  PinnedMemory outgoing;
  DeviceMemory arrived;
  PinnedMemory result;
  OwnedEvent uploaded;
  OwnedEvent done;
  bool pixels = false;  // what has arrived: 8-bit samples, or the plan's input
  std::array<float, 3> mean{};
  std::array<float, 3> std{};
};

class CudaBackend : public Backend {
 public:
  CudaBackend(StepContext context, OwnedStream compute, OwnedStream copies,
              const SessionOptions& options)
      : context_(std::move(context)),
        compute_(std::move(compute)),
        copies_(std::move(copies)),
        use_graph_(options.cuda_graph),
        spin_wait_(options.spin_wait) {}
  ~CudaBackend() override;
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  std::string device() const override { return context_.device.name; }
  std::string description() const override { return context_.device.description; }
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
  void drain() override;
  Status time_steps(std::size_t index, std::span<double> seconds) override;
  Result<double> time_network(std::size_t index) override;

 private:
  const BoundPlan& plan() const { return plan_; }
  std::size_t staged_bytes() const {
    return input_bytes(plan().input().shape, plan().input().is_wide);
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
  Status feed(Slot& slot);
  Status launch(const AfterStep& after);
  Status wait(const char* what) { return to_status(cudaStreamSynchronize(compute_.get()), what); }

  StepContext context_;
  OwnedStream compute_;
  OwnedStream copies_;
  bool use_graph_;
  bool spin_wait_;
  OwnedGraphExec graph_;
  BoundPlan plan_;
  std::array<Slot, 2> slots_;
  Status lost_;
};

CudaBackend::~CudaBackend() {
  // Streams, events and memory belong to this device; what fails here has been told of before.
  const DeviceScope scope(context_.device.index);
  graph_.reset();
  slots_ = {};
  context_.cudnn.reset();
  copies_.reset();
  compute_.reset();
}

// Leaves nothing of a failed call under way, and finds out whether the device still answers.
Status CudaBackend::after_failure(Status status) {
  static_cast<void>(cudaGetLastError());
  const cudaError_t copies = cudaStreamSynchronize(copies_.get());
  const cudaError_t compute = cudaStreamSynchronize(compute_.get());
  static_cast<void>(cudaGetLastError());
  if (copies != cudaSuccess || compute != cudaSuccess) {
    lost_ =
        Status(Code::kDevice, device() + " does not answer any more since an earlier failure (" +
                                  status.message() + "); start the program again");
  }
  return status;
}

Result<std::unique_ptr<Step>> CudaBackend::prepare(const StepRequest& request,
                                                   const WeightFile& file, WeightCache& cache) {
  std::unique_ptr<Step> step;
  const Status status = on_device([&]() -> Status {
    Result<std::unique_ptr<Step>> prepared = prepare_step(request, context_, file, cache);
    XC_RETURN_IF_ERROR(prepared.status());
    step = *std::move(prepared);
    return {};
  });
  XC_RETURN_IF_ERROR(status);
  return step;
}

Result<std::shared_ptr<std::byte>> CudaBackend::allocate(std::size_t bytes) {
  std::shared_ptr<std::byte> arena;
  const Status status = on_device([&]() -> Status {
    Result<DeviceMemory> memory = allocate_device(bytes, "activations");
    XC_RETURN_IF_ERROR(memory.status());
    // Kernels write zeros between channels and stride themselves; this is for what lies between
    // values, so that a stray read would be the same in every run.
    XC_RETURN_IF_ERROR(
        to_status(cudaMemsetAsync(memory->get(), 0, bytes, compute_.get()), "clear activations"));
    XC_RETURN_IF_ERROR(wait("clear activations"));
    auto* const data = static_cast<std::byte*>(memory->get());
    auto owner = std::make_shared<DeviceMemory>(*std::move(memory));
    arena = std::shared_ptr<std::byte>(
        data, [owner = std::move(owner), device = context_.device.index](std::byte*) {
          const DeviceScope scope(device);
          owner->reset();
        });
    return {};
  });
  XC_RETURN_IF_ERROR(status);
  return arena;
}

Status CudaBackend::copy_in(const float* src, const Shape& shape, bool is_wide, std::byte* dst) {
  return on_device([&]() -> Status {
    std::vector<std::byte> values(value_bytes(shape, is_wide));
    to_device_layout(src, shape, numeric_of(is_wide), values.data());
    XC_RETURN_IF_ERROR(to_status(
        cudaMemcpyAsync(dst, values.data(), values.size(), cudaMemcpyHostToDevice, compute_.get()),
        "copy an activation to the device"));
    return wait("copy an activation to the device");
  });
}

Status CudaBackend::copy_out(const std::byte* src, const Shape& shape, bool is_wide, float* dst) {
  return on_device([&]() -> Status {
    std::vector<std::byte> values(value_bytes(shape, is_wide));
    XC_RETURN_IF_ERROR(to_status(
        cudaMemcpyAsync(values.data(), src, values.size(), cudaMemcpyDeviceToHost, compute_.get()),
        "copy an activation from the device"));
    XC_RETURN_IF_ERROR(wait("copy an activation from the device"));
    from_device_layout(values.data(), shape, numeric_of(is_wide), dst);
    return {};
  });
}

Status CudaBackend::run(std::span<const std::unique_ptr<Step>> steps, const AfterStep& after) {
  return on_device([&]() -> Status {
    for (std::size_t i = 0; i < steps.size(); ++i) {
      XC_RETURN_IF_ERROR(steps[i]->run());
      if (after) {
        XC_RETURN_IF_ERROR(wait("run a layer"));
        XC_RETURN_IF_ERROR(after(i));
      }
    }
    return {};
  });
}

Status CudaBackend::set_plan(const BoundPlan& plan) {
  plan_ = plan;
  return on_device([&]() -> Status {
    for (Slot& slot : slots_) {
      XC_RETURN_IF_ERROR(make_slot(slot));
    }
    return use_graph_ ? record_steps() : Status();
  });
}

Status CudaBackend::make_slot(Slot& slot) {
  const std::size_t pictures = staged_bytes();
  Result<PinnedMemory> outgoing = allocate_pinned(pictures, "pictures");
  XC_RETURN_IF_ERROR(outgoing.status());
  slot.outgoing = *std::move(outgoing);
  Result<DeviceMemory> arrived = allocate_device(pictures, "pictures");
  XC_RETURN_IF_ERROR(arrived.status());
  slot.arrived = *std::move(arrived);
  Result<PinnedMemory> result =
      allocate_pinned(device_bytes(plan().result().shape, Numeric::kFp32), "the result");
  XC_RETURN_IF_ERROR(result.status());
  slot.result = *std::move(result);
  Result<OwnedEvent> uploaded = make_event();
  XC_RETURN_IF_ERROR(uploaded.status());
  slot.uploaded = *std::move(uploaded);
  Result<OwnedEvent> done =
      make_event(cudaEventDisableTiming | (spin_wait_ ? 0U : cudaEventBlockingSync));
  XC_RETURN_IF_ERROR(done.status());
  slot.done = *std::move(done);
  // A profile may come before any picture does.
  XC_RETURN_IF_ERROR(to_status(cudaMemsetAsync(slot.arrived.get(), 0, pictures, copies_.get()),
                               "clear the pictures"));
  return to_status(cudaEventRecord(slot.uploaded.get(), copies_.get()), "clear the pictures");
}

// Relaxed: whatever the driver has to load for a kernel's first launch may be loaded meanwhile.
Status CudaBackend::record_steps() {
  XC_RETURN_IF_ERROR(to_status(cudaStreamBeginCapture(compute_.get(), cudaStreamCaptureModeRelaxed),
                               "record the layers as a CUDA graph"));
  Status status;
  for (const std::unique_ptr<Step>& step : plan().steps) {
    status = step->run();
    if (!status.ok()) {
      break;
    }
  }
  cudaGraph_t recorded = nullptr;  // the capture ends whatever came of it
  const Status ended = to_status(cudaStreamEndCapture(compute_.get(), &recorded),
                                 "record the layers as a CUDA graph");
  const OwnedGraph graph = recorded != nullptr ? OwnedGraph(recorded) : OwnedGraph();
  XC_RETURN_IF_ERROR(status);
  XC_RETURN_IF_ERROR(ended);
  cudaGraphExec_t ready = nullptr;
  XC_RETURN_IF_ERROR(
      to_status(cudaGraphInstantiate(&ready, graph.get(), 0), "make a CUDA graph of the layers"));
  graph_ = OwnedGraphExec(ready);
  // Else the first run would do it.
  return to_status(cudaGraphUpload(graph_.get(), compute_.get()), "upload the CUDA graph");
}

Status CudaBackend::stage(std::size_t index, const Pictures& pictures) {
  return on_device([&]() -> Status {
    Slot& slot = slots_[index];
    auto* const outgoing = static_cast<std::byte*>(slot.outgoing.get());
    std::size_t bytes = 0;
    slot.pixels = pictures.pixels != nullptr;
    if (slot.pixels) {
      bytes = static_cast<std::size_t>(plan().input().shape.elements());
      std::memcpy(outgoing, pictures.pixels, bytes);
      slot.mean = pictures.normalisation->mean;
      slot.std = pictures.normalisation->std;
    } else {
      to_picture_layout(pictures.values, pictures.layout, plan().input().shape, context_.numeric,
                        outgoing);
      bytes = staged_bytes();
    }
    XC_RETURN_IF_ERROR(to_status(
        cudaMemcpyAsync(slot.arrived.get(), outgoing, bytes, cudaMemcpyHostToDevice, copies_.get()),
        "copy pictures to the device"));
    return to_status(cudaEventRecord(slot.uploaded.get(), copies_.get()),
                     "copy pictures to the device");
  });
}

// From what has arrived to the plan's input.
Status CudaBackend::feed(Slot& slot) {
  XC_RETURN_IF_ERROR(
      to_status(cudaStreamWaitEvent(compute_.get(), slot.uploaded.get(), 0), "wait for pictures"));
  if (!slot.pixels) {
    return to_status(cudaMemcpyAsync(plan().input().data, slot.arrived.get(), staged_bytes(),
                                     cudaMemcpyDeviceToDevice, compute_.get()),
                     "copy pictures on the device");
  }
  NormalizeArgs args;
  args.src = static_cast<const std::uint8_t*>(slot.arrived.get());
  args.mean = slot.mean;
  args.std = slot.std;
  args.dst = plan().input().data;
  return normalize(plan().input().shape, context_.numeric, args, compute_.get());
}

Status CudaBackend::launch(const AfterStep& after) {
  return graph_ && !after
             ? to_status(cudaGraphLaunch(graph_.get(), compute_.get()), "start the layers")
             : run(plan().steps, after);
}

Status CudaBackend::start(std::size_t index, const AfterStep& after) {
  return on_device([&]() -> Status {
    Slot& slot = slots_[index];
    XC_RETURN_IF_ERROR(feed(slot));
    XC_RETURN_IF_ERROR(launch(after));
    XC_RETURN_IF_ERROR(
        to_status(cudaMemcpyAsync(slot.result.get(), plan().result().data,
                                  device_bytes(plan().result().shape, Numeric::kFp32),
                                  cudaMemcpyDeviceToHost, compute_.get()),
                  "copy the result from the device"));
    return to_status(cudaEventRecord(slot.done.get(), compute_.get()), "start the layers");
  });
}

Status CudaBackend::finish(std::size_t index, float* result) {
  return on_device([&]() -> Status {
    Slot& slot = slots_[index];
    XC_RETURN_IF_ERROR(to_status(cudaEventSynchronize(slot.done.get()), "run the network"));
    from_device_layout(static_cast<const std::byte*>(slot.result.get()), plan().result().shape,
                       Numeric::kFp32, result);
    return {};
  });
}

void CudaBackend::drain() {
  const DeviceScope scope(context_.device.index);
  ignore(cudaStreamSynchronize(copies_.get()));
  ignore(cudaStreamSynchronize(compute_.get()));
}

// The seconds between two events, both of which have happened.
Result<double> seconds_between(const OwnedEvent& begin, const OwnedEvent& end) {
  float milliseconds = 0;
  XC_RETURN_IF_ERROR(to_status(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()),
                               "read the device's clock"));
  return 1e-3 * static_cast<double>(milliseconds);
}

// By the device's clock: of an event before the first step and behind each.
Status CudaBackend::time_steps(std::size_t index, std::span<double> seconds) {
  return on_device([&]() -> Status {
    std::vector<OwnedEvent> events;
    for (std::size_t i = 0; i <= plan().steps.size(); ++i) {
      Result<OwnedEvent> event = make_event(cudaEventDefault);
      XC_RETURN_IF_ERROR(event.status());
      events.push_back(*std::move(event));
    }
    XC_RETURN_IF_ERROR(feed(slots_[index]));
    const auto mark = [&](std::size_t i) {
      return to_status(cudaEventRecord(events[i].get(), compute_.get()), "time a layer");
    };
    XC_RETURN_IF_ERROR(mark(0));
    for (std::size_t i = 0; i < plan().steps.size(); ++i) {
      XC_RETURN_IF_ERROR(plan().steps[i]->run());
      XC_RETURN_IF_ERROR(mark(i + 1));
    }
    XC_RETURN_IF_ERROR(wait("time the layers"));
    for (std::size_t i = 0; i < plan().steps.size(); ++i) {
      const Result<double> step = seconds_between(events[i], events[i + 1]);
      XC_RETURN_IF_ERROR(step.status());
      seconds[i] = *step;
    }
    return {};
  });
}

Result<double> CudaBackend::time_network(std::size_t index) {
  double seconds = 0;
  const Status status = on_device([&]() -> Status {
    const Result<OwnedEvent> begin = make_event(cudaEventDefault);
    XC_RETURN_IF_ERROR(begin.status());
    const Result<OwnedEvent> end = make_event(cudaEventDefault);
    XC_RETURN_IF_ERROR(end.status());
    XC_RETURN_IF_ERROR(feed(slots_[index]));
    XC_RETURN_IF_ERROR(
        to_status(cudaEventRecord(begin->get(), compute_.get()), "time the network"));
    XC_RETURN_IF_ERROR(launch(nullptr));
    XC_RETURN_IF_ERROR(to_status(cudaEventRecord(end->get(), compute_.get()), "time the network"));
    XC_RETURN_IF_ERROR(wait("time the network"));
    const Result<double> elapsed = seconds_between(*begin, *end);
    XC_RETURN_IF_ERROR(elapsed.status());
    seconds = *elapsed;
    return {};
  });
  XC_RETURN_IF_ERROR(status);
  return seconds;
}

Numeric numeric_for(Precision precision) {
  switch (precision) {
    case Precision::kFp32:
      return Numeric::kFp32;
    case Precision::kBf16:
      return Numeric::kBf16;
    case Precision::kFp16:
      return Numeric::kFp16;
    case Precision::kTf32:
      return Numeric::kTf32;
  }
  return Numeric::kFp32;
}

// The first that needs a context on the device, which may be out of memory or another's alone.
Result<std::unique_ptr<Backend>> start(const Device& device, Numeric numeric,
                                       const SessionOptions& options) {
  const DeviceScope scope(device.index);
  XC_RETURN_IF_ERROR(scope.status());
  const Result<GpuInfo> gpu = current_gpu();
  if (!gpu.ok()) {
    static_cast<void>(cudaGetLastError());
    return gpu.status();
  }
  Result<OwnedStream> compute = make_stream();
  XC_RETURN_IF_ERROR(compute.status());
  Result<OwnedStream> copies = make_stream();
  XC_RETURN_IF_ERROR(copies.status());
  std::shared_ptr<Cudnn> cudnn;
  if (options.device.starts_with("cudnn")) {
    Result<std::shared_ptr<Cudnn>> started = start_cudnn(compute->get());
    XC_RETURN_IF_ERROR(started.status());
    cudnn = *std::move(started);
  }
  StepContext context = {device, *gpu, numeric, compute->get(), std::move(cudnn)};
  return std::unique_ptr<Backend>(std::make_unique<CudaBackend>(
      std::move(context), *std::move(compute), *std::move(copies), options));
}

// A failure of start(), with the device and what to do.
Status cannot_start(const Status& status, const Device& device) {
  const std::string place = "device '" + device.name + "' does not start";
  if (status.code() == Code::kUnsupported) {
    return status.with_context(place);
  }
  return {status.code(), status.with_context(place).message() +
                             "; nvidia-smi lists who uses it; use another device or --device cpu"};
}

}  // namespace
}  // namespace xception::cuda

namespace xception {

Result<std::unique_ptr<Backend>> make_cuda_backend(const SessionOptions& options) {
  const Result<cuda::Device> device = cuda::find_device(options.device);
  XC_RETURN_IF_ERROR(device.status());
  const Numeric numeric = cuda::numeric_for(options.precision);
  if (!pick_matrix_math(numeric, device->arch)) {
    return Status(Code::kUnsupported,
                  std::string("precision ") + precision_name(options.precision) +
                      " needs a GPU of compute capability 8.0 or later, and " + device->name +
                      " has " + cuda::capability(device->arch) + "; use --precision fp32 or fp16");
  }
  Result<std::unique_ptr<Backend>> backend = cuda::start(*device, numeric, options);
  return backend.ok() ? std::move(backend) : cuda::cannot_start(backend.status(), *device);
}

}  // namespace xception
