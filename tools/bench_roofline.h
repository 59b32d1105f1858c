// The roofline: how soon a layer could be done at the soonest, by what the device can multiply and
// what its memory can move (Williams, Waterman, Patterson: "Roofline: An Insightful Visual
// Performance Model for Multicore Architectures").
#pragma once

#include <optional>
#include <string>

#include "xception/engine.h"

namespace xception::bench {

struct Roofline {
  DevicePeak peak;
  std::string source;  // "rated": by the clocks of a GPU; "measured": on the CPU, just now
};

// Of the device that a session runs on, with as many threads. On the CPU it is measured, in a
// quarter of a second: loops that multiply and add in registers, and copies between buffers of
// twice the last cache (at most 1 GiB). Nothing where there is no memory or no thread for that, and
// where neither is to be had: of slow loops, of an emulator, of GPUs whose rates are not known, and
// of bf16 where the CPU has it in another way than AVX512_BF16.
std::optional<Roofline> find_roofline(const SessionInfo& info);

// The seconds that so many multiply-adds and bytes take at least.
double bound_s(const Roofline& roofline, double macs, double bytes);

}  // namespace xception::bench
