#include "progress.h"

#include <unistd.h>

#include <cstdio>

namespace xception::cli {

Progress::Progress(const Options& options, std::size_t count)
    : count_(count),
      shown_(!options.quiet && !options.no_progress && ::isatty(STDERR_FILENO) == 1 &&
             (!options.output.empty() || ::isatty(STDOUT_FILENO) == 0)) {}

void Progress::update(const Totals& totals) {
  const double elapsed = seconds_since(totals.start);
  if (!shown_ || elapsed < 1.0 || elapsed - last_ < 0.2) {
    return;
  }
  last_ = elapsed;
  std::fprintf(stderr, "\r%zu of %zu pictures, %.1f a second\x1b[K", totals.done, count_,
               static_cast<double>(totals.done) / elapsed);
  on_screen_ = true;
}

void Progress::clear() {
  if (on_screen_) {
    std::fputs("\r\x1b[K", stderr);
    on_screen_ = false;
  }
}

}  // namespace xception::cli
