#include "engine/byte_source.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/system_message.h"

namespace xception {
namespace {

Status cannot_open(Code code, const std::string& title, const std::string& why) {
  return Status(code, "cannot open " + title + ": " + why);
}

Status open_failure(const std::string& title, int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return cannot_open(Code::kNotFound, title, "there is no such file");
    case EACCES:
    case EPERM:
      return cannot_open(Code::kIo, title, "permission to read it is denied");
    case ENXIO:  // a socket
      return cannot_open(Code::kIo, title, "it is no regular file, expected a .safetensors file");
    default:
      return cannot_open(Code::kIo, title, system_message(error));
  }
}

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) {
    return "a directory";
  }
  return S_ISFIFO(mode) ? "a pipe" : "a device";
}

}  // namespace

ByteSource::ByteSource(std::string name, const std::string& what)
    : name_(std::move(name)), title_(what + " '" + name_ + "'") {}

Result<std::unique_ptr<const ByteSource>> ByteSource::open_file(const std::string& path,
                                                                const std::string& what) {
  if (path.find('\0') != std::string::npos) {
    return cannot_open(Code::kInvalidArgument, what + " '" + path.c_str() + "'",
                       "its name has a zero byte in it");
  }
  std::unique_ptr<ByteSource> source(new ByteSource(path, what));
  // Without O_NONBLOCK, opening a pipe would wait for a writer.
  source->fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (source->fd_ < 0) {
    return open_failure(source->title_, errno);
  }
  struct stat info = {};
  if (::fstat(source->fd_, &info) != 0) {
    return cannot_open(Code::kIo, source->title_, system_message(errno));
  }
  if (!S_ISREG(info.st_mode)) {
    return cannot_open(
        Code::kIo, source->title_,
        std::string("it is ") + kind_of(info.st_mode) + ", expected a .safetensors file");
  }
  source->size_ = static_cast<std::uint64_t>(info.st_size);
  source->modified_ = info.st_mtim;
  return std::unique_ptr<const ByteSource>(std::move(source));
}

std::unique_ptr<const ByteSource> ByteSource::of_memory(std::span<const std::byte> bytes) {
  std::unique_ptr<ByteSource> source(new ByteSource("(memory)", "model"));
  source->memory_ = bytes;
  source->size_ = bytes.size();
  return source;
}

ByteSource::~ByteSource() {
  if (fd_ >= 0) {
    ::close(fd_);
  }
}

Status ByteSource::read(std::uint64_t offset, std::span<std::byte> bytes) const {
  if (fd_ < 0) {
    // Not memcpy: both pointers may be null where nothing is to be copied.
    std::copy_n(memory_.begin() + static_cast<std::ptrdiff_t>(offset), bytes.size(), bytes.begin());
    return {};
  }
  while (!bytes.empty()) {
    const ssize_t got = ::pread(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      return Status(Code::kIo, "cannot read " + title_ + ": " + system_message(errno));
    }
    if (got == 0) {
      return Status(Code::kIo, title_ + " changed or was cut after it was loaded; load it again");
    }
    bytes = bytes.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return check_unchanged();  // after the read, so that a write during it is seen too
}

// Size and time of modification only: a rename over the file, as the exporter does, changes its
// link count and so its ctime, but not the bytes that this descriptor reads.
Status ByteSource::check_unchanged() const {
  struct stat info = {};
  if (::fstat(fd_, &info) != 0) {
    return Status(Code::kIo, "cannot read " + title_ + ": " + system_message(errno));
  }
  if (static_cast<std::uint64_t>(info.st_size) != size_ ||
      info.st_mtim.tv_sec != modified_.tv_sec || info.st_mtim.tv_nsec != modified_.tv_nsec) {
    return Status(Code::kIo, title_ + " was changed after it was loaded; load it again");
  }
  return {};
}

}  // namespace xception
