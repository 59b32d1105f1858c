#include "tests/emulator/fatbin.h"

#include <lz4.h>
#include <zstd.h>

#include <cstring>

namespace xception::emulator {
namespace {

constexpr std::uint32_t kWrapperMagic = 0x466243B1;  // FATBINC_MAGIC of fatbinary_section.h
constexpr std::uint32_t kFatbinMagic = 0xBA55ED50;
constexpr std::size_t kHeaderBytes = 16;
constexpr std::size_t kEntryHeaderBytes = 64;
constexpr std::uint64_t kPlainLimit = std::uint64_t{1} << 30;

constexpr std::uint64_t kFlagLz4 = 0x2000;
constexpr std::uint64_t kFlagZstd = 0x8000;
constexpr std::uint64_t kFlagExactArch = 0x100000;
constexpr std::uint64_t kFlagFamily = 0x200000;

// What nvcc registers: fatbinary_section.h, whose struct has a pointer of another type.
struct Wrapper {
  std::uint32_t magic;
  std::uint32_t version;
  const std::byte* data;
  const void* file_name_or_binaries;
};

template <class T>
T read(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

Status damaged(std::size_t offset, const std::string& what) {
  return {Code::kInvalidArgument, "fat binary, byte " + std::to_string(offset) + ": " + what};
}

FatbinEntry::Kind kind_of(std::uint16_t code) {
  switch (code) {
    case 1:
      return FatbinEntry::Kind::kPtx;
    case 2:
      return FatbinEntry::Kind::kElf;
    default:
      return FatbinEntry::Kind::kOther;
  }
}

// Fills `entry` from `rest`, which starts with its header and ends with the binary; `offset` is
// where that is. The result is how many bytes it takes up.
Result<std::size_t> parse_entry(std::span<const std::byte> rest, std::size_t offset,
                                FatbinEntry& entry) {
  if (rest.size() < kEntryHeaderBytes) {
    return damaged(offset, "an entry is cut off");
  }
  const auto header_bytes = read<std::uint32_t>(rest, 4);
  const auto stored_bytes = read<std::uint64_t>(rest, 8);  // padding included
  const auto compressed_bytes = read<std::uint32_t>(rest, 16);
  const auto flags = read<std::uint64_t>(rest, 40);
  if (header_bytes < kEntryHeaderBytes || header_bytes > rest.size()) {
    return damaged(offset, "an entry's header of " + std::to_string(header_bytes) + " bytes");
  }
  if (stored_bytes > rest.size() - header_bytes) {
    return damaged(offset, "an entry's payload goes past the end");
  }
  const auto payload = rest.subspan(header_bytes, static_cast<std::size_t>(stored_bytes));

  entry.kind = kind_of(read<std::uint16_t>(rest, 0));
  entry.arch = static_cast<int>(read<std::uint32_t>(rest, 28) & 0xFFFF);
  entry.scope = (flags & kFlagExactArch) != 0 ? FatbinEntry::Scope::kExact
                : (flags & kFlagFamily) != 0  ? FatbinEntry::Scope::kFamily
                                              : FatbinEntry::Scope::kLater;
  if ((flags & (kFlagLz4 | kFlagZstd)) == 0) {
    entry.payload = payload;
    entry.plain_bytes = payload.size();
  } else {
    if (compressed_bytes > payload.size()) {
      return damaged(offset, "compressed bytes go past the entry");
    }
    entry.compression =
        (flags & kFlagZstd) != 0 ? FatbinEntry::Compression::kZstd : FatbinEntry::Compression::kLz4;
    entry.payload = payload.first(compressed_bytes);
    entry.plain_bytes = read<std::uint64_t>(rest, 56);
  }
  return header_bytes + payload.size();
}

bool can_take(const FatbinEntry& entry, int arch) {
  switch (entry.scope) {
    case FatbinEntry::Scope::kExact:
      return entry.arch == arch;
    case FatbinEntry::Scope::kFamily:
      return entry.arch / 10 == arch / 10 && entry.arch <= arch;
    case FatbinEntry::Scope::kLater:
      break;
  }
  return entry.arch <= arch;
}

}  // namespace

Result<std::vector<FatbinEntry>> parse_fatbin(std::span<const std::byte> image) {
  if (image.size() < kHeaderBytes || read<std::uint32_t>(image, 0) != kFatbinMagic) {
    return damaged(0, "no header of a fat binary");
  }
  const auto header_bytes = read<std::uint16_t>(image, 6);
  const auto body_bytes = read<std::uint64_t>(image, 8);
  if (header_bytes < kHeaderBytes || header_bytes > image.size() ||
      body_bytes > image.size() - header_bytes) {
    return damaged(0, "it is longer than its section");
  }
  const auto end = header_bytes + static_cast<std::size_t>(body_bytes);

  std::vector<FatbinEntry> entries;
  for (std::size_t offset = header_bytes; offset < end;) {
    FatbinEntry entry;
    auto bytes = parse_entry(image.first(end).subspan(offset), offset, entry);
    if (!bytes.ok()) {
      return bytes.status();
    }
    entries.push_back(entry);
    offset += *bytes;
  }
  return entries;
}

Result<std::vector<FatbinEntry>> parse_fatbin_wrapper(const void* wrapper) {
  Wrapper fields;
  std::memcpy(&fields, wrapper, sizeof(fields));
  if (fields.magic != kWrapperMagic || fields.data == nullptr) {
    return damaged(0, "no wrapper of a fat binary");
  }
  const std::span<const std::byte> header(fields.data, kHeaderBytes);
  const std::size_t bytes = read<std::uint16_t>(header, 6) + read<std::uint64_t>(header, 8);
  if (bytes < kHeaderBytes) {
    return damaged(0, "its size overflows");
  }
  return parse_fatbin({fields.data, bytes});
}

const FatbinEntry* choose_ptx(std::span<const FatbinEntry> entries, int arch) {
  const FatbinEntry* best = nullptr;
  for (const FatbinEntry& entry : entries) {
    if (entry.kind == FatbinEntry::Kind::kPtx && can_take(entry, arch) &&
        (best == nullptr || entry.arch > best->arch ||
         // compute_90a before compute_90
         (entry.arch == best->arch && entry.scope > best->scope))) {
      best = &entry;
    }
  }
  return best;
}

Result<std::string> ptx_text(const FatbinEntry& entry) {
  if (entry.plain_bytes > kPlainLimit) {
    return Status(Code::kOutOfMemory,
                  "fat binary: PTX of " + std::to_string(entry.plain_bytes) + " bytes");
  }
  std::string text(static_cast<std::size_t>(entry.plain_bytes), '\0');
  bool whole = true;
  switch (entry.compression) {
    case FatbinEntry::Compression::kNone:
      std::memcpy(text.data(), entry.payload.data(), text.size());
      break;
    case FatbinEntry::Compression::kZstd: {
      const std::size_t bytes =
          ZSTD_decompress(text.data(), text.size(), entry.payload.data(), entry.payload.size());
      whole = ZSTD_isError(bytes) == 0 && bytes == text.size();
      break;
    }
    case FatbinEntry::Compression::kLz4: {
      // Both sizes fit: a payload is at most 4 GiB by its field, and refused above the limit.
      if (entry.payload.size() > kPlainLimit) {
        whole = false;
        break;
      }
      const int bytes = LZ4_decompress_safe(reinterpret_cast<const char*>(entry.payload.data()),
                                            text.data(), static_cast<int>(entry.payload.size()),
                                            static_cast<int>(text.size()));
      whole = bytes >= 0 && static_cast<std::size_t>(bytes) == text.size();
      break;
    }
  }
  if (!whole) {
    return Status(Code::kInvalidArgument, "fat binary: compressed PTX of compute_" +
                                              std::to_string(entry.arch) + " is damaged");
  }
  // Text is padded with zeros to a multiple of eight bytes.
  text.resize(text.find_last_not_of('\0') + 1);
  return text;
}

}  // namespace xception::emulator
