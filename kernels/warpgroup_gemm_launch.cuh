// From a problem to the instance of warpgroup_gemm() that runs it.
#pragma once

#include <cstddef>
#include <string>

#include "kernels/epilogue.cuh"
#include "kernels/launch.h"
#include "kernels/tensor_map.h"
#include "kernels/warpgroup_gemm.cuh"

namespace xception {

// After check_dense(), where is_warpgroup_product().
template <class T, int kIndex = 0>
[[nodiscard]] Status launch_warpgroup_gemm(const std::string& operation, const ConvProblem& problem,
                                           Numeric numeric, const GpuInfo& gpu,
                                           const MatrixChoice& choice, const DenseArgs& args,
                                           Stream stream) {
  if constexpr (kIndex < kWarpgroupTileCount) {
    if (choice.tile != kIndex) {
      return launch_warpgroup_gemm<T, kIndex + 1>(operation, problem, numeric, gpu, choice, args,
                                                  stream);
    }
    constexpr WarpgroupTile kTile = kWarpgroupTiles[kIndex];
    const auto name = [&] { return dense_name(operation, problem, numeric); };
    ConvGeometry geometry = conv_geometry(problem, numeric);
    geometry.depth_tiles = warpgroup_tiles(problem);
    geometry.column_tiles = choice.column_tiles;
    const auto map_operand = [&](const void* matrix, int rows, int box_rows, CUtensorMap* map) {
      const Status status = make_tensor_map(numeric, matrix, rows, geometry.src_stride, box_rows,
                                            kWarpgroupDepth, map);
      return status.ok() ? status : status.with_context(name());
    };
    CUtensorMap pixels;
    CUtensorMap weights;
    XC_RETURN_IF_ERROR(map_operand(args.src, geometry.pixels, kTile.rows, &pixels));
    XC_RETURN_IF_ERROR(
        map_operand(args.weights, warpgroup_weight_rows(problem), kTile.columns, &weights));
    const LaunchShape shape = {dim3(static_cast<unsigned>(choice.blocks())),
                               dim3(warpgroup_threads(kTile)),
                               static_cast<std::size_t>(warpgroup_shared_bytes(kTile)),
                               launches_dependent(gpu.arch, numeric)};
    return launch(name, warpgroup_gemm<T, kIndex>, shape, stream, geometry, pixels, weights,
                  static_cast<T*>(args.dst), with_final_relu(args.epilogue));
  } else {
    return {Code::kInternal, dense_name(operation, problem, numeric) + ": no such tile"};
  }
}

}  // namespace xception
