#include "tests/emulator/memory_shadow.h"

#include <sys/mman.h>

#include <algorithm>

namespace xception::emulator {
namespace {

constexpr std::size_t kWordBits = 64;

std::size_t round_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

// Bits [begin, end) of a word, 0 <= begin < end <= 64.
std::uint64_t mask_of(std::size_t begin, std::size_t end) {
  return (~std::uint64_t{0} >> (kWordBits - (end - begin))) << begin;
}

// A race word: number of the last writer, whether all of the launch's writes were atomic, number of
// the reader, and whether the bytes have words of their own.
constexpr std::uint64_t kNumber = 0x7fffffff;
constexpr std::uint64_t kAtomicBit = std::uint64_t{1} << 31;
constexpr int kReaderShift = 32;
constexpr std::uint64_t kSplitBit = std::uint64_t{1} << 63;

std::uint32_t writer_of(std::uint64_t word) { return static_cast<std::uint32_t>(word & kNumber); }
std::uint32_t reader_of(std::uint64_t word) {
  return static_cast<std::uint32_t>((word >> kReaderShift) & kNumber);
}
std::uint64_t make_word(std::uint32_t writer, bool atomic, std::uint32_t reader) {
  return writer | (atomic ? kAtomicBit : 0) | (std::uint64_t{reader} << kReaderShift);
}

std::uint64_t load(const std::uint64_t& place) {
  return std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(place))
      .load(std::memory_order_relaxed);
}

// True for the first that stamps the place with `launch`.
bool first_of_launch(std::uint32_t& place, std::uint32_t launch) {
  std::atomic_ref<std::uint32_t> stamp(place);
  return stamp.load(std::memory_order_relaxed) != launch &&
         stamp.exchange(launch, std::memory_order_relaxed) != launch;
}

}  // namespace

Pages::Pages(std::size_t bytes) : bytes_(round_up(bytes, kPageBytes)) {
  void* place = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place != MAP_FAILED) {
    data_ = static_cast<std::byte*>(place);
    madvise(place, bytes_, MADV_DONTDUMP);
  }
}

Pages::~Pages() {
  if (data_ != nullptr) {
    munmap(data_, bytes_);
  }
}

void Pages::release(std::size_t begin, std::size_t end) {
  begin = round_up(begin, kPageBytes);
  end = end / kPageBytes * kPageBytes;
  if (begin < end) {
    madvise(data_ + begin, end - begin, MADV_DONTNEED);
  }
}

void Pages::populate(std::size_t begin, std::size_t end) {
#if defined(MADV_POPULATE_WRITE)
  begin = begin / kPageBytes * kPageBytes;
  end = std::min(round_up(end, kPageBytes), bytes_);
  madvise(data_ + begin, end - begin, MADV_POPULATE_WRITE);
#else
  static_cast<void>(begin + end);
#endif
}

ByteFlags::ByteFlags(std::size_t bytes) : pages_(bytes / 8) {}

void ByteFlags::set(std::size_t begin, std::size_t end) {
  auto* words = reinterpret_cast<std::uint64_t*>(pages_.data());
  while (begin < end) {
    const std::size_t word_begin = begin / kWordBits * kWordBits;
    const std::size_t stop = std::min(end, word_begin + kWordBits);
    const std::uint64_t mask = mask_of(begin - word_begin, stop - word_begin);
    std::atomic_ref<std::uint64_t> word(words[begin / kWordBits]);
    // Most stores go where something was stored before: asking first spares the locked operation.
    if ((word.load(std::memory_order_relaxed) & mask) != mask) {
      word.fetch_or(mask, std::memory_order_relaxed);
    }
    begin = stop;
  }
}

void ByteFlags::clear(std::size_t begin, std::size_t end) {
  auto* words = reinterpret_cast<std::uint64_t*>(pages_.data());
  while (begin < end) {
    const std::size_t word_begin = begin / kWordBits * kWordBits;
    const std::size_t stop = std::min(end, word_begin + kWordBits);
    const std::uint64_t mask = mask_of(begin - word_begin, stop - word_begin);
    // A page that only says no stays one that costs no memory.
    if ((words[begin / kWordBits] & mask) != 0) {
      words[begin / kWordBits] &= ~mask;
    }
    begin = stop;
  }
}

std::size_t ByteFlags::first_set(std::size_t begin, std::size_t end) const {
  return first(begin, end, 0);
}

std::size_t ByteFlags::first_clear(std::size_t begin, std::size_t end) const {
  return first(begin, end, ~std::uint64_t{0});
}

std::size_t ByteFlags::first(std::size_t begin, std::size_t end, std::uint64_t flip) const {
  const auto* words = reinterpret_cast<const std::uint64_t*>(pages_.data());
  while (begin < end) {
    const std::size_t word_begin = begin / kWordBits * kWordBits;
    const std::size_t stop = std::min(end, word_begin + kWordBits);
    const std::uint64_t found =
        (load(words[begin / kWordBits]) ^ flip) & mask_of(begin - word_begin, stop - word_begin);
    if (found != 0) {
      return word_begin + static_cast<std::size_t>(__builtin_ctzll(found));
    }
    begin = stop;
  }
  return end;
}

RaceShadow::RaceShadow(std::size_t bytes) : words_(bytes), bytes_(bytes * sizeof(std::uint64_t)) {}

void RaceShadow::begin_launch(std::uint32_t blocks, bool several_threads) {
  // many_ is the number after those of the last launch's blocks.
  if (many_ >= kNumber - blocks - 1) {
    words_.release(0, words_.size());
    many_ = 0;
  }
  first_ = many_ + 1;
  many_ = first_ + blocks;
  several_threads_ = several_threads;
}

void RaceShadow::expect(std::size_t begin, std::size_t end) { words_.populate(begin, end); }

void RaceShadow::release(std::size_t begin, std::size_t end) {
  words_.release(begin, end);
  bytes_.release(begin * sizeof(std::uint64_t), end * sizeof(std::uint64_t));
}

bool RaceShadow::is_split(std::uint64_t word) const {
  return (word & kSplitBit) != 0 && reader_of(word) >= first_;
}

bool RaceShadow::written(std::size_t offset) const {
  std::uint64_t word = load(*word_at(offset));
  if (is_split(word)) {
    const std::lock_guard<std::mutex> lock(split_mutex_);
    word = *byte_word_at(offset);
  }
  return writer_of(word) >= first_;
}

RaceShadow::Change RaceShadow::change(Access kind, std::uint64_t word, std::uint32_t me) const {
  std::uint32_t writer = writer_of(word) >= first_ ? writer_of(word) : 0;
  std::uint32_t reader = reader_of(word) >= first_ ? reader_of(word) : 0;
  bool atomic = writer != 0 && (word & kAtomicBit) != 0;
  Change result;
  result.written = writer != 0;
  // Who reads as several blocks has every writer against it, several with their atomics too.
  const bool foreign_writer = writer != 0 && (writer != me || me == many_);
  const bool foreign_reader = reader != 0 && reader != me;
  switch (kind) {
    case Access::kRead:
      result.conflict = foreign_writer;
      reader = foreign_reader ? many_ : me;
      break;
    case Access::kWrite:
      result.conflict = foreign_writer || foreign_reader;
      writer = me;
      atomic = false;
      break;
    case Access::kAtomic:
      result.conflict = (foreign_writer && !atomic) || foreign_reader;
      atomic = writer == 0 || atomic;
      writer = foreign_writer ? many_ : me;
      break;
  }
  result.word = make_word(writer, atomic, reader);
  return result;
}

RaceShadow::Conflict RaceShadow::conflict_of(Access kind, std::size_t offset, std::uint64_t word,
                                             std::uint32_t me) const {
  Conflict conflict;
  conflict.offset = offset;
  const std::uint32_t writer = writer_of(word) >= first_ ? writer_of(word) : 0;
  const bool atomic = (word & kAtomicBit) != 0;
  const bool by_writer =
      writer != 0 && (writer != me || me == many_) && (kind != Access::kAtomic || !atomic);
  const std::uint32_t other = by_writer ? writer : reader_of(word);
  conflict.wrote = by_writer;
  conflict.atomic = by_writer && atomic;
  if (other != many_) {
    conflict.block = other - first_;
  }
  return conflict;
}

// False where another thread has changed the word, which is then in `expected`.
bool RaceShadow::store(std::uint64_t& place, std::uint64_t& expected, std::uint64_t word) const {
  std::atomic_ref<std::uint64_t> target(place);
  if (!several_threads_) {
    target.store(word, std::memory_order_relaxed);
    return true;
  }
  return target.compare_exchange_weak(expected, word, std::memory_order_relaxed);
}

// Whether each word of the sector at `offset` is this one.
inline bool RaceShadow::is_sector_of(std::size_t offset, std::uint64_t word) const {
  const std::uint64_t* const words = word_at(offset);
  std::uint64_t differ = 0;
  for (std::size_t i = 0; i < kSectorBytes / kUnitBytes; ++i) {
    differ |= load(words[i]) ^ word;
  }
  return differ == 0;
}

std::optional<RaceShadow::Conflict> RaceShadow::touch(Access kind, std::size_t begin,
                                                      std::size_t end, std::uint32_t block,
                                                      Sectors* sectors) {
  const std::uint32_t me = block == kUnchanging ? many_ : first_ + block;
  // Neighbours mostly share one history: the last answer is kept.
  std::uint64_t known_word = 0;
  Change known = change(kind, known_word, me);
  std::size_t offset = begin;
  while (offset < end) {
    if (known.word == known_word && offset % kSectorBytes == 0 && end - offset >= kSectorBytes &&
        is_sector_of(offset, known_word)) {
      offset += kSectorBytes;
      continue;
    }
    const std::size_t stop = std::min(end, (offset / kUnitBytes + 1) * kUnitBytes);
    bool written = true;
    bool changed = true;
    std::uint64_t& place = *word_at(offset);
    std::uint64_t word = load(place);
    while (true) {
      if (stop - offset != kUnitBytes || is_split(word)) {
        if (auto conflict = touch_bytes(kind, offset, stop, me, &written)) {
          return conflict;
        }
        break;
      }
      if (word != known_word) {
        known_word = word;
        known = change(kind, word, me);
      }
      if (known.conflict) {
        return conflict_of(kind, offset, word, me);
      }
      changed = known.word != word;
      if (!changed || store(place, word, known.word)) {
        written = known.written;
        break;
      }
    }
    const std::uint32_t bit = 1U << (offset / kSectorBytes - begin / kSectorBytes);
    sectors->news |= changed ? bit : 0;
    sectors->unwritten |= changed && !written ? bit : 0;
    offset = stop;
  }
  return std::nullopt;
}

std::optional<RaceShadow::Conflict> RaceShadow::touch_bytes(Access kind, std::size_t begin,
                                                            std::size_t end, std::uint32_t me,
                                                            bool* all_written) {
  const std::lock_guard<std::mutex> lock(split_mutex_);
  std::uint64_t& place = *word_at(begin);
  std::uint64_t word = load(place);
  while (!is_split(word)) {
    std::fill_n(byte_word_at(begin / kUnitBytes * kUnitBytes), kUnitBytes, word);
    if (store(place, word, kSplitBit | make_word(0, false, many_))) {
      break;
    }
  }
  for (std::size_t offset = begin; offset < end; ++offset) {
    std::uint64_t& byte_word = *byte_word_at(offset);
    const Change result = change(kind, byte_word, me);
    if (result.conflict) {
      return conflict_of(kind, offset, byte_word, me);
    }
    byte_word = result.word;
    *all_written = *all_written && result.written;
  }
  return std::nullopt;
}

SectorCounts::SectorCounts(std::size_t bytes) : stamps_(bytes / kSectorBytes * sizeof(Stamp)) {}

void SectorCounts::begin_launch(std::uint32_t launch) {
  launch_ = launch;
  read_ = 0;
  written_ = 0;
}

void SectorCounts::count(Access kind, std::size_t begin, RaceShadow::Sectors sectors) {
  Stamp* const first = reinterpret_cast<Stamp*>(stamps_.data()) + begin / kSectorBytes;
  for (std::uint32_t rest = sectors.news; rest != 0; rest &= rest - 1) {
    const int bit = __builtin_ctz(rest);
    Stamp& stamp = first[bit];
    if (kind != Access::kWrite && (sectors.unwritten >> bit & 1) != 0 &&
        first_of_launch(stamp.read, launch_)) {
      read_.fetch_add(1, std::memory_order_relaxed);
    }
    if (kind != Access::kRead && first_of_launch(stamp.written, launch_)) {
      written_.fetch_add(1, std::memory_order_relaxed);
    }
  }
}

DistinctBytes SectorCounts::distinct() const {
  return {read_ * kSectorBytes, written_ * kSectorBytes};
}

}  // namespace xception::emulator
