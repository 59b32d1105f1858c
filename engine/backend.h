// The one virtual seam of the engine: what computes the nodes of a graph.
//
// A backend prepares a Step for every node of a plan (chooses an implementation, packs weights);
// the session lays out one arena for all of them and binds each step to its buffers; from then on a
// run is a loop over steps. Nothing behind this seam throws.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/graph.h"
#include "kernels/numeric.h"
#include "xception/engine.h"
#include "xception/status.h"
#include "xception/tensor.h"

namespace xception {

// Packed weights of one model, shared by all its sessions and freed with the last of them. Safe to
// use from several threads.
class WeightCache {
 public:
  using Make = std::function<Result<std::shared_ptr<const void>>()>;

  // The weights under `key`, made by `make` where no session holds them. `key` names tensor,
  // folding, packed format and backend, so that equal keys mean equal bytes.
  Result<std::shared_ptr<const void>> get(const std::string& key, const Make& make);

 private:
  struct Entry {
    std::mutex mutex;  // held while they are made: whoever wants them too waits
    std::weak_ptr<const void> weights;
  };

  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Entry>> entries_;
};

// A node to be prepared, with the shapes it will see.
struct StepRequest {
  const Node& node;
  std::vector<Shape> src;
  Shape dst;
  bool dst_is_wide = false;     // float32 whatever the precision: see Backend::wide_values()
  bool second_is_free = false;  // nothing reads src[1] afterwards (reads_second_last in plan.h)
  // Which of src are wide too; those that it does not reach are not.
  std::vector<bool> wide_src = {};

  bool src_is_wide(std::size_t i) const { return i < wide_src.size() && wide_src[i]; }
};

// Where a step reads and writes, in the backend's memory; src in the order of node.inputs.
struct StepBuffers {
  std::vector<std::byte*> src;
  std::byte* dst = nullptr;
  std::byte* workspace = nullptr;
};

// One prepared node. Belongs to one session, and is run by one thread at a time.
class Step {
 public:
  virtual ~Step() = default;
  virtual std::string implementation() const = 0;
  virtual std::size_t workspace_bytes() const = 0;
  virtual std::size_t parameter_bytes() const = 0;
  // Identifies the packed weights, so that shared ones are counted once; null without weights.
  virtual const void* parameters() const = 0;
  // Whether the output has to stand where src[1] stands: only where request.second_is_free.
  virtual bool overwrites_second() const { return false; }
  virtual Status bind(const StepBuffers& buffers) = 0;
  virtual Status run() = 0;
};

// What an 8-bit sample of red, green or blue means to the network: normalised() of preprocess.h.
struct Normalisation {
  std::array<float, 3> mean{};
  std::array<float, 3> std{};
  NormalisationTable values{};  // of every sample
};

// The pictures of one run: `values`, normalised, or `pixels`, NHWC, with what they mean.
struct Pictures {
  const float* values = nullptr;
  Layout layout = Layout::kNHWC;  // of `values`
  const std::uint8_t* pixels = nullptr;
  const Normalisation* normalisation = nullptr;

  const void* data() const {
    return pixels != nullptr ? static_cast<const void*>(pixels) : static_cast<const void*>(values);
  }
};

// What a node makes, and where, from the step that writes it to the last that reads it.
struct BoundValue {
  Shape shape;
  bool is_wide = false;
  std::byte* data = nullptr;
};

// A graph whose steps are prepared and bound: what a run goes through. Step i makes value i + 1.
struct BoundPlan {
  const Graph* graph = nullptr;  // like the steps, the session's, for as long as it runs
  std::span<const std::unique_ptr<Step>> steps;
  std::vector<BoundValue> values;

  const BoundValue& input() const { return values.front(); }
  const BoundValue& result() const { return values.back(); }
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string device() const = 0;
  virtual std::string description() const { return {}; }  // of a device that has a name of its own
  virtual DevicePeak peak() const { return {}; }
  virtual int threads() const = 0;  // of the host that it computes with; steps are prepared on them

  // Which values of a graph are float32 whatever the precision: the result at least, that is what
  // the caller gets.
  virtual std::vector<bool> wide_values(const Graph& graph, const std::vector<Shape>& shapes) const;

  // Bytes of an activation in the arena.
  virtual std::size_t value_bytes(const Shape& shape, bool is_wide) const = 0;
  // Of what the plan reads, pictures, which stage() may lay out as it likes.
  virtual std::size_t input_bytes(const Shape& shape, bool is_wide) const {
    return value_bytes(shape, is_wide);
  }

  // Whether it computes `chain` of `src` in one step, and gains by that.
  virtual bool joins(const SeparableChain& /*chain*/, const Shape& /*src*/) const { return false; }

  // Fails with kUnsupported where the node or precision is not to be had, and with the weight
  // file's own errors. Called by several threads at once.
  virtual Result<std::unique_ptr<Step>> prepare(const StepRequest& request, const WeightFile& file,
                                                WeightCache& cache) = 0;

  // All steps are prepared: what only preparing them needs may go.
  virtual void finish_preparing() {}

  // Memory of the backend, aligned to kArenaAlignment. Fails with kOutOfMemory.
  virtual Result<std::shared_ptr<std::byte>> allocate(std::size_t bytes) = 0;

  // Between float32 NHWC in host memory and an activation in the arena. Blocking.
  virtual Status copy_in(const float* src, const Shape& shape, bool is_wide, std::byte* dst) = 0;
  virtual Status copy_out(const std::byte* src, const Shape& shape, bool is_wide, float* dst) = 0;

  // Runs the steps in order. `after` is called behind each, where it is set, when it is done.
  using AfterStep = std::function<Status(std::size_t)>;
  virtual Status run(std::span<const std::unique_ptr<Step>> steps, const AfterStep& after) = 0;

  // A run of the whole plan, in three parts. `set_plan` comes first, once, and makes whatever they
  // need, so that they allocate nothing. `stage` takes pictures of the host, which may go
  // afterwards; `start` computes; `finish` waits, and gives the result, dense. Where slots() is 2,
  // `stage` and `start` return before they are done, and pictures may be staged in one slot while
  // the run of the other computes.
  virtual int slots() const = 0;
  virtual Status set_plan(const BoundPlan& plan) = 0;
  virtual Status stage(std::size_t slot, const Pictures& pictures) = 0;
  virtual Status start(std::size_t slot, const AfterStep& after) = 0;
  virtual Status finish(std::size_t slot, float* result) = 0;

  // A run between buffers of the device, the result dense, put on the caller's stream: see
  // Session::enqueue. Not between `stage` and `finish`.
  virtual Status enqueue(const Pictures& pictures, float* result, CUstream_st* stream) = 0;

  // Waits until nothing that was started is under way, be it what nobody will collect: afterwards
  // the memory that it reads and writes may go. Whatever fails here is of no use any more.
  virtual void drain() = 0;

  // Runs the plan on the pictures that stand in the slot, and times every step, in seconds: by the
  // host's clock, unless a device has one of its own.
  virtual Status time_steps(std::size_t slot, std::span<double> seconds) = 0;
  // The same of the plan as a whole, run as start() runs it where nobody looks at single steps.
  virtual Result<double> time_network(std::size_t slot) = 0;
  // Runs one step so many times, on what stands where it reads: the seconds of them all.
  virtual Result<double> time_step(std::size_t step, int runs) = 0;
};

// Weights of a convolution in PyTorch's order, with the affine's scale multiplied in (in double).
Result<std::vector<float>> read_scaled_weights(const Conv2d& conv, const WeightFile& file);

// The same of whole rows (output channels), from the `first` on, as many as fill `rows`.
Status read_scaled_rows(const Conv2d& conv, const WeightFile& file, std::size_t first,
                        std::span<float> rows);

// An affine's factors as the kernels take them.
inline std::vector<float> to_floats(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

// The backend of asked.device, as SessionOptions names devices. Fails with kInvalidArgument where
// there is none of that name, and as the one that is asked for does.
Result<std::unique_ptr<Backend>> make_backend(const SessionOptions& asked);

// The backends. Each fails with kUnsupported or kDevice where machine or build cannot serve it.
Result<std::unique_ptr<Backend>> make_reference_backend(const SessionOptions& options);
Result<std::unique_ptr<Backend>> make_cpu_backend(const SessionOptions& options);
// options.device: "cuda" or "cuda:N", or "cudnn" or "cudnn:N", with cuDNN's convolutions for ours.
Result<std::unique_ptr<Backend>> make_cuda_backend(const SessionOptions& options);

// The GPUs of this machine, those too that this build holds no code for. Fails with kDevice, saying
// why, where there is none or the build has no CUDA.
Result<std::vector<DeviceInfo>> cuda_devices();

}  // namespace xception
