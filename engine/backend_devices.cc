// The devices of this machine, and the backend of each.
#include <algorithm>
#include <string>
#include <thread>

#include "engine/backend.h"

namespace xception {
namespace {

bool names_cuda(const std::string& device) {
  return device == "cuda" || device.starts_with("cuda:") || device == "cudnn" ||
         device.starts_with("cudnn:");
}

// What "auto" means here: the first GPU that this build holds code for, else the CPU.
std::string choose_device() {
  const Result<std::vector<DeviceInfo>> gpus = cuda_devices();
  if (gpus.ok()) {
    for (const DeviceInfo& gpu : *gpus) {
      if (gpu.usable) {
        return gpu.name;
      }
    }
  }
  return "cpu";
}

}  // namespace

Result<std::unique_ptr<Backend>> make_backend(const SessionOptions& asked) {
  SessionOptions options = asked;
  if (options.device == "auto") {
    options.device = choose_device();
  }
  if (options.device == "cpu") {
    return make_cpu_backend(options);
  }
  if (options.device == "reference") {
    return make_reference_backend(options);
  }
  if (names_cuda(options.device)) {
    return make_cuda_backend(options);
  }
  return Status(Code::kInvalidArgument,
                "unknown device '" + options.device + "'; expected auto, cpu, cuda or cuda:N");
}

DeviceList list_devices() {
  DeviceList list;
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  list.devices = {
      {"cpu", "oneDNN, " + std::to_string(cores) + (cores == 1 ? " core" : " cores"), true},
      {"reference", "loops in double precision, slow, for checking", true}};
  const Result<std::vector<DeviceInfo>> gpus = cuda_devices();
  if (gpus.ok()) {
    list.devices.insert(list.devices.end(), gpus->begin(), gpus->end());
  } else {
    list.no_cuda = gpus.status().message();
  }
  return list;
}

}  // namespace xception
