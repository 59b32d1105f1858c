#include "image_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

namespace xception {
namespace {

constexpr std::size_t kMaxFileBytes = std::size_t{1} << 30;
constexpr std::size_t kFirstChunk = std::size_t{64} << 10;

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
                "cannot read " + name + ": " + std::strerror(error));
}

Result<std::vector<std::byte>> read_all(int fd, const std::string& name, std::size_t expected) {
  std::vector<std::byte> bytes(expected > 0 ? expected + 1 : kFirstChunk);
  std::size_t filled = 0;
  for (;;) {
    if (filled == bytes.size()) {
      bytes.resize(std::min(bytes.size() * 2, kMaxFileBytes + 1));
    }
    const ssize_t got = ::read(fd, bytes.data() + filled, bytes.size() - filled);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      return io_error(name, errno);
    }
    if (got == 0) {
      break;
    }
    filled += static_cast<std::size_t>(got);
    if (filled > kMaxFileBytes) {
      return Status(Code::kBadImage, name + " holds more than 1 GiB, which is no input for this");
    }
  }
  if (filled == 0) {
    return Status(Code::kBadImage, name + " is empty");
  }
  bytes.resize(filled);
  return bytes;
}

}  // namespace

Result<std::vector<std::byte>> read_file(const std::string& path) {
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
  if (size > kMaxFileBytes) {
    return Status(Code::kBadImage, name + " holds more than 1 GiB, which is no input for this");
  }
  try {
    return read_all(fd.get(), name, size);
  } catch (const std::bad_alloc&) {
    return Status(Code::kOutOfMemory, "not enough memory to read " + name);
  }
}

}  // namespace xception
