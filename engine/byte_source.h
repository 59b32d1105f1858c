// Bytes read by position, from a file that is held open or from the caller's memory.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "xception/status.h"

namespace xception {

// Immutable; read() may be called from several threads at once.
class ByteSource {
 public:
  // Opens a regular file, which messages call `what`. Fails with kNotFound or kIo, in a sentence
  // that says what stands there.
  static Result<std::unique_ptr<const ByteSource>> open_file(const std::string& path,
                                                             const std::string& what = "model");

  // `bytes` must outlive the source.
  static std::unique_ptr<const ByteSource> of_memory(std::span<const std::byte> bytes);

  ~ByteSource();
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  const std::string& name() const { return name_; }    // the path, or "(memory)"
  const std::string& title() const { return title_; }  // "model 'name'"
  std::uint64_t size() const { return size_; }         // bytes, as it was at open

  // Fills `bytes` from `offset`; the range lies inside size(). Fails with kIo where the file was
  // cut or written to since open_file.
  Status read(std::uint64_t offset, std::span<std::byte> bytes) const;

 private:
  ByteSource(std::string name, const std::string& what);
  Status check_unchanged() const;

  std::string name_;
  std::string title_;
  std::uint64_t size_ = 0;
  int fd_ = -1;                        // owned; -1 where the bytes are in memory
  timespec modified_ = {};             // of the file at open
  std::span<const std::byte> memory_;  // empty where the bytes are in a file
};

}  // namespace xception
