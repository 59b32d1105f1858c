#include "tests/emulator/memory_ranges.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <iterator>

#include "tests/emulator/memory_shadow.h"

namespace xception::emulator {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::size_t kLeastGap = Pages::kPageBytes;
constexpr std::size_t kMostGap = std::size_t{1} << 20;

std::size_t round_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

// Each change of any object's allocations gets a number of its own, by which threads know whether
// the ranges that they remember still hold.
std::uint64_t fresh_version() {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1);
}

// The last few allocations that this thread has met: kernels go back and forth between few.
struct RecentRanges {
  struct Entry {
    Address begin = 0;
    Address end = 0;
  };
  std::uint64_t version = 0;
  std::array<Entry, 4> entries{};
  std::size_t next = 0;
};
thread_local RecentRanges recent_ranges;

}  // namespace

std::string hex(Address address) {
  std::array<char, 24> text{};
  std::snprintf(text.data(), text.size(), "0x%llx", static_cast<unsigned long long>(address));
  return text.data();
}

std::string bytes_text(std::uint64_t bytes) {
  return std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes");
}

Allocations::Allocations(Address begin, std::size_t bytes)
    : begin_(begin), bytes_(bytes), version_(fresh_version()) {}

Allocations::Entries::const_iterator Allocations::at_or_below(Address address) const {
  const auto next = entries_.upper_bound(address);
  return next == entries_.begin() ? entries_.end() : std::prev(next);
}

Address Allocations::allocate(std::size_t bytes) {
  if (bytes == 0 || bytes > bytes_) {
    return 0;
  }
  const std::size_t gap = round_up(std::clamp(bytes, kLeastGap, kMostGap), Pages::kPageBytes);
  const std::size_t span = gap + round_up(kAlignment + bytes, Pages::kPageBytes) + gap;
  Address address = 0;
  if (span <= bytes_ - bump_) {
    const Address begin = begin_ + bump_;
    // Not at the page's start: a base aligned to more than is promised hides faults.
    address = begin + gap + kAlignment;
    entries_[address] = {bytes, begin, begin + span, true, numbers_ + 1};
    bump_ += span;
  } else {
    address = reuse(span, gap, bytes);
  }
  if (address != 0) {
    ++numbers_;
    version_ = fresh_version();
  }
  return address;
}

// Takes the first stretch of freed spans, in order of address, that holds `span` bytes.
Address Allocations::reuse(std::size_t span, std::size_t gap, std::size_t bytes) {
  auto first = entries_.begin();
  while (first != entries_.end()) {
    if (first->second.live) {
      ++first;
      continue;
    }
    const Address begin = first->second.span_begin;
    Address end = begin;
    auto last = first;
    for (; last != entries_.end() && !last->second.live && end - begin < span; ++last) {
      end = last->second.span_end;
    }
    if (end - begin < span) {
      first = last;
      continue;
    }
    const std::uint64_t freed_number = std::prev(last)->second.number;
    entries_.erase(first, last);
    const Address stop = begin + span;
    if (stop < end) {
      entries_[stop] = {end - stop, stop, end, false, freed_number};
    }
    const Address address = begin + gap + kAlignment;
    entries_[address] = {bytes, begin, stop, true, numbers_ + 1};
    return address;
  }
  return 0;
}

std::optional<Allocations::Span> Allocations::free(Address base) {
  const auto found = entries_.find(base);
  if (found == entries_.end() || !found->second.live) {
    return std::nullopt;
  }
  found->second.live = false;
  version_ = fresh_version();
  return Span{found->second.span_begin, found->second.span_end, found->second.bytes};
}

bool Allocations::covers(Address begin, Address end) const {
  RecentRanges& recent = recent_ranges;
  if (recent.version != version_) {
    recent = RecentRanges{};
    recent.version = version_;
  }
  for (const RecentRanges::Entry& entry : recent.entries) {
    if (entry.begin <= begin && end <= entry.end) {
      return begin <= end;
    }
  }
  const auto found = at_or_below(begin);
  if (found == entries_.end() || !found->second.live || end < begin ||
      end > found->first + found->second.bytes) {
    return false;
  }
  recent.entries[recent.next] = {found->first, found->first + found->second.bytes};
  recent.next = (recent.next + 1) % recent.entries.size();
  return true;
}

Allocations::Outside Allocations::first_outside(Address begin, Address end) const {
  Address address = begin;
  if (const auto range = find(begin)) {
    address = std::min(range->base + range->bytes, end);
  }
  const auto found = at_or_below(address);
  return {address, found != entries_.end() && !found->second.live &&
                       address < found->first + found->second.bytes};
}

std::optional<DeviceMemory::Range> Allocations::find(Address address) const {
  const auto found = at_or_below(address);
  if (found == entries_.end() || !found->second.live ||
      address >= found->first + found->second.bytes) {
    return std::nullopt;
  }
  return DeviceMemory::Range{found->first, found->second.bytes, found->second.number};
}

std::vector<DeviceMemory::Range> Allocations::live_ranges() const {
  std::vector<DeviceMemory::Range> ranges;
  for (const auto& [base, entry] : entries_) {
    if (entry.live) {
      ranges.push_back({base, entry.bytes, entry.number});
    }
  }
  std::sort(ranges.begin(), ranges.end(),
            [](const auto& a, const auto& b) { return a.number < b.number; });
  return ranges;
}

std::size_t Allocations::live_count() const {
  return static_cast<std::size_t>(std::count_if(entries_.begin(), entries_.end(),
                                                [](const auto& item) { return item.second.live; }));
}

std::string Allocations::describe(Address address) const {
  const auto name = [](const Entries::value_type& item) {
    return "allocation " + std::to_string(item.second.number) + " (" + hex(item.first) + ", " +
           bytes_text(item.second.bytes) + (item.second.live ? ")" : ", freed)");
  };
  if (!contains(address)) {
    return "not in device memory";
  }
  const auto next = entries_.upper_bound(address);
  const auto previous = at_or_below(address);
  if (previous != entries_.end()) {
    const Address end = previous->first + previous->second.bytes;
    if (address < end) {
      return bytes_text(address - previous->first) + " into " + name(*previous);
    }
    if (next == entries_.end() || address - end <= next->first - address) {
      return (address == end ? "just" : bytes_text(address - end)) + " past the end of " +
             name(*previous);
    }
  }
  if (next != entries_.end()) {
    return bytes_text(next->first - address) + " before " + name(*next);
  }
  return "in device memory of which nothing is allocated";
}

}  // namespace xception::emulator
