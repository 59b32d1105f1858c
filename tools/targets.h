// Which files a run would write over.
#pragma once

#include <vector>

#include "inputs.h"
#include "options.h"
#include "xception/status.h"

namespace xception::cli {

// Fails with kInvalidArgument where --output or --dump-input names a regular file that the run
// reads, by whatever path, where both name one file, or where --dump-layers names the folder of
// the array that is fed.
Status check_targets(const Options& options, const std::vector<Input>& inputs);

}  // namespace xception::cli
