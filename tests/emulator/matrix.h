// The warp-wide matrix instructions as functions of what 32 lanes hold.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "tests/emulator/memory.h"

namespace xception::emulator {

// One 32-bit register of each lane.
using LaneWords = std::array<std::uint32_t, kWarpLanes>;

// Row and column of a matrix.
struct Position {
  int row = 0;
  int column = 0;
};

// Which element a lane holds at `index` of its fragment: PTX ISA, "Matrix Fragments for
// mma.m16n8k8", "... m16n8k16", "... m16n8k32". `bits` is the size of an element (32 for tf32), so
// a register holds 32 / bits elements, the first in its low bits. A is 16 x k, B is k x 8, C and D
// are 16 x 8. For an A, `index` counts to 16 * k / 32, for a B to 8 * k / 32, for a C to 4.
constexpr Position position_a(int bits, int lane, int index) {
  const int each = 32 / bits;
  const int word = index / each;
  return {lane / 4 + 8 * (word % 2), each * (lane % 4 + 4 * (word / 2)) + index % each};
}
constexpr Position position_b(int bits, int lane, int index) {
  const int each = 32 / bits;
  return {each * (lane % 4 + 4 * (index / each)) + index % each, lane / 4};
}
constexpr Position position_c(int lane, int index) {
  return {lane / 4 + 8 * (index / 2), 2 * (lane % 4) + index % 2};
}

enum class MatrixType { kF16, kBf16, kTf32, kS8, kU8 };

// mma.sync.aligned.m16n8kK.row.col.
struct MmaShape {
  int k = 16;  // f16, bf16: 8, 16; tf32: 4, 8; s8, u8: 16, 32
  MatrixType a = MatrixType::kF16;
  MatrixType b = MatrixType::kF16;  // differs from a only among s8 and u8
  bool half_accumulator = false;    // f16: C and D are f16, two a register; else f32 or s32
  bool saturate = false;            // .satfinite, s32 only
  bool operator==(const MmaShape&) const = default;
};

// As many elements as there are values, one behind the other as registers and rows of shared memory
// have them.
void to_floats(MatrixType type, std::span<const std::byte> packed, std::span<float> values);
// Where it puts element `index` of a lane's registers, of `bits` each.
constexpr int packed_place(int bits, int lane, int index) {
  const int each = 32 / bits;
  return (index / each * kWarpLanes + lane) * each + index % each;
}

// Registers of each lane for an operand.
int mma_registers_a(const MmaShape& shape);
int mma_registers_b(const MmaShape& shape);
int mma_registers_c(const MmaShape& shape);

// Whether mma() knows the shape.
bool mma_supported(const MmaShape& shape);

// d = a b + c. `d` may be `c`. The arrays have the lengths above.
//
// Floating types: products are exact, and the sum is c, then the products of k = 0, 1, 2, ..., in
// float, rounded to nearest at each step; an f16 accumulator is rounded once, at the end. The ISA
// leaves order and intermediate rounding open ("at least single precision"; hardware truncates
// aligned sums), so a result is held against the exact one within a bound; where every partial sum
// is a float, as with small integers, all of them agree. tf32 operands lose their low 13 bits, as
// in hardware. Integers: exact modulo 2^32, or saturated.
void mma(const MmaShape& shape, std::span<const LaneWords> a, std::span<const LaneWords> b,
         std::span<const LaneWords> c, std::span<LaneWords> d);

// ldmatrix and stmatrix .m8n8.x1/.x2/.x4 of 16-bit elements. The address of row r of matrix m is
// that of lane 8 * m + r; each row is 16 contiguous bytes.
//
// `rows` is 16 bytes for each of 8 * count lanes, row by row; register m of a lane gets two
// elements of matrix m, or of its transpose.
void ldmatrix(int count, bool transposed, std::span<const std::byte> rows,
              std::span<LaneWords> registers);
void stmatrix(int count, bool transposed, std::span<const LaneWords> registers,
              std::span<std::byte> rows);
// movmatrix.m8n8.trans.b16.
LaneWords movmatrix(const LaneWords& source);

}  // namespace xception::emulator
