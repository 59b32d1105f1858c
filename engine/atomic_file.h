// A file that appears when it is complete: a full disk or an interruption costs no older one.
#pragma once

#include <cstddef>
#include <string>

#include "xception/status.h"

namespace xception {

// Where writing to `path` would end up: the absolute path behind symbolic links, the file of which
// need not be there. `path` itself where that cannot be told.
std::string behind_links(const std::string& path);

// "cannot write `name`: " and what the error number means; kIo.
Status write_error(const std::string& name, int error);

// Written as TARGET.PID.part (PID-2 and so on where that is taken), with the permissions of the
// older file, where TARGET is what the path leads to behind symbolic links. One thread at a time;
// several may write to one path, and the last to finish wins.
class AtomicFile {
 public:
  AtomicFile() = default;  // nothing, until open()
  ~AtomicFile();           // removes what was not finished
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // All fail with kIo and name the path. open() replaces regular files alone.
  Status open(const std::string& path);
  Status write(const char* data, std::size_t size);
  // Gives it its name.
  Status finish();
  // Closes it and leaves it under its temporary name, which is returned.
  Result<std::string> keep();

  // -1 where it is not open.
  int descriptor() const { return descriptor_; }

 private:
  Status failure(int error) const;
  Status close();

  int descriptor_ = -1;
  std::string path_;
  std::string target_;
  std::string temporary_;
};

}  // namespace xception
