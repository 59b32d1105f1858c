#include "tests/emulator/launch.h"

#include <cxxabi.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>
#include <set>
#include <system_error>
#include <thread>

#include "tests/emulator/block.h"
#include "tests/emulator/execute.h"
#include "tests/emulator/ptx.h"
#include "tests/split_mix.h"

namespace xception::emulator {
namespace {

// A warp that has run so many instructions is in an endless loop. A GPU takes minutes for them.
constexpr std::uint64_t kMostInstructions = std::uint64_t{1} << 32;

std::uint64_t most_instructions() {
  const char* const text = std::getenv("XC_EMULATOR_MAX_INSTRUCTIONS");
  const std::uint64_t value = text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
  return value != 0 ? value : kMostInstructions;
}

std::string demangle(const std::string& name) {
  int status = 0;
  char* const text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  const std::string result = status == 0 && text != nullptr ? text : name;
  std::free(text);
  return result;
}

std::size_t round_up(std::size_t value, std::size_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

constexpr int kMostThreads = 1024;

// What the compiler keeps to, spilling if it must: .maxnreg, and launch bounds so that the blocks
// they speak of find room in 65536 registers. Registers are given out by 8 a thread.
int most_registers(const Function& kernel) {
  int most = 255;
  if (kernel.max_threads != 0) {
    const auto threads =
        static_cast<int>(round_up(static_cast<std::size_t>(kernel.max_threads), kLanes));
    most = std::min(most, 65536 / (threads * std::max(kernel.min_blocks, 1)) / 8 * 8);
  }
  return kernel.max_registers != 0 ? std::min(most, kernel.max_registers) : most;
}

std::size_t parameters_total(const Function& kernel) {
  return kernel.parameters.empty()
             ? 0
             : kernel.parameters.back().offset + std::size_t{kernel.parameters.back().bytes};
}

// Addresses of symbols at a launch.
class SymbolAddresses {
 public:
  SymbolAddresses(const Program& program, const LaunchRequest& request, int kernel)
      : program_(program), shared_(program.shared_layout(kernel).offsets) {
    for (const GlobalAddress& global : request.globals) {
      globals_[global.name] = global.address;
    }
  }

  std::optional<std::uint64_t> find(std::uint32_t index) const {
    const Symbol& symbol = program_.symbols[index];
    if (symbol.function >= 0) {
      return kFunctionWindow + static_cast<std::uint64_t>(symbol.function);
    }
    if (symbol.space == Space::kShared) {
      const auto found = shared_.find(index);
      return found == shared_.end() ? std::nullopt : std::optional(found->second);
    }
    const auto found = globals_.find(symbol.name);
    return found == globals_.end() ? std::nullopt : std::optional(found->second);
  }

  Fault missing(std::uint32_t index) const {
    return {FaultKind::kLaunch,
            "no address was given for variable " + program_.symbols[index].name};
  }

 private:
  const Program& program_;
  std::unordered_map<std::uint32_t, std::uint64_t> shared_;
  std::map<std::string_view, Address> globals_;
};

std::optional<Fault> fill_constants(LaunchContext* context, const SymbolAddresses& addresses,
                                    int kernel) {
  const Program& program = *context->program;
  context->constants.resize(program.functions.size());
  for (const int index : program.reachable(kernel)) {
    const Function& function = program.functions[static_cast<std::size_t>(index)];
    std::vector<std::byte>& constants = context->constants[static_cast<std::size_t>(index)];
    constants = function.constants;
    for (const Relocation& relocation : function.relocations) {
      const std::optional<std::uint64_t> address = addresses.find(relocation.symbol);
      if (!address) {
        return addresses.missing(relocation.symbol);
      }
      const std::uint64_t value = *address + static_cast<std::uint64_t>(relocation.addend);
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        std::memcpy(constants.data() + relocation.offset + lane * relocation.width, &value,
                    relocation.width);
      }
    }
  }
  return std::nullopt;
}

// Writes the addresses that initial values of variables hold. They are the same at each launch, so
// that writing them again changes nothing but what a kernel may have put there.
std::optional<Fault> fill_initial_addresses(const Program& program,
                                            const SymbolAddresses& addresses,
                                            DeviceMemory* memory) {
  for (std::uint32_t index = 0; index < program.symbols.size(); ++index) {
    for (const InitialAddress& initial : program.symbols[index].addresses) {
      const std::optional<std::uint64_t> place = addresses.find(index);
      const std::optional<std::uint64_t> target = addresses.find(initial.symbol);
      if (!place || !target) {
        return addresses.missing(place ? initial.symbol : index);
      }
      const std::uint64_t value = *target + static_cast<std::uint64_t>(initial.addend);
      if (std::optional<Fault> fault =
              memory->copy_in(*place + initial.offset, &value, sizeof value)) {
        return fault;
      }
    }
  }
  return std::nullopt;
}

// Barriers that not every warp waits at; mbarriers are such.
bool has_partial_barriers(const Program& program, int kernel) {
  for (const int index : program.reachable(kernel)) {
    const Function& function = program.functions[static_cast<std::size_t>(index)];
    for (std::uint32_t i = function.begin; i < function.end; ++i) {
      const Instruction& in = program.instructions[i];
      if (is_mbarrier_init(in.handler)) {
        return true;
      }
      if (in.handler == execute_barrier &&
          ((in.variant & (kBarrierArrive | kBarrierCounted)) != 0 ||
           in.collective == Collective::kNone)) {
        return true;
      }
    }
  }
  return false;
}

}  // namespace

std::vector<int> Program::reachable(int function) const {
  std::vector<int> order = {function};
  std::set<int> seen = {function};
  const auto visit = [&](int index) {
    if (index >= 0 && seen.insert(index).second) {
      order.push_back(index);
    }
  };
  for (std::size_t i = 0; i < order.size(); ++i) {
    const Function& from = functions[static_cast<std::size_t>(order[i])];
    for (const Call& call : from.calls) {
      visit(call.function);
    }
    for (const std::uint32_t symbol : from.symbols) {
      visit(symbols[symbol].function);
    }
    if (std::ranges::any_of(from.calls,
                            [](const Call& call) { return call.function == kIndirectCall; })) {
      // A pointer to a function may come from anywhere.
      for (std::size_t other = 0; other < functions.size(); ++other) {
        if (!functions[other].entry) {
          visit(static_cast<int>(other));
        }
      }
    }
  }
  return order;
}

SharedLayout Program::shared_layout(int function) const {
  std::set<std::uint32_t> used;
  for (const int index : reachable(function)) {
    for (const std::uint32_t symbol : functions[static_cast<std::size_t>(index)].symbols) {
      if (symbols[symbol].space == Space::kShared) {
        used.insert(symbol);
      }
    }
  }
  SharedLayout layout;
  std::size_t& bytes = layout.static_bytes;
  for (const std::uint32_t symbol : used) {
    if (!symbols[symbol].dynamic) {
      bytes = round_up(bytes, symbols[symbol].alignment);
      layout.offsets[symbol] = bytes;
      bytes += symbols[symbol].bytes;
    }
  }
  // All dynamic arrays are one, behind the static variables.
  std::size_t alignment = 0;
  for (const std::uint32_t symbol : used) {
    if (symbols[symbol].dynamic) {
      alignment = std::max<std::size_t>({alignment, symbols[symbol].alignment, 16});
    }
  }
  if (alignment == 0) {
    layout.dynamic_begin = bytes;
    return layout;
  }
  bytes = round_up(bytes, alignment);
  layout.dynamic_begin = bytes % (2 * alignment) == 0 ? bytes + alignment : bytes;
  for (const std::uint32_t symbol : used) {
    if (symbols[symbol].dynamic) {
      layout.offsets[symbol] = layout.dynamic_begin;
    }
  }
  return layout;
}

std::vector<KernelInfo> kernels(const Program& program) {
  std::vector<KernelInfo> result;
  for (const auto& [name, index] : program.entries) {
    const Function& kernel = program.functions[static_cast<std::size_t>(index)];
    KernelInfo& info = result.emplace_back();
    info.name = name;
    for (const Parameter& parameter : kernel.parameters) {
      info.parameter_offsets.push_back(parameter.offset);
      info.parameter_bytes.push_back(parameter.bytes);
    }
    info.parameters_total = parameters_total(kernel);
    info.static_shared_bytes = program.shared_layout(index).static_bytes;
    info.max_threads = kernel.max_threads != 0 ? kernel.max_threads : kMostThreads;
    for (const int reached : program.reachable(index)) {
      const Function& function = program.functions[static_cast<std::size_t>(reached)];
      info.local_bytes += function.local_bytes;
      info.registers = std::max(info.registers, function.live_registers);
    }
    info.registers = std::min(info.registers, most_registers(kernel));
  }
  return result;
}

std::vector<GlobalInfo> globals(const Program& program) {
  std::vector<GlobalInfo> result;
  for (const Symbol& symbol : program.symbols) {
    if (symbol.space != Space::kShared && symbol.function < 0) {
      result.push_back({symbol.name, symbol.bytes, symbol.alignment, symbol.initial});
    }
  }
  return result;
}

LaunchResult launch(const LaunchRequest& request, const DeviceProfile& profile,
                    DeviceMemory& memory) {
  LaunchResult result;
  LaunchContext context;
  context.request = &request;
  context.profile = &profile;
  context.memory = &memory;
  context.program = request.program.get();
  context.kernel_name = demangle(request.kernel);
  const auto entry = request.program->entries.find(request.kernel);
  if (entry == request.program->entries.end()) {
    result.fault = Fault{FaultKind::kLaunch, context.kernel_name + ": no such kernel"};
    return result;
  }
  context.kernel = &request.program->functions[static_cast<std::size_t>(entry->second)];
  context.parameters_total = parameters_total(*context.kernel);
  if (request.parameters.size() < context.parameters_total) {
    result.fault =
        Fault{FaultKind::kLaunch,
              context.kernel_name + ": parameters of " + std::to_string(request.parameters.size()) +
                  " bytes, the kernel takes " + std::to_string(context.parameters_total)};
    return result;
  }
  const SharedLayout shared = request.program->shared_layout(entry->second);
  context.static_shared_bytes = shared.static_bytes;
  context.shared_bytes = shared.dynamic_begin + request.dynamic_shared_bytes;
  context.partial_barriers = has_partial_barriers(*request.program, entry->second);
  context.most_instructions = most_instructions();
  const SymbolAddresses addresses(*request.program, request, entry->second);
  result.fault = fill_constants(&context, addresses, entry->second);
  if (!result.fault) {
    result.fault = fill_initial_addresses(*request.program, addresses, &memory);
  }
  if (result.fault) {
    result.fault->message = context.kernel_name + ": " + result.fault->message;
    return result;
  }

  const std::uint64_t count =
      std::uint64_t{request.grid.x} * request.grid.y * std::uint64_t{request.grid.z};
  const std::uint64_t first =
      request.last_blocks == 0 ? 0 : count - std::min(count, request.last_blocks);
  const auto threads = static_cast<int>(std::clamp<std::uint64_t>(
      count - first, 1, static_cast<std::uint64_t>(std::max(request.threads, 1))));
  memory.begin_launch(request.launch, static_cast<std::uint32_t>(count), threads);
  std::vector<std::uint32_t> order(count - first);
  std::iota(order.begin(), order.end(), static_cast<std::uint32_t>(first));
  if (request.seed != 0) {
    SplitMix64 random(request.seed);
    std::ranges::shuffle(order, random);
  }
  std::atomic<std::uint64_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  const auto work = [&] {
    Block block(&context);
    for (std::uint64_t i = next++; i < order.size() && !failed; i = next++) {
      if (std::optional<Fault> fault = block.run(order[i])) {
        const std::lock_guard lock(mutex);
        failed = true;
        if (!result.fault) {
          result.fault = std::move(fault);
        }
      }
    }
    const std::lock_guard lock(mutex);
    result.counters += block.counters();
  };
  std::vector<std::jthread> helpers;
  helpers.reserve(static_cast<std::size_t>(threads));
  try {
    for (int i = 1; i < threads; ++i) {
      helpers.emplace_back(work);
    }
  } catch (
      const std::system_error&) {  // the system's limit of threads: fewer do, which no test sees
  }
  work();
  helpers.clear();  // which waits for them
  const DistinctBytes distinct = memory.distinct();
  result.counters.distinct_read_bytes = distinct.read;
  result.counters.distinct_written_bytes = distinct.written;
  return result;
}

}  // namespace xception::emulator
