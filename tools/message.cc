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
  int following = 0;  // bytes that the character still has in UTF-8
  bool control = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto code = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    const auto is_c1 = [](unsigned char c) { return c >= 0x80 && c < 0xA0; };
    // U+0080 to U+009F are C2 and their number, terminals without UTF-8 take the number alone.
    control = (control && following > 0) || code < 0x20 || code == 0x7F ||
              (following == 0 && is_c1(code)) || (code == 0xC2 && is_c1(next));
    following = code >= 0xF0   ? 3
                : code >= 0xE0 ? 2
                : code >= 0xC0 ? 1
                : code >= 0x80 ? std::max(following - 1, 0)
                               : 0;
    if (!control) {
      safe += text[i];
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
