// From PTX text to a finished grid: the seam between the runtime calls and the interpreter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/emulator/counters.h"
#include "tests/emulator/device_profile.h"
#include "tests/emulator/fault.h"
#include "tests/emulator/memory.h"

namespace xception::emulator {

class Program;  // decoded instructions of one PTX module: ptx.h

// What the runtime must know of a kernel.
struct KernelInfo {
  std::string name;  // mangled
  std::vector<std::size_t> parameter_offsets;
  std::vector<std::size_t> parameter_bytes;
  std::size_t parameters_total = 0;
  std::size_t static_shared_bytes = 0;
  std::size_t local_bytes = 0;  // a thread, from .local declarations
  int max_threads = 1024;       // .maxntid, .reqntid
  int registers = 0;            // a thread, estimated from liveness, or what .maxnreg allows
};

// A __device__ or __constant__ variable of the module.
struct GlobalInfo {
  std::string name;
  std::size_t bytes = 0;
  std::size_t alignment = 1;
  std::vector<std::byte> initial;  // of `bytes`, or empty: zero
};

struct ParseResult {
  std::shared_ptr<const Program> program;  // null where `fault` is set
  std::optional<Fault> fault;              // names the PTX line and what is not understood
};

// Parses and decodes a PTX module. Unknown instructions are faults when they are executed, unknown
// syntax is one here.
ParseResult parse_ptx(std::string_view ptx);

std::vector<KernelInfo> kernels(const Program& program);
std::vector<GlobalInfo> globals(const Program& program);

struct Dim3 {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
};

// Where the runtime has put a global variable of the program.
struct GlobalAddress {
  std::string name;
  Address address = 0;
};

struct LaunchRequest {
  std::shared_ptr<const Program> program;
  std::string kernel;
  Dim3 grid;
  Dim3 block;
  std::size_t dynamic_shared_bytes = 0;
  // May start while the kernel before it in its stream still runs, and is checked for keeping to
  // what that allows.
  bool dependent = false;
  std::span<const std::byte> parameters;  // parameters_total bytes
  std::span<const GlobalAddress> globals;
  std::uint32_t launch = 0;  // DeviceMemory's Accessor::launch
  std::uint64_t seed = 0;    // order of blocks and warps, landing of async copies
  bool waits_end_early =
      false;        // mbarrier.try_wait is false now and then, as when its time is over
  int threads = 1;  // of the host, among which blocks are spread
  std::uint64_t last_blocks = 0;  // if not 0, only so many run, those of the highest numbers
};

struct LaunchResult {
  std::optional<Fault> fault;  // the first; the grid stops at it
  LaunchCounters counters;
};

// Runs every block of the grid, or those that are asked for, to its end. Limits of the device
// (threads, shared memory, grid) are the caller's to check.
LaunchResult launch(const LaunchRequest& request, const DeviceProfile& profile,
                    DeviceMemory& memory);

}  // namespace xception::emulator
