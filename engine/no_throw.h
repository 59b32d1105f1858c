// The library's boundary: a public function returns what it could not allocate as a status.
#pragma once

#include <new>
#include <type_traits>
#include <utility>

#include "xception/status.h"

namespace xception {

// kOutOfMemory with the sentence that `text` makes, or with a shorter one where there is no memory
// for that either.
template <class Text>
Status out_of_memory(const Text& text) noexcept {
  try {
    return Status(Code::kOutOfMemory, text());
  } catch (const std::bad_alloc&) {
    return Status(Code::kOutOfMemory, "out of memory");  // short enough to need none
  }
}

// What `body` returns; where memory is lacking in it, out_of_memory(text). What a callback of the
// caller's throws else is the caller's.
template <class Text, class Body>
std::invoke_result_t<Body> no_throw(const Text& text, Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (const std::bad_alloc&) {
    return out_of_memory(text);
  }
}

}  // namespace xception
