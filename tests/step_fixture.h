// One operation on drawn inputs, run on a backend and held against another within the roundings
// that it may make.
#pragma once

#include <vector>

#include "engine/backend.h"
#include "graph_fixture.h"
#include "kernels/problem.h"
#include "random.h"

namespace xception {

// Pictures of every case; smaller batches are its first ones.
inline constexpr int kBatch = 3;

struct StepCase {
  TestGraph made;          // the input and the node
  std::vector<Shape> src;  // of the node's inputs, for kBatch pictures
  std::vector<Values> values;
  bool second_is_free = false;  // the output may be written over the second input
  bool dst_is_wide = false;     // as StepRequest has them
  std::vector<bool> wide_src = {};

  const Node& node() const { return made.graph.nodes[1]; }
};

// Whole numbers are small enough for every sum to be exact in float32.
enum class Draw { kIntegers, kNormals };

// What stands around a convolution; of `bias` and `norm` (folded into the weights) one at most.
struct Epilogues {
  bool bias = false;
  bool norm = false;
  bool relu = false;
  bool second_norm = false;
  bool add = false;
  bool final_relu = false;
  bool relu_on_load = false;
};

// False where Conv2d cannot say what the problem asks for, or no window fits.
bool can_be_node(const ConvProblem& problem);

StepCase conv_case(Random& random, Draw draw, const ConvProblem& problem,
                   const Epilogues& epilogues);

// Any other operation; `second` is the shape of what is added, where it adds.
StepCase op_case(Random& random, Draw draw, Op op, const Shape& src, bool adds = false,
                 const Shape& second = {});

// The same with absolute weights and values: see absolute() in graph_fixture.h.
StepCase absolute(const StepCase& test);

// The output for the first n pictures.
StepResult run_case(Backend& backend, const StepCase& test, int n, int runs = 2);

// The part of `values`, of kBatch pictures, that belongs to the first n.
Values first_images(const Values& values, int n);

// At most so many roundings lie on the way from an input of the node to its output in float32: one
// for each term of a sum in whatever order, one for each step of the epilogue, and those of the
// packed parameters. 0 where the result is exact or rounded once, as the reference's is.
int roundings(const StepCase& test);

// How far the worst |a - b| lies beyond its bound: `count` roundings of magnitudes' value, and the
// share `relative` of b itself. At most 0 where all is well.
float excess(const Values& a, const Values& b, const Values& magnitudes, int count,
             float relative = 0.0F);

}  // namespace xception
