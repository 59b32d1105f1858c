// Fat binaries: made here entry by entry, whole and damaged.

#include <lz4.h>
#include <zstd.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/emulator/fatbin.h"
#include "tests/random.h"
#include "tests/testing.h"

namespace xception::emulator {
namespace {

using Bytes = std::vector<std::byte>;
using Compression = FatbinEntry::Compression;
using Scope = FatbinEntry::Scope;

template <class T>
void put(Bytes& bytes, std::size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(T));
}

Bytes bytes_of(const std::string& text) {
  Bytes bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

Bytes compress(const std::string& text, Compression compression) {
  Bytes bytes(ZSTD_compressBound(text.size()) + text.size() + 64);
  if (compression == Compression::kZstd) {
    bytes.resize(ZSTD_compress(bytes.data(), bytes.size(), text.data(), text.size(), 3));
  } else {
    bytes.resize(static_cast<std::size_t>(
        LZ4_compress_default(text.data(), reinterpret_cast<char*>(bytes.data()),
                             static_cast<int>(text.size()), static_cast<int>(bytes.size()))));
  }
  return bytes;
}

// An entry as nvcc 13.0 writes it: 64 bytes that are known, 16 more, the payload up to a multiple
// of eight.
Bytes entry(std::uint16_t kind, std::uint32_t arch, const std::string& text,
            Compression compression = Compression::kNone, Scope scope = Scope::kLater) {
  constexpr std::size_t kHeader = 80;
  const bool plain = compression == Compression::kNone;
  const Bytes payload = plain ? bytes_of(text) : compress(text, compression);
  const std::size_t stored = (payload.size() + 7) / 8 * 8;
  Bytes bytes(kHeader + stored);
  std::uint64_t flags = 0x11;
  flags |= compression == Compression::kLz4 ? 0x2000U : 0U;
  flags |= compression == Compression::kZstd ? 0x8000U : 0U;
  flags |= scope == Scope::kExact ? 0x100000U : 0U;
  flags |= scope == Scope::kFamily ? 0x200000U : 0U;
  put<std::uint16_t>(bytes, 0, kind);
  put<std::uint16_t>(bytes, 2, 0x101);
  put<std::uint32_t>(bytes, 4, kHeader);
  put<std::uint64_t>(bytes, 8, stored);
  put<std::uint32_t>(bytes, 16, plain ? 0 : static_cast<std::uint32_t>(payload.size()));
  put<std::uint32_t>(bytes, 28, arch);
  put<std::uint64_t>(bytes, 40, flags);
  put<std::uint64_t>(bytes, 56, plain ? 0 : text.size());
  std::memcpy(bytes.data() + kHeader, payload.data(), payload.size());
  return bytes;
}

Bytes fatbin(const std::vector<Bytes>& entries) {
  Bytes bytes(16);
  for (const Bytes& each : entries) {
    bytes.insert(bytes.end(), each.begin(), each.end());
  }
  put<std::uint32_t>(bytes, 0, 0xBA55ED50);
  put<std::uint16_t>(bytes, 4, 1);
  put<std::uint16_t>(bytes, 6, 16);
  put<std::uint64_t>(bytes, 8, bytes.size() - 16);
  return bytes;
}

std::string text_for(int arch) {
  return ".version 9.0\n.target sm_" + std::to_string(arch) + "\n" + std::string(500, 'x') + "\n";
}

TEST_CASE("entries are found with their kind, architecture and text") {
  for (const Compression compression :
       {Compression::kNone, Compression::kLz4, Compression::kZstd}) {
    const Bytes image = fatbin({entry(1, 75, text_for(75), compression), entry(2, 80, "\177ELF..."),
                                entry(1, 90, text_for(90) + "odd", compression)});
    const auto entries = parse_fatbin(image);
    REQUIRE(entries.ok());
    REQUIRE(entries->size() == 3);
    CHECK((*entries)[0].kind == FatbinEntry::Kind::kPtx);
    CHECK((*entries)[0].arch == 75);
    CHECK((*entries)[1].kind == FatbinEntry::Kind::kElf);
    const auto first = ptx_text((*entries)[0]);
    REQUIRE(first.ok());
    CHECK(*first == text_for(75));
    const auto last = ptx_text((*entries)[2]);
    REQUIRE(last.ok());
    CHECK(*last == text_for(90) + "odd");
  }
}

TEST_CASE("a device takes the newest PTX that is not newer than itself") {
  const auto chosen = [](const Bytes& image, int arch) {
    const auto entries = parse_fatbin(image);
    REQUIRE(entries.ok());
    const FatbinEntry* entry = choose_ptx(*entries, arch);
    return entry == nullptr ? 0 : entry->arch;
  };
  const Bytes image = fatbin({entry(1, 80, "a"), entry(1, 75, "b"), entry(1, 90, "c")});
  CHECK(chosen(image, 70) == 0);
  CHECK(chosen(image, 75) == 75);
  CHECK(chosen(image, 89) == 80);
  CHECK(chosen(image, 120) == 90);
  CHECK(chosen(fatbin({entry(2, 80, "machine code alone")}), 80) == 0);

  const Bytes exact =
      fatbin({entry(1, 75, "a"), entry(1, 90, "b", Compression::kNone, Scope::kExact)});
  CHECK(chosen(exact, 90) == 90);
  CHECK(chosen(exact, 100) == 75);
  CHECK(chosen(exact, 120) == 75);
  const Bytes family =
      fatbin({entry(1, 75, "a"), entry(1, 100, "b", Compression::kNone, Scope::kFamily)});
  CHECK(chosen(family, 103) == 100);
  CHECK(chosen(family, 120) == 75);
}

TEST_CASE("compute_90a comes before compute_90 on its own device, wherever it stands") {
  const Bytes narrow = entry(1, 90, "a", Compression::kNone, Scope::kExact);
  for (const Bytes& image :
       {fatbin({narrow, entry(1, 90, "b")}), fatbin({entry(1, 90, "b"), narrow})}) {
    const auto entries = parse_fatbin(image);
    REQUIRE(entries.ok());
    for (const auto& [arch, scope] :
         {std::pair(90, FatbinEntry::Scope::kExact), std::pair(100, FatbinEntry::Scope::kLater),
          std::pair(120, FatbinEntry::Scope::kLater)}) {
      const FatbinEntry* chosen = choose_ptx(*entries, arch);
      REQUIRE(chosen != nullptr);
      CHECK(chosen->arch == 90);
      CHECK(chosen->scope == scope);
    }
  }
}

TEST_CASE("what is no fat binary, or cut off, is refused") {
  const Bytes image = fatbin({entry(1, 80, text_for(80), Compression::kZstd)});
  REQUIRE(parse_fatbin(image).ok());
  for (std::size_t bytes = 0; bytes < image.size(); ++bytes) {
    CHECK_FALSE(parse_fatbin(std::span(image).first(bytes)).ok());
  }
  Bytes other = image;
  put<std::uint32_t>(other, 0, 0x464C457F);
  CHECK_FALSE(parse_fatbin(other).ok());
}

TEST_CASE("compressed text that is damaged or claims another size is refused") {
  for (const Compression compression : {Compression::kLz4, Compression::kZstd}) {
    const Bytes whole = entry(1, 80, text_for(80), compression);
    const auto text_of = [](const Bytes& changed) -> Result<std::string> {
      const Bytes image = fatbin({changed});
      const auto entries = parse_fatbin(image);
      return entries.ok() ? ptx_text(entries->front()) : entries.status();
    };
    REQUIRE(text_of(whole).ok());
    const std::size_t size = text_for(80).size();
    for (const std::uint64_t claim : {size - 1, size + 1, std::size_t{0}}) {
      Bytes changed = whole;
      put<std::uint64_t>(changed, 56, claim);
      CHECK_FALSE(text_of(changed).ok());
    }
    Bytes huge = whole;
    put<std::uint64_t>(huge, 56, ~std::uint64_t{0});
    CHECK(text_of(huge).status().code() == Code::kOutOfMemory);
    Bytes longer = whole;
    put<std::uint32_t>(longer, 16, 0xFFFFFFFF);
    CHECK_FALSE(text_of(longer).ok());
  }
}

TEST_CASE("no damage makes the reader read outside") {
  XC_RANDOM(random);
  const Bytes image =
      fatbin({entry(1, 75, text_for(75), Compression::kLz4),
              entry(1, 80, text_for(80), Compression::kZstd), entry(1, 90, text_for(90))});
  for (int round = 0; round < 20000; ++round) {
    Bytes changed = image;
    for (int i = random.integer(1, 4); i > 0; --i) {
      // Headers more often than payload.
      const int limit = random.integer(0, 1) == 0 ? 96 : static_cast<int>(image.size());
      changed[static_cast<std::size_t>(random.integer(0, limit - 1))] =
          static_cast<std::byte>(random.integer(0, 255));
    }
    // A copy of exactly these bytes, so that a sanitizer sees a read behind them.
    const auto entries = parse_fatbin(changed);
    if (entries.ok()) {
      for (const FatbinEntry& each : *entries) {
        if (each.plain_bytes < (1 << 20)) {
          (void)ptx_text(each);
        }
      }
    }
  }
}

}  // namespace
}  // namespace xception::emulator
