// ld and st of every state space. What all instructions share that touch memory stands in the same
// file: apart from it, the loads of a pooling kernel took an eighth longer.
#include <array>
#include <bit>
#include <cstring>

#include "tests/emulator/decode.h"
#include "tests/emulator/execute.h"
#include "tests/emulator/execute_memory.h"
#include "tests/emulator/memory_ranges.h"

namespace xception::emulator {
namespace {

// Of 8 bytes of window and place.
Space space_of(Address* address) {
  switch (*address & ~(kSharedWindow - 1)) {
    case kSharedWindow:
      *address -= kSharedWindow;
      return Space::kShared;
    case kLocalWindow:
      *address -= kLocalWindow;
      return Space::kLocal;
    case kParamWindow:
      *address -= kParamWindow;
      return Space::kParam;
    default:
      return Space::kGlobal;
  }
}

// A read by a dependent launch of what an earlier kernel has written, which `how` says is wrong.
Flow check_written_before(Warp& warp, const WarpRequest& request, const std::string& how) {
  int lane = 0;
  const auto fault = read_of_earlier_kernel(warp, request, how, &lane);
  return fault ? warp.fail(*fault, lane) : Flow::kNext;
}

// What lanes of a dependent launch do before they have waited for the kernel before it.
Flow check_early(Warp& warp, Access access, const WarpRequest& request) {
  if (access == Access::kRead) {
    return check_written_before(warp, request, kBeforeWait);
  }
  const int lane = std::countr_zero(request.active);
  const Address address = request.addresses[static_cast<std::size_t>(lane)];
  return warp.fail(FaultKind::kDependentLaunch,
                   std::to_string(request.bytes) + "-byte " +
                       (access == Access::kWrite ? "write" : "atomic access") + " at " +
                       hex(address) +
                       " before griddepcontrol.wait: " + warp.block().memory().describe(address) +
                       ", which the kernel before may still use",
                   lane);
}

Flow touch_global(Warp& warp, Access access, const WarpRequest& request, Accessor accessor) {
  Block& block = warp.block();
  int lane = 0;
  if (std::optional<Fault> fault = block.memory().access(access, request, accessor, &lane)) {
    return warp.fail(*fault, lane);
  }
  if (const LaneMask early = request.active & warp.early(); early != 0) {
    const Flow flow = check_early(warp, access, {early, request.addresses, request.bytes});
    if (flow != Flow::kNext) {
      return flow;
    }
  }
  const GlobalCost cost = global_cost(request);
  LaunchCounters& counters = block.count();
  if (access != Access::kWrite) {
    counters.load_bytes += cost.bytes;
    counters.load_sector_bytes += cost.sectors * 32;
    counters.lane_load_bytes +=
        request.bytes * static_cast<std::size_t>(std::popcount(request.active));
  }
  if (access != Access::kRead) {
    counters.store_bytes += cost.bytes;
    counters.store_sector_bytes += cost.sectors * 32;
  }
  return Flow::kNext;
}

void set_global_targets(const WarpRequest& request, std::byte** targets) {
  for (int lane = 0; lane < kLanes; ++lane) {
    targets[lane] =
        ((request.active >> lane) & 1) != 0
            ? reinterpret_cast<std::byte*>(request.addresses[static_cast<std::size_t>(lane)])
            : targets[lane];
  }
}

// ld.global.nc, of memory that nobody writes while the kernel runs. A dependent launch begins while
// the kernel before it still may.
Flow touch_unchanging(Warp& warp, const WarpRequest& request, std::byte** targets) {
  Accessor accessor = warp.block().accessor();
  accessor.block = kUnchanging;
  const Flow flow = touch_global(warp, Access::kRead, request, accessor);
  if (flow != Flow::kNext) {
    return flow;
  }
  set_global_targets(request, targets);
  return warp.block().context().request->dependent
             ? check_written_before(warp, request, "by ld.global.nc")
             : Flow::kNext;
}

// A place in the parameters of the function that runs, or a `generic` one, which only the kernel's
// have, whichever function it has been handed to.
Flow touch_param(Warp& warp, Access access, Address address, std::size_t bytes, int lane,
                 bool generic, std::byte** target) {
  const LaunchContext& context = warp.block().context();
  const Function& function = *warp.frame().function;
  if (address % bytes != 0) {
    return warp.fail(FaultKind::kMisaligned, "a parameter that is not aligned", lane);
  }
  if ((function.entry || generic) && address + bytes <= context.parameters_total) {
    if (access != Access::kRead) {
      return warp.fail(FaultKind::kOutOfBounds, "writes to the kernel's parameters", lane);
    }
    *target = const_cast<std::byte*>(context.request->parameters.data()) + address;
    return Flow::kNext;
  }
  if (generic || address + bytes > function.parameter_bytes) {
    return warp.fail(FaultKind::kOutOfBounds, "past the end of the parameters", lane);
  }
  *target = warp.frame().parameters.data() +
            static_cast<std::size_t>(lane) * function.parameter_bytes + address;
  return Flow::kNext;
}

Flow touch_local(Warp& warp, Address address, std::size_t bytes, int lane, std::byte** target) {
  Frame* frame = &warp.frame();
  while (frame != nullptr && static_cast<Address>(frame->depth) != address >> kLocalDepthShift) {
    frame = frame->parent;
  }
  const Address offset = address & ((Address{1} << kLocalDepthShift) - 1);
  if (frame == nullptr || offset + bytes > frame->function->local_bytes) {
    return warp.fail(FaultKind::kOutOfBounds,
                     "local memory at " + std::to_string(offset) + ", of which there are " +
                         std::to_string(frame == nullptr ? 0 : frame->function->local_bytes) +
                         " bytes",
                     lane);
  }
  if (offset % bytes != 0) {
    return warp.fail(FaultKind::kMisaligned,
                     "local memory at " + std::to_string(offset) + " in units of " +
                         std::to_string(bytes) + " bytes",
                     lane);
  }
  *target =
      frame->local.data() + static_cast<std::size_t>(lane) * frame->function->local_bytes + offset;
  return Flow::kNext;
}

}  // namespace

std::optional<Fault> read_of_earlier_kernel(Warp& warp, const WarpRequest& request,
                                            const std::string& how, int* lane) {
  const DeviceMemory& memory = warp.block().memory();
  const auto found = memory.find_written_before(request);
  if (!found) {
    return std::nullopt;
  }
  *lane = found->lane;
  return Fault{FaultKind::kDependentLaunch,
               std::to_string(request.bytes) + "-byte read at " +
                   hex(request.addresses[static_cast<std::size_t>(found->lane)]) + " " + how +
                   ": " + memory.describe(found->address) +
                   ", which an earlier kernel has written, perhaps not before this one began"};
}

void read_addresses(Warp& warp, const Slot& slot, std::int64_t displacement, Address* addresses) {
  const auto offset = static_cast<Address>(displacement);
  if (slot.width == 4) {
    const auto* const base = lanes_of<std::uint32_t>(warp, slot);
    for (int lane = 0; lane < kLanes; ++lane) {
      addresses[lane] = base[lane] + static_cast<std::uint32_t>(offset);
    }
  } else {
    const auto* const base = lanes_of<std::uint64_t>(warp, slot);
    for (int lane = 0; lane < kLanes; ++lane) {
      addresses[lane] = base[lane] + offset;
    }
  }
}

Flow touch(Warp& warp, Access access, Space space, std::size_t bytes, LaneMask mask,
           Address* addresses, std::byte** targets, const std::byte* values) {
  if (space == Space::kConst) {
    space = Space::kGlobal;
  }
  LaneMask left = mask;
  while (left != 0) {
    Space here = space;
    LaneMask same = left;
    if (space == Space::kGeneric) {
      // The lanes of one space at a time: mostly there is but one.
      here = Space::kGeneric;
      same = 0;
      for (LaneMask rest = left; rest != 0; rest &= rest - 1) {
        const int lane = std::countr_zero(rest);
        Address address = addresses[lane];
        const Space found = space_of(&address);
        if (here == Space::kGeneric) {
          here = found;
        }
        if (found == here) {
          addresses[lane] = address;
          same |= LaneMask{1} << lane;
        }
      }
    }
    left &= ~same;
    const WarpRequest request{same, {addresses, kLanes}, bytes};
    Flow flow = Flow::kNext;
    if (here == Space::kGlobal) {
      flow = touch_global(warp, access, request, warp.block().accessor());
      set_global_targets(request, targets);
    } else if (here == Space::kShared) {
      Block& block = warp.block();
      int lane = 0;
      if (std::optional<Fault> fault =
              block.shared().access(access, request, warp.index(), &lane, values)) {
        return warp.fail(*fault, lane);
      }
      const SharedCost cost = shared_cost(request);
      block.count().shared_wavefronts += cost.wavefronts;
      block.count().shared_wavefronts_ideal += cost.ideal;
      std::byte* const data = block.shared().data();
      for (int at = 0; at < kLanes; ++at) {
        targets[at] = ((same >> at) & 1) != 0 ? data + addresses[at] : targets[at];
      }
    } else {
      for (LaneMask rest = same; rest != 0 && flow == Flow::kNext; rest &= rest - 1) {
        const int lane = std::countr_zero(rest);
        flow = here == Space::kLocal
                   ? touch_local(warp, addresses[lane], bytes, lane, &targets[lane])
                   : touch_param(warp, access, addresses[lane], bytes, lane,
                                 space == Space::kGeneric, &targets[lane]);
      }
    }
    if (flow != Flow::kNext) {
      return flow;
    }
  }
  return Flow::kNext;
}

namespace {

constexpr std::uint8_t kNonCoherent = 1;  // a load's variant

template <class Element, class Register>
Flow load(Warp& warp, const Instruction& in, LaneMask mask) {
  Address addresses[kLanes];
  std::byte* sources[kLanes];
  read_addresses(warp, in.slots[in.destinations], in.immediate, addresses);
  const std::size_t bytes = sizeof(Element) * in.destinations;
  const Flow flow =
      in.variant == kNonCoherent
          ? touch_unchanging(warp, {mask, {addresses, kLanes}, bytes}, sources)
          : touch(warp, Access::kRead, in.space, bytes, mask, addresses, sources, nullptr);
  if (flow != Flow::kNext) {
    return flow;
  }
  for (std::size_t i = 0; i < in.destinations; ++i) {
    if (in.slots[i].sink) {
      continue;
    }
    std::byte* const target = warp.bytes(in.slots[i]);
    for (LaneMask rest = mask; rest != 0; rest &= rest - 1) {
      const auto lane = static_cast<std::size_t>(std::countr_zero(rest));
      Element element;
      std::memcpy(&element, sources[lane] + i * sizeof(Element), sizeof element);
      const auto value = static_cast<Register>(element);
      std::memcpy(target + lane * sizeof(Register), &value, sizeof value);
    }
  }
  return Flow::kNext;
}

// The low bytes of registers, little-endian as PTX and the hosts that this runs on are.
template <std::size_t kElement, std::size_t kCount>
Flow store(Warp& warp, const Instruction& in, LaneMask mask) {
  Address addresses[kLanes];
  std::byte* targets[kLanes];
  constexpr std::size_t kBytes = kCount * kElement;
  alignas(64) std::byte values[kLanes * kBytes];
  for (std::size_t i = 0; i < kCount; ++i) {
    const Slot& slot = in.slots[1 + i];
    const std::byte* const source = warp.bytes(slot);
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      std::memcpy(values + lane * kBytes + i * kElement, source + lane * slot.width, kElement);
    }
  }
  read_addresses(warp, in.slots[0], in.immediate, addresses);
  const Flow flow = touch(warp, Access::kWrite, in.space, kBytes, mask, addresses, targets, values);
  if (flow != Flow::kNext) {
    return flow;
  }
  for (LaneMask rest = mask; rest != 0; rest &= rest - 1) {
    const auto lane = static_cast<std::size_t>(std::countr_zero(rest));
    std::memcpy(targets[lane], values + lane * kBytes, kBytes);
  }
  return Flow::kNext;
}

template <class Element>
Handler select_load(std::uint8_t register_width) {
  using Wide = std::conditional_t<std::is_signed_v<Element>, std::int64_t, std::uint64_t>;
  using Word = std::conditional_t<std::is_signed_v<Element>, std::int32_t, std::uint32_t>;
  using Short = std::conditional_t<std::is_signed_v<Element>, std::int16_t, std::uint16_t>;
  switch (register_width) {
    case 1:
      return load<Element, std::uint8_t>;
    case 2:
      return load<Element, Short>;
    case 4:
      return load<Element, Word>;
    case 8:
      return load<Element, Wide>;
    default:
      return nullptr;
  }
}

Handler select_load(Type type, std::uint8_t register_width) {
  const bool sign = is_signed(type);
  switch (type_bytes(type)) {
    case 1:
      return sign ? select_load<std::int8_t>(register_width)
                  : select_load<std::uint8_t>(register_width);
    case 2:
      return sign ? select_load<std::int16_t>(register_width)
                  : select_load<std::uint16_t>(register_width);
    case 4:
      return sign ? select_load<std::int32_t>(register_width)
                  : select_load<std::uint32_t>(register_width);
    case 8:
      return select_load<std::uint64_t>(register_width);
    default:
      return nullptr;
  }
}

template <std::size_t kElement>
Handler select_store(std::size_t count) {
  switch (count) {
    case 1:
      return store<kElement, 1>;
    case 2:
      return store<kElement, 2>;
    case 4:
      return store<kElement, 4>;
    default:
      return nullptr;
  }
}

Handler select_store(Type type, std::size_t count) {
  switch (type_bytes(type)) {
    case 1:
      return select_store<1>(count);
    case 2:
      return select_store<2>(count);
    case 4:
      return select_store<4>(count);
    case 8:
      return select_store<8>(count);
    default:
      return nullptr;
  }
}

std::size_t take_vector(Statement* s) { return s->take("v2") ? 2 : s->take("v4") ? 4 : 1; }

// The elements of a vector operand of `count`, or a scalar.
std::vector<Operand> elements_of(Statement* s, std::size_t index, std::size_t count) {
  if (index >= s->count()) {
    s->fail();
    return {};
  }
  const Operand& operand = s->operands[index];
  std::vector<Operand> elements = {operand};
  if (count > 1 || operand.kind == Operand::Kind::kVector) {
    elements = operand.elements;
  }
  if (elements.size() != count) {
    s->fail();
  }
  return elements;
}

Flow prefetch(Warp&, const Instruction&, LaneMask) { return Flow::kNext; }

}  // namespace

Space take_space(Statement* s) {
  const std::array<std::pair<std::string_view, Space>, 9> kNames = {{
      {"global", Space::kGlobal},
      {"const", Space::kConst},
      {"shared", Space::kShared},
      {"shared::cta", Space::kShared},
      {"local", Space::kLocal},
      {"param", Space::kParam},
      {"param::entry", Space::kParam},
      {"param::func", Space::kParam},
      {"generic", Space::kGeneric},
  }};
  for (const auto& [name, space] : kNames) {
    if (s->take(name)) {
      return space;
    }
  }
  return Space::kGeneric;
}

bool take_memory_hints(Statement* s) {
  for (const char* modifier :
       {"weak", "volatile", "relaxed", "acquire", "release", "acq_rel", "cta", "cluster", "gpu",
        "sys", "ca", "cg", "cs", "lu", "cv", "wb", "wt"}) {
    s->take(modifier);
  }
  const bool hint = s->take("L2::cache_hint");
  s->take_prefix("L1::");
  s->take_prefix("L2::");
  return hint;
}

Handler decode_memory(Statement* s) {
  const std::string_view op = s->opcode;
  const bool load = op == "ld" || op == "ldu";
  if (!load && op != "st") {
    if (op == "prefetch" || op == "prefetchu" || op == "discard" || op == "applypriority") {
      s->in.kind = InstructionClass::kMemory;
      take_space(s);
      for (const char* modifier : {"L1", "L2", "tensormap"}) {
        s->take(modifier);
      }
      s->take_prefix("L2::");
      return prefetch;
    }
    return nullptr;
  }
  s->in.kind = InstructionClass::kMemory;
  s->in.space = take_space(s);
  if (load && s->take("nc")) {
    if (s->in.space != Space::kGlobal) {
      return nullptr;
    }
    s->in.variant = kNonCoherent;
  }
  take_memory_hints(s);  // of an L2::cache_hint: the policy, a last operand that is not read
  const std::size_t count = take_vector(s);
  const Type type = s->take_type();
  s->in.type = type;
  if (type == Type::kNone || type == Type::kPred || type_bytes(type) * count > 16) {
    return nullptr;
  }
  if (load) {
    for (const Operand& element : elements_of(s, 0, count)) {
      s->wide_destination(element, type);
    }
    s->address(1);
    if (s->failed()) {
      return nullptr;
    }
    std::uint8_t width = Statement::width(type);
    for (std::size_t i = 0; i < count; ++i) {
      if (!s->slots()[i].sink) {
        width = s->slots()[i].width;
      }
    }
    for (std::size_t i = 0; i < count; ++i) {
      if (!s->slots()[i].sink && s->slots()[i].width != width) {
        return nullptr;
      }
    }
    return select_load(type, width);
  }
  s->address(0);
  for (const Operand& element : elements_of(s, 1, count)) {
    s->wide_source(element, type);
  }
  return s->failed() ? nullptr : select_store(type, count);
}

}  // namespace xception::emulator
