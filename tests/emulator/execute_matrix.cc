// mma, ldmatrix, stmatrix and movmatrix: registers to arrays of lanes and back.
#include <bit>
#include <cstring>
#include <optional>

#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"
#include "tests/emulator/execute_memory.h"
#include "tests/emulator/matrix.h"

namespace xception::emulator {
namespace {

constexpr std::size_t kMostRegisters = 4;

void read_registers(Warp& warp, const Slot* slots, std::size_t count, LaneWords* words) {
  for (std::size_t i = 0; i < count; ++i) {
    std::memcpy(words[i].data(), warp.bytes(slots[i]), sizeof(LaneWords));
  }
}

void write_registers(Warp& warp, const Slot* slots, std::size_t count, const LaneWords* words) {
  for (std::size_t i = 0; i < count; ++i) {
    if (!slots[i].sink) {
      std::memcpy(warp.bytes(slots[i]), words[i].data(), sizeof(LaneWords));
    }
  }
}

// The shape's types are in `variant` and `immediate`, see pack_shape().
MmaShape shape_of(const Instruction& in) {
  const auto bits = static_cast<std::uint64_t>(in.immediate);
  return {.k = static_cast<int>(bits & 0xFF),
          .a = static_cast<MatrixType>(bits >> 8 & 0xFF),
          .b = static_cast<MatrixType>(bits >> 16 & 0xFF),
          .half_accumulator = (bits >> 24 & 1) != 0,
          .saturate = (bits >> 25 & 1) != 0};
}

std::int64_t pack_shape(const MmaShape& shape) {
  return shape.k | static_cast<int>(shape.a) << 8 | static_cast<int>(shape.b) << 16 |
         (shape.half_accumulator ? 1 << 24 : 0) | (shape.saturate ? 1 << 25 : 0);
}

Flow execute_mma(Warp& warp, const Instruction& in, LaneMask) {
  const MmaShape shape = shape_of(in);
  warp.block().count().mma_macs += 16ULL * 8 * static_cast<std::uint64_t>(shape.k);
  const auto a_count = static_cast<std::size_t>(mma_registers_a(shape));
  const auto b_count = static_cast<std::size_t>(mma_registers_b(shape));
  const auto c_count = static_cast<std::size_t>(mma_registers_c(shape));
  LaneWords a[kMostRegisters];
  LaneWords b[kMostRegisters];
  LaneWords c[kMostRegisters];
  const Slot* source = in.slots + in.destinations;
  read_registers(warp, source, a_count, a);
  read_registers(warp, source + a_count, b_count, b);
  read_registers(warp, source + a_count + b_count, c_count, c);
  mma(shape, {a, a_count}, {b, b_count}, {c, c_count}, {c, c_count});
  write_registers(warp, in.slots, c_count, c);
  return Flow::kNext;
}

// Addresses of rows are those of the first 8 lanes a matrix.
LaneMask row_lanes(std::size_t matrices) {
  return matrices == 4 ? kAllLanes : (LaneMask{1} << (8 * matrices)) - 1;
}

constexpr std::size_t kRowBytes = 16;

template <bool kTransposed>
Flow load_matrix(Warp& warp, const Instruction& in, LaneMask) {
  const std::size_t count = in.destinations;
  Address addresses[kLanes];
  std::byte* sources[kLanes];
  read_addresses(warp, in.slots[count], in.immediate, addresses);
  const Flow flow = touch(warp, Access::kRead, in.space, kRowBytes, row_lanes(count), addresses,
                          sources, nullptr);
  if (flow != Flow::kNext) {
    return flow;
  }
  std::byte rows[kLanes * kRowBytes];
  for (std::size_t row = 0; row < 8 * count; ++row) {
    std::memcpy(rows + row * kRowBytes, sources[row], kRowBytes);
  }
  LaneWords words[kMostRegisters];
  ldmatrix(static_cast<int>(count), kTransposed, {rows, 8 * count * kRowBytes}, {words, count});
  write_registers(warp, in.slots, count, words);
  return Flow::kNext;
}

template <bool kTransposed>
Flow store_matrix(Warp& warp, const Instruction& in, LaneMask) {
  const std::size_t count = in.sources - 1U;
  LaneWords words[kMostRegisters];
  read_registers(warp, in.slots + 1, count, words);
  std::byte rows[kLanes * kRowBytes] = {};
  stmatrix(static_cast<int>(count), kTransposed, {words, count}, {rows, 8 * count * kRowBytes});
  Address addresses[kLanes];
  std::byte* targets[kLanes];
  read_addresses(warp, in.slots[0], in.immediate, addresses);
  const Flow flow =
      touch(warp, Access::kWrite, in.space, kRowBytes, row_lanes(count), addresses, targets, rows);
  if (flow != Flow::kNext) {
    return flow;
  }
  for (std::size_t row = 0; row < 8 * count; ++row) {
    std::memcpy(targets[row], rows + row * kRowBytes, kRowBytes);
  }
  return Flow::kNext;
}

Flow move_matrix(Warp& warp, const Instruction& in, LaneMask) {
  LaneWords words;
  read_registers(warp, in.slots + 1, 1, &words);
  words = movmatrix(words);
  write_registers(warp, in.slots, 1, &words);
  return Flow::kNext;
}

std::optional<MatrixType> take_matrix_type(Statement* s) {
  constexpr std::pair<const char*, MatrixType> kNames[] = {
      {"f16", MatrixType::kF16}, {"bf16", MatrixType::kBf16}, {"tf32", MatrixType::kTf32},
      {"s8", MatrixType::kS8},   {"u8", MatrixType::kU8},
  };
  // In the order of the instruction, not of this table.
  if (s->modifiers.empty()) {
    return std::nullopt;
  }
  for (const auto& [name, type] : kNames) {
    if (s->modifiers.front() == name) {
      s->take(name);
      return type;
    }
  }
  return std::nullopt;
}

void vector_operand(Statement* s, std::size_t index, int count, bool destination) {
  if (index >= s->count()) {
    s->fail();
    return;
  }
  std::vector<Operand> elements = s->operands[index].elements;
  if (s->operands[index].kind != Operand::Kind::kVector) {
    elements = {s->operands[index]};
  }
  if (elements.size() != static_cast<std::size_t>(count)) {
    s->fail();
    return;
  }
  for (const Operand& element : elements) {
    destination ? s->destination(element, Type::kB32) : s->source(element, Type::kB32);
  }
}

Handler decode_mma(Statement* s) {
  s->in.kind = InstructionClass::kMma;
  s->in.collective = Collective::kWarp;
  MmaShape shape;
  if (!s->take("sync") || !s->take("aligned") || !s->take("row") || !s->take("col")) {
    return nullptr;
  }
  bool known = false;
  for (const auto& [name, k] : {std::pair("m16n8k4", 4), std::pair("m16n8k8", 8),
                                std::pair("m16n8k16", 16), std::pair("m16n8k32", 32)}) {
    if (s->take(name)) {
      shape.k = k;
      known = true;
    }
  }
  shape.saturate = s->take("satfinite");
  const std::string_view d = s->modifiers.empty() ? "" : s->modifiers.front();
  s->take(d);
  const std::optional<MatrixType> a = take_matrix_type(s);
  const std::optional<MatrixType> b = take_matrix_type(s);
  if (!known || !a || !b || s->modifiers.size() != 1 || !s->take(d)) {
    return nullptr;
  }
  shape.a = *a;
  shape.b = *b;
  shape.half_accumulator = d == "f16";
  const bool integers = *a == MatrixType::kS8 || *a == MatrixType::kU8;
  if (d != (integers ? "s32" : shape.half_accumulator ? "f16" : "f32") || !mma_supported(shape)) {
    return nullptr;
  }
  s->in.immediate = pack_shape(shape);
  vector_operand(s, 0, mma_registers_c(shape), true);
  vector_operand(s, 1, mma_registers_a(shape), false);
  vector_operand(s, 2, mma_registers_b(shape), false);
  vector_operand(s, 3, mma_registers_c(shape), false);
  return execute_mma;
}

// ldmatrix, stmatrix: .sync.aligned.m8n8.xN[.trans][.shared].b16
Handler decode_rows(Statement* s, bool load) {
  s->in.kind = InstructionClass::kMemory;
  s->in.collective = Collective::kWarp;
  if (!s->take("sync") || !s->take("aligned") || !s->take("m8n8")) {
    return nullptr;
  }
  const int count = s->take("x1") ? 1 : s->take("x2") ? 2 : s->take("x4") ? 4 : 0;
  const bool transposed = s->take("trans");
  s->in.space = take_space(s);
  if (count == 0 || !s->take("b16")) {
    return nullptr;
  }
  if (load) {
    vector_operand(s, 0, count, true);
    s->address(1);
    return transposed ? load_matrix<true> : load_matrix<false>;
  }
  s->address(0);
  vector_operand(s, 1, count, false);
  return transposed ? store_matrix<true> : store_matrix<false>;
}

}  // namespace

Handler decode_matrix(Statement* s) {
  if (s->opcode == "mma") {
    return decode_mma(s);
  }
  if (s->opcode == "ldmatrix" || s->opcode == "stmatrix") {
    return decode_rows(s, s->opcode == "ldmatrix");
  }
  if (s->opcode == "movmatrix") {
    s->in.collective = Collective::kWarp;
    if (!s->take("sync") || !s->take("aligned") || !s->take("m8n8") || !s->take("trans") ||
        !s->take("b16")) {
      return nullptr;
    }
    s->destination(0, Type::kB32);
    s->source(1, Type::kB32);
    return move_matrix;
  }
  return nullptr;
}

}  // namespace xception::emulator
