// The JSON header of a safetensors file, parsed and held against the rules of the format.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/safetensors.h"

namespace xception {

// The format's own limit; it also bounds what a header can make the reader allocate.
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

struct SafetensorsHeader {
  std::vector<TensorEntry> entries;  // in the order of the data
  std::map<std::string, std::string> metadata;
};

// Fails with kBadModel, in a sentence without the file's name, unless `json` is a header whose
// tensors cover `data_bytes` bytes of data without a hole or an overlap. Takes memory of a small
// multiple of json.size(), whatever extents and counts the header claims; may throw
// std::bad_alloc.
Result<SafetensorsHeader> parse_safetensors_header(std::string_view json, std::uint64_t data_bytes);

// `name` in quotes for a message: control characters shown as '?', cut after some 100 bytes.
std::string quoted_name(std::string_view name);

}  // namespace xception
