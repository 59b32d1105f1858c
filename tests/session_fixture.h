// Sessions of miniature networks on the device under test, and their runs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "graph_fixture.h"
#include "random.h"
#include "tests/emulator/control.h"
#include "xception/engine.h"

namespace xception {

// The emulator's control, or, on a GPU, null and a warning that the test needs it.
const emulator::Control* needs_emulator();

std::shared_ptr<const Model> load(const std::string& bytes);
Session create(std::shared_ptr<const Model> model, const SessionOptions& options);

// Pictures that differ in brightness too, so that their logits do. NHWC.
Values pictures(Random& random, const Shape& shape);
std::vector<std::uint8_t> pixels(Random& random, const Shape& shape);

// The images of the session's batch, from image `first` on.
Values run(Session& session, const Values& images, int first = 0);
Values run(Session& session, const std::vector<std::uint8_t>& images);

// A layer's name and output, NHWC.
struct Layer {
  std::string name;
  Values values;
};
std::vector<Layer> run_layers(Session& session, const Values& images);

// Checks that the message holds all of `words`.
void check_says(const Status& status, const std::vector<std::string>& words);

// max|a - b| over max|b|.
float relative_difference(const Values& a, const Values& b);

}  // namespace xception
