#include "engine/backend.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

namespace xception {

Result<std::shared_ptr<const void>> WeightCache::get(const std::string& key, const Make& make) {
  std::shared_ptr<Entry> entry;
  {
    const std::scoped_lock lock(mutex_);
    std::shared_ptr<Entry>& slot = entries_[key];
    if (slot == nullptr) {
      slot = std::make_shared<Entry>();
    }
    entry = slot;
  }
  const std::scoped_lock lock(entry->mutex);
  if (std::shared_ptr<const void> held = entry->weights.lock()) {
    return held;
  }
  Result<std::shared_ptr<const void>> made = make();
  if (made.ok()) {
    entry->weights = *made;
  }
  return made;
}

Status Backend::run(std::span<const std::unique_ptr<Step>> steps, const AfterStep& after) {
  for (std::size_t i = 0; i < steps.size(); ++i) {
    XC_RETURN_IF_ERROR(steps[i]->run());
    if (after) {
      XC_RETURN_IF_ERROR(after(i));
    }
  }
  return {};
}

std::vector<bool> Backend::wide_values(const Graph& graph,
                                       const std::vector<Shape>& /*shapes*/) const {
  std::vector<bool> wide(graph.nodes.size());
  wide.back() = true;
  return wide;
}

Status Backend::set_plan(const BoundPlan& plan) {
  keep_plan(plan);
  staged_.resize(static_cast<std::size_t>(plan.input().shape.elements()));
  return {};
}

Status Backend::stage(std::size_t /*slot*/, const Pictures& pictures) {
  if (pictures.pixels == nullptr) {
    to_nhwc(pictures.values, pictures.layout, plan_.input().shape, staged_.data());
    return {};
  }
  constexpr std::size_t kChannels = 3;
  for (std::size_t i = 0; i < staged_.size(); i += kChannels) {
    for (std::size_t c = 0; c < kChannels; ++c) {
      staged_[i + c] = pictures.normalisation->values[c][pictures.pixels[i + c]];
    }
  }
  return {};
}

Status Backend::start(std::size_t /*slot*/, const AfterStep& after) {
  XC_RETURN_IF_ERROR(copy_staged());
  return run(plan_.steps, after);
}

Status Backend::finish(std::size_t /*slot*/, float* result) {
  return copy_out(plan_.result().data, plan_.result().shape, true, result);
}

Status Backend::time_steps(std::size_t /*slot*/, std::span<double> seconds) {
  using Clock = std::chrono::steady_clock;
  XC_RETURN_IF_ERROR(copy_staged());
  Clock::time_point start = Clock::now();
  return run(plan_.steps, [&](std::size_t step) {
    const Clock::time_point end = Clock::now();
    seconds[step] = std::chrono::duration<double>(end - start).count();
    start = end;
    return Status();
  });
}

Result<double> Backend::time_network(std::size_t /*slot*/) {
  using Clock = std::chrono::steady_clock;
  XC_RETURN_IF_ERROR(copy_staged());
  const Clock::time_point start = Clock::now();
  XC_RETURN_IF_ERROR(run(plan_.steps, nullptr));
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void to_nhwc(const float* src, Layout layout, const Shape& shape, float* dst) {
  constexpr std::int64_t kChannels = 3;
  if (layout == Layout::kNHWC) {
    std::copy_n(src, shape.elements(), dst);
    return;
  }
  const std::int64_t plane = static_cast<std::int64_t>(shape.h) * shape.w;
  for (std::int64_t n = 0; n < shape.n; ++n) {
    const float* picture = src + n * kChannels * plane;
    for (std::int64_t pixel = 0; pixel < plane; ++pixel, dst += kChannels) {
      for (std::int64_t c = 0; c < kChannels; ++c) {
        dst[c] = picture[c * plane + pixel];
      }
    }
  }
}

Result<std::vector<float>> read_scaled_weights(const Conv2d& conv, const WeightFile& file) {
  std::vector<float> weights(static_cast<std::size_t>(conv.weight->elements()));
  XC_RETURN_IF_ERROR(read_scaled_rows(conv, file, 0, weights));
  return weights;
}

Status read_scaled_rows(const Conv2d& conv, const WeightFile& file, std::size_t first,
                        std::span<float> rows) {
  const std::size_t row =
      static_cast<std::size_t>(conv.weight->elements() / std::max(conv.out_channels, 1));
  XC_RETURN_IF_ERROR(file.read(*conv.weight, first * row, rows));
  if (conv.affine != nullptr && conv.folded) {
    for (std::size_t k = 0; k < rows.size() / row; ++k) {
      const double scale = conv.affine->scale[first + k];
      for (float& weight : rows.subspan(k * row, row)) {
        weight = static_cast<float>(weight * scale);
      }
    }
  }
  return {};
}

Result<std::shared_ptr<std::byte>> allocate_host(std::size_t bytes, Pages pages) {
  constexpr std::size_t kHugePage = std::size_t{2} << 20;
  constexpr std::size_t kCacheLine = 64;
  const bool large = pages == Pages::kLarge && bytes >= kHugePage;
  const std::size_t alignment = large ? kHugePage : kCacheLine;
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, std::max(bytes, kCacheLine)) != 0) {
    return Status(
        Code::kOutOfMemory,
        "cannot allocate " + std::to_string(bytes) +
            (pages == Pages::kLarge
                 ? " bytes for activations; use a smaller batch or picture"
                 : " bytes for weights, which take the same for every batch; free memory"));
  }
  if (large) {
    // A wish, not a need: where it is refused, ordinary pages do.
    static_cast<void>(madvise(memory, bytes, MADV_HUGEPAGE));
  }
  return std::shared_ptr<std::byte>(static_cast<std::byte*>(memory), std::free);
}

}  // namespace xception
