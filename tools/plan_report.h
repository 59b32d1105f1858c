// --info and --profile: the plan of a network, a row a layer.
#pragma once

#include "options.h"

namespace xception::cli {

// Both print on standard output and return the program's exit status.
int print_info(const Options& options);
int print_profile(const Options& options);

}  // namespace xception::cli
