// Separable convolutions, one or several behind each other, as one step of the CPU backend.
#pragma once

#include <dnnl.hpp>
#include <memory>

#include "engine/backend.h"
#include "engine/backend_cpu_prepare.h"

namespace xception::cpu {

// The step of a SeparableChain, for activations of `type`, on the threads of the calling thread's
// scope. Fails as its operations do.
Result<std::unique_ptr<RangedStep>> make_separable_step(const StepRequest& request,
                                                        dnnl::memory::data_type type,
                                                        const WeightFile& file, WeightCache& cache,
                                                        Staging& staging);

}  // namespace xception::cpu
