// What stands in the place of cuDNN's convolutions where the build has none.
#include "engine/backend_cudnn.h"

namespace xception::cuda {

Result<std::shared_ptr<Cudnn>> start_cudnn() {
  return Status(Code::kUnsupported,
                "this build has no cuDNN; configure with -DXCEPTION_CUDNN=ON, or use device cuda");
}

std::vector<std::byte> pack_cudnn(const ConvProblem& /*problem*/, Numeric /*numeric*/,
                                  const float* /*weights*/) {
  return {};
}

}  // namespace xception::cuda
