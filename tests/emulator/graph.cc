#include "tests/emulator/graph.h"

#include <algorithm>
#include <set>
#include <unordered_map>

#include "tests/emulator/runtime_state.h"

namespace xception::emulator {
namespace {

cudaGraphNodeType type_of(const Operation& operation) {
  if (std::holds_alternative<KernelOperation>(operation.what)) {
    return cudaGraphNodeTypeKernel;
  }
  if (std::holds_alternative<CopyOperation>(operation.what)) {
    return cudaGraphNodeTypeMemcpy;
  }
  if (std::holds_alternative<FillOperation>(operation.what)) {
    return cudaGraphNodeTypeMemset;
  }
  if (std::holds_alternative<HostOperation>(operation.what)) {
    return cudaGraphNodeTypeHost;
  }
  if (std::holds_alternative<GraphOperation>(operation.what)) {
    return cudaGraphNodeTypeGraph;
  }
  return cudaGraphNodeTypeEmpty;
}

}  // namespace

Graph::~Graph() {
  for (const auto& node : nodes) {
    Runtime::get().nodes.erase(node->handle);
  }
}

std::shared_ptr<const GraphPlan> plan_of(const Graph& graph) {
  auto plan = std::make_shared<GraphPlan>();
  std::unordered_map<const Node*, std::size_t> index;
  for (const auto& node : graph.nodes) {
    GraphPlan::Step step{node->type, node->operation, {}};
    for (const Node* before : node->waits) {
      step.waits.push_back(index.at(before));
    }
    index.emplace(node.get(), plan->steps.size());
    plan->steps.push_back(std::move(step));
  }
  return plan;
}

cudaGraphExecUpdateResult can_update(const GraphPlan& plan, const GraphPlan& next) {
  if (plan.steps.size() != next.steps.size()) {
    return cudaGraphExecUpdateErrorTopologyChanged;
  }
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    if (plan.steps[i].waits != next.steps[i].waits) {
      return cudaGraphExecUpdateErrorTopologyChanged;
    }
    if (plan.steps[i].type != next.steps[i].type) {
      return cudaGraphExecUpdateErrorNodeTypeChanged;
    }
  }
  return cudaGraphExecUpdateSuccess;
}

void join_capture(const std::shared_ptr<Capture>& capture, Stream& stream,
                  const std::vector<Node*>& nodes) {
  if (stream.capture == nullptr) {
    stream.capture = capture;
    stream.capture_nodes.clear();
    capture->streams.push_back(&stream);
  }
  for (Node* node : nodes) {
    auto& known = stream.capture_nodes;
    if (std::find(known.begin(), known.end(), node) == known.end()) {
      known.push_back(node);
    }
  }
}

cudaError_t add_captured(Stream& stream, Operation operation) {
  Capture& capture = *stream.capture;
  if (capture.invalidated) {
    return cudaErrorStreamCaptureInvalidated;
  }
  Runtime& runtime = Runtime::get();
  auto node = std::make_unique<Node>();
  node->handle =
      reinterpret_cast<cudaGraphNode_t>((std::uintptr_t{0xE1} << 56) + 16 * runtime.next_id++);
  node->type = type_of(operation);
  node->operation = std::move(operation);
  node->waits = stream.capture_nodes;
  stream.capture_nodes.assign(1, node.get());
  runtime.nodes.emplace(node->handle, node.get());
  capture.graph->nodes.push_back(std::move(node));
  return cudaSuccess;
}

bool joined(const Capture& capture) {
  std::set<const Node*> before_end;
  std::vector<const Node*> open(capture.origin->capture_nodes.begin(),
                                capture.origin->capture_nodes.end());
  while (!open.empty()) {
    const Node* node = open.back();
    open.pop_back();
    if (before_end.insert(node).second) {
      open.insert(open.end(), node->waits.begin(), node->waits.end());
    }
  }
  for (const Stream* stream : capture.streams) {
    for (const Node* node : stream->capture_nodes) {
      if (before_end.count(node) == 0) {
        return false;
      }
    }
  }
  return true;
}

void leave_capture(Capture& capture) {
  // The last stream may hold the last reference to the capture itself.
  const std::vector<Stream*> streams = std::move(capture.streams);
  capture.streams.clear();
  for (Stream* stream : streams) {
    stream->capture_nodes.clear();
    stream->capture.reset();
  }
}

}  // namespace xception::emulator
