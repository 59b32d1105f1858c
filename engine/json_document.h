// JSON that a file brings along: bounded in length and depth, and gone without allocating.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

namespace xception {

// Of a text of JSON: a hundred bytes for each of forty thousand labels.
inline constexpr std::size_t kMaxJsonBytes = std::size_t{4} << 20;

// A value that goes without allocating. The destructor of one that holds others allocates a list of
// them, and where memory is out that ends the process.
class JsonDocument {
 public:
  JsonDocument(JsonDocument&&) = default;
  JsonDocument& operator=(JsonDocument&&) = delete;
  ~JsonDocument();

  const nlohmann::json& operator*() const { return value_; }
  const nlohmann::json* operator->() const { return &value_; }

 private:
  explicit JsonDocument(nlohmann::json value) : value_(std::move(value)) {}
  friend JsonDocument parse_json(const std::string& text);

  nlohmann::json value_;
};

// A file decides how long its values are and how deep they nest, but a document takes some twenty
// times the memory of its text, and comparing or writing it out calls itself for each level. What
// is beyond either limit, or no JSON, is discarded, and so of no type. May throw std::bad_alloc.
JsonDocument parse_json(const std::string& text);

}  // namespace xception
