// From a problem to the instance of implicit_gemm() or direct_gemm() that runs it. Each file that
// includes this compiles the instances of its window's size.
#pragma once

#include <cstddef>
#include <limits>
#include <string>

#include "kernels/direct_gemm.cuh"
#include "kernels/epilogue.cuh"
#include "kernels/implicit_gemm.cuh"
#include "kernels/launch.h"

namespace xception {

template <int kSize, class Product>
[[nodiscard]] Status launch_product(const std::string& operation, const ConvProblem& problem,
                                    Numeric numeric, const MatrixChoice& choice, bool async_copy,
                                    bool dependent, const DenseArgs& args, Stream stream) {
  using T = typename Product::Element;
  ConvGeometry geometry = conv_geometry(problem, numeric);
  geometry.column_tiles = choice.column_tiles;
  const auto run = [&](auto* kernel, dim3 threads, int shared) {
    const LaunchShape shape = {dim3(static_cast<unsigned>(choice.blocks())), threads,
                               static_cast<std::size_t>(shared), dependent};
    return launch([&] { return dense_name(operation, problem, numeric); }, kernel, shape, stream,
                  geometry, static_cast<const T*>(args.src), static_cast<const T*>(args.weights),
                  static_cast<T*>(args.dst), with_final_relu(args.epilogue));
  };
  if constexpr (is_direct(Product::kIndex, kSize, Product::kScalar)) {
    using Sums = typename Product::DirectSums;
    constexpr MatrixTile kTile = Product::kTile;
    static_assert(kTile.warp_rows == Sums::kTile.rows && kTile.warp_columns == Sums::kTile.columns,
                  "one instance serves all direct tiles, and takes their size from the launch");
    const dim3 threads(32 * kTile.rows / kTile.warp_rows, kTile.columns / kTile.warp_columns);
    return problem.window.stride == 1 ? run(direct_gemm<Sums, false>, threads, 0)
                                      : run(direct_gemm<Sums, true>, threads, 0);
  } else {
    return run(implicit_gemm<Product, kSize>, dim3(tile_threads(Product::kTile)),
               shared_bytes(Product::kTile, async_copy, Product::kScalar));
  }
}

// The instance of `choice`, from tile kIndex on; ProductOf<i> is the product in tile i.
template <int kSize, int kIndex, template <int> class ProductOf>
[[nodiscard]] Status launch_tile(const std::string& operation, const ConvProblem& problem,
                                 Numeric numeric, const MatrixChoice& choice, bool async_copy,
                                 bool dependent, const DenseArgs& args, Stream stream) {
  if constexpr (kIndex < kMatrixTileCount) {
    if (choice.tile != kIndex) {
      return launch_tile<kSize, kIndex + 1, ProductOf>(operation, problem, numeric, choice,
                                                       async_copy, dependent, args, stream);
    }
    return launch_product<kSize, ProductOf<kIndex>>(operation, problem, numeric, choice, async_copy,
                                                    dependent, args, stream);
  } else {
    return {Code::kInternal, dense_name(operation, problem, numeric) + ": no such tile"};
  }
}

template <int kTileIndex>
using TensorFp16 = TensorProduct<__half, __half, kTileIndex>;
template <int kTileIndex>
using TensorBf16 = TensorProduct<__nv_bfloat16, __nv_bfloat16, kTileIndex>;
template <int kTileIndex>
using TensorTf32 = TensorProduct<float, Tf32, kTileIndex>;
template <int kTileIndex>
using ScalarFp32 = ScalarProduct<float, kTileIndex>;
template <int kTileIndex>
using ScalarBf16 = ScalarProduct<__nv_bfloat16, kTileIndex>;

// After check_dense().
template <int kSize>
[[nodiscard]] Status launch_implicit_gemm(const std::string& operation, const ConvProblem& problem,
                                          Numeric numeric, const GpuInfo& gpu,
                                          const DenseArgs& args, Stream stream) {
  const MatrixChoice choice = pick_matrix_tile(problem, numeric, gpu);
  if (choice.blocks() > std::numeric_limits<int>::max()) {
    return too_large_for_launch(dense_name(operation, problem, numeric));
  }
  const bool async_copy = has_async_copy(gpu.arch);
  const bool dependent = launches_dependent(gpu.arch, numeric);
  const auto with = [&]<int kFirst, template <int> class ProductOf>() {
    return launch_tile<kSize, kFirst, ProductOf>(operation, problem, numeric, choice, async_copy,
                                                 dependent, args, stream);
  };
  switch (choice.math) {
    case MatrixMath::kTensorFp16:
      return with.template operator()<0, TensorFp16>();
    case MatrixMath::kTensorBf16:
      return with.template operator()<0, TensorBf16>();
    case MatrixMath::kTensorTf32:
      return with.template operator()<0, TensorTf32>();
    case MatrixMath::kScalarFp32:
      return with.template operator()<kFirstScalarTile, ScalarFp32>();
    case MatrixMath::kScalarBf16:
      return with.template operator()<kFirstScalarTile, ScalarBf16>();
  }
  return {Code::kInternal, dense_name(operation, problem, numeric) + ": no such arithmetic"};
}

}  // namespace xception
