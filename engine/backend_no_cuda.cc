// What stands in the place of the CUDA backend where the build has none.
#include "engine/backend.h"

namespace xception {

Result<std::unique_ptr<Backend>> make_cuda_backend(const SessionOptions& options) {
  return Status(Code::kDevice, "device '" + options.device +
                                   "' was asked for, but this build has no CUDA backend; use "
                                   "device cpu");
}

Result<std::vector<DeviceInfo>> cuda_devices() {
  return Status(Code::kDevice, "this build has no CUDA backend");
}

}  // namespace xception
