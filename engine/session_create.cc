// From a model to a session: the graph that its backend wants, a step for each node, one arena.
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <new>
#include <set>
#include <system_error>
#include <thread>

#include "engine/metadata.h"
#include "engine/no_throw.h"
#include "engine/passes.h"
#include "engine/plan.h"
#include "engine/session_impl.h"

namespace xception {
namespace {

Status check_side(const ModelInfo& info, const char* what, int side) {
  return info.takes(side)
             ? Status()
             : Status(Code::kInvalidArgument,
                      std::string("input ") + what + ' ' + std::to_string(side) + ": network '" +
                          info.arch + "' takes " + std::to_string(info.min_side) + " to " +
                          std::to_string(info.max_side) + " pixels");
}

Result<Shape> input_shape(const ModelInfo& info, const SessionOptions& options) {
  const Shape shape = {options.batch, options.height != 0 ? options.height : info.preprocess.size,
                       options.width != 0 ? options.width : info.preprocess.size, 3};
  if (shape.n < 1 || shape.n > kMaxBatch) {
    return Status(Code::kInvalidArgument, "batch " + std::to_string(shape.n) + ": expected 1 to " +
                                              std::to_string(kMaxBatch));
  }
  XC_RETURN_IF_ERROR(check_side(info, "height", shape.h));
  XC_RETURN_IF_ERROR(check_side(info, "width", shape.w));
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

// Whether the process may not map what it likes (ulimit -v). One thread prepares there: others
// could take the memory that the CPU backend has found for oneDNN's code, and even their start
// takes some.
bool memory_is_limited() {
  rlimit limit = {};
  return ::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
}

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

}  // namespace

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
  on_threads(memory_is_limited() ? 1 : std::min(backend->threads(), kMostThreads), [&] {
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
  std::vector<BoundValue> values;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    values.push_back({shapes[i], wide[i], at(i)});
  }
  return backend->set_plan({&graph, steps, std::move(values)});
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
      const auto value = static_cast<std::size_t>(id);
      layer.inputs.push_back(shapes[value]);
      layer.input_bytes += backend->value_bytes(shapes[value], wide[value]);
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

Result<Session> Session::create(std::shared_ptr<const Model> model, const SessionOptions& options) {
  if (model == nullptr) {
    return Status(Code::kInvalidArgument, "a session needs a model, got none");
  }
  const auto no_memory = [&] {
    return "not enough memory for a session of batch " + std::to_string(options.batch) +
           "; free memory, or use a smaller batch or picture";
  };
  return no_throw(no_memory, [&]() -> Result<Session> {
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
    impl->info.peak = impl->backend->peak();
    impl->info.precision = options.precision;
    impl->info.threads = impl->backend->threads();
    impl->info.runs_in_flight = impl->backend->slots();
    impl->info.input = *input;
    impl->info.logits = impl->shapes.back();
    impl->describe();
    XC_RETURN_IF_ERROR(impl->set_normalisation(impl->model->info().preprocess));
    return Session(std::move(impl));
  });
}

}  // namespace xception
