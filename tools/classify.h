// The usual run: pictures in, records out.
#pragma once

#include "options.h"

namespace xception::cli {

// Classifies what the options name and returns the program's exit status.
int classify(const Options& options);

}  // namespace xception::cli
