// Reading whole files, for the image and .npy readers.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "xception/status.h"

namespace xception {

// All bytes of `path`, or of standard input where it is "-". Fails with kNotFound, with kIo (a
// directory, no permission, a failed read), with kBadImage on an empty file or one above 1 GiB, and
// with kOutOfMemory. Messages name the path.
Result<std::vector<std::byte>> read_file(const std::string& path);

}  // namespace xception
