// Which files a run would write over.
#pragma once

#include <vector>

#include "inputs.h"
#include "options.h"
#include "xception/status.h"

namespace xception::cli {

// Fails with kInvalidArgument where --output or --dump-input names a regular file that the run
// reads, by whatever path, where both name one file, where --dump-input names the file that
// standard output or standard error goes to, or where --dump-layers names the folder of one of all
// these whose name a layer might have.
Status check_targets(const Options& options, const std::vector<Input>& inputs);

}  // namespace xception::cli
