#include "engine/backend.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
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

std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U);
}

Result<std::shared_ptr<std::byte>> allocate_host(std::size_t bytes, Pages pages) {
  constexpr std::size_t kHugePage = std::size_t{2} << 20;
  constexpr std::size_t kCacheLine = 64;
  const bool large = pages == Pages::kLarge && bytes >= kHugePage;
  const std::size_t alignment = large ? kHugePage : kCacheLine;
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, std::max(bytes, kCacheLine)) != 0) {
    return Status(Code::kOutOfMemory,
                  "cannot allocate " + std::to_string(bytes) +
                      " bytes for activations or weights; use a smaller batch or picture");
  }
  if (large) {
    // A wish, not a need: where it is refused, ordinary pages do.
    static_cast<void>(madvise(memory, bytes, MADV_HUGEPAGE));
  }
  return std::shared_ptr<std::byte>(static_cast<std::byte*>(memory), std::free);
}

}  // namespace xception
