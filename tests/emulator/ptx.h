// A PTX module after parsing: names resolved to slots and program counters, one handler an
// instruction. Nothing here changes while kernels run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/emulator/counters.h"
#include "tests/emulator/launch.h"
#include "tests/emulator/numeric.h"

namespace xception::emulator {

inline constexpr int kLanes = kWarpLanes;
using LaneMask = std::uint32_t;
inline constexpr LaneMask kAllLanes = ~LaneMask{0};

enum class Type : std::uint8_t {
  kNone,
  kPred,
  kB8,
  kB16,
  kB32,
  kB64,
  kB128,
  kU8,
  kU16,
  kU32,
  kU64,
  kS8,
  kS16,
  kS32,
  kS64,
  kF16,
  kF16x2,
  kBf16,
  kBf16x2,
  kTf32,
  kF32,
  kF64,
};

// ".f16x2" without its dot; kNone for what is no type.
Type parse_type(std::string_view name);
std::size_t type_bytes(Type type);
bool is_float(Type type);
bool is_signed(Type type);

// The generic address space: addresses of the host are global memory, windows far above them hold
// the other state spaces.
inline constexpr Address kSharedWindow = Address{1} << 56;
inline constexpr Address kLocalWindow = Address{1} << 57;
inline constexpr Address kParamWindow = Address{1} << 58;
inline constexpr Address kFunctionWindow = Address{1} << 59;  // plus a program counter

enum class Space : std::uint8_t { kGeneric, kGlobal, kConst, kShared, kLocal, kParam };

// Where 32 lanes of an operand stand: in the frame's registers, in the function's constants, or
// among the special registers of the warp.
enum class Bank : std::uint8_t { kRegisters, kConstants, kSpecials };

struct Slot {
  std::uint32_t offset = 0;  // bytes into the bank
  Bank bank = Bank::kRegisters;
  std::uint8_t width = 0;  // bytes a lane; 0: a predicate, one bit a lane in 4 bytes
  bool negated = false;    // predicates
  bool sink = false;       // "_": nothing is written
};

class Warp;
struct Instruction;

// What the warp does after an instruction.
enum class Flow : std::uint8_t {
  kNext,   // goes on behind it
  kMoved,  // the handler has set program counters
  kYield,  // goes on behind it, and others have a turn before
  kFault,  // the handler has called Warp::fail
};
using Handler = Flow (*)(Warp&, const Instruction&, LaneMask);

enum class Compare : std::uint8_t {
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kEqu,
  kNeu,
  kLtu,
  kLeu,
  kGtu,
  kGeu,
  kNum,
  kNan,
};

enum class Combine : std::uint8_t { kNone, kAnd, kOr, kXor };

// Which collective rule the scheduler applies before the handler runs.
enum class Collective : std::uint8_t {
  kNone,
  kMembers,  // all lanes of a member mask, which is an operand (member_mask says which)
  kWarp,     // all 32 lanes
  kLive,     // all lanes that have not exited
};

struct Instruction {
  Handler handler = nullptr;
  const Slot* slots = nullptr;  // destinations, then sources
  std::uint8_t destinations = 0;
  std::uint8_t sources = 0;
  InstructionClass kind = InstructionClass::kMath;
  Collective collective = Collective::kNone;
  std::uint8_t member_mask = 0;  // index into slots
  bool guarded = false;
  bool watched = false;  // touches registers that a wgmma has, and is none: Warp::wgmma()
  bool control = false;  // run even where no lane's guard holds
  Slot guard;
  Type type = Type::kNone;
  Type source_type = Type::kNone;
  Rounding rounding = Rounding::kNearest;
  bool flush = false;     // .ftz
  bool saturate = false;  // .sat, .relu, .satfinite: whatever clamps this opcode
  bool relu = false;
  Compare compare = Compare::kEq;
  Combine combine = Combine::kNone;
  Space space = Space::kGeneric;
  std::uint8_t variant = 0;     // what else its family distinguishes
  std::int64_t immediate = 0;   // displacement of the address, or what its family needs
  std::int64_t immediate2 = 0;  // displacement of a second address
  std::int64_t immediate3 = 0;  // and of a third
  std::uint32_t target = 0;     // program counter of a branch, index of a call
  std::uint32_t line = 0;       // of the PTX text, from 1
  std::uint32_t source = 0;     // index into Program::sources, 0: none
  std::uint32_t text = 0;       // index into Program::texts
};

// A constant operand whose value is known at launch only.
struct Relocation {
  std::uint32_t offset = 0;  // into the function's constants
  std::uint8_t width = 8;
  std::uint32_t symbol = 0;  // index into Program::symbols
  std::int64_t addend = 0;
};

// The address of another variable or function in the initial value of one.
struct InitialAddress {
  std::size_t offset = 0;
  std::uint32_t symbol = 0;
  std::int64_t addend = 0;
};

// A module variable, or a .shared variable of a function, or a function whose address is taken.
struct Symbol {
  std::string name;
  Space space = Space::kGlobal;
  std::size_t bytes = 0;
  std::size_t alignment = 1;
  bool dynamic = false;  // extern .shared name[]
  std::vector<std::byte> initial;
  std::vector<InitialAddress> addresses;
  int function = -1;  // index into Program::functions where it is one
};

// A .param of a function: where it stands in the frame's parameter space.
struct Parameter {
  std::string name;
  std::uint32_t offset = 0;
  std::uint32_t bytes = 0;
  std::uint32_t alignment = 1;
};

// One call instruction: actual parameters as offsets into the caller's parameter space.
struct Call {
  int function = -1;  // index, -1: through a register, -2: vprintf, -3: __assertfail
  std::string name;   // as written
  std::vector<Parameter> returns;
  std::vector<Parameter> arguments;
};
inline constexpr int kIndirectCall = -1;
inline constexpr int kPrintfCall = -2;
inline constexpr int kAssertCall = -3;

struct Function {
  std::string name;
  bool entry = false;
  bool defined = false;
  std::vector<Parameter> parameters;
  std::vector<Parameter> returns;
  std::uint32_t begin = 0;  // program counters of its instructions
  std::uint32_t end = 0;
  std::uint32_t register_bytes = 0;   // a warp
  std::uint32_t parameter_bytes = 0;  // a lane; an entry's own parameters come from the launch
  std::uint32_t local_bytes = 0;      // a lane
  int live_registers = 0;             // most 32-bit registers a thread holds at once
  int max_threads = 0;                // .maxntid, .reqntid; 0: not said
  int min_blocks = 1;                 // .minnctapersm
  int max_registers = 0;              // .maxnreg, 0: none
  std::vector<std::byte> constants;   // 32 lanes each
  std::vector<Relocation> relocations;
  std::vector<Call> calls;
  std::vector<std::vector<std::uint32_t>> branch_targets;  // of brx.idx
  std::vector<std::uint32_t> symbols;                      // it refers to
};

struct SourceLine {
  std::string file;
  int line = 0;
  std::string inlined_file;  // where the code was inlined, if it was
  int inlined_line = 0;
};

// Where the shared variables stand that a kernel and what it calls use.
struct SharedLayout {
  std::unordered_map<std::uint32_t, std::uint64_t> offsets;  // by symbol index
  std::size_t static_bytes = 0;
  // Of the dynamic array: as aligned as it asks to be, and no more, if it can be helped. A kernel
  // that wants more has to see to it.
  std::size_t dynamic_begin = 0;
};

class Program {
 public:
  std::vector<Function> functions;
  std::vector<Symbol> symbols;
  std::vector<Instruction> instructions;
  std::vector<std::unique_ptr<Slot[]>> slots;
  std::vector<std::string> texts;
  std::vector<SourceLine> sources;
  int target = 0;                                // the module's, 90 for sm_90
  bool sm_90a = false;                           // and that it is sm_90a
  std::unordered_map<std::string, int> entries;  // name to index into functions

  // Functions that a kernel may reach, itself first.
  std::vector<int> reachable(int function) const;
  SharedLayout shared_layout(int function) const;
};

}  // namespace xception::emulator
