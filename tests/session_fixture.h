// Sessions of miniature networks, and their runs. What fails here is no subject of the tests that
// use it: it ends the test.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "graph_fixture.h"
#include "random.h"
#include "xception/engine.h"

namespace xception {

std::shared_ptr<const Model> load(const std::string& bytes);
Session create(std::shared_ptr<const Model> model, const SessionOptions& options);
Status create_status(const std::shared_ptr<const Model>& model, const SessionOptions& options);

bool has_bf16();  // the CPU

// Pictures of which the fixture's first activations are too large to lie between two convolutions,
// while their rows are too short for a chain of more.
inline constexpr int kJoiningBatch = 72;
inline constexpr int kJoiningSide = 24;
SessionOptions joining(int threads);
// The paper's network at a size whose rows are long enough to go through a block at a time, max
// pool and all.
SessionOptions chaining(int threads);
// Checks that the session has a step of several operations, the last of which is `last`.
void check_joins(const Session& session, const char* last);

// Pictures that differ in brightness too, so that their logits do. NHWC.
Values pictures(Random& random, const Shape& shape);
std::vector<std::uint8_t> pixels(Random& random, const Shape& shape);

// The images of the session's batch, from image `first` on.
Values run(Session& session, const Values& images, int first = 0);
Values run(Session& session, const std::vector<std::uint8_t>& images);
Values run(Session& session, const Values& images, Layout layout);
// The same with its status; logits are NaN where nothing was written.
Status run(Session& session, const Values& images, Values& logits);

// A layer's name and output, NHWC.
struct Layer {
  std::string name;
  Values values;
};
std::vector<Layer> run_layers(Session& session, const Values& images);

void check_refused(const Status& status, Code code, const std::string& message);
// Checks that the message holds all of `words`.
void check_says(const Status& status, const std::vector<std::string>& words);

// max|a - b| over max|b|.
float relative_difference(const Values& a, const Values& b);

}  // namespace xception
