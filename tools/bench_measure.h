// What bench times: a session with pictures to run on, and the clock around it.
#pragma once

#include <cstddef>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "xception/engine.h"

namespace xception::bench {

struct Configuration {
  std::string model;  // path
  std::string arch;   // empty: what the file says
  std::string device = "auto";
  Precision precision = Precision::kFp32;
  int batch = 1;
  int height = 0;  // 0: the model's own size
  int width = 0;
  int threads = 0;            // 0: as many as OpenMP takes
  bool network_only = false;  // time no copies of a run: Session::time_network
};

// What a figure was taken on: "cpu", or a GPU with its name and size.
std::string device_text(const SessionInfo& info);

// "batch 8, 299x299, fp32, 2 threads", for messages.
std::string to_string(const Configuration& configuration);

struct Effort {
  double warmup_s = 0.2;
  double duration_s = 3;  // time to spend on timed runs, of which there are at least three
  int runs = 0;           // if positive: this many timed runs, whatever they take
  std::vector<double> percentiles = {50, 90, 99};
};

// A session, the pictures it runs on (drawn, the same every time) and room for its logits.
struct Workload {
  static Result<Workload> open(const Configuration& configuration);

  // Pictures from a float32 .npy file, N x 3 x H x W or N x H x W x 3, in place of the drawn ones.
  Status read_input(const std::string& path);
  Status write_logits(const std::string& path) const;  // float32 .npy, N x classes

  // One run from host memory to host memory. Returns seconds.
  Result<double> run();
  // What is to be timed, once, after a run: another one, or the network alone.
  Result<double> time();

  std::shared_ptr<const Model> model;
  Session session;
  std::vector<float> images;
  Layout layout = Layout::kNHWC;
  std::vector<float> logits;
  double load_s = 0;    // Model::load
  double create_s = 0;  // Session::create
  bool network_only = false;
};

// Whether `count` measurements that took `seconds` are what the effort asks for.
bool is_enough(const Effort& effort, std::size_t count, double seconds);

// The seconds of each timed run, after those that warm up.
Result<std::vector<double>> timed_runs(Workload& workload, const Effort& effort);

// Resident memory of this process now, in bytes; 0 where /proc is not there.
std::size_t resident_bytes();

// One row of the report: the configuration as it came out (device, precision, threads, batch,
// height, width), what was timed ("run", "network"), runs, images_per_s, ms_per_image, latency_ms
// {min, mean, p50, ...}, gmacs, gflops_per_s, arena_bytes, parameter_bytes, load_ms, create_ms,
// first_run_ms and peak_rss_bytes.
//
// Measured in a forked process of its own, so that loading starts cold (code generated for an
// earlier row would be reused) and the peak of memory is this row's alone. Call it from a process
// with one thread.
Result<nlohmann::ordered_json> measure_model(const Configuration& configuration,
                                             const Effort& effort);

}  // namespace xception::bench
