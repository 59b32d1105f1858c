#include "engine/parameters.h"

#include <algorithm>

#include "engine/safetensors_header.h"

namespace xception {
namespace {

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

std::string canonical_name(std::string_view name) {
  for (const std::string_view wrapper : {"module.", "model."}) {
    if (starts_with(name, wrapper)) {
      name.remove_prefix(wrapper.size());
    }
  }
  for (const std::string_view head : {"last_linear.", "head.fc."}) {
    if (starts_with(name, head)) {
      return "fc." + std::string(name.substr(head.size()));
    }
  }
  return std::string(name);
}

// Equal, but for 1s missing at the end of `actual`.
bool shape_matches(const std::vector<std::int64_t>& expected,
                   const std::vector<std::int64_t>& actual) {
  if (actual.size() > expected.size() ||
      !std::equal(actual.begin(), actual.end(), expected.begin())) {
    return false;
  }
  return std::all_of(expected.begin() + static_cast<std::ptrdiff_t>(actual.size()), expected.end(),
                     [](std::int64_t extent) { return extent == 1; });
}

}  // namespace

Result<Parameters> Parameters::create(const WeightFile& file) {
  Parameters parameters;
  parameters.file_ = &file;
  for (const TensorEntry& entry : file.entries()) {
    if (entry.name.ends_with("num_batches_tracked")) {
      continue;
    }
    const auto [slot, is_new] =
        parameters.slots_.try_emplace(canonical_name(entry.name), Slot{&entry, false});
    if (!is_new) {
      return Status(Code::kBadModel, "tensors " + quoted_name(slot->second.entry->name) + " and " +
                                         quoted_name(entry.name) + " both stand for parameter " +
                                         quoted_name(slot->first) + "; remove one of them");
    }
  }
  return parameters;
}

const TensorEntry* Parameters::find(std::string_view name) const {
  const auto slot = slots_.find(name);
  return slot == slots_.end() ? nullptr : slot->second.entry;
}

Result<const TensorEntry*> Parameters::take(const std::string& name,
                                            const std::vector<std::int64_t>& shape) {
  const auto slot = slots_.find(name);
  if (slot == slots_.end()) {
    return Status(Code::kBadModel,
                  "tensor '" + name + "' is missing; expected shape " + shape_string(shape));
  }
  const TensorEntry& entry = *slot->second.entry;
  if (!shape_matches(shape, entry.shape)) {
    return Status(Code::kBadModel, "tensor " + quoted_name(entry.name) + " has shape " +
                                       shape_string(entry.shape) + ", expected " +
                                       shape_string(shape));
  }
  if (entry.type == StoredType::kI64) {
    return Status(Code::kBadModel, "tensor " + quoted_name(entry.name) +
                                       " holds I64, expected F32, F16, BF16 or F64");
  }
  slot->second.taken = true;
  return &entry;
}

Result<std::vector<float>> Parameters::take_values(const std::string& name, std::int64_t length) {
  Result<const TensorEntry*> entry = take(name, {length});
  XC_RETURN_IF_ERROR(entry.status());
  std::vector<float> values(static_cast<std::size_t>(length));
  XC_RETURN_IF_ERROR(file_->read(**entry, values));
  return values;
}

std::int64_t Parameters::count() const {
  std::int64_t count = 0;
  for (const auto& [name, slot] : slots_) {
    const bool is_statistic = name.ends_with(".running_mean") || name.ends_with(".running_var");
    count += is_statistic ? 0 : slot.entry->elements();
  }
  return count;
}

std::vector<std::string> Parameters::names_below(std::string_view prefix) const {
  std::vector<std::string> names;
  for (auto slot = slots_.lower_bound(prefix);
       slot != slots_.end() && starts_with(slot->first, prefix); ++slot) {
    names.push_back(slot->first);
  }
  return names;
}

Status Parameters::check_all_taken() const {
  for (const auto& [name, slot] : slots_) {
    if (!slot.taken) {
      return {Code::kBadModel,
              "tensor " + quoted_name(slot.entry->name) + " " + shape_string(slot.entry->shape) +
                  " is no parameter of this network; is it another network (arch)?"};
    }
  }
  return {};
}

}  // namespace xception
