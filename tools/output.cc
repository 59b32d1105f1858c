#include "output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "message.h"

namespace xception::cli {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{64} << 10;

}  // namespace

std::string behind_links(const std::string& path) {
  namespace fs = std::filesystem;
  constexpr int kMostLinks = 40;  // as the system follows
  std::error_code error;
  fs::path target = path;
  for (int i = 0; i < kMostLinks && fs::is_symlink(target, error); ++i) {
    target =
        target.parent_path() / fs::read_symlink(target, error);  // an absolute one stands alone
  }
  const fs::path resolved = fs::weakly_canonical(target, error);
  return error ? path : resolved.string();
}

Output::~Output() {
  if (fd_ > STDERR_FILENO) {
    ::close(fd_);
  }
  if (!temporary_.empty()) {
    ::unlink(temporary_.c_str());
  }
}

Status Output::failure(int error) const {
  const std::string name = path_.empty() ? "standard output" : "'" + path_ + "'";
  return {Code::kIo, "cannot write " + name + ": " + std::strerror(error)};
}

Status Output::open(const std::string& path) {
  path_ = path;
  if (path.empty()) {
    fd_ = STDOUT_FILENO;
    return {};
  }
  struct stat info {};
  const bool exists = ::stat(path.c_str(), &info) == 0;
  if (!exists && errno == ELOOP) {
    return failure(ELOOP);
  }
  // What this process writes to already is not to be replaced behind its back: /dev/stdout may be
  // a file that others have begun.
  for (const int own : {STDOUT_FILENO, STDERR_FILENO}) {
    struct stat other {};
    if (exists && ::fstat(own, &other) == 0 && info.st_dev == other.st_dev &&
        info.st_ino == other.st_ino) {
      fd_ = ::fcntl(own, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
      return fd_ < 0 ? failure(errno) : Status();
    }
  }
  if (exists && !S_ISREG(info.st_mode)) {
    fd_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    return fd_ < 0 ? failure(errno) : Status();
  }
  target_ = behind_links(path);
  const std::string temporary = target_ + '.' + std::to_string(::getpid()) + ".part";
  // What others cannot read of an older file they cannot read of the new one at any time.
  constexpr mode_t kNew = 0666;
  fd_ = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
               exists ? info.st_mode & kNew : kNew);
  if (fd_ < 0) {
    return failure(errno);
  }
  temporary_ = temporary;
  if (exists) {  // what new files do not get comes back
    constexpr mode_t kPermissions = 0777;
    static_cast<void>(::fchmod(fd_, info.st_mode & kPermissions));
  }
  return {};
}

Status Output::write(std::string_view text) {
  buffer_ += text;
  return buffer_.size() < kBufferBytes ? Status() : flush();
}

Status Output::flush() {
  std::size_t done = 0;
  while (done < buffer_.size() && !closed_pipe_) {
    const ssize_t count = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (count >= 0) {
      done += static_cast<std::size_t>(count);
    } else if (errno != EINTR) {
      closed_pipe_ = errno == EPIPE;
      const int error = errno;
      buffer_.clear();
      return failure(error);
    }
  }
  buffer_.clear();
  return {};
}

Status Output::close() {
  const int fd = fd_;
  fd_ = -1;
  // Standard output too: a full disk may show itself only here.
  return fd >= 0 && ::close(fd) != 0 ? failure(errno) : Status();
}

Status Output::finish() {
  XC_RETURN_IF_ERROR(flush());
  XC_RETURN_IF_ERROR(close());
  if (!temporary_.empty()) {
    if (std::rename(temporary_.c_str(), target_.c_str()) != 0) {
      return failure(errno);
    }
    temporary_.clear();
  }
  return {};
}

Result<std::string> Output::keep_partial() {
  XC_RETURN_IF_ERROR(flush());
  XC_RETURN_IF_ERROR(close());
  std::string kept;
  kept.swap(temporary_);
  return kept;
}

int print_result(const Status& status, const std::string& text) {
  if (!status.ok()) {
    say(status.message());
    return exit_status(status.code());
  }
  Output output;
  Status written = output.open("");
  if (written.ok()) {
    written = output.write(text);
  }
  if (written.ok()) {
    written = output.finish();
  }
  if (!written.ok() && !output.closed_pipe()) {
    say(written.message());
    return kExitSomeFailed;
  }
  return 0;
}

}  // namespace xception::cli
