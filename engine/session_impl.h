// What a session holds. Made in session_create.cc, run in session.cc.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "engine/backend.h"
#include "engine/model.h"
#include "xception/engine.h"

namespace xception {

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
  std::shared_ptr<const LayerCallback> callback;  // a run goes on with the one it began with
  bool in_call = false;  // of a public function: a callback may not make another
  SessionInfo info;
  std::size_t submitted = 0;  // runs, since the session began
  std::size_t collected = 0;
  std::array<bool, 2> started{};  // by slot of the backend: its run computes, or has computed

  Status choose_graph(const Graph& network, const Shape& input, bool fused);
  Status prepare();
  Status prepare_step(std::size_t i);
  Status lay_out();
  void describe();
  Result<Pictures> check_pictures(TensorView<const float> images) const;
  Result<Pictures> check_pictures(TensorView<const std::uint8_t> images) const;
  Status submit(const Pictures& pictures);
  Status collect(float* logits);
  // The public functions of these names, of either type of images.
  template <class T>
  Status submit_images(TensorView<const T> images);
  template <class T>
  Status run(TensorView<const T> images, TensorView<float> logits);
  template <class T>
  Status enqueue(TensorView<const T> images, TensorView<float> logits, CUstream_st* stream);
  Status check_idle(const char* before) const;
  Status check_run(TensorView<float> logits) const;
  Status report_layer(const LayerCallback& report, std::size_t step);
  // The body of a public function.
  template <class Body>
  Status call(const Body& body);
  Status set_normalisation(const Preprocess& preprocess);

  std::size_t slots() const { return static_cast<std::size_t>(backend->slots()); }
  std::size_t last_slot() const { return (submitted + slots() - 1) % slots(); }
  std::byte* at(std::size_t node) const { return arena.get() + offsets[node]; }
};

}  // namespace xception
