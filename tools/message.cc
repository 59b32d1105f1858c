#include "message.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace xception::cli {

int exit_status(Code code) {
  switch (code) {
    case Code::kOk:
      return 0;
    case Code::kInvalidArgument:
      return kExitUsage;
    case Code::kBadModel:
      return kExitModel;
    case Code::kUnsupported:
    case Code::kDevice:
    case Code::kOutOfMemory:
      return kExitDevice;
    case Code::kNotFound:
    case Code::kIo:
    case Code::kBadImage:
    case Code::kInternal:
      return kExitSomeFailed;
  }
  return kExitSomeFailed;
}

Status as_model_failure(const Status& status) {
  const bool unreadable = status.code() == Code::kNotFound || status.code() == Code::kIo;
  return unreadable ? Status(Code::kBadModel, status.message()) : status;
}

Status as_usage_failure(const Status& status) {
  return status.ok() ? status : Status(Code::kInvalidArgument, status.message());
}

void say(const std::string& message) {
  // One write a line: nothing of another thread or process gets between.
  const std::string line = "xception-infer: " + printable(message) + '\n';
  std::fwrite(line.data(), 1, line.size(), stderr);
}

std::string printable(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (code >= 0x20 && code != 0x7F) {
      safe += c;
      continue;
    }
    std::array<char, 5> escape{};
    std::snprintf(escape.data(), escape.size(), "\\x%02x", static_cast<unsigned>(code));
    safe += escape.data();
  }
  return safe;
}

std::size_t text_width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace xception::cli
