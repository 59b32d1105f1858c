#include "engine/backend_host.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>

namespace xception {
namespace {

// From either layout to NHWC, of three channels.
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

}  // namespace

Result<std::shared_ptr<std::byte>> HostBackend::allocate(std::size_t bytes) {
  return allocate_host(bytes, Pages::kLarge);
}

Status HostBackend::run(std::span<const std::unique_ptr<Step>> steps, const AfterStep& after) {
  for (std::size_t i = 0; i < steps.size(); ++i) {
    XC_RETURN_IF_ERROR(steps[i]->run());
    if (after) {
      XC_RETURN_IF_ERROR(after(i));
    }
  }
  return {};
}

Status HostBackend::set_plan(const BoundPlan& plan) {
  plan_ = plan;
  staged_.resize(static_cast<std::size_t>(plan.input().shape.elements()));
  return {};
}

Status HostBackend::stage(std::size_t /*slot*/, const Pictures& pictures) {
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

Status HostBackend::copy_staged() {
  const BoundValue& input = plan_.input();
  return copy_in(staged_.data(), input.shape, input.is_wide, input.data);
}

Status HostBackend::start(std::size_t /*slot*/, const AfterStep& after) {
  XC_RETURN_IF_ERROR(copy_staged());
  return run(plan_.steps, after);
}

Status HostBackend::finish(std::size_t /*slot*/, float* result) {
  return copy_out(plan_.result().data, plan_.result().shape, true, result);
}

Status HostBackend::enqueue(const Pictures& /*pictures*/, float* /*result*/,
                            CUstream_st* /*stream*/) {
  return {Code::kUnsupported,
          "device '" + device() + "' has no streams; use run(), or a session on cuda"};
}

Status HostBackend::time_steps(std::size_t /*slot*/, std::span<double> seconds) {
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

Result<double> HostBackend::time_network(std::size_t /*slot*/) {
  using Clock = std::chrono::steady_clock;
  XC_RETURN_IF_ERROR(copy_staged());
  const Clock::time_point start = Clock::now();
  XC_RETURN_IF_ERROR(run(plan_.steps, nullptr));
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Result<double> HostBackend::time_step(std::size_t step, int runs) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  for (int run_number = 0; run_number < runs; ++run_number) {
    XC_RETURN_IF_ERROR(run(plan_.steps.subspan(step, 1), nullptr));
  }
  return std::chrono::duration<double>(Clock::now() - start).count();
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
