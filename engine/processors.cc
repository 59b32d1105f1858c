#include "engine/processors.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <system_error>

namespace xception {
namespace {

constexpr int kAny = std::numeric_limits<int>::max();

int processors_of_affinity() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  // Fails where the machine has more processors than the set: no reason to take fewer.
  return ::sched_getaffinity(0, sizeof(allowed), &allowed) == 0 ? CPU_COUNT(&allowed) : kAny;
}

std::string first_line(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The group's path below the mount, "/" in a container as a rule; empty where there is none.
std::string control_group() {
  constexpr std::string_view kVersion2 = "0::";
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(kVersion2)) {
      return line.substr(kVersion2.size());
    }
  }
  return {};
}

int processors_of_control_groups() {
  const std::filesystem::path mount = "/sys/fs/cgroup";
  int least = kAny;
  for (std::filesystem::path group = control_group(); !group.empty(); group = group.parent_path()) {
    const std::string cpu_max = first_line(mount / group.relative_path() / "cpu.max");
    least = std::min(least, processors_of_quota(cpu_max).value_or(kAny));
    if (group == group.parent_path()) {
      break;  // the root
    }
  }
  return least;
}

}  // namespace

std::optional<int> processors_of_quota(std::string_view cpu_max) {
  const char* const end = cpu_max.data() + cpu_max.size();
  std::int64_t quota = 0;
  std::int64_t period = 0;
  const auto [space, first_error] = std::from_chars(cpu_max.data(), end, quota);
  if (first_error != std::errc() || space == end || *space != ' ') {
    return std::nullopt;
  }
  const auto [rest, second_error] = std::from_chars(space + 1, end, period);
  if (second_error != std::errc() || quota <= 0 || period <= 0) {
    return std::nullopt;
  }
  const std::int64_t processors = quota / period + (quota % period != 0 ? 1 : 0);
  return static_cast<int>(std::min<std::int64_t>(processors, kAny));
}

int usable_processors() {
  return std::max(1, std::min(processors_of_affinity(), processors_of_control_groups()));
}

}  // namespace xception
