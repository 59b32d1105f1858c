// Failures as values: Status carries a code and one sentence that says what failed, where, and what
// to do about it; Result<T> is a value or such a Status. Nothing in libengine throws across its
// public boundary, but what a callback of the caller's throws, and std::bad_alloc where a function
// returns neither. Both types are value types, safe to copy between threads.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <utility>

#pragma GCC visibility push(default)  // what programs see of the shared library

namespace xception {

enum class Code {
  kOk = 0,
  kInvalidArgument,  // the caller's request cannot be met as it stands (shape, option, value)
  kNotFound,         // a file that was named is not there
  kIo,               // the operating system refused a read or a write
  kBadModel,         // a weight file that is damaged, or is no network of ours
  kBadImage,         // an image file that is damaged, too large, or in an unknown format
  kUnsupported,      // valid, but this build or this machine cannot do it
  kDevice,           // the accelerator is not there, or it or its driver failed
  kOutOfMemory,
  kInternal,  // a bug of ours or of a library below us
};

// The code's name in lower case with underscores, as JSON records print it: "bad_model".
const char* code_name(Code code);

class [[nodiscard]] Status {
 public:
  Status() = default;  // success
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

  // The same failure with `context + ": "` in front of the message; success stays success.
  Status with_context(const std::string& context) const {
    return ok() ? *this : Status(code_, context + ": " + message_);
  }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    assert(!status_.ok() && "a Result without a value needs a failure");
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }

  // Only after ok().
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return *std::move(value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace xception

#pragma GCC visibility pop

// Leaves the enclosing function with the failure, if `expr` is one.
#define XC_RETURN_IF_ERROR(expr)                                  \
  do {                                                            \
    if (::xception::Status xc_status = (expr); !xc_status.ok()) { \
      return xc_status;                                           \
    }                                                             \
  } while (false)
