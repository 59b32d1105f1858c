#include "kernels/tiles.h"

namespace xception {
namespace {

// Scalar code has no 64 x 64 a warp: accumulators and operands would not fit the registers.
bool has_instance(MatrixMath math, int tile) {
  const bool scalar = math == MatrixMath::kScalarFp32 || math == MatrixMath::kScalarBf16;
  return tile >= (scalar ? kFirstScalarTile : 0);
}

}  // namespace

std::optional<MatrixMath> pick_matrix_math(Numeric numeric, int arch) {
  const bool current = arch >= 80;
  switch (numeric) {
    case Numeric::kFp16:
      return MatrixMath::kTensorFp16;
    case Numeric::kBf16:
      return current ? MatrixMath::kTensorBf16 : MatrixMath::kScalarBf16;
    case Numeric::kTf32:
      return current ? std::optional(MatrixMath::kTensorTf32) : std::nullopt;
    case Numeric::kFp32:
      return MatrixMath::kScalarFp32;
  }
  return std::nullopt;
}

bool is_warpgroup_product(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu) {
  const std::optional<MatrixMath> math = pick_matrix_math(numeric, gpu.arch);
  return gpu.has_wgmma && (math == MatrixMath::kTensorFp16 || math == MatrixMath::kTensorBf16) &&
         problem.window.size == 1 && problem.window.stride == 1;
}

MatrixChoice pick_matrix_tile(const ConvProblem& problem, Numeric numeric, const GpuInfo& gpu) {
  const Shape dst = problem.dst();
  const std::int64_t pixels = std::int64_t{dst.n} * dst.h * dst.w;
  const int columns = channel_stride(problem.k);
  MatrixChoice choice;
  choice.math = pick_matrix_math(numeric, gpu.arch).value_or(MatrixMath::kScalarFp32);
  choice.warpgroups = is_warpgroup_product(problem, numeric, gpu);
  const int tiles = choice.warpgroups ? kWarpgroupTileCount : kMatrixTileCount;
  for (int tile = 0; tile < tiles; ++tile) {
    if (!choice.warpgroups && !has_instance(choice.math, tile)) {
      continue;
    }
    choice.tile = tile;
    choice.row_tiles = ceil_div(pixels, choice.rows());
    choice.column_tiles = static_cast<int>(ceil_div(columns, choice.columns()));
    const std::int64_t computed = std::int64_t{choice.column_tiles} * choice.columns();
    if (10 * choice.blocks() >= 8 * std::int64_t{gpu.multiprocessors} &&
        2 * computed <= 3 * columns) {
      return choice;
    }
  }
  return choice;
}

std::string to_string(const MatrixChoice& choice, int arch) {
  if (choice.warpgroups) {
    return std::to_string(choice.rows()) + "x" + std::to_string(choice.columns()) + "x64 wgmma " +
           (choice.math == MatrixMath::kTensorFp16 ? "fp16, " : "bf16, ") +
           std::to_string(choice.row_tiles) + " x " + std::to_string(choice.column_tiles) +
           " blocks";
  }
  const auto math = [&]() -> std::string {
    switch (choice.math) {
      case MatrixMath::kTensorFp16:
        return has_async_copy(arch) ? "mma.m16n8k16 fp16" : "mma.m16n8k8 fp16";
      case MatrixMath::kTensorBf16:
        return "mma.m16n8k16 bf16";
      case MatrixMath::kTensorTf32:
        return "mma.m16n8k8 tf32";
      case MatrixMath::kScalarFp32:
        return "fma fp32";
      case MatrixMath::kScalarBf16:
        return "fma bf16";
    }
    return "";
  };
  const bool wide =
      choice.math == MatrixMath::kTensorTf32 || choice.math == MatrixMath::kScalarFp32;
  const MatrixTile& tile = kMatrixTiles[choice.tile];
  return std::to_string(tile.rows) + "x" + std::to_string(tile.columns) + "x" +
         std::to_string(kDepthBytes / (wide ? 4 : 2)) + " " + math() + ", " +
         std::to_string(choice.row_tiles) + " x " + std::to_string(choice.column_tiles) + " blocks";
}

}  // namespace xception
