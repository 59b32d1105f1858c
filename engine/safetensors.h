// Reader of safetensors files: strict about the format, and safe against a file that changes
// afterwards.
//
// Tensors are read by position (pread), never mapped: a mapped file that is cut short kills the
// process with SIGBUS on the next touch, and mapped pages count as resident memory beside the
// packed copy. Source of the format: https://github.com/huggingface/safetensors, README, "Format".
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "xception/status.h"

namespace xception {

class ByteSource;

// Element types that a weight may have; I64 occurs as the scalar num_batches_tracked only.
enum class StoredType { kF16, kBF16, kF32, kF64, kI64 };

// Bytes of one element.
std::size_t size_of(StoredType type);

// "F16", as the file spells it.
const char* stored_type_name(StoredType type);

struct TensorEntry {
  std::string name;
  StoredType type = StoredType::kF32;
  std::vector<std::int64_t> shape;  // empty for a scalar
  std::uint64_t begin = 0;          // bytes from the start of the data section
  std::uint64_t end = 0;
  std::vector<float> constant;  // the values of an entry that stands in no file, else empty

  std::int64_t elements() const;
};

// "[728, 1, 3, 3]"
std::string shape_string(std::span<const std::int64_t> shape);

// Immutable after open; every member may be called from several threads at once.
class WeightFile {
 public:
  // Parses and checks the header; no tensor is read yet. The file stays open, so that a file put
  // under the same name later changes nothing. Fails with kNotFound or kIo where the file cannot be
  // read (a directory, say) and with kBadModel where it is no sound safetensors file. Messages call
  // it `what`.
  static Result<std::shared_ptr<const WeightFile>> open(const std::string& path,
                                                        const std::string& what = "model");

  // The same from memory, which must stay valid and unchanged for the life of the WeightFile.
  static Result<std::shared_ptr<const WeightFile>> from_memory(std::span<const std::byte> bytes);

  ~WeightFile();
  WeightFile(const WeightFile&) = delete;
  WeightFile& operator=(const WeightFile&) = delete;

  const std::string& name() const;   // the path, or "(memory)"
  const std::string& title() const;  // what messages call it: "model 'name'"
  const std::vector<TensorEntry>& entries() const { return entries_; }  // in the order of the data
  const TensorEntry* find(std::string_view name) const;                 // null where there is none
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  std::uint64_t data_bytes() const { return data_bytes_; }

  // Reads a floating-point tensor of this file, or a constant, into `values` (entry.elements() of
  // them), converted to float32. Fails with kIo where the file no longer holds what it held at
  // open, and with kBadModel, naming tensor and index, where a value is NaN, infinite, or overflows
  // float32. A change is seen by size and time of modification: one inside the clock's tick (some
  // ms) of open may pass.
  Status read(const TensorEntry& entry, std::span<float> values) const;

  // The same of values.size() elements, `begin` of them into the tensor.
  Status read(const TensorEntry& entry, std::size_t begin, std::span<float> values) const;

  // SHA-256 of the data section in lower-case hex. Fails with kIo as read() does.
  Result<std::string> sha256() const;

 private:
  explicit WeightFile(std::unique_ptr<const ByteSource> source);

  static Result<std::shared_ptr<const WeightFile>> load(std::unique_ptr<const ByteSource> source);
  Status parse();
  Status other_tensor(const TensorEntry& entry, std::size_t values) const;

  std::unique_ptr<const ByteSource> source_;
  std::vector<TensorEntry> entries_;
  std::vector<std::size_t> by_name_;  // indices into entries_, sorted by name
  std::map<std::string, std::string> metadata_;
  std::uint64_t data_begin_ = 0;
  std::uint64_t data_bytes_ = 0;
};

}  // namespace xception
