// From what the command line names to the list of pictures.
#pragma once

#include <string>
#include <vector>

#include "options.h"
#include "xception/status.h"

namespace xception::cli {

struct Input {
  std::string name;       // as records show it
  Status status = {};     // why there is nothing to open: a folder that cannot be listed, say
  bool is_stdin = false;  // then the name is "-", which may also be a file's

  // As the decoder takes it: "-" is standard input.
  std::string path() const { return name == "-" && !is_stdin ? "./-" : name; }
};

// All inputs in the order of the command line, those of --files-from last. A folder's pictures are
// the files in it with the ending of an image format, hidden ones left out, sorted by the bytes of
// their names; --recursive visits each folder once, by whatever links it is reached. A folder
// without pictures is told of in `notes`. Fails with kInvalidArgument where the list of names
// cannot be read, where there is no input in the end, and above 2^21 inputs or 256 MiB of names, so
// that links or a list that repeats itself cannot take all memory.
Result<std::vector<Input>> list_inputs(const Options& options, std::vector<std::string>& notes);

}  // namespace xception::cli
