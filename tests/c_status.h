// What the C interface returns, checked and freed.
#pragma once

#include <string>

#include "testing.h"
#include "xception/c/types.h"

namespace xception {

// A failure, whose code and message are looked at, and its end.
inline void check_fails(const xception_status* status, xception_code code,
                        const std::string& message) {
  INFO(xception_status_message(status));
  CHECK(xception_status_code(status) == code);
  CHECK_THAT(xception_status_message(status), containing(message));
  xception_status_free(status);
}

inline void check_invalid(const xception_status* status, const std::string& message) {
  check_fails(status, XCEPTION_INVALID_ARGUMENT, message);
}

inline void require_ok(const xception_status* status) {
  INFO(xception_status_message(status));
  REQUIRE(status == nullptr);
}

}  // namespace xception
