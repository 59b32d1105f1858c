// Keeps sums that leave the range of float32 from becoming answers.
//
// oneDNN's ReLU makes 0 of NaN and of -infinity, so that a network whose sums overflow, one with a
// flipped bit in a weight, say, would answer like any other. Nothing has to be looked at where the
// weights rule that out: a convolution makes at most sum |w| of 1. So a plan is gone through once,
// from step to step, with what each can make of what it reads; where that might overflow, what the
// step reads is looked at in every run. For the paper's network those are a handful of its values.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "engine/backend.h"

namespace xception::cpu {

// |y| <= gain * |x| + offset.
struct Reach {
  double gain = 1;
  double offset = 0;

  // Infinite where a factor is, or would be in bf16: it makes NaN of 0, which is below every limit.
  double of(double magnitude) const;
};

Reach reach_of(const Affine& affine);

// The largest sum of absolute values of a row, of `length` each.
double largest_row(std::span<const float> rows, std::size_t length);

// Of an operation and of what is fused with it: a sum, an affine behind that, an add.
struct StepReach {
  Reach sum = {};
  Reach second = {};
  bool adds = false;

  // The largest magnitude of anything that is computed on the way, from what the step reads.
  double of(double first, double added) const;
};

// Of a convolution whose weights, scaled, have this largest_row().
StepReach reach_of(const Conv2d& conv, double largest);

// A step that tells how far its values can go.
class RangedStep : public Step {
 public:
  // The largest magnitude of anything that it computes, from those of its inputs; `added` is 0
  // where it has one.
  virtual double reach(double first, double added) const = 0;
};

// Looks at the values of a plan and remembers which pictures' went too far. A value that is to be
// looked at must not exceed 1e12, or less where a step multiplies it by more than 1e25.
class RangeGuard {
 public:
  // Of RangedSteps alone, which compute in float32; what is not wide is bf16 in memory where
  // `narrow_is_bf16`.
  void set_plan(const BoundPlan& plan, bool narrow_is_bf16);

  // A run goes on: its input is there (value 0), or the step has run that makes this value.
  // Allocates nothing.
  void look(std::size_t value);

  // Behind the last step: of pictures with a value that went too far the result becomes NaN.
  void mark_result() const;

 private:
  struct Check {
    BoundValue value;
    bool is_bf16 = false;
    bool wanted = false;
    double limit = 0;
  };
  std::vector<Check> checks_;  // one a value
  std::vector<char> lost_;     // by picture
};

}  // namespace xception::cpu
