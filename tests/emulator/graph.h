// Graphs, stream capture, and what an instantiated graph runs.
//
// All of this is called with the runtime's mutex held.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "tests/emulator/stream.h"

namespace xception::emulator {

// An operation of a graph and the nodes of the same graph that it comes after.
struct Node {
  cudaGraphNode_t handle = nullptr;
  cudaGraphNodeType type = cudaGraphNodeTypeEmpty;
  Operation operation;
  std::vector<Node*> waits;
};

struct Graph {
  Graph() = default;
  ~Graph();  // makes the handles of its nodes unknown
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  std::vector<std::unique_ptr<Node>> nodes;  // each behind those it waits for
};

// A graph's nodes as they were when it was instantiated or updated.
struct GraphPlan {
  struct Step {
    cudaGraphNodeType type = cudaGraphNodeTypeEmpty;
    Operation operation;
    std::vector<std::size_t> waits;  // indices of earlier steps
  };
  std::vector<Step> steps;
};

struct GraphExec {
  std::shared_ptr<const GraphPlan> plan;
  std::shared_ptr<Work> last;  // launches of one graph come after each other
};

// A capture from cudaStreamBeginCapture to cudaStreamEndCapture.
struct Capture {
  std::uint64_t id = 0;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  Stream* origin = nullptr;
  std::vector<Stream*> streams;  // the origin, and those that joined it
  std::shared_ptr<Graph> graph;
  cudaGraph_t handle = nullptr;  // of `graph`, once somebody asked for it
  bool invalidated = false;
};

std::shared_ptr<const GraphPlan> plan_of(const Graph& graph);

// Whether a graph of `plan` can be updated to `next`: the same steps in the same order.
cudaGraphExecUpdateResult can_update(const GraphPlan& plan, const GraphPlan& next);

// Takes `stream` into the capture, if it is not there, and makes its next node come after `nodes`.
void join_capture(const std::shared_ptr<Capture>& capture, Stream& stream,
                  const std::vector<Node*>& nodes);

// Adds what is called on a captured stream to its graph.
cudaError_t add_captured(Stream& stream, Operation operation);

// Whether everything captured on other streams comes before what the origin has captured last.
bool joined(const Capture& capture);

// Takes all streams out of the capture.
void leave_capture(Capture& capture);

}  // namespace xception::emulator
