// The weight reader: whatever the bytes, a status or a file whose promises hold.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>
#include <vector>

#include "engine/safetensors.h"
#include "engine/safetensors_header.h"

namespace {

using xception::Code;
using xception::TensorEntry;
using xception::WeightFile;

void require(bool condition, const char* what) {
  if (!condition) {
    std::fprintf(stderr, "broken promise: %s\n", what);
    std::abort();
  }
}

void check_entries(const std::vector<TensorEntry>& entries, std::uint64_t data_bytes) {
  std::uint64_t covered = 0;
  for (const TensorEntry& entry : entries) {
    require(entry.begin == covered, "entries follow each other");
    require(entry.end - entry.begin ==
                static_cast<std::uint64_t>(entry.elements()) * size_of(entry.type),
            "shape and extent agree");
    covered = entry.end;
  }
  require(covered == data_bytes, "entries cover the data");
}

void check_file(const WeightFile& file) {
  check_entries(file.entries(), file.data_bytes());
  for (const TensorEntry& entry : file.entries()) {
    require(file.find(entry.name) == &entry, "names are found, and stand once");
    std::vector<float> values(static_cast<std::size_t>(entry.elements()));
    const xception::Status status = file.read(entry, values);
    if (entry.type == xception::StoredType::kI64) {
      require(status.code() == Code::kInvalidArgument, "integers are refused");
      continue;
    }
    require(status.ok() || status.code() == Code::kBadModel, "values are read or refused");
    for (const float value : values) {
      require(!status.ok() || std::isfinite(value), "values that were read are finite");
    }
  }
  require(file.sha256().ok(), "memory can be hashed");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = WeightFile::from_memory(std::as_bytes(std::span(data, size)));
  if (file.ok()) {
    check_file(**file);
  } else {
    require(file.status().code() == Code::kBadModel, "a bad file is called so");
    require(!file.status().message().empty(), "a failure has a message");
  }
  // The same bytes as a header alone: mutations need not keep the length before it right.
  constexpr std::uint64_t kDataBytes = 24;
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  const auto header = xception::parse_safetensors_header(json, kDataBytes);
  if (header.ok()) {
    check_entries(header.value().entries, kDataBytes);
  }
  return 0;
}
