#include "tests/emulator/memory.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

#include "tests/emulator/memory_ranges.h"
#include "tests/emulator/memory_shadow.h"

namespace xception::emulator {
namespace {

constexpr std::size_t kHostLineBytes = 64;  // of its cache
// Address space for each byte that can be allocated at one time: that many times the capacity goes
// by before a freed address comes back. The rest is room for the gaps of a small memory.
constexpr std::size_t kReservedPerByte = 4;
constexpr std::size_t kReservedForGaps = std::size_t{64} << 20;

const char* verb(Access kind) {
  switch (kind) {
    case Access::kRead:
      return "read";
    case Access::kWrite:
      return "write";
    case Access::kAtomic:
      return "atomic access";
  }
  return "access";
}

}  // namespace

struct DeviceMemory::Impl {
  Impl(std::size_t capacity, std::size_t reserved)
      : capacity_bytes(capacity),
        data(reserved),
        defined(data.size()),
        from_kernel(data.size()),
        races(data.size()),
        sectors(data.size()),
        allocations(reinterpret_cast<Address>(data.data()), data.size()) {}

  bool reserved() const {
    return data.data() != nullptr && defined.reserved() && from_kernel.reserved() &&
           races.reserved() && sectors.reserved();
  }
  std::size_t offset(Address address) const {
    return address - reinterpret_cast<Address>(data.data());
  }
  std::byte* host(Address address) const { return data.data() + offset(address); }

  // What is wrong with an access, and with which byte.
  struct Trouble {
    FaultKind kind = FaultKind::kOutOfBounds;
    Address address = 0;
    std::string what;
  };
  std::optional<Trouble> check_bounds(Address begin, Address end) const;
  std::optional<Trouble> check_run(Access kind, Address begin, Address end, std::uint32_t block);
  // The runtime itself has given [begin, end) what stands there.
  void set_by_runtime(std::size_t begin, std::size_t end) {
    defined.set(begin, end);
    from_kernel.clear(begin, end);
  }
  // Where the active lanes' addresses lie, with what is remembered of them on its way to the host's
  // cache; or the first that is no multiple of what it touches.
  struct Extent {
    Address begin = ~Address{0};
    Address last = 0;
    int misaligned = -1;  // a lane
  };
  Extent prefetch_extent(const WarpRequest& request) const;
  // A fault of the runtime's own copies: `what` is "copy to".
  std::optional<Fault> copy_fault(const char* what, Address address, std::size_t bytes) const;

  std::size_t capacity_bytes;
  std::size_t used_bytes = 0;
  Pages data;
  ByteFlags defined;
  ByteFlags from_kernel;  // a kernel wrote the byte, and since then no copy or fill
  RaceShadow races;
  SectorCounts sectors;
  Allocations allocations;
  std::uint32_t launch = 0;
};

std::optional<DeviceMemory::Impl::Trouble> DeviceMemory::Impl::check_bounds(Address begin,
                                                                            Address end) const {
  if (allocations.covers(begin, end)) {
    return std::nullopt;
  }
  const Allocations::Outside outside = allocations.first_outside(begin, end);
  return Trouble{outside.freed ? FaultKind::kUseAfterFree : FaultKind::kOutOfBounds,
                 outside.address, allocations.describe(outside.address)};
}

// One stretch of allocated memory that a block touches at once: definedness, races, sectors.
std::optional<DeviceMemory::Impl::Trouble> DeviceMemory::Impl::check_run(Access kind, Address begin,
                                                                         Address end,
                                                                         std::uint32_t block) {
  const std::size_t first = offset(begin);
  const std::size_t last = offset(end);
  if (kind != Access::kWrite) {
    const std::size_t undefined = defined.first_clear(first, last);
    if (undefined != last) {
      const Address address = begin + (undefined - first);
      return Trouble{FaultKind::kUninitialised, address,
                     allocations.describe(address) + ", which nobody has written"};
    }
  }
  RaceShadow::Sectors touched;
  if (auto conflict = races.touch(kind, first, last, block, &touched)) {
    const Address address = begin + (conflict->offset - first);
    std::string what = allocations.describe(address) + ", which ";
    what += conflict->block ? "block " + std::to_string(*conflict->block) : "other blocks";
    what += conflict->block || conflict->wrote ? "" : ", or loads as unchanging,";
    what += conflict->wrote ? (conflict->atomic ? " updated atomically" : " wrote") : " read";
    return Trouble{FaultKind::kGlobalRace, address, what + " in the same launch"};
  }
  sectors.count(kind, first, touched);
  if (kind != Access::kRead) {
    defined.set(first, last);
    from_kernel.set(first, last);
  }
  return std::nullopt;
}

std::optional<Fault> DeviceMemory::Impl::copy_fault(const char* what, Address address,
                                                    std::size_t bytes) const {
  if (bytes == 0) {
    return std::nullopt;
  }
  const auto trouble = check_bounds(address, address + bytes);
  if (!trouble) {
    return std::nullopt;
  }
  return Fault{trouble->kind, std::string(what) + " " + hex(address) + " of " + bytes_text(bytes) +
                                  ": " + hex(trouble->address) + " is " + trouble->what};
}

DeviceMemory::DeviceMemory(std::size_t capacity) {
  // Where address space is limited, a smaller reserve is better than none.
  for (std::size_t factor = kReservedPerByte; factor > 0; factor /= 2) {
    impl_ = std::make_unique<Impl>(capacity, factor * capacity + kReservedForGaps);
    if (impl_->reserved()) {
      return;
    }
  }
  impl_ = std::make_unique<Impl>(0, Pages::kPageBytes);
}

DeviceMemory::~DeviceMemory() = default;

Address DeviceMemory::allocate(std::size_t bytes) {
  if (bytes > impl_->capacity_bytes - impl_->used_bytes) {
    return 0;
  }
  const Address address = impl_->allocations.allocate(bytes);
  if (address != 0) {
    impl_->used_bytes += bytes;
    // Of larger ones a kernel may leave much alone.
    constexpr std::size_t kWhole = std::size_t{16} << 20U;
    if (bytes <= kWhole) {
      impl_->races.expect(impl_->offset(address), impl_->offset(address) + bytes);
    }
  }
  return address;
}

std::optional<Fault> DeviceMemory::free(Address address) {
  if (address == 0) {
    return std::nullopt;
  }
  const auto span = impl_->allocations.free(address);
  if (!span) {
    return Fault{FaultKind::kInvalidFree,
                 "free of " + hex(address) + ", which is " + impl_->allocations.describe(address)};
  }
  impl_->used_bytes -= span->bytes;
  const std::size_t begin = impl_->offset(span->begin);
  const std::size_t end = impl_->offset(span->end);
  impl_->data.release(begin, end);
  impl_->races.release(begin, end);
  impl_->defined.clear(impl_->offset(address), impl_->offset(address) + span->bytes);
  impl_->from_kernel.clear(impl_->offset(address), impl_->offset(address) + span->bytes);
  return std::nullopt;
}

std::size_t DeviceMemory::used() const { return impl_->used_bytes; }

std::size_t DeviceMemory::capacity() const { return impl_->capacity_bytes; }

std::size_t DeviceMemory::live_allocations() const { return impl_->allocations.live_count(); }

std::optional<DeviceMemory::Range> DeviceMemory::find(Address address) const {
  return impl_->allocations.find(address);
}

bool DeviceMemory::contains(Address address) const { return impl_->allocations.contains(address); }

std::vector<DeviceMemory::Range> DeviceMemory::live_ranges() const {
  return impl_->allocations.live_ranges();
}

std::string DeviceMemory::describe(Address address) const {
  return impl_->allocations.describe(address);
}

std::optional<Fault> DeviceMemory::copy_in(Address dst, const void* src, std::size_t bytes) {
  if (auto fault = impl_->copy_fault("copy to", dst, bytes)) {
    return fault;
  }
  if (bytes > 0) {
    std::memcpy(impl_->host(dst), src, bytes);
    impl_->set_by_runtime(impl_->offset(dst), impl_->offset(dst) + bytes);
  }
  return std::nullopt;
}

std::optional<Fault> DeviceMemory::copy_out(void* dst, Address src, std::size_t bytes) {
  if (auto fault = impl_->copy_fault("copy from", src, bytes)) {
    return fault;
  }
  if (bytes == 0) {
    return std::nullopt;
  }
  std::memcpy(dst, impl_->host(src), bytes);
  auto* out = static_cast<std::byte*>(dst);
  const std::size_t begin = impl_->offset(src);
  const std::size_t end = begin + bytes;
  for (std::size_t at = impl_->defined.first_clear(begin, end); at < end;
       at = impl_->defined.first_clear(at + 1, end)) {
    out[at - begin] = std::byte{0xFF};
  }
  return std::nullopt;
}

std::optional<Fault> DeviceMemory::copy(Address dst, Address src, std::size_t bytes) {
  if (auto fault = impl_->copy_fault("copy from", src, bytes)) {
    return fault;
  }
  if (auto fault = impl_->copy_fault("copy to", dst, bytes)) {
    return fault;
  }
  if (bytes == 0) {
    return std::nullopt;
  }
  std::memmove(impl_->host(dst), impl_->host(src), bytes);
  const std::size_t from = impl_->offset(src);
  const std::size_t to = impl_->offset(dst);
  // Collected first: the two may overlap.
  std::vector<std::size_t> undefined;
  for (std::size_t at = impl_->defined.first_clear(from, from + bytes); at < from + bytes;
       at = impl_->defined.first_clear(at + 1, from + bytes)) {
    undefined.push_back(to + (at - from));
  }
  impl_->set_by_runtime(to, to + bytes);
  for (const std::size_t at : undefined) {
    impl_->defined.clear(at, at + 1);
  }
  return std::nullopt;
}

std::optional<Fault> DeviceMemory::fill(Address dst, int value, std::size_t bytes) {
  if (auto fault = impl_->copy_fault("fill at", dst, bytes)) {
    return fault;
  }
  if (bytes > 0) {
    std::memset(impl_->host(dst), value, bytes);
    impl_->set_by_runtime(impl_->offset(dst), impl_->offset(dst) + bytes);
  }
  return std::nullopt;
}

void DeviceMemory::begin_launch(std::uint32_t launch, std::uint32_t blocks, int threads) {
  assert(launch > impl_->launch);
  impl_->launch = launch;
  impl_->races.begin_launch(blocks, threads > 1);
  impl_->sectors.begin_launch(launch);
}

DistinctBytes DeviceMemory::distinct() const { return impl_->sectors.distinct(); }

std::optional<Fault> DeviceMemory::access(Access kind, Address address, std::size_t bytes,
                                          Accessor accessor) {
  const std::array<Address, kWarpLanes> addresses{address};
  int lane = 0;
  return access(kind, WarpRequest{1, addresses, bytes}, accessor, &lane);
}

DeviceMemory::Impl::Extent DeviceMemory::Impl::prefetch_extent(const WarpRequest& request) const {
  Extent extent;
  Address line = 0;  // of the host's cache, asked for last: before the checks need it
  for (std::uint32_t rest = request.active; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    const Address address = request.addresses[static_cast<std::size_t>(lane)];
    if ((address & (request.bytes - 1)) != 0) {
      extent.misaligned = lane;
      break;
    }
    if (address / kHostLineBytes != line && allocations.contains(address)) {
      line = address / kHostLineBytes;
      races.prefetch(offset(address));
      __builtin_prefetch(host(address));
    }
    extent.begin = std::min(extent.begin, address);
    extent.last = std::max(extent.last, address);
  }
  return extent;
}

std::optional<Fault> DeviceMemory::access(Access kind, const WarpRequest& request,
                                          Accessor accessor, int* lane) {
  assert(accessor.launch == impl_->launch);
  const std::size_t bytes = request.bytes;
  const auto fault = [&](FaultKind fault_kind, int at, const std::string& what) {
    *lane = at;
    const Address address = request.addresses[static_cast<std::size_t>(at)];
    return Fault{fault_kind, std::to_string(bytes) + "-byte " + verb(kind) + " at " + hex(address) +
                                 ": " + what};
  };
  const Impl::Extent extent = impl_->prefetch_extent(request);
  if (extent.misaligned >= 0) {
    return fault(FaultKind::kMisaligned, extent.misaligned,
                 "the address is no multiple of " + std::to_string(bytes));
  }
  // Mostly all lanes are within one allocation. The end of the address space is 0.
  const Address end = extent.last + bytes;
  const bool within = extent.begin < end && impl_->allocations.covers(extent.begin, end);
  // Lanes whose bytes follow each other, or lie within those of lanes before, make one run.
  Address run_begin = 0;
  Address run_end = 0;
  const auto finish_run = [&]() -> std::optional<Fault> {
    if (run_begin == run_end) {
      return std::nullopt;
    }
    auto trouble = within ? std::nullopt : impl_->check_bounds(run_begin, run_end);
    if (!trouble) {
      trouble = impl_->check_run(kind, run_begin, run_end, accessor.block);
    }
    if (!trouble) {
      return std::nullopt;
    }
    int at = 0;
    for (std::uint32_t rest = request.active; rest != 0; rest &= rest - 1) {
      at = __builtin_ctz(rest);
      if (trouble->address - request.addresses[static_cast<std::size_t>(at)] < bytes) {
        break;
      }
    }
    return fault(trouble->kind, at, trouble->what);
  };
  for (std::uint32_t rest = request.active; rest != 0; rest &= rest - 1) {
    const Address address = request.addresses[static_cast<std::size_t>(__builtin_ctz(rest))];
    const bool started = run_begin != run_end;
    if (started && address == run_end) {
      run_end += bytes;
    } else if (!started || address < run_begin || address + bytes > run_end) {
      if (auto found = finish_run()) {
        return found;
      }
      run_begin = address;
      run_end = address + bytes;
    }
  }
  return finish_run();
}

std::optional<DeviceMemory::LaneByte> DeviceMemory::find_written_before(
    const WarpRequest& request) const {
  for (std::uint32_t rest = request.active; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    const Address address = request.addresses[static_cast<std::size_t>(lane)];
    const std::size_t begin = impl_->offset(address);
    const std::size_t end = begin + request.bytes;
    for (std::size_t at = impl_->from_kernel.first_set(begin, end); at < end;
         at = impl_->from_kernel.first_set(at + 1, end)) {
      if (!impl_->races.written(at)) {
        return LaneByte{lane, address + (at - begin)};
      }
    }
  }
  return std::nullopt;
}

}  // namespace xception::emulator
