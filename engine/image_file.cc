#include "image_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "descriptor.h"
#include "no_throw.h"
#include "system_message.h"

namespace xception {
namespace {

constexpr std::size_t kFirstChunk = std::size_t{64} << 10;
constexpr std::size_t kHead = 4096;

// Closes what it opened; standard input is not ours to close.
class FileDescriptor {
 public:
  FileDescriptor(int fd, bool owned) : fd_(fd), owned_(owned) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (owned_ && fd_ >= 0) {
      ::close(fd_);
    }
  }
  int get() const { return fd_; }

 private:
  int fd_;
  bool owned_;
};

Status io_error(const std::string& name, int error) {
  return Status(error == ENOENT || error == ENOTDIR ? Code::kNotFound : Code::kIo,
                "cannot read " + name + ": " + system_message(error));
}

Status too_long(const std::string& name, std::size_t limit) {
  return Status(Code::kBadImage, name + " holds more than " + std::to_string(limit >> 20) +
                                     " MiB, which is no input for this");
}

Result<std::vector<std::byte>> read_all(int fd, const std::string& name, std::size_t expected,
                                        const FileLimits& limits) {
  std::vector<std::byte> bytes(kFirstChunk);
  std::size_t filled = 0;
  bool checked = !limits.check_head;
  for (bool ended = false; !ended;) {
    if (filled == bytes.size()) {
      // One byte more than is expected, to see the end.
      const std::size_t grown = filled <= expected          ? expected + 1
                                : filled * 2 < limits.bytes ? filled * 2
                                                            : limits.bytes + 1;
      if (limits.before_allocating) {
        limits.before_allocating(static_cast<std::int64_t>(grown));
      }
      bytes.resize(grown);
    }
    const std::ptrdiff_t got = read_some(fd, bytes.data() + filled, bytes.size() - filled);
    if (got < 0) {
      return io_error(name, errno);
    }
    filled += static_cast<std::size_t>(got);
    ended = got == 0;
    if (filled > limits.bytes) {
      return too_long(name, limits.bytes);
    }
    if (!checked && filled > 0 && (ended || filled >= kHead)) {
      XC_RETURN_IF_ERROR(limits.check_head({bytes.data(), filled}).with_context(name));
      checked = true;
    }
  }
  if (filled == 0) {
    return Status(Code::kBadImage, name + " is empty");
  }
  bytes.resize(filled);
  return bytes;
}

}  // namespace

Result<std::vector<std::byte>> read_file(const std::string& path, const FileLimits& limits) {
  if (path.find('\0') != std::string::npos) {
    return Status(Code::kNotFound, "cannot read a file whose name has a zero byte in it");
  }
  const bool is_stdin = path == "-";
  const std::string name = is_stdin ? "standard input" : "'" + path + "'";
  const FileDescriptor fd(is_stdin ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC),
                          !is_stdin);
  if (fd.get() < 0) {
    return io_error(name, errno);
  }
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) {
    return io_error(name, errno);
  }
  if (S_ISDIR(info.st_mode)) {
    return Status(Code::kIo, "cannot read " + name + ": it is a directory, not a file");
  }
  const std::size_t size = S_ISREG(info.st_mode) ? static_cast<std::size_t>(info.st_size) : 0;
  if (size > limits.bytes) {
    return too_long(name, limits.bytes);
  }
  return no_throw([&] { return "not enough memory to read " + name; },
                  [&] { return read_all(fd.get(), name, size, limits); });
}

}  // namespace xception
