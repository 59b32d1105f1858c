// Depthwise 3x3 convolution, y[n][p][q][c] = sum over r, s of x[n][p * stride + r][q * stride +
// s][c] * w[r][s][c], and the epilogue of it: from a problem to the kernel that runs it.
#include "kernels/depthwise.h"

#include <algorithm>
#include <limits>
#include <string>

#include "kernels/depthwise_map.cuh"
#include "kernels/depthwise_product.cuh"
#include "kernels/depthwise_strips.cuh"
#include "kernels/dispatch.cuh"
#include "kernels/launch.h"

namespace xception {
namespace {

std::string describe(const ConvProblem& problem) {
  return "depthwise3x3 s" + std::to_string(problem.window.stride) + " of " + to_string(problem.src);
}

Status check(const ConvProblem& problem) {
  const Window& window = problem.window;
  if (!problem.depthwise || problem.k != problem.src.c || window.size != 3 ||
      (window.stride != 1 && window.stride != 2)) {
    return {Code::kInvalidArgument,
            "depthwise kernel for " + to_string(problem.src) + ": the window is " +
                std::to_string(window.size) + ", the stride " + std::to_string(window.stride) +
                ", outputs are " + std::to_string(problem.k) +
                "; it computes one output a channel, window 3, stride 1 or 2"};
  }
  return {};
}

bool does_something(const DeviceEpilogue& epilogue) {
  return epilogue.shift != nullptr || epilogue.relu || epilogue.second_scale != nullptr ||
         epilogue.residual != nullptr || epilogue.final_relu;
}

// What products and strips need to know.
template <class Params>
Params common_params(const ConvProblem& problem, Numeric numeric, const DepthwiseArgs& args) {
  const Shape out = problem.dst();
  Params params;
  params.src = static_cast<const std::byte*>(args.src);
  params.dst = static_cast<std::byte*>(args.dst);
  params.epilogue = args.epilogue;
  params.h = problem.src.h;
  params.w = problem.src.w;
  params.p = out.h;
  params.pad_top = problem.window.pad.top;
  params.pad_left = problem.window.pad.left;
  params.pixel_bytes = channel_stride(out.c) * static_cast<int>(element_bytes(numeric));
  params.src_row_bytes = std::int64_t{params.pixel_bytes} * problem.src.w;
  params.dst_row_bytes = std::int64_t{params.pixel_bytes} * out.w;
  return params;
}

// `across` counts the blocks that lie side by side in the grid.
Result<LaunchShape> launch_shape(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu,
                                 std::int64_t across, int bands, int threads) {
  const int pictures = problem.src.n;
  constexpr int kMostBlocks = 65535;  // in the second and the third dimension of a grid
  if (across > std::numeric_limits<int>::max() / threads ||
      std::max(bands, pictures) > kMostBlocks) {
    return too_large_for_launch(describe(problem));
  }
  return LaunchShape{dim3(static_cast<unsigned>(across), static_cast<unsigned>(bands),
                          static_cast<unsigned>(pictures)),
                     dim3(static_cast<unsigned>(threads)), 0,
                     launches_dependent(gpu.arch, numeric)};
}

template <class T>
Status launch_product(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu,
                      const DepthwiseArgs& args, Stream stream) {
  const DepthwiseTile tile = pick_depthwise_tile(problem, gpu);
  const int threads = tile.warps * 32;
  Result<LaunchShape> shape = launch_shape(
      problem, numeric, gpu, std::int64_t{tile.chunks} * tile.groups, tile.bands, threads);
  XC_RETURN_IF_ERROR(shape.status());
  shape->shared_bytes = static_cast<std::size_t>(product_rows(tile.strip_rows)) *
                        product_columns(static_cast<unsigned>(tile.warps)) * kProductPixelBytes;
  auto params = common_params<DepthwiseProductParams>(problem, numeric, args);
  params.weights = static_cast<const std::byte*>(args.weights);
  params.epilogue = with_final_relu(args.epilogue);
  params.channels = problem.k;
  params.q = problem.dst().w;
  params.chunks = static_cast<unsigned>(tile.chunks);
  params.plain_epilogue = is_shift_and_relu(params.epilogue);
  const auto run = [&]<bool kRelu, bool kEpilogue>() {
    return launch([&] { return describe(problem); },
                  tile.strip_rows == kTallStrip ? depthwise_product<T, kTallStrip, kRelu, kEpilogue>
                                                : depthwise_product<T, kLowStrip, kRelu, kEpilogue>,
                  *shape, stream, params);
  };
  if (does_something(args.epilogue)) {
    return problem.relu_on_load ? run.template operator()<true, true>()
                                : run.template operator()<false, true>();
  }
  return problem.relu_on_load ? run.template operator()<true, false>()
                              : run.template operator()<false, false>();
}

template <class T>
Status launch_map(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu,
                  const DepthwiseMaps& maps, const DepthwiseArgs& args, Stream stream) {
  const Result<LaunchShape> shape =
      launch_shape(problem, numeric, gpu, ceil_div(maps.items, maps.threads), 1, maps.threads);
  XC_RETURN_IF_ERROR(shape.status());
  DepthwiseMapParams params;
  params.src = static_cast<const std::byte*>(args.src);
  params.weights = static_cast<const std::byte*>(args.weights);
  params.dst = static_cast<std::byte*>(args.dst);
  params.epilogue = with_final_relu(args.epilogue);
  params.h = problem.src.h;
  params.w = problem.src.w;
  params.items = maps.items;
  params.pixel_bytes = channel_stride(problem.src.c) * static_cast<int>(element_bytes(numeric));
  params.relu_on_load = problem.relu_on_load;
  params.plain =
      params.h == maps.side && params.w == maps.side && is_shift_and_relu(params.epilogue);
  return launch([&] { return describe(problem); },
                maps.side == 2 ? depthwise_map<T, 2> : depthwise_map<T, 4>, *shape, stream, params);
}

template <class T>
Status launch_strips(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu,
                     const DepthwiseArgs& args, Stream stream) {
  const DepthwiseStrips strips = pick_depthwise_strips(problem, gpu);
  const Result<LaunchShape> shape = launch_shape(
      problem, numeric, gpu, ceil_div(strips.items, strips.threads), strips.bands, strips.threads);
  XC_RETURN_IF_ERROR(shape.status());
  auto params = common_params<DepthwiseStripParams>(problem, numeric, args);
  const Shape out = problem.dst();
  params.weights = static_cast<const float*>(args.weights);
  params.has_epilogue = does_something(args.epilogue);
  params.pixel = channel_stride(out.c);
  params.rows = strips.rows;
  params.columns = out.w / strips.groups;
  params.wide_groups = out.w % strips.groups;
  params.vectors = params.pixel / kStripChannels;
  params.items = static_cast<int>(strips.items);
  return launch([&] { return describe(problem); },
                problem.window.stride == 1 ? problem.relu_on_load ? depthwise_strips<T, 1, true>
                                                                  : depthwise_strips<T, 1, false>
                : problem.relu_on_load ? depthwise_strips<T, 2, true>
                                           : depthwise_strips<T, 2, false>,
                *shape, stream, params);
}

}  // namespace

Status depthwise(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu,
                 const DepthwiseArgs& args, Stream stream) {
  XC_RETURN_IF_ERROR(check(problem));
  if (problem.dst().elements() == 0) {
    return {};
  }
  return dispatch(numeric, [&]<class T>(T) {
    if constexpr (sizeof(T) == 2) {
      if (is_depthwise_product(problem, numeric, gpu)) {
        if (const auto maps = pick_depthwise_maps(problem, gpu)) {
          return launch_map<T>(problem, numeric, gpu, *maps, args, stream);
        }
        return launch_product<T>(problem, numeric, gpu, args, stream);
      }
    }
    return launch_strips<T>(problem, numeric, gpu, args, stream);
  });
}

}  // namespace xception
