// Reading whole files, for the image and .npy readers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "xception/status.h"

namespace xception {

struct FileLimits {
  std::size_t bytes = std::size_t{1} << 30;  // a longer file is refused
  // Looks at the first 4096 bytes or more, or at the whole file where it is shorter, so that an
  // endless one of the wrong kind is not read to the limit. Its failure is read_file's.
  std::function<Status(std::span<const std::byte> head)> check_head;
  // Called with the size of the buffer before it grows.
  std::function<void(std::int64_t bytes)> before_allocating;
};

// All bytes of `path`, or of standard input where it is "-". Fails with kNotFound, with kIo (a
// directory, no permission, a failed read), with kBadImage on an empty file or one above the limit,
// and with kOutOfMemory. Messages name the path.
Result<std::vector<std::byte>> read_file(const std::string& path, const FileLimits& limits = {});

}  // namespace xception
