// Classifies pictures: see docs/command-line.md.
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
  xception::shorten_openmp_spin(argv);
  xception::cli::ignore_write_signals();
  try {
    return xception::cli::run(argc, argv);
  } catch (const std::bad_alloc&) {
    say("not enough memory; use a smaller --batch, or fewer --jobs");
  } catch (const std::exception& error) {
    say(std::string("this should not happen, please report it: ") + error.what());
  }
  return xception::cli::kExitSomeFailed;
}
