// Graphs: what they hold, instantiation, launch, update.

#include <algorithm>
#include <unordered_map>

#include "tests/emulator/runtime_state.h"

using namespace xception::emulator;  // NOLINT(google-build-using-namespace)

namespace {

// Copies handles as CUDA's list queries do: all that fit, null for what is left of the caller's
// array; where there is no array, only the number.
cudaError_t list_nodes(const std::vector<const Node*>& nodes, cudaGraphNode_t* list,
                       std::size_t* count) {
  if (count == nullptr) {
    return cudaErrorInvalidValue;
  }
  if (list != nullptr) {
    for (std::size_t i = 0; i < *count; ++i) {
      list[i] = i < nodes.size() ? nodes[i]->handle : nullptr;
    }
    *count = std::min(*count, nodes.size());
  } else {
    *count = nodes.size();
  }
  return cudaSuccess;
}

template <class Predicate>
cudaError_t query_nodes(cudaGraph_t handle, cudaGraphNode_t* list, std::size_t* count,
                        Predicate&& predicate) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    const Graph* graph = runtime.graphs.find(handle);
    if (graph == nullptr) {
      return cudaErrorInvalidValue;
    }
    std::vector<const Node*> nodes;
    for (const auto& node : graph->nodes) {
      if (predicate(*node)) {
        nodes.push_back(node.get());
      }
    }
    return list_nodes(nodes, list, count);
  });
}

}  // namespace

extern "C" {

cudaError_t cudaGraphCreate(cudaGraph_t* graph, unsigned flags) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    if (graph == nullptr || flags != 0) {
      return cudaErrorInvalidValue;
    }
    *graph = runtime.graphs.add(std::make_shared<Graph>());
    return cudaSuccess;
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return runtime_call(kReleases, [&](Runtime& runtime, Lock&) {
    if (runtime.graphs.find(graph) == nullptr) {
      return cudaErrorInvalidValue;
    }
    runtime.graphs.remove(graph);
    return cudaSuccess;
  });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
  return query_nodes(graph, nodes, count, [](const Node&) { return true; });
}

cudaError_t cudaGraphGetRootNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
  return query_nodes(graph, nodes, count, [](const Node& node) { return node.waits.empty(); });
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    const auto found = runtime.nodes.find(node);
    if (type == nullptr || found == runtime.nodes.end()) {
      return cudaErrorInvalidValue;
    }
    *type = found->second->type;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t handle,
                                 unsigned long long flags) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    constexpr unsigned long long kKnown = cudaGraphInstantiateFlagUpload;
    const Graph* graph = runtime.graphs.find(handle);
    if (exec == nullptr || graph == nullptr || (flags & ~kKnown) != 0) {
      return cudaErrorInvalidValue;
    }
    auto created = std::make_shared<GraphExec>();
    created->plan = plan_of(*graph);
    *exec = runtime.graph_execs.add(std::move(created));
    return cudaSuccess;
  });
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph,
                                          unsigned long long flags) {
  return cudaGraphInstantiate(exec, graph, flags);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  return runtime_call(kReleases, [&](Runtime& runtime, Lock&) {
    if (runtime.graph_execs.find(exec) == nullptr) {
      return cudaErrorInvalidValue;
    }
    // Launches that are queued have the plan of their own.
    runtime.graph_execs.remove(exec);
    return cudaSuccess;
  });
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t handle) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    if (runtime.graph_execs.find(exec) == nullptr) {
      return cudaErrorInvalidValue;
    }
    return find_stream(runtime, handle) != nullptr ? cudaSuccess : cudaErrorInvalidResourceHandle;
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t stream_handle) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock& lock) {
    GraphExec* exec = runtime.graph_execs.find(handle);
    const auto stream = find_stream(runtime, stream_handle);
    if (exec == nullptr || stream == nullptr) {
      return exec == nullptr ? cudaErrorInvalidValue : cudaErrorInvalidResourceHandle;
    }
    Operation operation{stream->device, GraphOperation{exec->plan}};
    if (stream->capture != nullptr) {
      return add_captured(*stream, std::move(operation));
    }
    XC_RETURN_IF_CUDA(check_legacy_use(runtime, *stream));
    std::vector<std::shared_ptr<Work>> before;
    if (exec->last != nullptr) {
      before.push_back(exec->last);
    }
    exec->last = enqueue(*stream, std::move(operation), std::move(before));
    run_ahead(lock);
    return cudaSuccess;
  });
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t handle, cudaGraph_t graph_handle,
                                cudaGraphExecUpdateResultInfo* information) {
  return runtime_call(kOrdinary, [&](Runtime& runtime, Lock&) {
    GraphExec* exec = runtime.graph_execs.find(handle);
    const Graph* graph = runtime.graphs.find(graph_handle);
    if (exec == nullptr || graph == nullptr || information == nullptr) {
      return cudaErrorInvalidValue;
    }
    auto next = plan_of(*graph);
    *information = {};
    information->result = can_update(*exec->plan, *next);
    if (information->result != cudaGraphExecUpdateSuccess) {
      return cudaErrorGraphExecUpdateFailure;
    }
    exec->plan = std::move(next);
    return cudaSuccess;
  });
}
}
