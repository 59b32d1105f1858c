#include "tests/emulator/shared_memory.h"

#include <array>
#include <cassert>
#include <cstring>
#include <string>
#include <vector>

#include "tests/emulator/memory_ranges.h"
#include "tests/emulator/shared_memory_cells.h"
#include "tests/split_mix.h"

namespace xception::emulator {
namespace {

struct AsyncCopy {
  Address source = 0;
  std::uint32_t offset = 0;
  std::uint32_t group = 0;  // of its lane, counting from 1
  std::uint8_t lane = 0;
  std::uint8_t bytes = 0;
  std::uint8_t source_bytes = 0;
  bool read_late = false;
  std::array<std::byte, kChunkBytes> data{};  // unless it is read late
};

// Mostly a copy is of 16 bytes, for which no call is needed.
void copy_bytes(std::byte* to, const std::byte* from, std::size_t bytes) {
  if (bytes == kChunkBytes) {
    std::memcpy(to, from, kChunkBytes);
  } else {
    std::memcpy(to, from, bytes);
  }
}

// What the copy reads, and zeros.
std::array<std::byte, kChunkBytes> read_source(const AsyncCopy& copy) {
  std::array<std::byte, kChunkBytes> data{};
  if (copy.source_bytes > 0) {
    const auto* const source =
        reinterpret_cast<const std::byte*>(copy.source);  // NOLINT(performance-no-int-to-ptr)
    copy_bytes(data.data(), source, copy.source_bytes);
  }
  return data;
}

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

struct SharedMemory::Impl {
  struct AsyncWarp {
    std::vector<AsyncCopy> copies;  // in the order of issue
    std::array<std::uint32_t, kWarpLanes> committed{};
  };

  Fault fault(const std::string& access, Address address,
              const SharedCells::Trouble& trouble) const;
  void land_one(int warp, const AsyncCopy& copy);
  template <class Done>
  void land(int warp, Done done);

  Options options;
  std::vector<std::byte> data;
  SharedCells cells;
  Mbarriers mbarriers;
  std::array<AsyncWarp, kMostWarps> async{};
  SplitMix64 random;  // when a cp.async reads its source
};

// Names the copy that is in the way, if one is.
Fault SharedMemory::Impl::fault(const std::string& access, Address address,
                                const SharedCells::Trouble& trouble) const {
  std::string what = trouble.what;
  for (int warp = 0; trouble.kind == FaultKind::kAsyncCopyNotWaited && warp < kMostWarps; ++warp) {
    const AsyncWarp& of_warp = async[static_cast<std::size_t>(warp)];
    for (const AsyncCopy& copy : of_warp.copies) {
      if (trouble.offset - copy.offset < copy.bytes) {
        what =
            "a cp.async of " + thread_text(warp, copy.lane) +
            " to it is in flight, which that thread has " +
            (copy.group <= of_warp.committed[copy.lane] ? "not waited for" : "not even committed");
      }
    }
  }
  if (trouble.kind == FaultKind::kAsyncCopyNotWaited) {
    const std::string bulk = mbarriers.describe(trouble.offset);
    what = bulk.empty() ? what : bulk;
  }
  return {trouble.kind, access + " shared address " + hex(address) + ": " + what};
}

void SharedMemory::Impl::land_one(int warp, const AsyncCopy& copy) {
  const std::array<std::byte, kChunkBytes> from = copy.read_late ? read_source(copy) : copy.data;
  copy_bytes(data.data() + copy.offset, from.data(), copy.bytes);
  cells.land_copy(copy.offset, copy.offset + std::size_t{copy.bytes}, warp, copy.lane);
}

// Lands the copies of a warp for which `done` is true, in the order of issue.
template <class Done>
void SharedMemory::Impl::land(int warp, Done done) {
  auto& copies = async[static_cast<std::size_t>(warp)].copies;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < copies.size(); ++i) {
    if (done(copies[i])) {
      land_one(warp, copies[i]);
    } else {
      if (kept != i) {
        copies[kept] = copies[i];
      }
      ++kept;
    }
  }
  copies.resize(kept);
}

SharedMemory::SharedMemory() : impl_(std::make_unique<Impl>()) {}

SharedMemory::~SharedMemory() = default;

void SharedMemory::begin_block(const Options& options) {
  Impl& m = *impl_;
  m.options = options;
  m.data.resize(options.bytes);
  m.cells.begin_block(options.bytes, options.threads, options.partial_barriers);
  for (Impl::AsyncWarp& warp : m.async) {
    warp.copies.clear();
    warp.committed = {};
  }
  m.random = SplitMix64(options.seed);
  m.mbarriers.begin_block(&m.cells, m.data.data(), m.random());
}

Mbarriers& SharedMemory::mbarriers() { return impl_->mbarriers; }

std::byte* SharedMemory::data() { return impl_->data.data(); }

std::size_t SharedMemory::size() const { return impl_->options.bytes; }

std::optional<Fault> SharedMemory::access(Access kind, const WarpRequest& request, int warp,
                                          int* lane, const std::byte* values) {
  if (auto trouble = impl_->cells.access(kind, request, warp, lane, values)) {
    return impl_->fault(std::to_string(request.bytes) + "-byte " + verb(kind) + " at",
                        request.addresses[static_cast<std::size_t>(*lane)], *trouble);
  }
  return std::nullopt;
}

void SharedMemory::arrive(int id, int warp, bool counted) {
  impl_->cells.clocks().arrive(id, warp, counted);
}

void SharedMemory::release(int id, std::span<const int> waiting, bool counted) {
  impl_->cells.clocks().release(id, waiting, counted);
  impl_->cells.forget_if_exhausted();
}

void SharedMemory::warp_sync(int warp, std::uint32_t mask) {
  impl_->cells.clocks().sync_lanes(warp, mask);
  impl_->cells.forget_if_exhausted();
}

void SharedMemory::proxy_fence(int warp, std::uint32_t mask) {
  impl_->cells.proxy_fence(warp, mask);
  impl_->mbarriers.publish(warp, mask);
}

std::optional<Fault> SharedMemory::begin_wgmma(int warp, std::span<const std::uint32_t> chunks) {
  if (auto trouble = impl_->cells.begin_wgmma(warp, chunks)) {
    return impl_->fault("wgmma reads", trouble->offset, *trouble);
  }
  return std::nullopt;
}

void SharedMemory::end_wgmma(int warp, std::span<const std::uint32_t> chunks, Stamp at_begin) {
  impl_->cells.end_wgmma(warp, chunks, at_begin);
}

Stamp SharedMemory::now(int warp) const { return impl_->cells.clocks().now(warp); }

void SharedMemory::exit(int warp, std::uint32_t lanes) { impl_->cells.clocks().exit(warp, lanes); }

std::optional<Fault> SharedMemory::copy_async(int warp, int lane, Address offset, Address source,
                                              std::size_t bytes, std::size_t source_bytes) {
  assert(source_bytes <= bytes && bytes <= kChunkBytes);
  Impl& m = *impl_;
  // To the other threads it is this thread's write, from now until its wait.
  if (auto trouble = m.cells.write(warp, lane, offset, bytes)) {
    return m.fault(std::to_string(bytes) + "-byte cp.async to", offset, *trouble);
  }
  Impl::AsyncWarp& mine = m.async[static_cast<std::size_t>(warp)];
  AsyncCopy copy;
  copy.source = source;
  copy.offset = static_cast<std::uint32_t>(offset);
  copy.group = mine.committed[static_cast<std::size_t>(lane)] + 1;
  copy.lane = static_cast<std::uint8_t>(lane);
  copy.bytes = static_cast<std::uint8_t>(bytes);
  copy.source_bytes = static_cast<std::uint8_t>(source_bytes);
  copy.read_late = m.random() % 2 != 0;
  if (!copy.read_late) {
    copy.data = read_source(copy);
  }
  mine.copies.push_back(copy);
  m.cells.begin_copy(copy.offset, copy.offset + bytes);
  return std::nullopt;
}

void SharedMemory::commit(int warp, std::uint32_t active) {
  for (std::uint32_t rest = active; rest != 0; rest &= rest - 1) {
    ++impl_->async[static_cast<std::size_t>(warp)]
          .committed[static_cast<std::size_t>(__builtin_ctz(rest))];
  }
}

void SharedMemory::wait(int warp, std::uint32_t active, int left) {
  const auto& committed = impl_->async[static_cast<std::size_t>(warp)].committed;
  impl_->land(warp, [&](const AsyncCopy& copy) {
    return (active >> copy.lane & 1) != 0 &&
           copy.group + static_cast<std::uint32_t>(left) <= committed[copy.lane];
  });
}

void SharedMemory::wait_all(int warp, std::uint32_t active) {
  impl_->land(warp, [&](const AsyncCopy& copy) { return (active >> copy.lane & 1) != 0; });
}

}  // namespace xception::emulator
