#include "tests/emulator/runtime_module.h"

#include <algorithm>

#include "tests/emulator/runtime_state.h"

namespace xception::emulator {
namespace {

// The PTX of an entry, parsed once, whatever the number of devices that take it.
const ParsedPtx& parse_entry(Runtime& runtime, Module& module, const FatbinEntry& entry) {
  const auto [found, is_new] = module.parsed.try_emplace(&entry);
  ParsedPtx& parsed = found->second;
  if (!is_new) {
    return parsed;
  }
  parsed.arch = entry.arch;
  const auto refuse = [&](const std::string& why) {
    runtime.report(why);
    runtime.faults.push_back(why);
    runtime.fault_since_reset = true;
    parsed.error = cudaErrorInvalidPtx;
  };
  const Result<std::string> text = ptx_text(entry);
  if (!text.ok()) {
    refuse(text.status().message());
    return parsed;
  }
  ParseResult result = parse_ptx(*text);
  if (result.fault.has_value()) {
    refuse("PTX of compute_" + std::to_string(entry.arch) + ": " + result.fault->message);
    return parsed;
  }
  parsed.program = std::move(result.program);
  for (KernelInfo& kernel : kernels(*parsed.program)) {
    std::string name = kernel.name;
    parsed.kernels.emplace(std::move(name), std::move(kernel));
  }
  parsed.globals = globals(*parsed.program);
  return parsed;
}

cudaError_t place_global(Device& device, const GlobalInfo& global, LoadedModule& loaded) {
  const Address address = device.memory.allocate(std::max<std::size_t>(global.bytes, 1));
  if (address == 0) {
    return cudaErrorMemoryAllocation;
  }
  loaded.globals.push_back({global.name, address});
  const auto fault = global.initial.empty()
                         ? device.memory.fill(address, 0, global.bytes)
                         : device.memory.copy_in(address, global.initial.data(), global.bytes);
  return fault.has_value() ? cudaErrorInvalidKernelImage : cudaSuccess;
}

void release_globals(Device& device, const LoadedModule& loaded) {
  for (const GlobalAddress& global : loaded.globals) {
    device.memory.free(global.address);
  }
}

Module* module_of(void** handle) { return reinterpret_cast<Module*>(handle); }

}  // namespace

const Kernel* find_kernel(const void* function) {
  const Registry& registry = Runtime::get().registry;
  const auto found = registry.kernels.find(function);
  if (found != registry.kernels.end()) {
    return found->second.get();
  }
  for (const auto& [host, kernel] : registry.kernels) {
    if (kernel.get() == function) {
      return kernel.get();
    }
  }
  return nullptr;
}

cudaError_t load_module(Device& device, Module& module, const LoadedModule** loaded) {
  XC_RETURN_IF_CUDA(module.error);
  const auto known = device.modules.find(&module);
  if (known != device.modules.end()) {
    *loaded = &known->second;
    return cudaSuccess;
  }
  const FatbinEntry* entry = choose_ptx(module.entries, device.profile.arch);
  if (entry == nullptr) {
    return cudaErrorNoKernelImageForDevice;
  }
  const ParsedPtx& parsed = parse_entry(Runtime::get(), module, *entry);
  XC_RETURN_IF_CUDA(parsed.error);

  LoadedModule placed;
  placed.ptx = &parsed;
  for (const GlobalInfo& global : parsed.globals) {
    if (const cudaError_t error = place_global(device, global, placed); error != cudaSuccess) {
      release_globals(device, placed);
      return error;
    }
  }
  *loaded = &device.modules.emplace(&module, std::move(placed)).first->second;
  return cudaSuccess;
}

cudaError_t load_kernel(Device& device, const Kernel& kernel, LoadedKernel* loaded) {
  XC_RETURN_IF_CUDA(load_module(device, *kernel.module, &loaded->module));
  const auto found = loaded->module->ptx->kernels.find(kernel.name);
  if (found == loaded->module->ptx->kernels.end()) {
    return cudaErrorInvalidDeviceFunction;
  }
  loaded->info = &found->second;
  return cudaSuccess;
}

cudaError_t find_variable(Device& device, const void* symbol, Address* address,
                          std::size_t* bytes) {
  const auto& variables = Runtime::get().registry.variables;
  const auto found = variables.find(symbol);
  if (found == variables.end()) {
    return cudaErrorInvalidSymbol;
  }
  const LoadedModule* loaded = nullptr;
  XC_RETURN_IF_CUDA(load_module(device, *found->second.module, &loaded));
  for (const GlobalAddress& global : loaded->globals) {
    if (global.name == found->second.name) {
      *address = global.address;
      *bytes = found->second.bytes;
      return cudaSuccess;
    }
  }
  return cudaErrorInvalidSymbol;
}

}  // namespace xception::emulator

// What nvcc's host code calls before main() and at exit.

using namespace xception::emulator;  // NOLINT(google-build-using-namespace)

extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  auto module = std::make_unique<Module>();
  auto entries = parse_fatbin_wrapper(wrapper);
  if (entries.ok()) {
    module->entries = *std::move(entries);
  } else {
    runtime.report(entries.status().message());
    module->error = cudaErrorInvalidKernelImage;
  }
  runtime.registry.modules.push_back(std::move(module));
  return reinterpret_cast<void**>(runtime.registry.modules.back().get());
}

void __cudaRegisterFatBinaryEnd(void** /*handle*/) {}

void __cudaUnregisterFatBinary(void** handle) {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  const Module* module = module_of(handle);
  for (const auto& device : runtime.devices) {
    // Nobody can wait any more for a kernel whose code goes.
    discard_work(*device);
    const auto loaded = device->modules.find(module);
    if (loaded != device->modules.end()) {
      release_globals(*device, loaded->second);
      device->modules.erase(loaded);
    }
  }
  std::erase_if(runtime.registry.kernels,
                [&](const auto& entry) { return entry.second->module == module; });
  std::erase_if(runtime.registry.variables,
                [&](const auto& entry) { return entry.second.module == module; });
  std::erase_if(runtime.registry.modules,
                [&](const auto& candidate) { return candidate.get() == module; });
}

void __cudaRegisterFunction(void** handle, const char* host, char* /*device_function*/,
                            const char* name, int /*thread_limit*/, uint3* /*tid*/, uint3* /*bid*/,
                            dim3* /*block*/, dim3* /*grid*/, int* /*warp_size*/) {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  runtime.registry.kernels[host] =
      std::make_unique<Kernel>(Kernel{module_of(handle), std::string(name)});
}

void __cudaRegisterVar(void** handle, char* host, char* /*device_address*/, const char* name,
                       int /*external*/, std::size_t bytes, int /*constant*/, int /*global*/) {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  runtime.registry.variables[host] = {module_of(handle), std::string(name), bytes};
}

char __cudaInitModule(void** /*handle*/) { return 1; }

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host) {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  const Kernel* found = find_kernel(host);
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<Kernel*>(found));
  return found != nullptr ? cudaSuccess : cudaErrorInvalidDeviceFunction;
}
}
