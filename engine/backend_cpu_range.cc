#include "engine/backend_cpu_range.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "engine/openmp.h"

namespace xception::cpu {
namespace {

// No network in use has values like these: a batch norm brings them to about 1.
constexpr double kLargest = 1e12;
// Of float32's 3.4e38, with room for what rounding adds between two looks.
constexpr double kSafe = 1e37;
constexpr double kNothing = -1;  // as a limit

// As the kernels take them, which may be infinite.
double largest_magnitude(const std::vector<double>& values) {
  double largest = 0;
  for (const double value : values) {
    largest = std::max<double>(largest, std::abs(static_cast<float>(value)));
  }
  return largest;
}

// Magnitudes are ordered as their bits are, with infinity and NaN above all.
template <class Int>
bool any_above(const std::byte* data, std::int64_t count, Int limit) {
  constexpr Int kMagnitude = std::numeric_limits<Int>::max();
  Int found = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    Int bits;
    std::memcpy(&bits, data + i * std::int64_t{sizeof(bits)}, sizeof(bits));
    found |= static_cast<Int>((bits & kMagnitude) > limit ? 1 : 0);
  }
  return found != 0;
}

}  // namespace

double Reach::of(double magnitude) const {
  return gain < kSafe && offset < kSafe ? gain * magnitude + offset
                                        : std::numeric_limits<double>::infinity();
}

Reach reach_of(const Affine& affine) {
  return {largest_magnitude(affine.scale), largest_magnitude(affine.shift)};
}

double largest_row(std::span<const float> rows, std::size_t length) {
  constexpr std::size_t kLanes = 16;  // sums that do not wait for each other
  double largest = 0;
  for (std::size_t first = 0; first < rows.size(); first += length) {
    const float* row = rows.data() + first;
    std::array<float, kLanes> sums{};
    std::size_t i = 0;
    for (; i + kLanes <= length; i += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        sums[lane] += std::abs(row[i + lane]);
      }
    }
    double sum = 0;
    for (; i < length; ++i) {
      sum += std::abs(row[i]);
    }
    for (const float part : sums) {
      sum += part;
    }
    largest = std::max(largest, sum);
  }
  return largest;
}

double StepReach::of(double first, double added) const {
  const double summed = sum.of(first);
  return std::max(summed, second.of(summed) + (adds ? added : 0.0));
}

StepReach reach_of(const Conv2d& conv, double largest) {
  StepReach reach;
  reach.sum = {largest, conv.affine != nullptr ? largest_magnitude(conv.affine->shift) : 0};
  if (conv.second_affine != nullptr) {
    reach.second = reach_of(*conv.second_affine);
  }
  reach.adds = conv.add;
  return reach;
}

void RangeGuard::set_plan(const BoundPlan& plan, bool narrow_is_bf16) {
  checks_.clear();
  for (const BoundValue& value : plan.values) {
    checks_.push_back({value, narrow_is_bf16 && !value.is_wide});
  }
  lost_.assign(static_cast<std::size_t>(plan.input().shape.n), 0);

  std::vector<double> most(checks_.size());  // that a value can be, as far as a run has gone
  const auto ask = [&](ValueId id, double limit) {
    const auto value = static_cast<std::size_t>(id);
    most[value] = std::min(most[value], limit);
    checks_[value].wanted = true;
    checks_[value].limit = most[value];
  };
  most[0] = kLargest;
  ask(0, kLargest);
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    const auto& step = static_cast<const RangedStep&>(*plan.steps[i]);
    const std::vector<ValueId>& inputs = plan.graph->nodes[i + 1].inputs;
    const auto reach = [&] {
      const auto at = [&](std::size_t input) {
        return most[static_cast<std::size_t>(inputs[input])];
      };
      return step.reach(at(0), inputs.size() > 1 ? at(1) : 0.0);
    };
    for (double limit = kLargest; !(reach() <= kSafe); limit /= 10) {
      const bool possible = limit > 1e-30;
      for (const ValueId id : inputs) {
        ask(id, possible ? limit : kNothing);
      }
      if (!possible) {
        break;
      }
    }
    most[i + 1] = std::min(reach(), kSafe);
  }
}

void RangeGuard::look(std::size_t value) {
  if (value == 0) {
    std::fill(lost_.begin(), lost_.end(), char{0});
  }
  if (!checks_[value].wanted) {
    return;
  }
  const Check& check = checks_[value];
  const Shape& shape = check.value.shape;
  const auto bits =
      check.limit < 0 ? -1 : std::bit_cast<std::int32_t>(static_cast<float>(check.limit));
  const std::int64_t row = std::int64_t{shape.w} * shape.c;
  const std::int64_t element = check.is_bf16 ? sizeof(std::int16_t) : sizeof(float);
  parallel_for(shape.n * shape.h, [&](int begin, int end) {
    for (int line = begin; line < end; ++line) {
      const std::byte* data = check.value.data + line * row * element;
      const bool above = check.is_bf16 ? any_above(data, row, static_cast<std::int16_t>(bits >> 16))
                                       : any_above(data, row, bits);
      if (above) {
        std::atomic_ref(lost_[static_cast<std::size_t>(line / shape.h)]).store(1);
      }
    }
  });
}

void RangeGuard::mark_result() const {
  const BoundValue& result = checks_.back().value;
  const std::int64_t row = result.shape.elements() / result.shape.n;
  auto* const values = reinterpret_cast<float*>(result.data);  // wide, and dense
  for (std::size_t n = 0; n < lost_.size(); ++n) {
    if (lost_[n] != 0) {
      std::fill_n(values + static_cast<std::int64_t>(n) * row, row,
                  std::numeric_limits<float>::quiet_NaN());
    }
  }
}

}  // namespace xception::cpu
