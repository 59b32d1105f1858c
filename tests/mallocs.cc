#include "mallocs.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>

namespace xception::mallocs {
namespace {

std::atomic<std::int64_t> countdown{-1};  // negative: no failure is to come

[[maybe_unused]] bool fails() {
  if (countdown < 0 || countdown.fetch_sub(1) != 0) {
    return false;
  }
  errno = ENOMEM;
  return true;
}

}  // namespace

void fail_after(std::int64_t ahead) { countdown = ahead; }

bool cancel_failure() { return countdown.exchange(-1) >= 0; }

#if defined(__GLIBC__) && !defined(XC_SANITIZED)
const bool kCanFail = true;
#else
const bool kCanFail = false;
#endif

}  // namespace xception::mallocs

#if defined(__GLIBC__) && !defined(XC_SANITIZED)
extern "C" {

// NOLINTBEGIN(bugprone-reserved-identifier): glibc's own names of what these stand before
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* old, std::size_t size);

void* malloc(std::size_t size) {
  return xception::mallocs::fails() ? nullptr : __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  return xception::mallocs::fails() ? nullptr : __libc_calloc(count, size);
}
void* realloc(void* old, std::size_t size) {
  return xception::mallocs::fails() ? nullptr : __libc_realloc(old, size);
}
// NOLINTEND(bugprone-reserved-identifier)
}
#endif
