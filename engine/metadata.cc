#include "engine/metadata.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "engine/json_document.h"
#include "engine/safetensors_header.h"

namespace xception {
namespace {

using nlohmann::json;

Status bad_value(const std::string& where, const std::string& value, const std::string& expected) {
  return {Code::kBadModel, where + " is " + quoted_name(value) + ", expected " + expected +
                               (value.size() > kMaxJsonBytes ? " of at most 4 MiB" : "")};
}

std::string metadata_key(const std::string& key) { return "metadata '" + key + "'"; }

// A value for a message, in which long lists are not written out.
std::string shown(const json& value) {
  constexpr std::size_t kMost = 60;
  const std::string text = value.dump();
  return value.is_structured() && text.size() > kMost ? std::string("an ") + value.type_name()
                                                      : text;
}

// Fails where `key` is none of `known`, which a message has with `prefix` in front: one that is
// misspelt, or that says something of another program's network, would be left out of account in
// silence, and the results would be wrong.
Status check_key(const std::string& where, const std::string& prefix, const std::string& key,
                 std::span<const std::string_view> known) {
  if (std::find(known.begin(), known.end(), key) != known.end()) {
    return {};
  }
  std::string list;
  for (const std::string_view each : known) {
    list += (list.empty() ? "" : ", ") + prefix + std::string(each);
  }
  return {Code::kBadModel,
          where + quoted_name(prefix + key) + " is no known key; known keys: " + list};
}

Status check_keys(const std::map<std::string, std::string>& entries) {
  const std::string prefix = "xception.";
  constexpr std::array<std::string_view, 10> kKeys = {
      "schema", "arch",        "bn_eps", "pool_pad",   "sep_relu",
      "width",  "num_classes", "labels", "preprocess", "sha256"};
  for (auto entry = entries.lower_bound(prefix);
       entry != entries.end() && entry->first.starts_with(prefix); ++entry) {
    XC_RETURN_IF_ERROR(check_key("metadata ", prefix, entry->first.substr(prefix.size()), kKeys));
  }
  return {};
}

// Of our own preprocess object; the last two are timm's names for size and resize_mode.
Status check_preprocess_keys(const json& object) {
  constexpr std::array<std::string_view, 10> kKeys = {
      "size", "resize_mode", "crop_pct", "interpolation", "mean",
      "std",  "keep_min",    "keep_max", "input_size",    "crop_mode"};
  for (const auto& [key, value] : object.items()) {
    XC_RETURN_IF_ERROR(check_key("metadata 'xception.preprocess': ", "", key, kKeys));
  }
  return {};
}

// The entry's text, or null.
const std::string* find(const std::map<std::string, std::string>& entries, const char* key) {
  const auto entry = entries.find(key);
  return entry == entries.end() ? nullptr : &entry->second;
}

// A whole number where `Number` is an integer.
template <class Number>
Status read_number(const std::map<std::string, std::string>& entries, const char* key, Number least,
                   Number most, std::optional<Number>& value) {
  const std::string* text = find(entries, key);
  if (text == nullptr) {
    return {};
  }
  constexpr bool kWhole = std::is_integral_v<Number>;
  const JsonDocument document = parse_json(*text);
  const double number = document->is_number() ? document->get<double>() : std::nan("");
  if (!(number >= least && number <= most) || (kWhole && number != std::floor(number))) {
    return bad_value(metadata_key(key), *text,
                     std::string(kWhole ? "a whole number" : "a number") + " from " +
                         json(least).dump() + " to " + json(most).dump());
  }
  value = static_cast<Number>(number);
  return {};
}

// One of two words.
Status read_choice(const std::map<std::string, std::string>& entries, const char* key,
                   const char* no, const char* yes, std::optional<bool>& value) {
  const std::string* text = find(entries, key);
  if (text == nullptr) {
    return {};
  }
  if (*text != no && *text != yes) {
    return bad_value(metadata_key(key), *text, std::string("'") + no + "' or '" + yes + "'");
  }
  value = *text == yes;
  return {};
}

bool is_string_list(const json& list) {
  if (!list.is_array()) {
    return false;
  }
  for (const json& item : list) {
    if (!item.is_string()) {
      return false;
    }
  }
  return true;
}

bool set_triple(const json& list, double least, std::array<float, 3>& values) {
  if (!list.is_array() || list.size() != values.size()) {
    return false;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!list[i].is_number() || !(list[i].get<double>() >= least) ||
        !(std::abs(list[i].get<double>()) < 1e6)) {
      return false;
    }
    values[i] = list[i].get<float>();
  }
  return true;
}

bool set_side(const json& value, const Sides& sides, int& target) {
  if (!value.is_number_integer() || value.get<std::int64_t>() < sides.least ||
      value.get<std::int64_t>() > sides.most) {
    return false;
  }
  target = value.get<int>();
  return true;
}

bool set_keep(const json& value, const Sides& sides, int& target) {
  if (value == 0) {
    target = 0;
    return true;
  }
  return set_side(value, sides, target);
}

// To compare it with == would make JSON of the text, inside a function that may not throw.
bool is_text(const json& value, std::string_view text) {
  const auto* const string = value.get_ptr<const json::string_t*>();
  return string != nullptr && *string == text;
}

bool set_mode(const json& value, ResizeMode& mode) {
  if (is_text(value, "center")) {
    mode = ResizeMode::kCenter;
  } else if (is_text(value, "squash")) {
    mode = ResizeMode::kSquash;
  } else if (is_text(value, "border")) {
    mode = ResizeMode::kBorder;
  } else {
    return false;
  }
  return true;
}

bool set_interpolation(const json& value, Interpolation& interpolation) {
  if (is_text(value, "nearest")) {
    interpolation = Interpolation::kNearest;
  } else if (is_text(value, "bilinear")) {
    interpolation = Interpolation::kBilinear;
  } else if (is_text(value, "bicubic")) {
    interpolation = Interpolation::kBicubic;
  } else {
    return false;
  }
  return true;
}

bool set_crop_pct(const json& value, double& crop_pct) {
  if (!value.is_number() || !(value.get<double>() >= 0.01) || !(value.get<double>() <= 1.0)) {
    return false;
  }
  crop_pct = value.get<double>();
  return true;
}

// One key of a preprocess object, ours or timm's. Other keys of timm's are none of our business.
bool set_preprocess(const std::string& key, const json& value, const Sides& sides,
                    Preprocess& preprocess) {
  constexpr double kAny = -1e6;
  constexpr double kPositive = 1e-6;
  if (key == "size") return set_side(value, sides, preprocess.size);
  if (key == "keep_min") return set_keep(value, sides, preprocess.keep_min);
  if (key == "keep_max") return set_keep(value, sides, preprocess.keep_max);
  if (key == "resize_mode") return set_mode(value, preprocess.mode);
  if (key == "crop_pct") return set_crop_pct(value, preprocess.crop_pct);
  if (key == "interpolation") return set_interpolation(value, preprocess.interpolation);
  if (key == "mean") return set_triple(value, kAny, preprocess.mean);
  if (key == "std") return set_triple(value, kPositive, preprocess.std);
  if (key == "crop_mode") return set_mode(value, preprocess.mode);  // timm's name for it
  if (key == "input_size") {  // timm: [channels, height, width]
    int height = 0;
    return value.is_array() && value.size() == 3 && value[0] == 3 &&
           set_side(value[1], sides, height) && set_side(value[2], sides, preprocess.size) &&
           height == preprocess.size;
  }
  return true;
}

// What would have been a value of `key`.
std::string expected_value(const std::string& key, const Sides& sides) {
  const std::string range = std::to_string(sides.least) + " to " + std::to_string(sides.most);
  if (key == "size") return "a side that the network takes, " + range;
  if (key == "keep_min" || key == "keep_max")
    return "a side that the network takes, " + range + ", or 0";
  if (key == "input_size") return "[3, side, side] with a side that the network takes, " + range;
  if (key == "resize_mode" || key == "crop_mode") return "'center', 'squash' or 'border'";
  if (key == "interpolation") return "'nearest', 'bilinear' or 'bicubic'";
  if (key == "crop_pct") return "a number from 0.01 to 1";
  if (key == "std") return "three numbers from 1e-6 on and below 1e6";
  return "three numbers between -1e6 and 1e6";
}

// `where` is what stands before the key in a message.
Status set_all(const std::string& where, const json& object, const Sides& sides,
               Preprocess& preprocess) {
  for (const auto& [key, value] : object.items()) {
    if (!set_preprocess(key, value, sides, preprocess)) {
      return bad_value(where + "." + key + "'", shown(value), expected_value(key, sides));
    }
  }
  if (preprocess.keep_max == 0 && !object.contains("keep_min")) {
    preprocess.keep_min = 0;  // switched off by one of the two
  }
  // A picture that is taken as it is must be one that the network takes.
  if (preprocess.keep_min > preprocess.keep_max ||
      (preprocess.keep_max > 0 && preprocess.keep_min == 0)) {
    return bad_value(where + ".keep_min'", std::to_string(preprocess.keep_min),
                     preprocess.keep_max == 0
                         ? "0, as keep_max is"
                         : std::to_string(sides.least) + " to keep_max, which is " +
                               std::to_string(preprocess.keep_max));
  }
  return {};
}

// timm writes label names as a list, and may write a description of each beside it.
std::vector<std::string> timm_labels(const json& config) {
  const auto names = config.find("label_names");
  if (names == config.end() || !is_string_list(*names)) {
    return {};
  }
  std::vector<std::string> labels = names->get<std::vector<std::string>>();
  const auto descriptions = config.find("label_descriptions");
  if (descriptions != config.end() && descriptions->is_object()) {
    for (std::string& label : labels) {
      const auto text = descriptions->find(label);
      if (text != descriptions->end() && text->is_string()) {
        label = text->get<std::string>();
      }
    }
  }
  return labels;
}

Result<JsonDocument> parse_timm_config(const std::string& json_text) {
  JsonDocument config = parse_json(json_text);
  if (!config->is_object()) {
    return Status(
        Code::kBadModel,
        "config.json beside the weight file is no JSON object of at most 4 MiB; repair or "
        "remove it");
  }
  return config;
}

}  // namespace

Result<Metadata> read_metadata(const std::map<std::string, std::string>& entries) {
  Metadata metadata;
  if (const std::string* schema = find(entries, "xception.schema");
      schema != nullptr && *schema != "1") {
    return bad_value(metadata_key("xception.schema"), *schema,
                     "'1'; this file needs a later xception");
  }
  XC_RETURN_IF_ERROR(check_keys(entries));
  if (const std::string* arch = find(entries, "xception.arch")) {
    metadata.arch = *arch;
  }
  XC_RETURN_IF_ERROR(read_number(entries, "xception.bn_eps", 1e-12, 1.0, metadata.bn_eps));
  XC_RETURN_IF_ERROR(read_number(entries, "xception.width", 1e-3, 16.0, metadata.width));
  XC_RETURN_IF_ERROR(
      read_choice(entries, "xception.pool_pad", "torch", "tf_same", metadata.pool_pad_same));
  XC_RETURN_IF_ERROR(read_choice(entries, "xception.sep_relu", "false", "true", metadata.sep_relu));
  XC_RETURN_IF_ERROR(
      read_number(entries, "xception.num_classes", 0, 1 << 24, metadata.num_classes));
  if (const std::string* labels = find(entries, "xception.labels")) {
    const JsonDocument list = parse_json(*labels);
    if (!is_string_list(*list)) {
      return bad_value(metadata_key("xception.labels"), *labels, "a JSON list of strings");
    }
    metadata.labels = list->get<std::vector<std::string>>();
  }
  return metadata;
}

Result<Metadata> read_timm_config(const std::string& json_text) {
  Result<JsonDocument> config = parse_timm_config(json_text);
  XC_RETURN_IF_ERROR(config.status());
  Metadata metadata;
  if (const auto name = (*config)->find("architecture");
      name != (*config)->end() && name->is_string()) {
    metadata.arch = name->get<std::string>();
  }
  // Its pretrained_cfg has one too, which is that of the weights that a fine-tuned model began
  // with.
  if (const auto classes = (*config)->find("num_classes");
      classes != (*config)->end() && classes->is_number()) {
    constexpr double kMost = std::numeric_limits<int>::max();
    metadata.num_classes = static_cast<int>(std::clamp(classes->get<double>(), -kMost, kMost));
  }
  metadata.labels = timm_labels(**config);
  return metadata;
}

Status read_preprocess(const std::map<std::string, std::string>& entries, const Sides& sides,
                       Preprocess& preprocess) {
  const std::string* text = find(entries, "xception.preprocess");
  if (text == nullptr) {
    return {};
  }
  const JsonDocument object = parse_json(*text);
  if (!object->is_object()) {
    return bad_value(metadata_key("xception.preprocess"), *text, "a JSON object");
  }
  XC_RETURN_IF_ERROR(check_preprocess_keys(*object));
  return set_all("metadata 'xception.preprocess", *object, sides, preprocess);
}

Status read_timm_preprocess(const std::string& json_text, const Sides& sides,
                            Preprocess& preprocess) {
  Result<JsonDocument> config = parse_timm_config(json_text);
  XC_RETURN_IF_ERROR(config.status());
  const auto pretrained = (*config)->find("pretrained_cfg");
  if (pretrained == (*config)->end() || !pretrained->is_object()) {
    return {};
  }
  return set_all("config.json beside the weight file: 'pretrained_cfg", *pretrained, sides,
                 preprocess);
}

}  // namespace xception
