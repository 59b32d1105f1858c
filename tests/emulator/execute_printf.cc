// The device's system calls: vprintf and __assertfail.
#include <bit>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>

#include "tests/emulator/execute.h"
#include "tests/emulator/execute_memory.h"

namespace xception::emulator {
namespace {

std::uint64_t argument(Warp& warp, const Call& call, std::size_t index, int lane) {
  std::uint64_t value = 0;
  if (index < call.arguments.size()) {
    const Frame& frame = warp.frame();
    std::memcpy(&value,
                const_cast<Frame&>(frame).parameters.data() +
                    static_cast<std::size_t>(lane) * frame.function->parameter_bytes +
                    call.arguments[index].offset,
                std::min<std::size_t>(call.arguments[index].bytes, sizeof value));
  }
  return value;
}

// One lane's bytes at a generic address; false after a fault.
bool read_bytes(Warp& warp, Address address, std::size_t bytes, int lane, void* value) {
  Address addresses[kLanes] = {};
  std::byte* sources[kLanes] = {};
  addresses[lane] = address;
  if (touch(warp, Access::kRead, Space::kGeneric, bytes, LaneMask{1} << lane, addresses, sources,
            nullptr) != Flow::kNext) {
    return false;
  }
  std::memcpy(value, sources[lane], bytes);
  return true;
}

std::optional<std::string> read_string(Warp& warp, Address address, int lane) {
  constexpr std::size_t kMost = 1 << 16;
  std::string text;
  for (char c = 0; text.size() < kMost; text += c, ++address) {
    if (!read_bytes(warp, address, 1, lane, &c)) {
      return std::nullopt;
    }
    if (c == '\0') {
      break;
    }
  }
  return text;
}

// Formats one lane's arguments, which stand in a buffer as C's varargs: 4 or 8 bytes each, at
// multiples of their size. Nothing after a fault.
class Formatter {
 public:
  Formatter(Warp& warp, int lane, Address arguments) : warp_(warp), lane_(lane), next_(arguments) {}

  std::optional<std::string> format(const std::string& text) {
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '%') {
        result += text[i];
        continue;
      }
      const std::size_t begin = i++;
      if (i < text.size() && text[i] == '%') {
        result += '%';
        continue;
      }
      std::string specification = "%";
      while (i < text.size() && std::strchr("-+ #0123456789.*", text[i]) != nullptr) {
        if (text[i] == '*') {
          std::int32_t width = 0;
          if (!take(&width)) {
            return std::nullopt;
          }
          specification += std::to_string(width);
        } else {
          specification += text[i];
        }
        ++i;
      }
      std::string length;
      while (i < text.size() && std::strchr("hljztL", text[i]) != nullptr) {
        length += text[i++];
      }
      if (i >= text.size()) {
        result += text.substr(begin);
        break;
      }
      if (!convert(specification, length, text[i], &result)) {
        return std::nullopt;
      }
    }
    return result;
  }

 private:
  template <class T>
  bool take(T* value) {
    next_ = (next_ + sizeof(T) - 1) / sizeof(T) * sizeof(T);
    const bool read = read_bytes(warp_, next_, sizeof(T), lane_, value);
    next_ += sizeof(T);
    return read;
  }

  template <class T>
  static void print(const std::string& specification, T value, std::string* result) {
    const int size = std::snprintf(nullptr, 0, specification.c_str(), value);
    std::string text(static_cast<std::size_t>(std::max(size, 0)) + 1, '\0');
    std::snprintf(text.data(), text.size(), specification.c_str(), value);
    text.pop_back();
    *result += text;
  }

  bool convert(const std::string& specification, const std::string& length, char kind,
               std::string* result) {
    if (std::strchr("aAeEfFgG", kind) != nullptr) {
      double value = 0;
      if (!take(&value)) {
        return false;
      }
      print(specification + kind, value, result);
    } else if (kind == 's') {
      Address address = 0;
      if (!take(&address)) {
        return false;
      }
      const std::optional<std::string> text = read_string(warp_, address, lane_);
      if (!text) {
        return false;
      }
      print(specification + 's', text->c_str(), result);
    } else if (kind == 'p' || length.find_first_of("ljzt") != std::string::npos) {
      std::uint64_t value = 0;
      if (!take(&value)) {
        return false;
      }
      kind == 'p' ? print(specification + "p", reinterpret_cast<void*>(value), result)
                  : print(specification + "ll" + kind, static_cast<long long>(value), result);
    } else {
      std::int32_t value = 0;
      if (!take(&value)) {
        return false;
      }
      print(specification + length + kind, value, result);
    }
    return true;
  }

  Warp& warp_;
  int lane_;
  Address next_;
};

}  // namespace

Flow execute_printf(Warp& warp, const Call& call, LaneMask mask) {
  for (LaneMask rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const std::optional<std::string> format =
        read_string(warp, argument(warp, call, 0, lane), lane);
    if (!format) {
      return Flow::kFault;
    }
    const std::optional<std::string> text =
        Formatter(warp, lane, argument(warp, call, 1, lane)).format(*format);
    if (!text) {
      return Flow::kFault;
    }
    std::fwrite(text->data(), 1, text->size(), stdout);
    if (!call.returns.empty()) {
      const auto size = static_cast<std::int32_t>(text->size());
      Frame& frame = warp.frame();
      std::memcpy(frame.parameters.data() +
                      static_cast<std::size_t>(lane) * frame.function->parameter_bytes +
                      call.returns[0].offset,
                  &size, sizeof size);
    }
  }
  std::fflush(stdout);
  return Flow::kNext;
}

Flow execute_assert(Warp& warp, const Call& call, LaneMask mask) {
  const int lane = std::countr_zero(mask);
  const std::optional<std::string> message = read_string(warp, argument(warp, call, 0, lane), lane);
  const std::optional<std::string> file = read_string(warp, argument(warp, call, 1, lane), lane);
  if (!message || !file) {
    return Flow::kFault;
  }
  const auto line = static_cast<std::uint32_t>(argument(warp, call, 2, lane));
  return warp.fail(FaultKind::kTrap,
                   *file + ":" + std::to_string(line) + ": assertion `" + *message + "' failed",
                   lane);
}

}  // namespace xception::emulator
