#include "engine/cuda_device.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <limits>
#include <optional>
#include <set>

#include "engine/backend.h"
#include "engine/cuda_raii.h"
#include "kernels/tiles.h"

namespace xception::cuda {
namespace {

// XC_CUDA_TARGETS is written by CMake: what the kernels were compiled for.
constexpr std::string_view kTargets = XC_CUDA_TARGETS;

std::string version_text(int version) {
  return std::to_string(version / 1000) + '.' + std::to_string(version % 1000 / 10);
}

// How many GPUs there are, or why there is none.
Result<int> count_devices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver) {
    static_cast<void>(cudaGetLastError());
    int driver = 0;
    int runtime = 0;
    static_cast<void>(cudaDriverGetVersion(&driver));
    static_cast<void>(cudaRuntimeGetVersion(&runtime));
    return Status(Code::kDevice, driver == 0
                                     ? "no CUDA device: no NVIDIA driver is installed"
                                     : "no CUDA device: the NVIDIA driver is made for CUDA " +
                                           version_text(driver) + ", this build for CUDA " +
                                           version_text(runtime) + "; install a newer driver");
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
    static_cast<void>(cudaGetLastError());
    return Status(Code::kDevice, "no CUDA device: the driver finds no GPU");
  }
  XC_RETURN_IF_ERROR(to_status(error, "no CUDA device"));
  return count;
}

Result<Device> describe_device(int index) {
  const std::string name = "cuda:" + std::to_string(index);
  cudaDeviceProp properties{};
  XC_RETURN_IF_ERROR(
      to_status(cudaGetDeviceProperties(&properties, index), "ask what " + name + " is"));
  const int arch = 10 * properties.major + properties.minor;
  std::array<char, 128> text{};
  std::snprintf(text.data(), text.size(),
                ", compute capability %d.%d, %d multiprocessors, %.1f GiB", properties.major,
                properties.minor, properties.multiProcessorCount,
                static_cast<double>(properties.totalGlobalMem) / (1 << 30));
  return Device{index, arch, name, properties.name + std::string(text.data())};
}

// "7.5, 8.0, 8.6 and later": machine code runs where it was made for, PTX on everything later too,
// unless it is that of one architecture ("90a-virtual").
std::string targets_text(std::string_view targets) {
  std::set<int> archs;
  int later = std::numeric_limits<int>::max();
  while (!targets.empty()) {
    const std::string_view target = targets.substr(0, targets.find(','));
    targets.remove_prefix(std::min(target.size() + 1, targets.size()));
    int arch = 0;
    std::from_chars(target.data(), target.data() + target.size(), arch);
    archs.insert(arch);
    if (target.ends_with("-virtual") && !target.ends_with("a-virtual")) {
      later = std::min(later, arch);
    }
  }
  std::string text;
  for (const int arch : archs) {
    if (arch <= later) {
      text += (text.empty() ? "" : ", ") + capability(arch);
    }
  }
  return text + (archs.count(later) > 0 ? " and later" : "");
}

// What to do about a GPU that this build holds no code for.
std::string advice_without_code(int arch) {
  constexpr int kLeast = 75;  // of the kernels
  const std::string cpu = "use device cpu";
  return arch < kLeast ? "the kernels need 7.5 or later; " + cpu
                       : "configure with -DXCEPTION_CUDA_ARCHITECTURES=" + std::to_string(arch) +
                             ", or " + cpu;
}

}  // namespace

bool has_code_for(std::string_view targets, int arch) {
  while (!targets.empty()) {
    const std::string_view target = targets.substr(0, targets.find(','));
    targets.remove_prefix(std::min(target.size() + 1, targets.size()));
    int made_for = 0;
    std::from_chars(target.data(), target.data() + target.size(), made_for);
    if (target.ends_with("a-virtual")) {
      if (arch == made_for) {
        return true;
      }
      continue;
    }
    const bool any_major = target.ends_with("-virtual");
    if (arch >= made_for && (any_major || arch / 10 == made_for / 10)) {
      return true;
    }
  }
  return false;
}

std::string capability(int arch) {
  return std::to_string(arch / 10) + '.' + std::to_string(arch % 10);
}

DevicePeak rated_peak(const BoardRates& board, Numeric numeric) {
  struct Rates {
    int arch;
    int fp32;  // multiply-adds of a multiprocessor and clock
    int half;  // the same of 16 bits on tensor cores
  };
  static constexpr Rates kRates[] = {
      {75, 64, 512},   {80, 64, 1024},   {86, 128, 512},  {89, 128, 512},
      {90, 128, 2048}, {100, 128, 4096}, {120, 128, 512},
  };
  DevicePeak peak;
  peak.bytes_per_s = board.memory_bits_per_s / 8;
  for (const Rates& rates : kRates) {
    if (rates.arch != board.arch) {
      continue;
    }
    double multiply_adds = rates.fp32;
    const std::optional<MatrixMath> math = pick_matrix_math(numeric, board.arch);
    if (math != MatrixMath::kScalarFp32 && math != MatrixMath::kScalarBf16) {
      multiply_adds =
          rates.half / (numeric == Numeric::kTf32 ? 2.0 : 1.0) / (board.geforce ? 2.0 : 1.0);
    }
    peak.flops_per_s = 2 * multiply_adds * board.multiprocessors * board.clock_hz;
  }
  return peak;
}

Result<DevicePeak> ask_peak(const Device& device, Numeric numeric) {
  Status status;
  const auto ask = [&](cudaDeviceAttr attribute) {
    int value = 0;
    if (status.ok()) {
      status = to_status(cudaDeviceGetAttribute(&value, attribute, device.index),
                         "ask what " + device.name + " can do");
    }
    return static_cast<double>(value);
  };
  BoardRates board;
  board.arch = device.arch;
  board.multiprocessors = static_cast<int>(ask(cudaDevAttrMultiProcessorCount));
  board.clock_hz = 1e3 * ask(cudaDevAttrClockRate);
  // Two bits a clock and line: every memory that these GPUs have is of double data rate.
  board.memory_bits_per_s =
      2e3 * ask(cudaDevAttrMemoryClockRate) * ask(cudaDevAttrGlobalMemoryBusWidth);
  board.geforce = device.description.find("GeForce") != std::string::npos;
  XC_RETURN_IF_ERROR(status);
  return rated_peak(board, numeric);
}

Result<Device> find_device(const std::string& name) {
  const std::string kind = name.substr(0, name.find(':'));
  int index = 0;
  if (name != kind) {
    const char* const begin = name.data() + kind.size() + 1;
    const char* const end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(begin, end, index);
    if (error != std::errc() || stop != end || index < 0) {
      return Status(Code::kInvalidArgument,
                    "unknown device '" + name + "'; expected " + kind + ":N, N a whole number");
    }
  }
  const Result<int> count = count_devices();
  XC_RETURN_IF_ERROR(count.status().with_context("device '" + name + "'"));
  if (index >= *count) {
    return Status(Code::kDevice,
                  "device '" + name + "' is not there: " +
                      (*count == 1 ? "the only GPU is cuda:0"
                                   : "the GPUs are cuda:0 to cuda:" + std::to_string(*count - 1)));
  }
  Result<Device> device = describe_device(index);
  XC_RETURN_IF_ERROR(device.status());
  device->name = kind + ':' + std::to_string(index);
  if (!has_code_for(kTargets, device->arch)) {
    return Status(Code::kDevice, "device '" + name + "' is " + device->description +
                                     ", and this build holds code for " + targets_text(kTargets) +
                                     "; " + advice_without_code(device->arch));
  }
  return device;
}

}  // namespace xception::cuda

namespace xception {

Result<std::vector<DeviceInfo>> cuda_devices() {
  const Result<int> count = cuda::count_devices();
  XC_RETURN_IF_ERROR(count.status());
  std::vector<DeviceInfo> devices;
  for (int index = 0; index < *count; ++index) {
    const Result<cuda::Device> device = cuda::describe_device(index);
    XC_RETURN_IF_ERROR(device.status());
    const bool usable = cuda::has_code_for(cuda::kTargets, device->arch);
    devices.push_back({device->name,
                       device->description + (usable ? "" : ", which this build has no code for"),
                       usable});
  }
  return devices;
}

}  // namespace xception
