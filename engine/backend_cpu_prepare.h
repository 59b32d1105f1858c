// What the CPU backend makes of each operation.
#pragma once

#include <dnnl.hpp>
#include <memory>
#include <span>

#include "engine/backend.h"
#include "engine/backend_cpu_range.h"

namespace xception::cpu {

// Memory that weights pass through on their way from the file, for one layer after another: pages
// that are touched for the first time cost more than what is done with them.
struct Staging {
  std::shared_ptr<std::byte> memory;  // from the start for the largest tensor of the file
  std::size_t values = 0;

  // For `count` values of a tensor of `file`, until the next call.
  Result<std::span<float>> take(const WeightFile& file, std::size_t count);
};

// Chooses oneDNN primitives for a node, with activations of `type` (f32 or bf16), and packs its
// weights. Fails with kInternal or kOutOfMemory where oneDNN does, and with the weight file's
// errors.
Result<std::unique_ptr<RangedStep>> prepare_step(const StepRequest& request,
                                                 dnnl::memory::data_type type,
                                                 const WeightFile& file, WeightCache& cache,
                                                 const dnnl::stream& stream, Staging& staging);

}  // namespace xception::cpu
