// What the host program registered: fat binaries, their kernels and their variables.
//
// All of this is called with the runtime's mutex held.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/emulator/fatbin.h"
#include "tests/emulator/launch.h"

namespace xception::emulator {

struct Device;
struct Module;

struct Kernel {
  Module* module = nullptr;
  std::string name;  // mangled
};

struct Variable {
  Module* module = nullptr;
  std::string name;
  std::size_t bytes = 0;
};

// One PTX entry of a fat binary, parsed when the first device needs it.
struct ParsedPtx {
  int arch = 0;
  std::shared_ptr<const Program> program;
  std::map<std::string, KernelInfo> kernels;
  std::vector<GlobalInfo> globals;
  cudaError_t error = cudaSuccess;  // cudaErrorInvalidPtx, with the fault reported already
};

struct Module {
  std::vector<FatbinEntry> entries;
  cudaError_t error = cudaSuccess;  // of the binary as a whole
  std::map<const FatbinEntry*, ParsedPtx> parsed;
};

// A module on one device.
struct LoadedModule {
  const ParsedPtx* ptx = nullptr;
  std::vector<GlobalAddress> globals;  // allocated in the device's memory
};

// A kernel as a device has it.
struct LoadedKernel {
  const LoadedModule* module = nullptr;
  const KernelInfo* info = nullptr;
};

// Kernels and variables by the host address that stands for them.
struct Registry {
  std::vector<std::unique_ptr<Module>> modules;
  std::map<const void*, std::unique_ptr<Kernel>> kernels;
  std::map<const void*, Variable> variables;
};

// The kernel that `function` names: a registered host function, or a cudaKernel_t. Null where it
// names none.
const Kernel* find_kernel(const void* function);

// Loads what the device needs of the module, once: the PTX that it can take, variables with their
// initial values.
cudaError_t load_module(Device& device, Module& module, const LoadedModule** loaded);
cudaError_t load_kernel(Device& device, const Kernel& kernel, LoadedKernel* loaded);
cudaError_t find_variable(Device& device, const void* symbol, Address* address, std::size_t* bytes);

}  // namespace xception::emulator
