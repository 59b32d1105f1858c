#include "output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "engine/descriptor.h"
#include "message.h"

namespace xception::cli {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{64} << 10;

}  // namespace

Output::~Output() {
  if (own_ > STDERR_FILENO) {
    ::close(own_);
  }
}

int Output::descriptor() const { return own_ >= 0 ? own_ : file_.descriptor(); }

Status Output::failure(int error) const {
  return write_error(path_.empty() ? "standard output" : "'" + path_ + "'", error);
}

Status Output::open(const std::string& path) {
  path_ = path;
  if (path.empty()) {
    own_ = STDOUT_FILENO;
    return {};
  }
  struct stat info {};
  const bool exists = ::stat(path.c_str(), &info) == 0;
  // What this process writes to already is not to be replaced behind its back: /dev/stdout may be
  // a file that others have begun.
  for (const int stream : {STDOUT_FILENO, STDERR_FILENO}) {
    struct stat other {};
    if (exists && ::fstat(stream, &other) == 0 && info.st_dev == other.st_dev &&
        info.st_ino == other.st_ino) {
      own_ = ::fcntl(stream, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
      return own_ < 0 ? failure(errno) : Status();
    }
  }
  if (exists && !S_ISREG(info.st_mode)) {
    own_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    return own_ < 0 ? failure(errno) : Status();
  }
  return file_.open(path);
}

Status Output::write(std::string_view text) {
  buffer_ += text;
  return buffer_.size() < kBufferBytes ? Status() : flush();
}

Status Output::flush() {
  if (error_ == 0) {
    error_ = write_all(descriptor(), buffer_.data(), buffer_.size());
  }
  buffer_.clear();
  return error_ == 0 ? Status() : failure(error_);
}

Status Output::finish() {
  XC_RETURN_IF_ERROR(flush());
  if (own_ < 0) {
    return file_.finish();
  }
  const int own = own_;
  own_ = -1;
  // Standard output too: a full disk may show itself only here.
  return ::close(own) != 0 ? failure(errno) : Status();
}

Result<std::string> Output::keep_partial() {
  if (own_ >= 0) {
    XC_RETURN_IF_ERROR(finish());
    return std::string();
  }
  XC_RETURN_IF_ERROR(flush());
  return file_.keep();
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
