// The GPUs that the emulator can pretend to be.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace xception::emulator {

// Limits and sizes as NVIDIA's "Compute Capabilities" table in the CUDA C++ programming guide gives
// them; multiprocessors and memory of one board.
struct DeviceProfile {
  std::string name;  // "Emulated A100 (sm_80)"
  int arch = 80;     // 10 * major + minor
  int multiprocessors = 108;
  std::size_t global_bytes = 0;
  std::size_t shared_bytes_per_block = 48 << 10;  // without opt-in
  std::size_t shared_bytes_per_block_optin = 163 << 10;
  std::size_t shared_bytes_per_multiprocessor = 164 << 10;
  std::size_t shared_bytes_reserved = 1 << 10;  // of every block, from sm_80 on
  int registers_per_block = 65536;
  int registers_per_multiprocessor = 65536;
  int threads_per_multiprocessor = 2048;
  int blocks_per_multiprocessor = 32;
  std::size_t l2_bytes = 0;
};

// sm_70 (V100), sm_75 (T4), sm_80 (A100), sm_86 (RTX 3090), sm_89 (RTX 4090), sm_90 (H100),
// sm_120 (RTX 5090).
std::optional<DeviceProfile> find_profile(std::string_view name);
std::vector<std::string> profile_names();

}  // namespace xception::emulator
