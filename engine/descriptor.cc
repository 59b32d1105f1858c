#include "descriptor.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

namespace xception {
namespace {

// What `transfer` returns when it has done something, or failed for good.
template <class Transfer>
std::ptrdiff_t persist(int descriptor, short direction, const Transfer& transfer) {
  for (;;) {
    const ssize_t count = transfer();
    if (count >= 0 || (errno != EINTR && errno != EAGAIN)) {
      return count;
    }
    if (errno != EINTR) {
      pollfd ready = {descriptor, direction, 0};
      static_cast<void>(::poll(&ready, 1, -1));  // what it fails for the next transfer tells
    }
  }
}

}  // namespace

std::ptrdiff_t read_some(int descriptor, void* data, std::size_t size) {
  return persist(descriptor, POLLIN, [&] { return ::read(descriptor, data, size); });
}

int write_all(int descriptor, const char* data, std::size_t size) {
  while (size > 0) {
    const std::ptrdiff_t count =
        persist(descriptor, POLLOUT, [&] { return ::write(descriptor, data, size); });
    if (count < 0) {
      return errno;
    }
    data += count;
    size -= static_cast<std::size_t>(count);
  }
  return 0;
}

}  // namespace xception
