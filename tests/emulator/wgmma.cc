#include "tests/emulator/wgmma.h"

namespace xception::emulator {
namespace {

constexpr int kColumnsAtOnce = 4;  // their sums fit the registers of the host

constexpr std::size_t depth_of(MatrixType type) { return type == MatrixType::kTf32 ? 8 : 16; }

// Half of the rows of a column of D. It is read and written where floats stand, not by memcpy: that
// makes copies in pieces, which the host's store buffer does not join.
using Half [[gnu::vector_size(8 * sizeof(float))]] = float;
using HalfInPlace
    [[gnu::vector_size(8 * sizeof(float)), gnu::aligned(sizeof(float)), gnu::may_alias]] = float;

template <MatrixType kType>
void product(const float* left, const std::byte* columns, int n, float* sums) {
  constexpr std::size_t kDepth = depth_of(kType);
  alignas(64) float right[kColumnsAtOnce * kDepth];
  const HalfInPlace* const factors = reinterpret_cast<const HalfInPlace*>(left);
  for (int column = 0; column < n; column += kColumnsAtOnce) {
    to_floats(kType, {columns, kColumnsAtOnce * kWgmmaRowBytes}, right);
    HalfInPlace* const target = reinterpret_cast<HalfInPlace*>(sums);
    Half sum[2 * kColumnsAtOnce];
    for (std::size_t i = 0; i < 2 * kColumnsAtOnce; ++i) {
      sum[i] = target[i];
    }
    for (std::size_t k = 0; k < kDepth; ++k) {
      for (std::size_t i = 0; i < 2 * kColumnsAtOnce; ++i) {
        sum[i] += factors[2 * k + i % 2] * right[i / 2 * kDepth + k];
      }
    }
    for (std::size_t i = 0; i < 2 * kColumnsAtOnce; ++i) {
      target[i] = sum[i];
    }
    columns += kColumnsAtOnce * kWgmmaRowBytes;
    sums += kColumnsAtOnce * kWgmmaRows;
  }
}

// Rows of 32 bytes to columns of floats.
template <MatrixType kType>
void left_of(const std::byte* rows, float sign, float* left) {
  constexpr std::size_t kDepth = depth_of(kType);
  alignas(64) float elements[kWgmmaRows * kDepth];
  to_floats(kType, {rows, kWgmmaRows * kWgmmaRowBytes}, elements);
  for (std::size_t k = 0; k < kDepth; ++k) {
    for (std::size_t row = 0; row < kWgmmaRows; ++row) {
      left[k * kWgmmaRows + row] = sign * elements[row * kDepth + k];
    }
  }
}

}  // namespace

MatrixDescriptor read_descriptor(std::uint64_t bits, std::string* what) {
  const auto field = [&](int at) { return static_cast<std::uint32_t>(bits >> at & 0x3FFF) << 4; };
  constexpr std::array<std::uint32_t, 4> kSwizzles = {0, 128, 64, 32};
  // Bits 14-15, 30-31, 46-48 and 52-61.
  constexpr std::uint64_t kReserved = 0x3FF1'C000'C000'C000;
  const MatrixDescriptor tile{.start = field(0),
                              .leading = field(16),
                              .stride = field(32),
                              .swizzle = kSwizzles[bits >> 62]};
  what->clear();
  if ((bits & kReserved) != 0) {
    *what = "sets bits that mean nothing";
  } else if ((bits >> 49 & 7) != 0) {
    *what = "has a base offset, which the emulator does not support";
  } else if (tile.swizzle != 0 &&
             (tile.start & (8 * tile.swizzle - 1) & ~(tile.swizzle - 1)) != 0) {
    *what = "starts within the pattern of its swizzle, which repeats every " +
            std::to_string(8 * tile.swizzle) + " bytes, without a base offset";
  }
  return tile;
}

WgmmaLeft wgmma_left(MatrixType type, bool negated, std::span<const std::byte> rows) {
  WgmmaLeft left{};
  const float sign = negated ? -1.0F : 1.0F;
  switch (type) {
    case MatrixType::kF16:
      left_of<MatrixType::kF16>(rows.data(), sign, left.data());
      break;
    case MatrixType::kBf16:
      left_of<MatrixType::kBf16>(rows.data(), sign, left.data());
      break;
    default:
      left_of<MatrixType::kTf32>(rows.data(), sign, left.data());
  }
  return left;
}

WgmmaLeft wgmma_left(MatrixType type, bool negated, std::span<const LaneWords> registers) {
  WgmmaLeft left{};
  const int bits = type == MatrixType::kTf32 ? 32 : 16;
  const int count = 4 * 32 / bits;  // of a lane
  std::array<float, std::size_t{8} * kWarpLanes> values;
  to_floats(type, std::as_bytes(registers),
            std::span(values).first(static_cast<std::size_t>(count * kWarpLanes)));
  for (int index = 0; index < count; ++index) {
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      const Position at = position_a(bits, lane, index);
      const float value = values[static_cast<std::size_t>(packed_place(bits, lane, index))];
      const int place = at.column * kWgmmaRows + at.row;
      left[static_cast<std::size_t>(place)] = negated ? -value : value;
    }
  }
  return left;
}

void wgmma_product(const WgmmaShape& shape, const WgmmaLeft& left,
                   std::span<const std::byte> columns, float* sums) {
  switch (shape.type) {
    case MatrixType::kF16:
      return product<MatrixType::kF16>(left.data(), columns.data(), shape.n, sums);
    case MatrixType::kBf16:
      return product<MatrixType::kBf16>(left.data(), columns.data(), shape.n, sums);
    default:
      return product<MatrixType::kTf32>(left.data(), columns.data(), shape.n, sums);
  }
}

}  // namespace xception::emulator
