// What the functions of the C interface share: they take values apart, call the engine, and put
// together what it gives.
#pragma once

#include <string>
#include <utility>

#include "engine/no_throw.h"
#include "xception/c/types.h"
#include "xception/preprocess.h"
#include "xception/status.h"
#include "xception/tensor.h"

struct xception_status {
  xception::Status status;
};

namespace xception::c {

// Null of a success.
const xception_status* to_c(Status status) noexcept;

// What `body`, which returns a Status, returns, to C.
template <class Body>
const xception_status* call(const Body& body) noexcept {
  return to_c(no_throw([] { return "not enough memory for a call of the C interface"; }, body));
}

// kInvalidArgument of a null pointer.
Status need(const void* pointer, const char* what);

// `value` as the enumeration of the same names, whose last member is `last`.
template <class To, class From>
Status convert(From value, From last, const char* what, To* converted) {
  if (value < 0 || value > last) {
    return {Code::kInvalidArgument, std::string(what) + ": " + std::to_string(value) +
                                        " is no value of it; the last is " + std::to_string(last)};
  }
  *converted = static_cast<To>(value);
  return {};
}

Status convert(const xception_preprocess* preprocess, Preprocess* converted);
xception_preprocess to_c(const Preprocess& preprocess);
inline xception_shape to_c(const Shape& shape) { return {shape.n, shape.h, shape.w, shape.c}; }

}  // namespace xception::c
