// What device memory remembers of each byte beside its value: whether it has been written, whether
// by a kernel, and which blocks of the running launch have touched it. All lie at a fixed ratio to
// the data.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>

#include "tests/emulator/memory.h"

namespace xception::emulator {

// Reserved address space whose pages read as zero and cost memory once they are written.
class Pages {
 public:
  // data() is null where the system refuses.
  explicit Pages(std::size_t bytes);
  ~Pages();
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }
  // Gives the memory of the whole pages within [begin, end) back; they read as zero again.
  void release(std::size_t begin, std::size_t end);

  // Has the pages that [begin, end) touches there before they are written, where the system can: at
  // once they cost less than by a fault for each, and a second one where they are read first.
  void populate(std::size_t begin, std::size_t end);

  static constexpr std::size_t kPageBytes = 4096;

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// One bit a byte, at first none of them set. Offsets count from the start of the memory. Setting
// and asking are safe from several threads at once.
class ByteFlags {
 public:
  explicit ByteFlags(std::size_t bytes);
  bool reserved() const { return pages_.data() != nullptr; }
  void set(std::size_t begin, std::size_t end);
  void clear(std::size_t begin, std::size_t end);
  // The first byte of [begin, end) whose bit is set, or is not; `end` where there is none.
  std::size_t first_set(std::size_t begin, std::size_t end) const;
  std::size_t first_clear(std::size_t begin, std::size_t end) const;

 private:
  // The first bit that is set after an exclusive or with `flip`.
  std::size_t first(std::size_t begin, std::size_t end, std::uint64_t flip) const;

  Pages pages_;
};

// Which blocks of the running launch have read and written each byte. One 64-bit word stands for
// eight bytes, because stretches that a warp touches mostly begin and end with such a unit; where a
// part of one is touched, its word is split into one for each byte. Words of earlier launches need
// no clearing: blocks are numbered on from launch to launch, and a number below the launch's first
// is stale.
class RaceShadow {
 public:
  explicit RaceShadow(std::size_t bytes);
  bool reserved() const { return words_.data() != nullptr && bytes_.data() != nullptr; }

  void begin_launch(std::uint32_t blocks, bool several_threads);
  // [begin, end) is about to be touched.
  void expect(std::size_t begin, std::size_t end);
  void release(std::size_t begin, std::size_t end);

  struct Conflict {
    std::size_t offset = 0;
    bool wrote = false;                  // the other side; else it read
    bool atomic = false;                 // it wrote atomically
    std::optional<std::uint32_t> block;  // nothing: several blocks
  };
  // Has the processor fetch what touch() will look at.
  void prefetch(std::size_t offset) const { __builtin_prefetch(word_at(offset)); }

  // The sectors of a stretch, a bit each from that of its begin on.
  struct Sectors {
    // Where the access may be the launch's first of its kind; of these, where it touches bytes that
    // the launch had not written.
    std::uint32_t news = 0;
    std::uint32_t unwritten = 0;
  };
  // Records the access of `block`, which may be kUnchanging, to [begin, end), which lies in at most
  // 32 sectors, up to the first conflict with another block. Adds to `sectors`, as far as it comes.
  std::optional<Conflict> touch(Access kind, std::size_t begin, std::size_t end,
                                std::uint32_t block, Sectors* sectors);
  // Whether this launch has written the byte.
  bool written(std::size_t offset) const;

 private:
  struct Change {
    std::uint64_t word = 0;
    bool conflict = false;
    bool written = false;
  };
  Change change(Access kind, std::uint64_t word, std::uint32_t me) const;
  Conflict conflict_of(Access kind, std::size_t offset, std::uint64_t word, std::uint32_t me) const;
  bool is_split(std::uint64_t word) const;
  bool is_sector_of(std::size_t offset, std::uint64_t word) const;
  std::optional<Conflict> touch_bytes(Access kind, std::size_t begin, std::size_t end,
                                      std::uint32_t me, bool* all_written);
  bool store(std::uint64_t& place, std::uint64_t& expected, std::uint64_t word) const;
  static constexpr std::size_t kUnitBytes = sizeof(std::uint64_t);  // as large as their word
  std::uint64_t* word_at(std::size_t offset) const {
    return reinterpret_cast<std::uint64_t*>(words_.data() + offset / kUnitBytes * kUnitBytes);
  }
  std::uint64_t* byte_word_at(std::size_t offset) const {
    return reinterpret_cast<std::uint64_t*>(bytes_.data()) + offset;
  }

  Pages words_;
  Pages bytes_;
  mutable std::mutex split_mutex_;  // guards every word of bytes_
  std::uint32_t first_ = 1;         // number of this launch's block 0
  std::uint32_t many_ = 1;          // stands for several blocks of this launch
  bool several_threads_ = true;
};

// Which sectors the running launch has touched, as DistinctBytes counts them.
class SectorCounts {
 public:
  explicit SectorCounts(std::size_t bytes);
  bool reserved() const { return stamps_.data() != nullptr; }

  void begin_launch(std::uint32_t launch);
  // What RaceShadow::touch() has found of a stretch from `begin` on.
  void count(Access kind, std::size_t begin, RaceShadow::Sectors sectors);
  DistinctBytes distinct() const;

 private:
  // The last launch that read a sector before writing it, and the last that wrote it.
  struct Stamp {
    std::uint32_t read = 0;
    std::uint32_t written = 0;
  };

  Pages stamps_;  // a Stamp for each sector
  std::uint32_t launch_ = 0;
  std::atomic<std::uint64_t> read_{0};
  std::atomic<std::uint64_t> written_{0};
};

}  // namespace xception::emulator
