#include "engine/backend_cpu_pool.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <type_traits>

#include "engine/openmp.h"

namespace xception::cpu {
namespace {

constexpr int kMostTaps = 9;

struct Bf16 {
  std::uint16_t bits;
};

inline float load(float value) { return value; }
inline float load(Bf16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16U);
}
inline void store(float value, float& dst) { dst = value; }
// Rounds to nearest, half to even. NaN may become infinity's neighbour of the same sign, a NaN.
inline void store(float value, Bf16& dst) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  dst.bits = static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U);
}

// One output pixel. Unrolled over taps and vectorised over channels by the compiler; a window at an
// edge names its first tap again for those it lacks.
template <class Src, class Dst, bool kAdd>
void pool_pixel(const std::array<const Src*, kMostTaps>& taps, int channels,
                const Src* __restrict__ residual, Dst* __restrict__ dst) {
  for (int c = 0; c < channels; ++c) {
    float largest = load(taps[0][c]);
    for (int i = 1; i < kMostTaps; ++i) {
      const float value = load(taps[i][c]);
      largest = value > largest ? value : largest;
    }
    store(kAdd ? largest + load(residual[c]) : largest, dst[c]);
  }
}

template <class Src, class Dst>
class MaxPoolStep : public Step {
 public:
  MaxPoolStep(const PoolProblem& problem, bool add) : problem_(problem), add_(add) {}

  std::string implementation() const override { return "own loop"; }
  std::size_t workspace_bytes() const override { return 0; }
  std::size_t parameter_bytes() const override { return 0; }
  const void* parameters() const override { return nullptr; }

  Status bind(const StepBuffers& buffers) override {
    src_ = reinterpret_cast<const Src*>(buffers.src[0]);
    residual_ = add_ ? reinterpret_cast<const Src*>(buffers.src[1]) : nullptr;
    dst_ = reinterpret_cast<Dst*>(buffers.dst);
    return {};
  }

  Status run() override {
    const Shape dst = problem_.dst();
    parallel_for(dst.n * dst.h, [&](int begin, int end) {
      for (int row = begin; row < end; ++row) {
        pool_row(row / dst.h, row % dst.h);
      }
    });
    return {};
  }

 private:
  void pool_row(int n, int p) const {
    const Shape& src = problem_.src;
    const Shape dst = problem_.dst();
    const Window& window = problem_.window;
    const int top = p * window.stride - window.pad.top;
    const int first_row = std::max(top, 0);
    const int last_row = std::min(top + window.size, src.h);
    for (int q = 0; q < dst.w; ++q) {
      const int left = q * window.stride - window.pad.left;
      const int first_column = std::max(left, 0);
      const int last_column = std::min(left + window.size, src.w);
      std::array<const Src*, kMostTaps> taps{};
      std::size_t count = 0;
      for (int h = first_row; h < last_row; ++h) {
        for (int w = first_column; w < last_column; ++w) {
          taps[count++] = src_ + ((static_cast<std::int64_t>(n) * src.h + h) * src.w + w) * src.c;
        }
      }
      std::fill(taps.begin() + static_cast<std::ptrdiff_t>(count), taps.end(), taps[0]);
      const std::int64_t offset = ((static_cast<std::int64_t>(n) * dst.h + p) * dst.w + q) * dst.c;
      if (add_) {
        pool_pixel<Src, Dst, true>(taps, dst.c, residual_ + offset, dst_ + offset);
      } else {
        pool_pixel<Src, Dst, false>(taps, dst.c, nullptr, dst_ + offset);
      }
    }
  }

  PoolProblem problem_;
  bool add_;
  const Src* src_ = nullptr;
  const Src* residual_ = nullptr;
  Dst* dst_ = nullptr;
};

}  // namespace

Result<std::unique_ptr<Step>> make_max_pool_step(const StepRequest& request, bool bf16) {
  const auto& max = std::get<MaxPool>(request.node.op);
  const PoolProblem problem = pool_problem(max, request.src[0]);
  const int size = problem.window.size;
  const int pad = std::max({problem.window.pad.top, problem.window.pad.left,
                            problem.window.pad.bottom, problem.window.pad.right});
  if (size * size > kMostTaps || pad >= size) {
    return Status(Code::kUnsupported,
                  "layer '" + request.node.name + "': the CPU backend has no max pooling of " +
                      std::to_string(size) + "x" + std::to_string(size) + " padded by " +
                      std::to_string(pad) + "; 3x3 padded by less than 3 is the largest");
  }
  std::unique_ptr<Step> step;
  if (!bf16) {
    step = std::make_unique<MaxPoolStep<float, float>>(problem, max.add);
  } else if (request.is_result) {
    step = std::make_unique<MaxPoolStep<Bf16, float>>(problem, max.add);
  } else {
    step = std::make_unique<MaxPoolStep<Bf16, Bf16>>(problem, max.add);
  }
  return step;
}

}  // namespace xception::cpu
