#include "engine/json_document.h"

#include <algorithm>

namespace xception {
namespace {

using nlohmann::json;

// How deep brackets nest outside of strings. Not by the parser's callback: with one, it looks
// through all of a list at the end of every object in it.
int levels(const std::string& text) {
  int level = 0;
  int deepest = 0;
  bool in_string = false;
  bool escaped = false;
  for (const char c : text) {
    if (in_string) {
      in_string = escaped || c != '"';
      escaped = !escaped && c == '\\';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      deepest = std::max(deepest, ++level);
    } else if (c == ']' || c == '}') {
      --level;
    }
  }
  return deepest;
}

// Takes everything out of a value, innermost first.
void empty(json& value) noexcept {
  if (auto* const list = value.get_ptr<json::array_t*>()) {
    for (json& item : *list) {
      empty(item);
    }
    list->clear();
  } else if (auto* const object = value.get_ptr<json::object_t*>()) {
    for (auto& [key, item] : *object) {
      empty(item);
    }
    object->clear();
  }
}

}  // namespace

JsonDocument::~JsonDocument() { empty(value_); }

JsonDocument parse_json(const std::string& text) {
  constexpr int kMaxLevels = 16;
  if (text.size() > kMaxJsonBytes || levels(text) > kMaxLevels) {
    return JsonDocument(json::value_t::discarded);
  }
  return JsonDocument(json::parse(text, nullptr, false));
}

}  // namespace xception
