// Which stretches of reserved address space are allocated. Knows nothing of what stands there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/emulator/memory.h"

namespace xception::emulator {

// "0x7f0000000100", "1 byte", "5 bytes".
std::string hex(Address address);
std::string bytes_text(std::uint64_t bytes);

// Bases are 256-byte aligned and lie at least a page from any other allocation, a mebibyte where
// the allocation is as large. Addresses go up and come back only when the space is at its end.
// covers() and contains() may be called from several threads at once, the rest with nothing else
// going on.
class Allocations {
 public:
  Allocations(Address begin, std::size_t bytes);

  // 0 where no stretch is large enough.
  Address allocate(std::size_t bytes);
  // The whole pages that the allocation had for itself; nothing where `base` is no live allocation.
  struct Span {
    Address begin = 0;
    Address end = 0;
    std::size_t bytes = 0;  // of the allocation
  };
  std::optional<Span> free(Address base);

  // Whether [begin, end) lies within one live allocation.
  bool covers(Address begin, Address end) const;
  // The first byte of [begin, end) that lies in no live allocation, where covers() is false, and
  // whether it lies in one that has been freed.
  struct Outside {
    Address address = 0;
    bool freed = false;
  };
  Outside first_outside(Address begin, Address end) const;

  std::optional<DeviceMemory::Range> find(Address address) const;
  bool contains(Address address) const { return address - begin_ < bytes_; }
  std::vector<DeviceMemory::Range> live_ranges() const;
  std::size_t live_count() const;
  std::string describe(Address address) const;

 private:
  struct Entry {
    std::size_t bytes = 0;
    Address span_begin = 0;
    Address span_end = 0;
    bool live = true;
    std::uint64_t number = 0;
  };
  using Entries = std::map<Address, Entry>;  // by base; freed ones too, until they are reused
  Entries::const_iterator at_or_below(Address address) const;
  Address reuse(std::size_t span, std::size_t gap, std::size_t bytes);

  Address begin_;
  std::size_t bytes_;
  std::size_t bump_ = 0;  // offset of the first page never handed out
  std::uint64_t numbers_ = 0;
  std::uint64_t version_;
  Entries entries_;
};

}  // namespace xception::emulator
