#include "atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "descriptor.h"
#include "system_message.h"

namespace xception {

std::string behind_links(const std::string& path) {
  namespace fs = std::filesystem;
  constexpr int kMostLinks = 40;  // as the system follows
  std::error_code error;
  fs::path target = fs::absolute(path, error);
  for (int i = 0; i < kMostLinks && fs::is_symlink(target, error); ++i) {
    target =
        target.parent_path() / fs::read_symlink(target, error);  // an absolute one stands alone
  }
  fs::path resolved = fs::weakly_canonical(target, error);
  if (!resolved.has_filename()) {  // "folder/", which is still to come
    resolved = resolved.parent_path();
  }
  return error ? path : resolved.string();
}

Status write_error(const std::string& name, int error) {
  return {Code::kIo, "cannot write " + name + ": " + system_message(error)};
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
  if (!temporary_.empty()) {
    ::unlink(temporary_.c_str());
  }
}

Status AtomicFile::failure(int error) const { return write_error("'" + path_ + "'", error); }

Status AtomicFile::open(const std::string& path) {
  path_ = path;
  struct stat info {};
  const bool exists = ::stat(path.c_str(), &info) == 0;
  if (!exists && errno == ELOOP) {
    return failure(ELOOP);
  }
  if (!exists && path.ends_with('/')) {
    return errno == ENOENT ? Status(Code::kIo, "cannot write '" + path + "': it names a folder")
                           : failure(errno);
  }
  if (exists && !S_ISREG(info.st_mode)) {
    return {Code::kIo, "cannot write '" + path + "': it is not a regular file"};
  }
  target_ = behind_links(path);
  // What others cannot read of an older file they cannot read of the new one at any time.
  constexpr mode_t kNew = 0666;
  const mode_t mode = exists ? info.st_mode & kNew : kNew;
  // A file's name has at most 255 bytes: of a longer target's, the temporary has the beginning.
  constexpr std::size_t kMostOfTarget = 255 - sizeof(".4194304-1000000.part");
  const std::size_t folder = target_.rfind('/') + 1;
  const std::string name =
      target_.substr(0, folder + kMostOfTarget) + '.' + std::to_string(::getpid());
  std::string temporary = name + ".part";
  const auto create = [&] {
    descriptor_ = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    return descriptor_ >= 0 || errno != EEXIST;
  };
  for (int i = 2; !create(); ++i) {  // another thread's, or left by an earlier process
    temporary = name + '-' + std::to_string(i) + ".part";
  }
  if (descriptor_ < 0) {
    return errno == ENOENT || errno == ENOTDIR
               ? failure(errno)
               : write_error("'" + path_ + "', for no file can be made beside it", errno);
  }
  temporary_ = std::move(temporary);
  if (exists) {  // what new files do not get comes back
    constexpr mode_t kPermissions = 0777;
    static_cast<void>(::fchmod(descriptor_, info.st_mode & kPermissions));
  }
  return {};
}

Status AtomicFile::write(const char* data, std::size_t size) {
  const int error = write_all(descriptor_, data, size);
  return error == 0 ? Status() : failure(error);
}

Status AtomicFile::close() {
  const int descriptor = descriptor_;
  descriptor_ = -1;
  // A full disk may show itself only here.
  return ::close(descriptor) != 0 ? failure(errno) : Status();
}

Status AtomicFile::finish() {
  XC_RETURN_IF_ERROR(close());
  if (std::rename(temporary_.c_str(), target_.c_str()) != 0) {
    return failure(errno);
  }
  temporary_.clear();
  return {};
}

Result<std::string> AtomicFile::keep() {
  XC_RETURN_IF_ERROR(close());
  std::string kept;
  kept.swap(temporary_);
  return kept;
}

}  // namespace xception
