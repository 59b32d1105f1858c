#include "engine/json_document.h"

#include <utility>
#include <vector>

namespace xception {
namespace {

using nlohmann::json;

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

// Builds a document where it is to stay. The one that json::parse() builds is on its way until it
// is done: where the text breaks off, or memory runs out, it goes by its own destructor.
class Builder final : public nlohmann::json_sax<json> {
 public:
  explicit Builder(json& root) : root_(root) {}

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // not in a text
  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

  // The last of two equal keys holds.
  bool key(string_t& name) override {
    member_ = &(*open_.back())[name];
    empty(*member_);
    return true;
  }

 private:
  // Where the next value goes. It does not move while it is open: nothing is added beside it.
  json& next() {
    if (open_.empty()) {
      return root_;
    }
    auto* const list = open_.back()->get_ptr<json::array_t*>();
    return list != nullptr ? list->emplace_back() : *member_;
  }

  bool put(json value) {
    next() = std::move(value);
    return true;
  }

  bool open(json value) {
    constexpr std::size_t kMaxLevels = 16;
    if (open_.size() == kMaxLevels) {
      return false;
    }
    json& place = next();
    place = std::move(value);
    open_.push_back(&place);
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  json& root_;
  std::vector<json*> open_;  // lists and objects, the outermost first
  json* member_ = nullptr;   // of the innermost object, the one whose key was read last
};

}  // namespace

JsonDocument::~JsonDocument() { empty(value_); }

JsonDocument parse_json(const std::string& text) {
  JsonDocument document(nullptr);
  Builder builder(document.value_);
  if (text.size() > kMaxJsonBytes || !json::sax_parse(text, &builder)) {
    empty(document.value_);
    document.value_ = json::value_t::discarded;
  }
  return document;
}

}  // namespace xception
