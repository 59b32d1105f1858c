// What the handler of wgmma.mma_async finds in its instruction.
#pragma once

#include "tests/emulator/ptx.h"
#include "tests/emulator/wgmma.h"

namespace xception::emulator {

// Bits of the variant.
inline constexpr std::uint8_t kWgmmaRegistersOfA = 1;  // else A is a descriptor
inline constexpr std::uint8_t kWgmmaNegated = 2;       // one of A and B is

inline WgmmaShape wgmma_shape(const Instruction& in) {
  return {.type = static_cast<MatrixType>(in.immediate2), .n = static_cast<int>(in.immediate)};
}

}  // namespace xception::emulator
