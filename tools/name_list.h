// A text file with one name an entry: inputs, or labels.
#pragma once

#include <string>
#include <vector>

#include "xception/status.h"

namespace xception::cli {

// The entries of `path`, "-" for standard input, which end in `separator`; the last one need not.
// Of lines, a carriage return at the end goes, and a byte order mark at the start of the file.
// Fails with kInvalidArgument where the file cannot be read, above 64 MiB, 2^21 entries or 1 MiB an
// entry, and where a line holds a NUL byte, which no name can hold. `what` ("labels") is for
// messages, and so is what to do about a NUL byte.
Result<std::vector<std::string>> read_name_list(const std::string& path, char separator,
                                                const std::string& what,
                                                const std::string& nul_remedy = "");

}  // namespace xception::cli
