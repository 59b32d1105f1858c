#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <new>
#include <numeric>
#include <set>
#include <system_error>
#include <thread>
#include <vector>

#include "engine/backend.h"
#include "engine/model.h"
#include "engine/passes.h"
#include "engine/plan.h"

namespace xception {
namespace {

bool names_cuda(const std::string& device) {
  return device == "cuda" || device.starts_with("cuda:") || device == "cudnn" ||
         device.starts_with("cudnn:");
}

// What "auto" means here: the first GPU that this build holds code for, else the CPU.
std::string choose_device() {
  const Result<std::vector<DeviceInfo>> gpus = cuda_devices();
  if (gpus.ok()) {
    for (const DeviceInfo& gpu : *gpus) {
      if (gpu.usable) {
        return gpu.name;
      }
    }
  }
  return "cpu";
}

Result<std::unique_ptr<Backend>> make_backend(const SessionOptions& asked) {
  SessionOptions options = asked;
  if (options.device == "auto") {
    options.device = choose_device();
  }
  if (options.device == "cpu") {
    return make_cpu_backend(options);
  }
  if (options.device == "reference") {
    return make_reference_backend(options);
  }
  if (names_cuda(options.device)) {
    return make_cuda_backend(options);
  }
  return Status(Code::kInvalidArgument,
                "unknown device '" + options.device + "'; expected auto, cpu, cuda or cuda:N");
}

Status check_side(const ModelInfo& info, const char* what, int side) {
  if (side >= info.min_side && (info.max_side == 0 || side <= info.max_side)) {
    return {};
  }
  const std::string range =
      info.max_side == 0 ? "at least " + std::to_string(info.min_side)
                         : std::to_string(info.min_side) + " to " + std::to_string(info.max_side);
  return {Code::kInvalidArgument, std::string("input ") + what + ' ' + std::to_string(side) +
                                      ": network '" + info.arch + "' takes " + range + " pixels"};
}

Result<Shape> input_shape(const ModelInfo& info, const SessionOptions& options) {
  constexpr int kMaxBatch = 65535;  // in the second and third dimension of a GPU's grid
  constexpr int kMaxSide = 16384;
  const Shape shape = {options.batch, options.height != 0 ? options.height : info.preprocess.size,
                       options.width != 0 ? options.width : info.preprocess.size, 3};
  if (shape.n < 1 || shape.n > kMaxBatch) {
    return Status(Code::kInvalidArgument, "batch " + std::to_string(shape.n) + ": expected 1 to " +
                                              std::to_string(kMaxBatch));
  }
  XC_RETURN_IF_ERROR(check_side(info, "height", shape.h));
  XC_RETURN_IF_ERROR(check_side(info, "width", shape.w));
  if (shape.h > kMaxSide || shape.w > kMaxSide) {
    return Status(Code::kInvalidArgument, "input " + to_string(shape) + ": sides above " +
                                              std::to_string(kMaxSide) + " are not supported");
  }
  return shape;
}

Status check_threads(int threads) {
  constexpr int kMaxThreads = 1024;  // OpenMP ends the process where it cannot start a thread
  if (threads < 0 || threads > kMaxThreads) {
    return {Code::kInvalidArgument, "threads " + std::to_string(threads) + ": expected 1 to " +
                                        std::to_string(kMaxThreads) + ", or 0 for the default"};
  }
  return {};
}

}  // namespace

const char* precision_name(Precision precision) {
  switch (precision) {
    case Precision::kFp32:
      return "fp32";
    case Precision::kBf16:
      return "bf16";
    case Precision::kFp16:
      return "fp16";
    case Precision::kTf32:
      return "tf32";
  }
  return "unknown";
}

struct Session::Impl {
  Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  // A run that was submitted and never collected still uses what goes now.
  ~Impl() {
    if (backend != nullptr) {
      backend->drain();
    }
  }

  std::shared_ptr<const Model> model;
  std::unique_ptr<Backend> backend;
  Graph graph;
  std::vector<Shape> shapes;                 // one a node
  std::vector<bool> wide;                    // one a node: Backend::wide_values()
  std::vector<std::unique_ptr<Step>> steps;  // one a node but the input: step i makes node i + 1
  std::shared_ptr<std::byte> arena;
  std::vector<std::size_t> offsets;  // of every node's output in the arena
  std::vector<float> layer_values;   // staging of the layer callback
  Normalisation normalisation{};
  LayerCallback callback;
  SessionInfo info;
  std::size_t submitted = 0;  // runs, since the session began
  std::size_t collected = 0;
  std::array<bool, 2> started{};  // by slot of the backend: its run computes, or has computed

  Status choose_graph(const Graph& network, const Shape& input, bool fused);
  Status prepare();
  Status prepare_step(std::size_t i);
  Status lay_out();
  void describe();
  Status submit(const Pictures& pictures);
  Status collect(float* logits);
  Status check_idle(const char* before) const;
  Status check_run(const Shape& logits) const;
  Status report_layer(std::size_t step);
  void set_normalisation(const Preprocess& preprocess);

  std::size_t slots() const { return static_cast<std::size_t>(backend->slots()); }
  std::size_t last_slot() const { return (submitted + slots() - 1) % slots(); }
  std::byte* at(std::size_t node) const { return arena.get() + offsets[node]; }
};

// Runs `work` on as many threads, this one among them; on fewer where no more are to be had.
template <class Work>
void on_threads(int threads, const Work& work) {
  std::vector<std::jthread> others;
  others.reserve(static_cast<std::size_t>(threads));
  try {
    for (int i = 1; i < threads; ++i) {
      others.emplace_back([&work] { work(); });
    }
  } catch (const std::system_error&) {  // the system's limit of threads
  }
  work();
}

// The graph whose nodes become steps, and its shapes.
Status Session::Impl::choose_graph(const Graph& network, const Shape& input, bool fused) {
  const auto set = [&](Graph chosen) -> Status {
    Result<std::vector<Shape>> inferred = infer_shapes(chosen, input);
    XC_RETURN_IF_ERROR(inferred.status());
    graph = std::move(chosen);
    shapes = *std::move(inferred);
    return {};
  };
  if (!fused) {
    return set(network);
  }
  Result<Graph> chains = fuse_chains(
      fuse(network), input,
      [this](const SeparableChain& chain, const Shape& src) { return backend->joins(chain, src); });
  XC_RETURN_IF_ERROR(chains.status());
  return set(*std::move(chains));
}

Status Session::Impl::prepare_step(std::size_t i) {
  const Node& node = graph.nodes[i + 1];
  StepRequest request{
      node, {}, shapes[i + 1], wide[i + 1], reads_second_last(graph, static_cast<ValueId>(i + 1))};
  for (const ValueId id : node.inputs) {
    request.src.push_back(shapes[static_cast<std::size_t>(id)]);
    request.wide_src.push_back(wide[static_cast<std::size_t>(id)]);
  }
  Result<std::unique_ptr<Step>> step =
      backend->prepare(request, *model->impl().file, model->impl().cache);
  XC_RETURN_IF_ERROR(step.status());
  steps[i] = *std::move(step);
  return {};
}

// A step for every node but the input: half of it is generating code, half packing weights, and
// each is done on one thread. Of several failures the first node's is returned.
Status Session::Impl::prepare() {
  constexpr int kMostThreads = 4;  // each has a tensor's weights in hand
  steps.resize(graph.nodes.size() - 1);
  std::vector<Status> statuses(steps.size());
  std::atomic<std::size_t> next{0};
  std::atomic<bool> out_of_memory{false};
  on_threads(std::min(backend->threads(), kMostThreads), [&] {
    try {
      for (std::size_t i = next++; i < steps.size(); i = next++) {
        statuses[i] = prepare_step(i);
        if (!statuses[i].ok()) {
          next = steps.size();
        }
      }
    } catch (const std::bad_alloc&) {
      next = steps.size();
      out_of_memory = true;
    }
  });
  if (out_of_memory) {
    throw std::bad_alloc();
  }
  for (const Status& status : statuses) {
    XC_RETURN_IF_ERROR(status);
  }
  backend->finish_preparing();
  return {};
}

// One arena for activations and workspaces, and every step bound to its part of it.
Status Session::Impl::lay_out() {
  std::vector<std::size_t> bytes = {backend->input_bytes(shapes[0], wide[0])};
  for (std::size_t i = 1; i < graph.nodes.size(); ++i) {
    bytes.push_back(backend->value_bytes(shapes[i], wide[i]));
  }
  std::vector<StepNeeds> needs;
  for (const std::unique_ptr<Step>& step : steps) {
    needs.push_back({step->workspace_bytes(), step->overwrites_second()});
  }
  const ArenaMap map = map_graph(graph, bytes, needs);
  Result<std::shared_ptr<std::byte>> memory = backend->allocate(map.bytes);
  XC_RETURN_IF_ERROR(memory.status());
  arena = *std::move(memory);
  info.arena_bytes = map.bytes;
  offsets.assign(map.offsets.begin(),
                 map.offsets.begin() + static_cast<std::ptrdiff_t>(graph.nodes.size()));

  for (std::size_t i = 0; i < steps.size(); ++i) {
    StepBuffers buffers;
    for (const ValueId id : graph.nodes[i + 1].inputs) {
      buffers.src.push_back(at(static_cast<std::size_t>(id)));
    }
    buffers.dst = at(i + 1);
    buffers.workspace = arena.get() + map.offsets[graph.nodes.size() + i];
    XC_RETURN_IF_ERROR(steps[i]->bind(buffers));
  }
  return backend->set_plan(
      {steps, shapes.front(), wide.front(), at(0), shapes.back(), at(graph.nodes.size() - 1)});
}

void Session::Impl::describe() {
  std::set<const void*> counted;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const Node& node = graph.nodes[i + 1];
    const Shape& src = shapes[static_cast<std::size_t>(node.inputs[0])];
    LayerInfo layer;
    layer.name = node.name;
    layer.operation = xception::describe(node.op);
    layer.implementation = steps[i]->implementation();
    for (const ValueId id : node.inputs) {
      layer.inputs.push_back(shapes[static_cast<std::size_t>(id)]);
    }
    layer.output = shapes[i + 1];
    layer.macs = multiply_adds(node.op, src);
    if (steps[i]->parameters() != nullptr && counted.insert(steps[i]->parameters()).second) {
      layer.parameter_bytes = steps[i]->parameter_bytes();
    }
    layer.output_bytes = backend->value_bytes(shapes[i + 1], wide[i + 1]);
    layer.arena_offset = offsets[i + 1];
    info.parameter_bytes += layer.parameter_bytes;
    info.layers.push_back(std::move(layer));
  }
}

void Session::Impl::set_normalisation(const Preprocess& preprocess) {
  normalisation.mean = preprocess.mean;
  normalisation.std = preprocess.std;
  for (std::size_t c = 0; c < 3; ++c) {
    for (std::size_t sample = 0; sample < 256; ++sample) {
      normalisation.values[c][sample] =
          normalised(static_cast<std::uint8_t>(sample), c, preprocess);
    }
  }
}

Status Session::Impl::report_layer(std::size_t step) {
  const Shape& shape = shapes[step + 1];
  layer_values.resize(static_cast<std::size_t>(shape.elements()));
  XC_RETURN_IF_ERROR(backend->copy_out(at(step + 1), shape, wide[step + 1], layer_values.data()));
  return callback({&info.layers[step], layer_values});
}

// Starts where that does not mean waiting for the result. Layers are reported from collect.
Status Session::Impl::submit(const Pictures& pictures) {
  if (submitted - collected == slots()) {
    return {Code::kInvalidArgument, "collect the logits of an earlier run before submitting more"};
  }
  const std::size_t slot = submitted % slots();
  XC_RETURN_IF_ERROR(backend->stage(slot, pictures));
  started[slot] = slots() > 1 && !callback;
  if (started[slot]) {
    XC_RETURN_IF_ERROR(backend->start(slot, {}));
  }
  ++submitted;
  return {};
}

// What needs the session for itself: the next logits would be those of the run that waits.
Status Session::Impl::check_idle(const char* before) const {
  return submitted == collected
             ? Status()
             : Status(Code::kInvalidArgument,
                      std::string("collect the logits of an earlier run before ") + before);
}

Status Session::Impl::collect(float* logits) {
  if (submitted == collected) {
    return {Code::kInvalidArgument, "nothing was submitted whose logits could be collected"};
  }
  const std::size_t slot = collected++ % slots();
  if (!started[slot]) {
    Backend::AfterStep after;
    if (callback) {
      after = [this](std::size_t step) { return report_layer(step); };
    }
    XC_RETURN_IF_ERROR(backend->start(slot, after));
  }
  return backend->finish(slot, logits);
}

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

const SessionInfo& Session::info() const { return impl_->info; }

Result<Session> Session::create(std::shared_ptr<const Model> model, const SessionOptions& options) {
  if (model == nullptr) {
    return Status(Code::kInvalidArgument, "a session needs a model, got none");
  }
  try {
    const Result<Shape> input = input_shape(model->info(), options);
    XC_RETURN_IF_ERROR(input.status());
    XC_RETURN_IF_ERROR(check_threads(options.threads));
    auto impl = std::make_unique<Impl>();
    Result<std::unique_ptr<Backend>> backend = make_backend(options);
    XC_RETURN_IF_ERROR(backend.status());
    impl->backend = *std::move(backend);

    XC_RETURN_IF_ERROR(impl->choose_graph(model->impl().network.graph, *input, options.fuse));
    impl->wide = impl->backend->wide_values(impl->graph, impl->shapes);
    impl->model = std::move(model);
    XC_RETURN_IF_ERROR(impl->prepare());
    XC_RETURN_IF_ERROR(impl->lay_out());

    impl->info.device = impl->backend->device();
    impl->info.device_description = impl->backend->description();
    impl->info.precision = options.precision;
    impl->info.threads = impl->backend->threads();
    impl->info.runs_in_flight = impl->backend->slots();
    impl->info.input = *input;
    impl->info.logits = impl->shapes.back();
    impl->describe();
    impl->set_normalisation(impl->model->info().preprocess);
    return Session(std::move(impl));
  } catch (const std::bad_alloc&) {
    return Status(Code::kOutOfMemory, "not enough memory for a session of batch " +
                                          std::to_string(options.batch) +
                                          "; free memory, or use a smaller batch or picture");
  }
}

void Session::set_normalisation(const Preprocess& preprocess) {
  impl_->set_normalisation(preprocess);
}

void Session::set_layer_callback(LayerCallback callback) { impl_->callback = std::move(callback); }

namespace {

Status check_images(const SessionInfo& info, const Shape& images) {
  return images == info.input
             ? Status()
             : Status(Code::kInvalidArgument, "images have shape " + to_string(images) +
                                                  ", this session takes " + to_string(info.input));
}

Status check_logits(const SessionInfo& info, const Shape& logits) {
  return logits == info.logits ? Status()
                               : Status(Code::kInvalidArgument,
                                        "logits have shape " + to_string(logits) +
                                            ", this session writes " + to_string(info.logits));
}

// A run needs memory for a layer callback, a profile and the text of a failure only.
template <class Body>
Status guarded(Body&& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return {Code::kOutOfMemory, "not enough memory to run the session"};
  }
}

}  // namespace

Status Session::Impl::check_run(const Shape& logits) const {
  XC_RETURN_IF_ERROR(check_idle("another"));
  return check_logits(info, logits);
}

Status Session::submit(TensorView<const float> images) {
  return guarded([&]() -> Status {
    XC_RETURN_IF_ERROR(check_images(impl_->info, images.shape));
    return impl_->submit({images.data, images.layout, nullptr, nullptr});
  });
}

Status Session::submit(TensorView<const std::uint8_t> images) {
  return guarded([&]() -> Status {
    XC_RETURN_IF_ERROR(check_images(impl_->info, images.shape));
    if (images.layout != Layout::kNHWC) {
      return {Code::kInvalidArgument, "8-bit images must be NHWC"};
    }
    return impl_->submit({nullptr, Layout::kNHWC, images.data, &impl_->normalisation});
  });
}

Status Session::collect(TensorView<float> logits) {
  return guarded([&]() -> Status {
    XC_RETURN_IF_ERROR(check_logits(impl_->info, logits.shape));
    return impl_->collect(logits.data);
  });
}

Status Session::run(TensorView<const float> images, TensorView<float> logits) {
  XC_RETURN_IF_ERROR(guarded([&] { return impl_->check_run(logits.shape); }));
  XC_RETURN_IF_ERROR(submit(images));
  return collect(logits);
}

Status Session::run(TensorView<const std::uint8_t> images, TensorView<float> logits) {
  XC_RETURN_IF_ERROR(guarded([&] { return impl_->check_run(logits.shape); }));
  XC_RETURN_IF_ERROR(submit(images));
  return collect(logits);
}

Result<Profile> Session::profile(int runs) {
  Profile profile;
  const Status status = guarded([&]() -> Status {
    XC_RETURN_IF_ERROR(impl_->check_idle("a profile"));
    for (int run = 0; run < runs; ++run) {
      XC_RETURN_IF_ERROR(impl_->backend->time_steps(impl_->last_slot(),
                                                    profile.emplace_back(impl_->steps.size())));
    }
    return {};
  });
  XC_RETURN_IF_ERROR(status);
  return profile;
}

Result<std::vector<double>> Session::time_network(int runs) {
  std::vector<double> times;
  const Status status = guarded([&]() -> Status {
    XC_RETURN_IF_ERROR(impl_->check_idle("a measurement"));
    for (int run = 0; run < runs; ++run) {
      const Result<double> seconds = impl_->backend->time_network(impl_->last_slot());
      XC_RETURN_IF_ERROR(seconds.status());
      times.push_back(*seconds);
    }
    return {};
  });
  XC_RETURN_IF_ERROR(status);
  return times;
}

DeviceList list_devices() {
  DeviceList list;
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  list.devices = {
      {"cpu", "oneDNN, " + std::to_string(cores) + (cores == 1 ? " core" : " cores"), true},
      {"reference", "loops in double precision, slow, for checking", true}};
  const Result<std::vector<DeviceInfo>> gpus = cuda_devices();
  if (gpus.ok()) {
    list.devices.insert(list.devices.end(), gpus->begin(), gpus->end());
  } else {
    list.no_cuda = gpus.status().message();
  }
  return list;
}

void softmax(TensorView<const float> logits, TensorView<float> probabilities) {
  const std::int64_t rows = logits.shape.elements() / std::max(logits.shape.c, 1);
  for (std::int64_t row = 0; row < rows; ++row) {
    const float* src = logits.data + row * logits.shape.c;
    const float* const end = src + logits.shape.c;
    const double largest = *std::max_element(src, end);
    // Each is computed twice, so that none has to be kept.
    const auto exponential = [largest](float x) { return std::exp(x - largest); };
    const double sum = std::accumulate(
        src, end, 0.0, [&](double before, float x) { return before + exponential(x); });
    std::transform(src, end, probabilities.data + row * logits.shape.c,
                   [&](float x) { return static_cast<float>(exponential(x) / sum); });
  }
}

}  // namespace xception
