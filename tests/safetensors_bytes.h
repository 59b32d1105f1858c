// Safetensors files written for tests, sound ones and others.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace xception {

// One entry of a header: "name":{"dtype":type,"shape":shape,"data_offsets":[begin,end]}
inline std::string entry_json(std::string_view name, std::string_view type, std::string_view shape,
                              std::uint64_t begin, std::uint64_t end) {
  return "\"" + std::string(name) + "\":{\"dtype\":\"" + std::string(type) +
         "\",\"shape\":" + std::string(shape) + ",\"data_offsets\":[" + std::to_string(begin) +
         "," + std::to_string(end) + "]}";
}

// The eight bytes of the header's length, the header, the data.
inline std::string safetensors_bytes(std::string_view header, std::string_view data) {
  const std::uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes.append(header).append(data);
}

template <class T>
std::string raw_bytes(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

// A file of one tensor, named "t".
template <class T>
std::string one_tensor(std::string_view type, const std::vector<T>& values) {
  const std::string data = raw_bytes(values);
  const std::string shape = "[" + std::to_string(values.size()) + "]";
  return safetensors_bytes("{" + entry_json("t", type, shape, 0, data.size()) + "}", data);
}

}  // namespace xception
