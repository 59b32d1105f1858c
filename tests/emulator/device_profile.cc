#include "tests/emulator/device_profile.h"

#include <array>

namespace xception::emulator {
namespace {

constexpr std::size_t kKiB = 1 << 10;
constexpr std::size_t kMiB = 1 << 20;
constexpr std::size_t kGiB = 1 << 30;

struct Board {
  const char* name;
  const char* title;
  int arch;
  int multiprocessors;
  std::size_t global_bytes;
  std::size_t l2_bytes;
  std::size_t shared_bytes_per_multiprocessor;
  std::size_t shared_bytes_reserved;
  int threads_per_multiprocessor;
  int blocks_per_multiprocessor;
};

// Limits of a multiprocessor: the CUDA C++ Programming Guide, "Technical Specifications per Compute
// Capability", and cuda_occupancy.h, which agree. Multiprocessors, memory and L2: NVIDIA's data
// sheets and architecture white papers of these boards.
constexpr std::array<Board, 8> kBoards = {{
    {"sm_70", "V100", 70, 80, 16 * kGiB, 6 * kMiB, 96 * kKiB, 0, 2048, 32},
    {"sm_75", "T4", 75, 40, 15 * kGiB, 4 * kMiB, 64 * kKiB, 0, 1024, 16},
    {"sm_80", "A100", 80, 108, 40 * kGiB, 40 * kMiB, 164 * kKiB, kKiB, 2048, 32},
    {"sm_86", "GeForce RTX 3090", 86, 82, 24 * kGiB, 6 * kMiB, 100 * kKiB, kKiB, 1536, 16},
    {"sm_89", "GeForce RTX 4090", 89, 128, 24 * kGiB, 72 * kMiB, 100 * kKiB, kKiB, 1536, 24},
    {"sm_90", "H100", 90, 132, 80 * kGiB, 50 * kMiB, 228 * kKiB, kKiB, 2048, 32},
    {"sm_100", "B200", 100, 148, 180 * kGiB, 126 * kMiB, 228 * kKiB, kKiB, 2048, 32},
    {"sm_120", "GeForce RTX 5090", 120, 170, 32 * kGiB, 96 * kMiB, 100 * kKiB, kKiB, 1536, 24},
}};

}  // namespace

std::optional<DeviceProfile> find_profile(std::string_view name) {
  for (const Board& board : kBoards) {
    if (name == board.name) {
      DeviceProfile profile;
      profile.name = std::string("Emulated ") + board.title + " (" + board.name + ")";
      profile.arch = board.arch;
      profile.multiprocessors = board.multiprocessors;
      profile.global_bytes = board.global_bytes;
      profile.shared_bytes_per_multiprocessor = board.shared_bytes_per_multiprocessor;
      profile.shared_bytes_reserved = board.shared_bytes_reserved;
      // One block can have all of a multiprocessor's but what is reserved.
      profile.shared_bytes_per_block_optin =
          board.shared_bytes_per_multiprocessor - board.shared_bytes_reserved;
      profile.threads_per_multiprocessor = board.threads_per_multiprocessor;
      profile.blocks_per_multiprocessor = board.blocks_per_multiprocessor;
      profile.l2_bytes = board.l2_bytes;
      return profile;
    }
  }
  return std::nullopt;
}

std::vector<std::string> profile_names() {
  std::vector<std::string> names;
  for (const Board& board : kBoards) {
    names.emplace_back(board.name);
  }
  return names;
}

}  // namespace xception::emulator
