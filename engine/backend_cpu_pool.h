// Max pooling of the CPU backend, with the residual add behind it.
#pragma once

#include <memory>

#include "engine/backend.h"

namespace xception::cpu {

// The step of a MaxPool node, on float32 activations or on bf16 ones. oneDNN is not used: its
// pooling of NHWC takes four to five times as long (2.1 against 0.5 ms on two Zen 3 cores at
// 147 x 147 x 128), and would be 7 % of the paper's network. Fails with kUnsupported for windows
// above 3x3.
Result<std::unique_ptr<Step>> make_max_pool_step(const StepRequest& request, bool bf16);

}  // namespace xception::cpu
