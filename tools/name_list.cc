#include "name_list.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "engine/descriptor.h"

namespace xception::cli {
namespace {

constexpr std::size_t kMostBytes = std::size_t{64} << 20;
constexpr std::size_t kMostEntryBytes = std::size_t{1} << 20;
constexpr std::size_t kMostEntries = std::size_t{1} << 21;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// Splits what it is fed into entries.
class Splitter {
 public:
  Splitter(char separator, const std::string& nul_remedy)
      : separator_(separator), nul_remedy_(nul_remedy) {}

  // Empty, or what is wrong with the text.
  std::string feed(std::string_view text) {
    bytes_ += text.size();
    while (!text.empty()) {
      const std::size_t end = std::min(text.find(separator_), text.size());
      entry_ += text.substr(0, end);
      if (separator_ != '\0' && entry_.find('\0') != std::string::npos) {
        return "has NUL bytes in its lines and is no text" + nul_remedy_;
      }
      if (entry_.size() > kMostEntryBytes) {
        return "has an entry of more than 1 MiB, which is no name";
      }
      if (bytes_ > kMostBytes) {
        return "holds more than 64 MiB, which is no list of names";
      }
      if (end < text.size()) {
        finish_entry();
      }
      if (entries_.size() > kMostEntries) {
        return "has more than 2097152 entries; split it";
      }
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return {};
  }

  std::vector<std::string> take() {
    if (!entry_.empty()) {
      finish_entry();
    }
    return std::move(entries_);
  }

 private:
  void finish_entry() {
    if (separator_ == '\n') {
      if (!entry_.empty() && entry_.back() == '\r') {
        entry_.pop_back();
      }
      if (entries_.empty() && entry_.starts_with(kByteOrderMark)) {
        entry_.erase(0, kByteOrderMark.size());
      }
    }
    entries_.push_back(std::exchange(entry_, {}));
  }

  char separator_;
  const std::string& nul_remedy_;
  std::size_t bytes_ = 0;
  std::string entry_;  // the last one, unfinished
  std::vector<std::string> entries_;
};

// Empty, or why the file behind `fd` could not be read to its end.
std::string feed_file(int fd, Splitter& splitter) {
  std::array<char, 1 << 16> buffer;
  for (;;) {
    const std::ptrdiff_t count = read_some(fd, buffer.data(), buffer.size());
    if (count == 0) {
      return {};
    }
    if (count < 0) {
      return std::string("cannot be read: ") + std::strerror(errno);
    }
    std::string problem = splitter.feed({buffer.data(), static_cast<std::size_t>(count)});
    if (!problem.empty()) {
      return problem;
    }
  }
}

}  // namespace

Result<std::vector<std::string>> read_name_list(const std::string& path, char separator,
                                                const std::string& what,
                                                const std::string& nul_remedy) {
  const bool from_stdin = path == "-";
  const std::string name =
      "the file of " + what + (from_stdin ? " on standard input " : " '" + path + "' ");
  const int fd = from_stdin ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return Status(Code::kInvalidArgument, name + "cannot be read: " + std::strerror(errno));
  }
  Splitter splitter(separator, nul_remedy);
  const std::string problem = feed_file(fd, splitter);
  if (!from_stdin) {
    ::close(fd);
  }
  if (!problem.empty()) {
    return Status(Code::kInvalidArgument, name + problem);
  }
  return splitter.take();
}

}  // namespace xception::cli
