// The fat binary that nvcc embeds in a host program: an archive with one entry a GPU architecture.
//
// NVIDIA publishes the wrapper only (fatbinary_section.h). The rest is as nvcc 12.4 to 13.0 writes
// it, little-endian: a header of 16 bytes {u32 magic, u16 version, u16 header bytes, u64 bytes
// behind the header}, then entries, each a header whose first 64 bytes are read here (fatbin.cc)
// and its payload: PTX text or an ELF file, plain or compressed by LZ4 (`--compress-mode=speed`,
// the default before CUDA 12.8) or zstd.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "xception/status.h"

namespace xception::emulator {

struct FatbinEntry {
  enum class Kind { kPtx, kElf, kOther };
  enum class Compression { kNone, kLz4, kZstd };
  // Which devices may take the PTX: any later one, those of its major version (compute_100f), or
  // its own alone (compute_90a).
  enum class Scope { kLater, kFamily, kExact };

  Kind kind = Kind::kOther;
  Compression compression = Compression::kNone;
  Scope scope = Scope::kLater;
  int arch = 0;                        // 10 * major + minor
  std::span<const std::byte> payload;  // as it lies in the binary, without padding
  std::uint64_t plain_bytes = 0;       // of the payload once decompressed
};

// The entries of one fat binary, which start with its header. They point into `image`. Fails with
// kInvalidArgument, naming the offset, where sizes or magic numbers do not fit together; bytes
// behind the binary are not looked at.
Result<std::vector<FatbinEntry>> parse_fatbin(std::span<const std::byte> image);

// The same of the wrapper that the host program hands to __cudaRegisterFatBinary. How long the
// binary is only its own header says, so this trusts it.
Result<std::vector<FatbinEntry>> parse_fatbin_wrapper(const void* wrapper);

// The PTX of the newest architecture that a device of `arch` can take, as the driver's compiler
// chooses it, the narrowest scope first where there are several; null where there is none.
const FatbinEntry* choose_ptx(std::span<const FatbinEntry> entries, int arch);

// The payload, decompressed, as text. Fails with kInvalidArgument where it is damaged and with
// kOutOfMemory where it claims more than 1 GiB.
Result<std::string> ptx_text(const FatbinEntry& entry);

}  // namespace xception::emulator
