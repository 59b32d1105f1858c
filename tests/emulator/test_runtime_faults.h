// Kernels that each hold one fault, beside the same kernel without it.
#pragma once

#include <cuda_runtime_api.h>

#include <span>
#include <string_view>

namespace xception::emulator {

struct PlantedFault {
  std::string_view name;  // of the kernel, or of what the host does wrong
  // What the emulator's report begins with; empty where the runtime only returns an error.
  std::string_view kind;
  cudaError_t error = cudaSuccess;  // what the CUDA call returns
  int least_arch = 75;
  // The order of work hides the fault from some seeds.
  bool some_seeds = false;
  // Runs the kernel with the fault or without, waits for it, and gives the first error. Frees what
  // it has allocated, if the device still lets it.
  cudaError_t (*run)(bool faulty) = nullptr;
  std::string_view says = {};  // what else is in the report
};

std::span<const PlantedFault> planted_faults();

}  // namespace xception::emulator
