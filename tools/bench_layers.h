// What the layers of a network take: one after the other, as a run has them, and each kind of them
// by itself.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "bench_measure.h"

namespace xception::bench {

// {session, rows}. Of the session: device, precision, threads, input, roofline {flops_per_s,
// bytes_per_s, source}, which is null where it is not known, runs, run_ms, the median of as many
// whole runs, and steps_ms, the sum of the steps' medians. A row is a step, in the order they run:
// name, operation, implementation, inputs, output, macs, bytes (inputs and packed weights read,
// output written), median_ms, share (of steps_ms), gflops_per_s, gb_per_s and roofline_share, what
// the roofline allows at the soonest over the median; null where there is none. Half of the
// effort's duration goes into either kind of run.
Result<nlohmann::ordered_json> measure_layers(Workload& workload, const Effort& effort);

struct KernelChoice {
  std::string layer;    // those that layers with this in their name run; empty: all
  bool verify = false;  // also compare what the layers compute with the double-precision loops
};

// The same of kernels: what layers of the same operation, implementation and shapes run is one row,
// which says how many such layers there are (`times`) and has no share, but the number of `series`.
// Each runs by itself, back to back, in series of a millisecond or more; median_ms is the median
// over the series. In place of runs, run_ms and steps_ms the session has kernels_ms, the sum of the
// medians, each as often as the network runs it, where all are measured.
//
// With `verify` a row has `difference`, the greatest of its layers', and the session
// `logits_difference` with what it may be, `tolerance`: max |d| over max |reference|, of this
// network against device "reference" on the same pictures. So the differences of the layers before
// are in a layer's; null: not a number. Fails with kInvalidArgument where no layer has choice.layer
// in its name.
Result<nlohmann::ordered_json> measure_kernels(Workload& workload, const Effort& effort,
                                               const KernelChoice& choice);

}  // namespace xception::bench
