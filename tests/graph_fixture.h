// Small graphs over a weight file in memory, and two ways to run them: every value in a guarded
// buffer of its own, or all of them in one arena as a session has them.
//
// Failures of what is used here are no subject of the tests that use it: they end the test.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/backend.h"
#include "engine/graph.h"
#include "engine/safetensors.h"
#include "random.h"

namespace xception {

using Values = std::vector<float>;

// A graph, the shape that it is meant for, and the file that its weights point into.
struct TestGraph {
  Graph graph;
  Shape input;
  std::shared_ptr<const std::string> bytes;
  std::shared_ptr<const WeightFile> file;
};

// Builds a graph node by node. Convolutions get their weights' entry in finish(), when the file is
// complete.
class GraphMaker {
 public:
  explicit GraphMaker(const Shape& input);

  ValueId append(const std::string& name, Op op, std::vector<ValueId> inputs);
  // `weights` in PyTorch's order; the entry is name + ".weight".
  ValueId conv(const std::string& name, Conv2d op, const Values& weights,
               std::vector<ValueId> inputs);

  ValueId last() const { return static_cast<ValueId>(shapes_.size()) - 1; }
  const Shape& shape(ValueId id) const { return shapes_[static_cast<std::size_t>(id)]; }

  TestGraph finish();

 private:
  Graph graph_;
  std::vector<Shape> shapes_;
  std::string entries_;  // of the file's header
  std::string data_;
};

// The affine of a batch norm: scales of both signs, none near zero.
std::shared_ptr<const Affine> random_norm(Random& random, int channels);
// The affine of a bias.
std::shared_ptr<const Affine> random_bias(Random& random, int channels);
// The same of small whole numbers: scales -2, -1, 1 and 2.
std::shared_ptr<const Affine> integer_norm(Random& random, int channels);

// A chain with branches of every operation that a graph can have, of about `length` nodes, with
// weights that keep the size of activations. Some values are read twice and some never.
TestGraph random_graph(Random& random, int length);

// The same graph of absolute values: of weights, scales, shifts. Run on absolute images, it gives
// for every value the sum of the magnitudes of its terms, which is what rounding errors scale with:
// where r roundings lie on the longest way to a value, it is off by at most about r * kRounding
// times that.
TestGraph absolute(const TestGraph& made);
Values absolute(Values values);
inline constexpr float kRounding = 0x1p-24F;  // largest relative error of one in float32

// What one prepared step made.
struct StepResult {
  Values values;
  std::string implementation;
};

// Prepares and runs one node on guarded buffers: `src` are the values of its inputs. Runs it
// `runs` times over poisoned outputs; checks that the results are bitwise equal, that none is left
// out, and that nothing else was written.
StepResult run_step(Backend& backend, const StepRequest& request, const WeightFile& file,
                    WeightCache& cache, const std::vector<Values>& src, int runs = 2);

// The values of all nodes, in order; the first is `images`.
std::vector<Values> run_guarded(Backend& backend, const Graph& graph, const WeightFile& file,
                                const Shape& input, const Values& images);

// The value of the last node. All buffers are parts of one poisoned arena, reused as the plan has
// it.
Values run_in_arena(Backend& backend, const Graph& graph, const WeightFile& file,
                    const Shape& input, const Values& images);

std::unique_ptr<Backend> reference_backend(Precision precision = Precision::kFp32);
// Null, with a warning, where this machine cannot do it.
std::unique_ptr<Backend> cpu_backend(int threads, Precision precision = Precision::kFp32);

// Equal bit by bit: a NaN equals itself, and 0 is not -0.
bool same_bits(const Values& a, const Values& b);

float largest_magnitude(const Values& values);

}  // namespace xception
