// y = epilogue(x), element by element.
//
// A thread moves 16 bytes at a time: eight channels of 16 bits, or four of float32. It goes on by
// as many vectors as there are threads at work, rounded down to whole pixels: so its channels stay
// the same, and their scales and shifts in its registers.
//
// No shared memory. It is limited by DRAM: 4 bytes an element in 16 bits, 6 with an addition. The
// grid fills every multiprocessor once.
#include "kernels/bn_relu.h"

#include <algorithm>
#include <string>

#include "kernels/dispatch.cuh"
#include "kernels/epilogue.cuh"
#include "kernels/launch.cuh"

namespace xception {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerMultiprocessor = 4;  // for 54 registers a thread

struct Params {
  const void* src;
  void* dst;
  DeviceEpilogue epilogue;
  std::int64_t vectors;  // of the tensor
  int pixel_vectors;
  int channels;
};

template <class T, int kWidth>
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
    constexpr int kWidth = kVectorWidth<T>;
    Params params;
    params.src = args.src;
    params.dst = args.dst;
    params.epilogue = args.epilogue;
    params.vectors = device_elements(shape) / kWidth;
    params.pixel_vectors = channel_stride(shape.c) / kWidth;
    params.channels = shape.c;
    // A pixel's worth of threads at least.
    const std::int64_t most = std::max<std::int64_t>(gpu.multiprocessors * kBlocksPerMultiprocessor,
                                                     ceil_div(params.pixel_vectors, kThreads));
    const std::int64_t blocks = std::min(ceil_div(params.vectors, kThreads), most);
    return launch([&] { return "batch norm and ReLU of " + to_string(shape); },
                  bn_relu_kernel<T, kWidth>, {static_cast<unsigned>(blocks), kThreads}, stream,
                  params);
  });
}

}  // namespace xception
