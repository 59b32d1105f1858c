// How far a run has come, and the line on a terminal that tells it.
#pragma once

#include <cstddef>

#include "options.h"
#include "stopwatch.h"

namespace xception::cli {

// Figures of a run: what -v prints at its end, and the progress line.
struct Totals {
  Clock::time_point start = Clock::now();
  std::size_t done = 0;
  std::size_t failed = 0;
  double decode = 0;      // summed over the threads
  double preprocess = 0;  // summed over the threads
  double prepare = 0;     // sessions for sizes of batch or picture that came anew
  double compute = 0;
  double idle = 0;  // the network waited for a picture
};

class Progress {
 public:
  Progress(const Options& options, std::size_t count);
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Writes the line anew, at most five times a second, and not in the first.
  void update(const Totals& totals);
  // Takes it away, before anything else is written.
  void clear();

 private:
  std::size_t count_;
  bool shown_;
  bool on_screen_ = false;
  double last_ = 0;
};

}  // namespace xception::cli
