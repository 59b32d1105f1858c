// What the system says of an error number. strerror() shares a buffer between threads.
#pragma once

#include <string>
#include <system_error>

namespace xception {

inline std::string system_message(int error) {
  return std::error_code(error, std::generic_category()).message();
}

}  // namespace xception
