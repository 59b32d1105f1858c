// One prepared node of the CUDA backend: a kernel's launch with its packed parameters.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "engine/backend.h"
#include "engine/backend_cudnn.h"
#include "engine/cuda_device.h"
#include "engine/cuda_raii.h"
#include "kernels/gpu.h"

namespace xception::cuda {

// On what, and in which numbers, steps are prepared.
struct StepContext {
  Device device;
  GpuInfo gpu;
  Numeric numeric = Numeric::kFp32;
  Stream stream = nullptr;
  std::shared_ptr<Cudnn> cudnn;  // where it is to do the convolutions, else null
};

// Packed weights and the vectors of an epilogue, in one piece of device memory. Freed on their
// device, whichever thread holds them last.
struct Parameters {
  ~Parameters();
  const float* floats(std::size_t offset) const {
    return reinterpret_cast<const float*>(static_cast<const std::byte*>(memory.get()) + offset);
  }

  int device = 0;
  DeviceMemory memory;
  std::size_t bytes = 0;
  const void* weights = nullptr;
  const float* shift = nullptr;  // null where there is none, as the others
  const float* second_scale = nullptr;
  const float* second_shift = nullptr;
};

// Puts kernels on a stream; the caller makes the device the thread's.
class CudaStep : public Step {
 public:
  using Launch = std::function<Status(const StepBuffers&, Stream)>;

  // `stream`: where run() puts them.
  CudaStep(const std::string& layer, std::string implementation, Stream stream,
           std::shared_ptr<const Parameters> parameters, Launch launch,
           std::size_t workspace_bytes = 0)
      : place_("layer '" + layer + "'"),
        implementation_(std::move(implementation)),
        stream_(stream),
        parameters_(std::move(parameters)),
        launch_(std::move(launch)),
        workspace_bytes_(workspace_bytes) {}

  std::string implementation() const override { return implementation_; }
  std::size_t workspace_bytes() const override { return workspace_bytes_; }
  std::size_t parameter_bytes() const override { return parameters_ ? parameters_->bytes : 0; }
  const void* parameters() const override { return parameters_.get(); }
  Status bind(const StepBuffers& buffers) override {
    buffers_ = buffers;
    return {};
  }
  Status run() override { return run_on(stream_); }
  Status run_on(Stream stream) { return launch_(buffers_, stream).with_context(place_); }

 private:
  std::string place_;  // for messages
  std::string implementation_;
  Stream stream_;
  std::shared_ptr<const Parameters> parameters_;
  Launch launch_;
  std::size_t workspace_bytes_;
  StepBuffers buffers_;
};

// Packs and uploads what the node needs, unless the cache has it. Fails with kUnsupported, naming
// the layer, where no kernel does what it asks. The device is the thread's.
Result<std::unique_ptr<Step>> prepare_step(const StepRequest& request, const StepContext& context,
                                           const WeightFile& file, WeightCache& cache);

}  // namespace xception::cuda
