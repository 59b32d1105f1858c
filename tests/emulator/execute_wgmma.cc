// wgmma and what orders it: its fence and groups, and fence.proxy.async.
#include "tests/emulator/execute_wgmma.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "tests/emulator/block.h"
#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"

namespace xception::emulator {
namespace {

Flow wgmma_fence(Warp& warp, const Instruction&, LaneMask) { return warp.wgmma().fence(warp); }

Flow wgmma_commit(Warp& warp, const Instruction&, LaneMask) {
  warp.wgmma().commit();
  return Flow::kNext;
}

Flow wgmma_wait(Warp& warp, const Instruction& in, LaneMask) {
  warp.wgmma().wait(warp, static_cast<std::uint32_t>(in.immediate));
  return Flow::kNext;
}

std::optional<std::int64_t> number(const Statement& s, std::size_t index) {
  if (index >= s.count() || s.operands[index].kind != Operand::Kind::kNumber ||
      s.operands[index].number.real) {
    return std::nullopt;
  }
  return static_cast<std::int64_t>(s.operands[index].number.bits);
}

// "m64n128k16": n, or 0 where m and k are others.
int take_shape(Statement* s, std::string_view depth) {
  for (const std::string_view modifier : s->modifiers) {
    if (!modifier.starts_with("m64n") || !modifier.ends_with(depth)) {
      continue;
    }
    const char* const end = modifier.data() + modifier.size() - depth.size();
    int n = 0;
    const auto [stop, error] = std::from_chars(modifier.data() + 4, end, n);
    s->take(modifier);
    return error == std::errc() && stop == end && n % 8 == 0 && n >= 8 && n <= kWgmmaMostN ? n : 0;
  }
  return 0;
}

bool all_registers(const Operand& operand, std::size_t count) {
  return operand.kind == Operand::Kind::kVector && operand.elements.size() == count &&
         std::ranges::all_of(operand.elements, [](const Operand& element) {
           return element.kind == Operand::Kind::kRegister && element.slot.width == 4;
         });
}

// d, a, b-desc, scale-d, imm-scale-a, imm-scale-b, and of 16-bit types imm-trans-a (where A is a
// descriptor) and imm-trans-b.
Handler decode_mma_async(Statement* s) {
  s->in.kind = InstructionClass::kMma;
  s->in.collective = Collective::kWarp;
  if (!s->take("f32")) {
    return nullptr;
  }
  MatrixType type = MatrixType::kF16;
  bool known = false;
  for (const auto& [name, each] :
       {std::pair("f16", MatrixType::kF16), std::pair("bf16", MatrixType::kBf16),
        std::pair("tf32", MatrixType::kTf32)}) {
    if (s->take(name)) {
      type = each;
      known = s->take(name);
    }
  }
  const int n = take_shape(s, type == MatrixType::kTf32 ? "k8" : "k16");
  const std::size_t registers = static_cast<std::size_t>(n) / 2;
  if (!known || n == 0 || s->count() < 6 || !all_registers(s->operands[0], registers)) {
    return nullptr;
  }
  const bool a_in_registers = s->operands[1].kind == Operand::Kind::kVector;
  if (a_in_registers && !all_registers(s->operands[1], 4)) {
    return nullptr;
  }
  const auto scale_a = number(*s, 4);
  const auto scale_b = number(*s, 5);
  const auto is_sign = [](std::optional<std::int64_t> scale) {
    return scale.has_value() && (*scale == 1 || *scale == -1);
  };
  const std::size_t transposes = type == MatrixType::kTf32 ? 0 : a_in_registers ? 1 : 2;
  if (!is_sign(scale_a) || !is_sign(scale_b) || s->count() != 6 + transposes) {
    return nullptr;
  }
  for (std::size_t i = 0; i < transposes; ++i) {
    if (number(*s, 6 + i) != 0) {
      return nullptr;  // M-major and N-major tiles
    }
  }
  s->in.immediate = n;
  s->in.immediate2 = static_cast<std::int64_t>(type);
  s->in.variant = static_cast<std::uint8_t>((a_in_registers ? kWgmmaRegistersOfA : 0) |
                                            (scale_a != scale_b ? kWgmmaNegated : 0));
  for (const Operand& element : s->operands[0].elements) {
    s->destination(element, Type::kB32);
  }
  for (const Operand& element : s->operands[0].elements) {
    s->source(element, Type::kB32);
  }
  if (a_in_registers) {
    for (const Operand& element : s->operands[1].elements) {
      s->source(element, Type::kB32);
    }
  } else {
    s->source(1, Type::kB64);
  }
  s->source(2, Type::kB64);
  s->source(3, Type::kPred);
  return execute_wgmma;
}

}  // namespace

Flow execute_wgmma(Warp& warp, const Instruction& in, LaneMask) {
  Block& block = warp.block();
  const LaunchContext& context = block.context();
  if (context.profile->arch != 90 || !context.program->sm_90a) {
    return warp.fail(FaultKind::kUnsupported,
                     "wgmma is of sm_90a alone: the device is of sm_" +
                         std::to_string(context.profile->arch) + ", the PTX " +
                         (context.program->sm_90a ? "of sm_90a" : "not"),
                     -1);
  }
  const Dim3& size = context.request->block;
  const auto end = static_cast<unsigned>((warp.index() / 4 + 1) * 4 * kLanes);
  if (size.x * size.y * size.z < end) {
    return warp.fail(FaultKind::kDivergentBarrier,
                     "needs the four warps of its warpgroup, which the block does not have", -1);
  }
  // As many as the m16n8k16 (of tf32 m16n8k8) that do a warp's work.
  LaunchCounters& counters = block.count();
  const auto count = static_cast<std::uint64_t>(in.immediate / 8);
  counters.instructions[static_cast<std::size_t>(InstructionClass::kMma)] += count - 1;
  counters.wgmma_more += count - 1;
  counters.lane_instructions += (count - 1) * kLanes;
  const bool is_tf32 = static_cast<MatrixType>(in.immediate2) == MatrixType::kTf32;
  counters.mma_macs += count * 16 * 8 * (is_tf32 ? 8 : 16);
  return warp.wgmma().issue(warp, in);
}

Flow execute_proxy_fence(Warp& warp, const Instruction& in, LaneMask mask) {
  const Flow flow = execute_nothing_sm90(warp, in, mask);
  if (flow != Flow::kNext) {
    return flow;
  }
  warp.block().shared().proxy_fence(warp.index(), mask);
  return Flow::kNext;
}

Handler decode_wgmma(Statement* s) {
  if (s->opcode != "wgmma" || !s->take("sync") || !s->take("aligned")) {
    return nullptr;
  }
  if (s->take("mma_async")) {
    return decode_mma_async(s);
  }
  s->in.kind = InstructionClass::kControl;
  s->in.collective = Collective::kWarp;
  if (s->take("fence")) {
    return wgmma_fence;
  }
  if (s->take("commit_group")) {
    return wgmma_commit;
  }
  const auto left = number(*s, 0);
  if (!s->take("wait_group") || s->count() != 1 || !left || *left < 0 || *left > 7) {
    return nullptr;
  }
  s->in.immediate = *left;
  return wgmma_wait;
}

}  // namespace xception::emulator
