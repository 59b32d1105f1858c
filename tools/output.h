// Where results go: standard output, or a file that appears when it is complete.
#pragma once

#include <cerrno>
#include <string>
#include <string_view>

#include "engine/atomic_file.h"
#include "xception/status.h"

namespace xception::cli {

class Output {
 public:
  Output() = default;  // nowhere, until open()
  ~Output();           // an unfinished file is removed
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  // `path` empty: standard output. A regular file is an AtomicFile, so that an older one lives
  // until finish(); anything else (a pipe, a device) is written directly.
  Status open(const std::string& path);

  // Buffers; the buffer goes out in flush() and when it is large.
  Status write(std::string_view text);
  Status flush();

  // Flushes, and gives a temporary file its name.
  Status finish();

  // Flushes, and leaves a temporary file as it is: the run came to no end. Returns its name, or
  // "" where there is none.
  Result<std::string> keep_partial();

  // The reader went away: nothing more can be written, and that is no failure worth telling.
  bool closed_pipe() const { return error_ == EPIPE; }

 private:
  Status failure(int error) const;
  int descriptor() const;

  std::string path_;
  AtomicFile file_;
  int own_ = -1;  // of what is written directly
  std::string buffer_;
  int error_ = 0;  // of the first write that failed: nothing is written behind the gap
};

// Ends a run that prints one text: the failure on standard error, or the text on standard output.
// Returns the exit status; a closed pipe is no failure.
int print_result(const Status& status, const std::string& text);

}  // namespace xception::cli
