#include "engine/backend.h"

#include <algorithm>

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

std::vector<bool> Backend::wide_values(const Graph& graph,
                                       const std::vector<Shape>& /*shapes*/) const {
  std::vector<bool> wide(graph.nodes.size());
  wide.back() = true;
  return wide;
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

}  // namespace xception
