// Classifies pictures: see docs/command-line.md.
#include <cstdio>
#include <exception>
#include <new>
#include <optional>

#include "classify.h"
#include "interrupt.h"
#include "message.h"
#include "options.h"

namespace {

int run(int argc, char** argv) {
  using namespace xception::cli;
  Options options;
  if (const std::optional<int> status = parse_options(argc, argv, options)) {
    return *status;
  }
  catch_interrupts();
  switch (options.mode) {
    case Mode::kClassify:
    default:
      break;
  }
  return classify(options);
}

}  // namespace

int main(int argc, char** argv) {
  using xception::cli::say;
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    say("not enough memory; use a smaller --batch, or fewer --jobs");
  } catch (const std::exception& error) {
    say(std::string("this should not happen, please report it: ") + error.what());
  }
  return xception::cli::kExitSomeFailed;
}
