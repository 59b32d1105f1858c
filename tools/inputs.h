// From what the command line names to the list of pictures.
#pragma once

#include <string>
#include <vector>

#include "options.h"
#include "xception/status.h"

namespace xception::cli {

struct Input {
  std::string name;       // as records show it; "-" is standard input
  std::string path;       // to open; empty for standard input
  Status status;          // why there is nothing to open: a folder that cannot be listed, say
  bool may_wait = false;  // no regular file: reading it may wait for somebody to write
};

// All inputs in the order of the command line, those of --files-from last. A folder's pictures are
// the files in it with the ending of an image format, hidden ones left out, sorted by the bytes of
// their names; --recursive visits each folder once, by whatever links it is reached. A folder
// without pictures is told of in `notes`. Fails with kInvalidArgument where the list of names
// cannot be read, or where there is no input in the end.
Result<std::vector<Input>> list_inputs(const Options& options, std::vector<std::string>& notes);

}  // namespace xception::cli
