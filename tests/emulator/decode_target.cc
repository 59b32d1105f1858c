// Which instructions came with which architecture. A module is translated for its target, whatever
// device it runs on, so that an instruction which the target lacks is no part of the module.
#include <algorithm>
#include <array>
#include <string_view>

#include "tests/emulator/decode.h"

namespace xception::emulator {
namespace {

struct Since {
  std::string_view opcode;
  std::string_view modifier;  // that the instruction has; empty: whatever it has
  int arch = 0;
};

// From the notes on targets of each instruction of the PTX ISA. What was there with sm_70 is left
// out, and so is what no modifier tells: minima of three operands.
constexpr std::array kSince = {
    Since{"abs", "bf16", 80},
    Since{"abs", "bf16x2", 80},
    Since{"add", "bf16", 90},
    Since{"add", "bf16x2", 90},
    Since{"atom", "bf16", 90},
    Since{"cp", "async", 80},
    Since{"cp", "bulk", 90},
    Since{"cvt", "bf16", 80},
    Since{"cvt", "bf16x2", 80},
    Since{"cvt", "f16x2", 80},
    Since{"cvt", "relu", 80},
    Since{"cvt", "tf32", 80},
    Since{"elect", "", 90},
    Since{"ex2", "bf16", 90},
    Since{"ex2", "bf16x2", 90},
    Since{"ex2", "f16", 75},
    Since{"ex2", "f16x2", 75},
    Since{"fence", "async", 90},
    Since{"fence", "mbarrier_init", 90},
    Since{"fma", "bf16", 80},
    Since{"fma", "bf16x2", 80},
    Since{"fma", "relu", 80},
    Since{"griddepcontrol", "", 90},
    Since{"ldmatrix", "", 75},
    Since{"max", "NaN", 80},
    Since{"max", "bf16", 80},
    Since{"max", "bf16x2", 80},
    Since{"max", "f16", 80},
    Since{"max", "f16x2", 80},
    Since{"max", "xorsign", 86},
    Since{"mbarrier", "", 80},
    Since{"mbarrier", "expect_tx", 90},
    Since{"mbarrier", "try_wait", 90},
    Since{"min", "NaN", 80},
    Since{"min", "bf16", 80},
    Since{"min", "bf16x2", 80},
    Since{"min", "f16", 80},
    Since{"min", "f16x2", 80},
    Since{"min", "xorsign", 86},
    Since{"mma", "bf16", 80},
    Since{"mma", "m16n8k16", 80},
    Since{"mma", "m16n8k32", 80},
    Since{"mma", "m16n8k8", 75},
    Since{"mma", "tf32", 80},
    Since{"movmatrix", "", 75},
    Since{"mul", "bf16", 90},
    Since{"mul", "bf16x2", 90},
    Since{"neg", "bf16", 80},
    Since{"neg", "bf16x2", 80},
    Since{"red", "bf16", 90},
    Since{"redux", "", 80},
    Since{"setmaxnreg", "", 90},
    Since{"stmatrix", "", 90},
    Since{"sub", "bf16", 90},
    Since{"sub", "bf16x2", 90},
    Since{"tanh", "", 75},
    Since{"tanh", "bf16", 90},
    Since{"tanh", "bf16x2", 90},
};

}  // namespace

int least_target(const Statement& statement) {
  int least = 0;
  for (const Since& since : kSince) {
    if (since.opcode == statement.opcode &&
        (since.modifier.empty() ||
         std::ranges::find(statement.modifiers, since.modifier) != statement.modifiers.end())) {
      least = std::max(least, since.arch);
    }
  }
  return least;
}

}  // namespace xception::emulator
