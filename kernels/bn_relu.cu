// y = epilogue(x), element by element.
//
// A thread moves four channels at a time: with more, a request for the float32 scales and shifts of
// a warp's channels would use a part of each sector only. It goes on by as many fours as there are
// threads at work, rounded down to whole pixels: so its channels stay the same, and their scales
// and shifts in its registers.
//
// No shared memory. It is limited by DRAM: 4 bytes an element in 16 bits, 6 with an addition. The
// grid fills every multiprocessor once.
#include "kernels/bn_relu.h"

#include <algorithm>
#include <string>

#include "kernels/dispatch.cuh"
#include "kernels/epilogue.cuh"
#include "kernels/launch.h"

namespace xception {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerMultiprocessor = 6;  // for 40 registers a thread
constexpr int kWidth = 4;

struct Params {
  const void* src;
  void* dst;
  DeviceEpilogue epilogue;
  std::int64_t vectors;  // of the tensor
  int pixel_vectors;
};

template <class T>
__global__ void __launch_bounds__(kThreads) bn_relu_kernel(const __grid_constant__ Params params) {
  const unsigned thread = blockIdx.x * kThreads + threadIdx.x;
  const unsigned vectors = static_cast<unsigned>(params.pixel_vectors);
  const unsigned working = gridDim.x * kThreads / vectors * vectors;
  if (thread >= working) {
    return;
  }
  const ChannelEpilogue<T, kWidth> epilogue(params.epilogue,
                                            static_cast<int>(thread % vectors) * kWidth);
  for (std::int64_t vector = thread; vector < params.vectors; vector += working) {
    const std::int64_t offset = vector * kWidth;
    float y[kWidth];
    load_channels<T, kWidth>(static_cast<const T*>(params.src) + offset, y);
    epilogue.apply(offset, y);
    store_channels<T, kWidth>(static_cast<T*>(params.dst) + offset, y);
  }
}

}  // namespace

Status bn_relu(const Shape& shape, Numeric numeric, const GpuInfo& gpu, const BnReluArgs& args,
               Stream stream) {
  if (shape.elements() == 0) {
    return {};
  }
  return dispatch(numeric, [&](auto element) {
    using T = decltype(element);
    Params params;
    params.src = args.src;
    params.dst = args.dst;
    params.epilogue = args.epilogue;
    params.vectors = device_elements(shape) / kWidth;
    params.pixel_vectors = channel_stride(shape.c) / kWidth;
    // A pixel's worth of threads at least.
    const std::int64_t most = std::max<std::int64_t>(gpu.multiprocessors * kBlocksPerMultiprocessor,
                                                     ceil_div(params.pixel_vectors, kThreads));
    const std::int64_t blocks = std::min(ceil_div(params.vectors, kThreads), most);
    return launch([&] { return "batch norm and ReLU of " + to_string(shape); }, bn_relu_kernel<T>,
                  {static_cast<unsigned>(blocks), kThreads}, stream, params);
  });
}

}  // namespace xception
