// What the program says on standard error, and the numbers it ends with.
#pragma once

#include <cstddef>
#include <string>

#include "xception/status.h"

namespace xception::cli {

constexpr int kExitSomeFailed = 1;  // of the inputs, or the output could not be written
constexpr int kExitUsage = 2;
constexpr int kExitModel = 3;
constexpr int kExitDevice = 4;  // or its memory, the host's too
constexpr int kExitTolerance = 5;

// The exit status that a failure of the whole run means. A failed input costs its own record only.
int exit_status(Code code);

// Failures of a file that an option names: a model that cannot be read is refused like one that is
// damaged, and any other such file makes the command line one that cannot be met.
Status as_model_failure(const Status& status);
Status as_usage_failure(const Status& status);

// One line on standard error: "xception-infer: " and the message.
void say(const std::string& message);

// The text with control characters as \xNN, so that a file's name cannot break a line or a
// terminal.
std::string printable(const std::string& text);

// Characters of UTF-8 text, so that columns line up.
std::size_t text_width(const std::string& text);

}  // namespace xception::cli
