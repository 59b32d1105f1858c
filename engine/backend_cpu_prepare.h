// What the CPU backend makes of each operation.
#pragma once

#include <dnnl.hpp>
#include <memory>

#include "engine/backend.h"

namespace xception::cpu {

// Chooses oneDNN primitives for a node, with activations of `type` (f32 or bf16), and packs its
// weights. Fails with kInternal or kOutOfMemory where oneDNN does, and with the weight file's
// errors.
Result<std::unique_ptr<Step>> prepare_step(const StepRequest& request, dnnl::memory::data_type type,
                                           const WeightFile& file, WeightCache& cache,
                                           const dnnl::stream& stream);

}  // namespace xception::cpu
