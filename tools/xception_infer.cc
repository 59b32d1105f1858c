// Classifies pictures: see docs/command-line.md.
#include <fcntl.h>
#include <unistd.h>

#include <exception>
#include <new>
#include <optional>
#include <string>

#include "about.h"
#include "classify.h"
#include "compare.h"
#include "interrupt.h"
#include "message.h"
#include "options.h"
#include "output.h"
#include "plan_report.h"
#include "spin.h"

namespace xception::cli {
namespace {

// A file that is opened must not become a closed standard stream, or messages would go into the
// results. The wrong way round, so that using such a stream still fails.
void fill_standard_descriptors() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) < 0) {
      // Gets the lowest free number, which is this one.
      ::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    }
  }
}

int run(int argc, char** argv) {
  Options options;
  if (const std::optional<int> status = parse_options(argc, argv, options)) {
    return *status;
  }
  switch (options.mode) {
    case Mode::kClassify:
      return classify(options);
    case Mode::kInfo:
      return print_info(options);
    case Mode::kProfile:
      return print_profile(options);
    case Mode::kCompare:
      return compare(options);
    case Mode::kListDevices:
      return print_result({}, devices_text());
    case Mode::kVersion:
      return print_result({}, version_text());
  }
  return kExitUsage;
}

}  // namespace
}  // namespace xception::cli

int main(int argc, char** argv) {
  using xception::cli::say;
  xception::cli::fill_standard_descriptors();
  xception::shorten_openmp_spin(argv);
  xception::cli::ignore_write_signals();
  try {
    return xception::cli::run(argc, argv);
  } catch (const std::bad_alloc&) {
    say("not enough memory; use a smaller --batch, or fewer --jobs");
    return xception::cli::kExitDevice;
  } catch (const std::exception& error) {
    say(std::string("this should not happen, please report it: ") + error.what());
  }
  return xception::cli::kExitSomeFailed;
}
