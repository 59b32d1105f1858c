// A depthwise convolution and the 1x1 one behind it as one step of the CPU backend.
#pragma once

#include <dnnl.hpp>
#include <memory>

#include "engine/backend.h"
#include "engine/backend_cpu_prepare.h"

namespace xception::cpu {

// Whether make_separable_step() is worth it for `conv` of `src`, with activations of `type`, on so
// many threads.
bool gains_by_strips(const SeparableConv& conv, const Shape& src, dnnl::memory::data_type type,
                     int threads);

// The step of a SeparableConv, for activations of `type`, on the threads of the calling thread's
// scope, of which the output has as many rows or more. Fails as its two convolutions do.
Result<std::unique_ptr<Step>> make_separable_step(const StepRequest& request,
                                                  dnnl::memory::data_type type,
                                                  const WeightFile& file, WeightCache& cache,
                                                  Staging& staging);

}  // namespace xception::cpu
