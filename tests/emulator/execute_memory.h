// What instructions that touch memory share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "tests/emulator/block.h"
#include "tests/emulator/ptx_statement.h"

namespace xception::emulator {

// base + displacement of all 32 lanes; 32-bit bases wrap at 32 bits.
void read_addresses(Warp& warp, const Slot& slot, std::int64_t displacement, Address* addresses);

// Checks and counts an access of `bytes` by each lane of `mask`, and says where on the host the
// bytes of each lane stand. `values`: what a write will store, 32 * `bytes`, or null. Generic
// `addresses` become those within their space.
Flow touch(Warp& warp, Access access, Space space, std::size_t bytes, LaneMask mask,
           Address* addresses, std::byte** targets, const std::byte* values);

// Addresses of shared memory, or generic ones that lie there, as offsets in it.
Flow to_shared_offsets(Warp& warp, Space space, LaneMask mask, Address* addresses);

constexpr const char* kBeforeWait = "before griddepcontrol.wait";

// What is wrong about a read by a dependent launch, `how` it is done, where an earlier kernel has
// written what it reads; if so, `lane` is that of the request.
std::optional<Fault> read_of_earlier_kernel(Warp& warp, const WarpRequest& request,
                                            const std::string& how, int* lane);

Space take_space(Statement* statement);
// Cache operators, eviction and prefetch hints, scopes and orders, which change nothing here. True
// where a cache policy comes as a further operand.
bool take_memory_hints(Statement* statement);

}  // namespace xception::emulator
