// From a device's name to a backend of it that holds a plan.
#include <vector>

#include "engine/backend_cuda.h"
#include "engine/cuda_device.h"
#include "kernels/tiles.h"

namespace xception::cuda {

Status CudaBackend::set_plan(const BoundPlan& plan) {
  plan_ = plan;
  return on_device([&]() -> Status {
    for (Slot& slot : slots_) {
      XC_RETURN_IF_ERROR(make_slot(slot));
    }
    Result<OwnedEvent> enqueued = make_event();
    XC_RETURN_IF_ERROR(enqueued.status());
    enqueued_ = *std::move(enqueued);
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
  slot.pictures.data = slot.arrived.get();
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

Status CudaBackend::record_steps() {
  Result<OwnedGraphExec> recorded = record([this]() -> Status {
    for (const std::unique_ptr<Step>& step : plan().steps) {
      XC_RETURN_IF_ERROR(step->run());
    }
    return {};
  });
  XC_RETURN_IF_ERROR(recorded.status());
  graph_ = *std::move(recorded);
  return {};
}

// What `body` puts on the stream, to be started with one call. Relaxed: whatever the driver has to
// load for a kernel's first launch may be loaded meanwhile.
Result<OwnedGraphExec> CudaBackend::record(const std::function<Status()>& body) {
  XC_RETURN_IF_ERROR(to_status(cudaStreamBeginCapture(compute_.get(), cudaStreamCaptureModeRelaxed),
                               "record the layers as a CUDA graph"));
  const Status status = body();
  cudaGraph_t recorded = nullptr;  // the capture ends whatever came of it
  const Status ended = to_status(cudaStreamEndCapture(compute_.get(), &recorded),
                                 "record the layers as a CUDA graph");
  const OwnedGraph graph = recorded != nullptr ? OwnedGraph(recorded) : OwnedGraph();
  XC_RETURN_IF_ERROR(status);
  XC_RETURN_IF_ERROR(ended);
  cudaGraphExec_t ready = nullptr;
  XC_RETURN_IF_ERROR(
      to_status(cudaGraphInstantiate(&ready, graph.get(), 0), "make a CUDA graph of the layers"));
  OwnedGraphExec exec(ready);
  // Else the first run would do it.
  XC_RETURN_IF_ERROR(
      to_status(cudaGraphUpload(exec.get(), compute_.get()), "upload the CUDA graph"));
  return exec;
}

namespace {

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
    Result<std::shared_ptr<Cudnn>> started = start_cudnn();
    XC_RETURN_IF_ERROR(started.status());
    cudnn = *std::move(started);
  }
  const Result<DevicePeak> peak = ask_peak(device, numeric);
  XC_RETURN_IF_ERROR(peak.status());
  StepContext context = {device, *gpu, numeric, compute->get(), std::move(cudnn)};
  return std::unique_ptr<Backend>(std::make_unique<CudaBackend>(
      std::move(context), *peak, *std::move(compute), *std::move(copies), options));
}

// A failure of start(), with the device and what to do.
Status cannot_start(const Status& status, const Device& device) {
  const std::string place = "device '" + device.name + "' does not start";
  if (status.code() == Code::kUnsupported) {
    return status.with_context(place);
  }
  return {status.code(), status.with_context(place).message() +
                             "; nvidia-smi lists who uses it; use another device or device cpu"};
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
                      " has " + cuda::capability(device->arch) + "; use precision fp32 or fp16");
  }
  Result<std::unique_ptr<Backend>> backend = cuda::start(*device, numeric, options);
  return backend.ok() ? std::move(backend) : cuda::cannot_start(backend.status(), *device);
}

}  // namespace xception
