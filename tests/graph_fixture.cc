#include "graph_fixture.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "engine/plan.h"
#include "safetensors_bytes.h"
#include "testing.h"

namespace xception {
namespace {

std::string as_json(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t extent : shape) {
    text += (text.empty() ? "[" : ",") + std::to_string(extent);
  }
  return text + "]";
}

Shape output_shape(const Op& op, const Shape& src) {
  if (const auto* conv = std::get_if<Conv2d>(&op)) {
    return conv_problem(*conv, src).dst();
  }
  if (const auto* chain = std::get_if<SeparableChain>(&op)) {
    return chain_shapes(*chain, src).back();
  }
  if (const auto* pool = std::get_if<MaxPool>(&op)) {
    return pool_problem(*pool, src).dst();
  }
  if (const auto* pool = std::get_if<AvgPool>(&op)) {
    return pool_problem(*pool, src).dst();
  }
  return std::holds_alternative<GlobalAvgPool>(op) ? Shape{src.n, 1, 1, src.c} : src;
}

// Draws one node after the other.
class RandomGraph {
 public:
  explicit RandomGraph(Random& random)
      : random_(random),
        maker_({random.integer(1, 2), random.integer(5, 11), random.integer(5, 11), 3}) {}

  TestGraph draw(int length) {
    while (maker_.last() < length) {
      // Mostly the end of the chain, at times a value further back: that makes a branch.
      const ValueId src = chance(6) ? random_.integer(0, maker_.last()) : maker_.last();
      append(src);
    }
    return maker_.finish();
  }

 private:
  std::string name(const char* kind) { return kind + std::to_string(maker_.last() + 1); }
  bool chance(int of) { return random_.integer(1, of) == 1; }

  void append(ValueId src) {
    const Shape shape = maker_.shape(src);
    switch (random_.integer(0, 15)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
        return conv(src);
      case 5:
      case 6:
      case 7:
        maker_.append(name("bn"), BatchNorm{random_norm(random_, shape.c)}, {src});
        return;
      case 8:
      case 9:
      case 10:
        maker_.append(name("relu"), Relu{}, {src});
        return;
      case 11:
      case 12:
      case 13:
        return add(src);
      case 14:
        maker_.append(name("pool"),
                      MaxPool{3, 2, 1, chance(2) ? PadMode::kExplicit : PadMode::kSame, false},
                      {src});
        return;
      default:
        return average(src);
    }
  }

  void conv(ValueId src) {
    const Shape shape = maker_.shape(src);
    Conv2d op;
    op.size = chance(2) ? 1 : 3;
    op.pad = op.size == 3 ? random_.integer(std::min(shape.h, shape.w) < 3 ? 1 : 0, 1) : 0;
    op.stride = chance(4) ? 2 : 1;
    op.depthwise = op.size == 3 && chance(2);
    // Few different counts, so that sums of branches happen.
    op.out_channels = op.depthwise ? shape.c : (chance(3) ? random_.integer(1, 9) : 3);
    if (chance(2)) {
      op.affine = random_bias(random_, op.out_channels);
    }
    const int fan_in = op.size * op.size * (op.depthwise ? 1 : shape.c);
    const float deviation = std::sqrt(2.0F / static_cast<float>(fan_in));
    maker_.conv(name("conv"), op, random_.normals(op.out_channels * fan_in, deviation), {src});
  }

  // To another value of the same shape, a node at random; to itself where there is none.
  void add(ValueId src) {
    std::vector<ValueId> others;
    for (ValueId id = 0; id <= maker_.last(); ++id) {
      if (id != src && maker_.shape(id) == maker_.shape(src)) {
        others.push_back(id);
      }
    }
    if (others.empty() && !chance(4)) {
      return conv(src);
    }
    const auto drawn = static_cast<std::size_t>(
        random_.integer(0, std::max(static_cast<int>(others.size()) - 1, 0)));
    const ValueId other = others.empty() ? src : others[drawn];
    maker_.append(name("add"), Add{},
                  chance(2) ? std::vector<ValueId>{src, other} : std::vector<ValueId>{other, src});
    if (chance(2)) {  // as often as that, since it takes a convolution, an add and a ReLU to fuse
      maker_.append(name("relu"), Relu{}, {maker_.last()});
    }
  }

  void average(ValueId src) {
    const Shape shape = maker_.shape(src);
    if (chance(4)) {
      maker_.append(name("global"), GlobalAvgPool{}, {src});
    } else if (std::min(shape.h, shape.w) >= 2) {
      maker_.append(name("average"), AvgPool{2, 1}, {src});
    }
  }

  Random& random_;
  GraphMaker maker_;
};

}  // namespace

GraphMaker::GraphMaker(const Shape& input) : shapes_{input} {
  graph_.append({"input", Input{input.c}, {}});
}

ValueId GraphMaker::append(const std::string& name, Op op, std::vector<ValueId> inputs) {
  shapes_.push_back(output_shape(op, shape(inputs[0])));
  return graph_.append({name, std::move(op), std::move(inputs)});
}

ValueId GraphMaker::conv(const std::string& name, Conv2d op, const Values& weights,
                         std::vector<ValueId> inputs) {
  const int depth = op.depthwise ? 1 : shape(inputs[0]).c;
  const std::string bytes = raw_bytes(weights);
  entries_ +=
      (entries_.empty() ? "" : ",") +
      entry_json(name + ".weight", "F32", as_json({op.out_channels, depth, op.size, op.size}),
                 data_.size(), data_.size() + bytes.size());
  data_ += bytes;
  return append(name, std::move(op), std::move(inputs));
}

TestGraph GraphMaker::finish() {
  TestGraph made;
  made.input = shapes_[0];
  made.bytes = std::make_shared<std::string>(safetensors_bytes("{" + entries_ + "}", data_));
  const auto file = WeightFile::from_memory(std::as_bytes(std::span(*made.bytes)));
  INFO(file.status().message());
  REQUIRE(file.ok());
  made.file = *file;
  for (Node& node : graph_.nodes) {
    if (auto* conv = std::get_if<Conv2d>(&node.op)) {
      conv->weight = made.file->find(node.name + ".weight");
      REQUIRE(conv->weight != nullptr);
    }
  }
  made.graph = std::move(graph_);
  return made;
}

std::shared_ptr<const Affine> random_norm(Random& random, int channels) {
  auto norm = std::make_shared<Affine>();
  for (int c = 0; c < channels; ++c) {
    const double magnitude = 0.5 + random.integer(0, 1000) / 1000.0;
    norm->scale.push_back(random.integer(0, 1) == 0 ? magnitude : -magnitude);
    norm->shift.push_back(static_cast<double>(random.normal()) / 2);
  }
  return norm;
}

std::shared_ptr<const Affine> random_bias(Random& random, int channels) {
  const Values shift = random.normals(channels, 0.5F);
  return std::make_shared<Affine>(
      Affine{std::vector<double>(shift.size(), 1.0), {shift.begin(), shift.end()}});
}

std::shared_ptr<const Affine> integer_norm(Random& random, int channels) {
  auto norm = std::make_shared<Affine>();
  for (int c = 0; c < channels; ++c) {
    const int scale = random.integer(1, 2);
    norm->scale.push_back(random.integer(0, 1) == 0 ? scale : -scale);
    norm->shift.push_back(random.integer(-20, 20));
  }
  return norm;
}

TestGraph random_graph(Random& random, int length) { return RandomGraph(random).draw(length); }

Values absolute(Values values) {
  for (float& value : values) {
    value = std::abs(value);
  }
  return values;
}

TestGraph absolute(const TestGraph& made) {
  GraphMaker maker(made.input);
  const auto absolute_affine = [](std::shared_ptr<const Affine>& affine) {
    if (affine != nullptr) {
      auto copy = std::make_shared<Affine>(*affine);
      for (auto* values : {&copy->scale, &copy->shift}) {
        for (double& value : *values) {
          value = std::abs(value);
        }
      }
      affine = std::move(copy);
    }
  };
  for (std::size_t i = 1; i < made.graph.nodes.size(); ++i) {
    Node node = made.graph.nodes[i];
    if (auto* norm = std::get_if<BatchNorm>(&node.op)) {
      absolute_affine(norm->affine);
    }
    auto* conv = std::get_if<Conv2d>(&node.op);
    if (conv == nullptr) {
      maker.append(node.name, node.op, node.inputs);
      continue;
    }
    absolute_affine(conv->affine);
    absolute_affine(conv->second_affine);
    Values weights(static_cast<std::size_t>(conv->weight->elements()));
    REQUIRE(made.file->read(*conv->weight, weights).ok());
    maker.conv(node.name, *conv, absolute(std::move(weights)), node.inputs);
  }
  return maker.finish();
}

StepResult run_step(Backend& backend, const StepRequest& request, const WeightFile& file,
                    WeightCache& cache, const std::vector<Values>& src, int runs) {
  INFO("layer '" << request.node.name << "', " << describe(request.node.op) << ", "
                 << to_string(request.src[0]) << " -> " << to_string(request.dst));
  auto prepared = backend.prepare(request, file, cache);
  INFO(prepared.status().message());
  REQUIRE(prepared.ok());
  std::vector<std::unique_ptr<Step>> steps;
  steps.push_back(*std::move(prepared));
  Step& step = *steps.front();
  INFO("implementation " << step.implementation());

  using Buffer = GuardedBuffer<std::byte>;
  const auto bytes = [](std::size_t count) { return static_cast<std::int64_t>(count); };
  std::vector<std::unique_ptr<Buffer>> sources;
  StepBuffers bound;
  for (std::size_t i = 0; i < src.size(); ++i) {
    REQUIRE(static_cast<std::int64_t>(src[i].size()) == request.src[i].elements());
    sources.push_back(std::make_unique<Buffer>(
        bytes(backend.value_bytes(request.src[i], request.src_is_wide(i)))));
    REQUIRE(
        backend
            .copy_in(src[i].data(), request.src[i], request.src_is_wide(i), sources.back()->data())
            .ok());
    bound.src.push_back(sources.back()->data());
  }
  std::vector<std::vector<std::byte>> before;
  for (const auto& source : sources) {
    before.push_back(source->copy());
  }

  StepResult result;
  result.implementation = step.implementation();
  for (int run = 0; run < runs; ++run) {
    Buffer dst(bytes(backend.value_bytes(request.dst, request.dst_is_wide)));
    Buffer workspace(bytes(step.workspace_bytes()));
    bound.dst = dst.data();
    if (step.overwrites_second()) {
      REQUIRE(request.second_is_free);
      REQUIRE(
          backend.copy_in(src[1].data(), request.src[1], request.src_is_wide(1), dst.data()).ok());
      bound.src[1] = dst.data();
    }
    bound.workspace = workspace.data();
    REQUIRE(step.bind(bound).ok());
    REQUIRE(backend.run(steps, {}).ok());
    CHECK(dst.guards_intact());
    CHECK(workspace.guards_intact());
    Values values(static_cast<std::size_t>(request.dst.elements()));
    REQUIRE(backend.copy_out(dst.data(), request.dst, request.dst_is_wide, values.data()).ok());
    CHECK(std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }));
    if (run == 0) {
      result.values = std::move(values);
    } else {
      CHECK(same_bits(values, result.values));
    }
  }
  for (std::size_t i = 0; i < sources.size(); ++i) {
    CHECK(sources[i]->guards_intact());
    CHECK((sources[i]->copy() == before[i]));
  }
  return result;
}

std::vector<Values> run_guarded(Backend& backend, const Graph& graph, const WeightFile& file,
                                const Shape& input, const Values& images) {
  const auto shapes = infer_shapes(graph, input);
  INFO(shapes.status().message());
  REQUIRE(shapes.ok());
  const std::vector<bool> wide = backend.wide_values(graph, *shapes);
  WeightCache cache;
  std::vector<Values> values = {images};
  for (std::size_t i = 1; i < graph.nodes.size(); ++i) {
    StepRequest request{graph.nodes[i],
                        {},
                        (*shapes)[i],
                        wide[i],
                        reads_second_last(graph, static_cast<ValueId>(i))};
    std::vector<Values> src;
    for (const ValueId id : graph.nodes[i].inputs) {
      request.src.push_back((*shapes)[static_cast<std::size_t>(id)]);
      request.wide_src.push_back(wide[static_cast<std::size_t>(id)]);
      src.push_back(values[static_cast<std::size_t>(id)]);
    }
    values.push_back(run_step(backend, request, file, cache, src).values);
  }
  return values;
}

Values run_in_arena(Backend& backend, const Graph& graph, const WeightFile& file,
                    const Shape& input, const Values& images) {
  const auto shapes = infer_shapes(graph, input);
  INFO(shapes.status().message());
  REQUIRE(shapes.ok());
  const std::size_t count = graph.nodes.size();
  const std::vector<bool> wide = backend.wide_values(graph, *shapes);
  WeightCache cache;
  std::vector<std::unique_ptr<Step>> steps;
  std::vector<std::size_t> bytes = {backend.value_bytes(input, wide[0])};
  for (std::size_t i = 1; i < count; ++i) {
    StepRequest request{graph.nodes[i],
                        {},
                        (*shapes)[i],
                        wide[i],
                        reads_second_last(graph, static_cast<ValueId>(i))};
    for (const ValueId id : graph.nodes[i].inputs) {
      request.src.push_back((*shapes)[static_cast<std::size_t>(id)]);
      request.wide_src.push_back(wide[static_cast<std::size_t>(id)]);
    }
    auto step = backend.prepare(request, file, cache);
    INFO(step.status().message());
    REQUIRE(step.ok());
    steps.push_back(*std::move(step));
    bytes.push_back(backend.value_bytes((*shapes)[i], wide[i]));
  }
  std::vector<StepNeeds> needs;
  for (const std::unique_ptr<Step>& step : steps) {
    needs.push_back({step->workspace_bytes(), step->overwrites_second()});
  }
  const ArenaMap map = map_graph(graph, bytes, needs);
  GuardedBuffer<std::byte> arena(static_cast<std::int64_t>(map.bytes));
  const auto at = [&](std::size_t i) { return arena.data() + map.offsets[i]; };
  for (std::size_t i = 0; i < steps.size(); ++i) {
    StepBuffers buffers;
    for (const ValueId id : graph.nodes[i + 1].inputs) {
      buffers.src.push_back(at(static_cast<std::size_t>(id)));
    }
    buffers.dst = at(i + 1);
    buffers.workspace = at(count + i);
    REQUIRE(steps[i]->bind(buffers).ok());
  }
  REQUIRE(backend.copy_in(images.data(), input, wide[0], at(0)).ok());
  REQUIRE(backend.run(steps, {}).ok());
  CHECK(arena.guards_intact());
  Values result(static_cast<std::size_t>(shapes->back().elements()));
  REQUIRE(backend.copy_out(at(count - 1), shapes->back(), true, result.data()).ok());
  return result;
}

std::unique_ptr<Backend> reference_backend(Precision precision) {
  SessionOptions options;
  options.precision = precision;
  auto backend = make_reference_backend(options);
  REQUIRE(backend.ok());
  return *std::move(backend);
}

std::unique_ptr<Backend> cpu_backend(int threads, Precision precision) {
  SessionOptions options;
  options.threads = threads;
  options.precision = precision;
  auto backend = make_cpu_backend(options);
  if (!backend.ok() && backend.status().code() == Code::kUnsupported) {
    WARN("not tested on this machine: " << backend.status().message());
    return nullptr;
  }
  INFO(backend.status().message());
  REQUIRE(backend.ok());
  return *std::move(backend);
}

bool same_bits(const Values& a, const Values& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

float largest_magnitude(const Values& values) {
  float largest = 0.0F;
  for (const float value : values) {
    largest = std::max(largest, std::abs(value));
  }
  return largest;
}

}  // namespace xception
