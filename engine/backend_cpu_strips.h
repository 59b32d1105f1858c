// How the CPU backend cuts the output of a chain into strips, and when that is worth it.
#pragma once

#include <cstdint>
#include <dnnl.hpp>

#include "engine/graph.h"

namespace xception::cpu {

inline int rows_of(const Shape& shape) { return shape.n * shape.h; }

// One convolution and nothing behind it: its strips may be of several rows.
inline bool is_pair(const SeparableChain& chain) { return chain.convs.size() == 1 && !chain.pool; }

// Strips of the rows of an output: of two lengths, the longer by one row.
struct Strips {
  int rows = 0;
  int count = 0;

  int first_row(int strip) const { return static_cast<int>(std::int64_t{strip} * rows / count); }
  int shorter() const { return rows / count; }
  int longer() const { return shorter() + (rows % count == 0 ? 0 : 1); }
};

// Of about 256 pixels, or of one row where that is longer: oneDNN's blocks of rows are full, and a
// strip of 728 channels takes three quarters of a MiB. As many for each thread, where there are
// rows for that.
Strips cut_evenly(const Shape& dst, int threads);

// Whether the step of a chain of `src`, with activations of `type`, on so many threads, is worth
// it.
bool gains_by_strips(const SeparableChain& chain, const Shape& src, dnnl::memory::data_type type,
                     int threads);

}  // namespace xception::cpu
