// A run: the way of the pictures to the plan's input, the steps, the way of the result back.
#include "engine/backend_cuda.h"

#include <cstring>
#include <vector>

#include "kernels/normalize.h"

namespace xception::cuda {
namespace {

// The seconds between two events, both of which have happened.
Result<double> seconds_between(const OwnedEvent& begin, const OwnedEvent& end) {
  float milliseconds = 0;
  XC_RETURN_IF_ERROR(to_status(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()),
                               "read the device's clock"));
  return 1e-3 * static_cast<double>(milliseconds);
}

}  // namespace

CudaBackend::~CudaBackend() {
  // Streams, events and memory belong to this device; what fails here has been told of before.
  const DeviceScope scope(context_.device.index);
  graph_.reset();
  enqueued_.reset();
  slots_ = {};
  context_.cudnn.reset();
  copies_.reset();
  compute_.reset();
}

// Leaves nothing of a failed call under way but what is on a caller's stream, which an event tells
// of, and finds out whether the device still answers.
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

Status CudaBackend::stage(std::size_t index, const Pictures& pictures) {
  return on_device([&]() -> Status {
    Slot& slot = slots_[index];
    slot.pictures = {pictures, slot.arrived.get()};
    const std::size_t bytes = staged_bytes() / (slot.pictures.pixels ? sizeof(float) : 1);
    std::memcpy(slot.outgoing.get(), pictures.data(), bytes);
    XC_RETURN_IF_ERROR(to_status(cudaMemcpyAsync(slot.arrived.get(), slot.outgoing.get(), bytes,
                                                 cudaMemcpyHostToDevice, copies_.get()),
                                 "copy pictures to the device"));
    return to_status(cudaEventRecord(slot.uploaded.get(), copies_.get()),
                     "copy pictures to the device");
  });
}

// From the slot to the plan's input, behind whatever reads that on a caller's stream.
Status CudaBackend::feed_staged(const Slot& slot) {
  XC_RETURN_IF_ERROR(await_enqueued(compute_.get()));
  awaits_enqueued_ = false;
  XC_RETURN_IF_ERROR(
      to_status(cudaStreamWaitEvent(compute_.get(), slot.uploaded.get(), 0), "wait for pictures"));
  return feed(slot.pictures, compute_.get());
}

Status CudaBackend::feed(const DevicePictures& pictures, Stream stream) {
  const Shape& shape = plan().input().shape;
  std::byte* const dst = plan().input().data;
  if (pictures.pixels) {
    const auto* samples = static_cast<const std::uint8_t*>(pictures.data);
    return normalize(shape, context_.numeric, {samples, dst, pictures.mean, pictures.std}, stream);
  }
  return copy_pictures(shape, context_.numeric,
                       {static_cast<const float*>(pictures.data), pictures.layout, dst}, stream);
}

Status CudaBackend::launch(const AfterStep& after) {
  return after ? run(plan().steps, after) : launch_on(compute_.get(), false);
}

// A stream that is being captured takes the layers one by one.
Status CudaBackend::launch_on(Stream stream, bool capturing) {
  if (graph_ && !capturing) {
    return to_status(cudaGraphLaunch(graph_.get(), stream), "start the layers");
  }
  for (const std::unique_ptr<Step>& step : plan().steps) {
    XC_RETURN_IF_ERROR(static_cast<CudaStep&>(*step).run_on(stream));  // prepare() made it
  }
  return {};
}

Status CudaBackend::start(std::size_t index, const AfterStep& after) {
  return on_device([&]() -> Status {
    Slot& slot = slots_[index];
    XC_RETURN_IF_ERROR(feed_staged(slot));
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

// Two runs on different streams would meet in the arena. Those that a caller captures are ordered
// by whoever replays them: a capture may not wait for what lies outside.
Status CudaBackend::enqueue(const Pictures& pictures, float* result, Stream stream) {
  return on_device([&]() -> Status {
    const DevicePictures given(pictures, pictures.data());
    XC_RETURN_IF_ERROR(check_on_device("images", given.data));
    XC_RETURN_IF_ERROR(check_on_device("logits", result));
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    XC_RETURN_IF_ERROR(
        to_status(cudaStreamIsCapturing(stream, &capture), "ask whether the stream is captured"));
    if (capture != cudaStreamCaptureStatusNone) {
      return enqueue_parts(given, result, stream, true);
    }
    XC_RETURN_IF_ERROR(await_enqueued(stream));
    const Status status = enqueue_parts(given, result, stream, false);
    awaits_enqueued_ = true;  // of a failure too: some of it may be under way
    const Status marked =
        to_status(cudaEventRecord(enqueued_.get(), stream), "mark the end of the layers");
    return status.ok() ? marked : status;
  });
}

Status CudaBackend::enqueue_parts(const DevicePictures& pictures, float* result, Stream stream,
                                  bool capturing) {
  XC_RETURN_IF_ERROR(feed(pictures, stream));
  XC_RETURN_IF_ERROR(launch_on(stream, capturing));
  const Shape& shape = plan().result().shape;
  const std::size_t row = static_cast<std::size_t>(shape.c) * sizeof(float);
  const std::size_t pitch = static_cast<std::size_t>(channel_stride(shape.c)) * sizeof(float);
  const auto rows = static_cast<std::size_t>(std::int64_t{shape.n} * shape.h * shape.w);
  return to_status(cudaMemcpy2DAsync(result, row, plan().result().data, pitch, row, rows,
                                     cudaMemcpyDeviceToDevice, stream),
                   "copy the result on the device");
}

Status CudaBackend::await_enqueued(Stream stream) {
  return awaits_enqueued_
             ? to_status(cudaStreamWaitEvent(stream, enqueued_.get(), 0), "wait for another stream")
             : Status();
}

// A kernel that reads elsewhere would cost the process its device.
Status CudaBackend::check_on_device(const char* what, const void* memory) const {
  cudaPointerAttributes found = {};
  XC_RETURN_IF_ERROR(
      to_status(cudaPointerGetAttributes(&found, memory), "ask where a buffer lies"));
  const bool here = found.type == cudaMemoryTypeDevice && found.device == context_.device.index;
  return here || found.type == cudaMemoryTypeManaged
             ? Status()
             : Status(Code::kInvalidArgument,
                      std::string(what) + " are not in memory of " + device() +
                          "; enqueue() takes buffers of the device, run() those of the host");
}

void CudaBackend::drain() {
  const DeviceScope scope(context_.device.index);
  if (awaits_enqueued_) {
    ignore(cudaEventSynchronize(enqueued_.get()));
  }
  ignore(cudaStreamSynchronize(copies_.get()));
  ignore(cudaStreamSynchronize(compute_.get()));
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
    XC_RETURN_IF_ERROR(feed_staged(slots_[index]));
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

// The seconds from what `body` puts on the stream first to the end of it, by the device's clock.
template <class Body>
Result<double> CudaBackend::time(const Body& body) {
  const Result<OwnedEvent> begin = make_event(cudaEventDefault);
  XC_RETURN_IF_ERROR(begin.status());
  const Result<OwnedEvent> end = make_event(cudaEventDefault);
  XC_RETURN_IF_ERROR(end.status());
  XC_RETURN_IF_ERROR(to_status(cudaEventRecord(begin->get(), compute_.get()), "time the network"));
  XC_RETURN_IF_ERROR(body());
  XC_RETURN_IF_ERROR(to_status(cudaEventRecord(end->get(), compute_.get()), "time the network"));
  XC_RETURN_IF_ERROR(wait("time the network"));
  return seconds_between(*begin, *end);
}

Result<double> CudaBackend::time_network(std::size_t index) {
  double seconds = 0;
  const Status status = on_device([&]() -> Status {
    XC_RETURN_IF_ERROR(feed_staged(slots_[index]));
    const Result<double> elapsed = time([&] { return launch(nullptr); });
    XC_RETURN_IF_ERROR(elapsed.status());
    seconds = *elapsed;
    return {};
  });
  XC_RETURN_IF_ERROR(status);
  return seconds;
}

// One graph: started by the host one by one, small kernels would wait for it.
Result<double> CudaBackend::time_step(std::size_t step, int runs) {
  double seconds = 0;
  const Status status = on_device([&]() -> Status {
    XC_RETURN_IF_ERROR(await_enqueued(compute_.get()));
    awaits_enqueued_ = false;
    const Result<OwnedGraphExec> series = record([&]() -> Status {
      for (int i = 0; i < runs; ++i) {
        XC_RETURN_IF_ERROR(plan().steps[step]->run());
      }
      return {};
    });
    XC_RETURN_IF_ERROR(series.status());
    const Result<double> elapsed = time(
        [&] { return to_status(cudaGraphLaunch(series->get(), compute_.get()), "time a layer"); });
    XC_RETURN_IF_ERROR(elapsed.status());
    seconds = *elapsed;
    return {};
  });
  XC_RETURN_IF_ERROR(status);
  return seconds;
}

}  // namespace xception::cuda
