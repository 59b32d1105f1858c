// --compare: every layer of the plan, and the logits, against what PyTorch made of them.
#pragma once

#include "options.h"

namespace xception::cli {

// Feeds the golden file's `input` (or the inputs of the options, as one batch), prints a row a
// layer that both have and returns the exit status: kExitTolerance where max|d| exceeds
// atol + rtol * max|ref| anywhere, or a value is NaN. docs/weight-file.md describes golden files.
int compare(const Options& options);

}  // namespace xception::cli
