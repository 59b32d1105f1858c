#include "bench_measure.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <map>
#include <new>
#include <numeric>
#include <random>

#include "bench_report.h"
#include "engine/decimal.h"
#include "engine/descriptor.h"
#include "message.h"
#include "statistics.h"
#include "stopwatch.h"
#include "xception/image.h"

namespace xception::bench {
namespace {

using nlohmann::ordered_json;

// Values in [-1, 1), as normalised pictures have them.
std::vector<float> draw_images(const Shape& shape) {
  std::mt19937 generator(1);
  std::vector<float> images(static_cast<std::size_t>(shape.elements()));
  for (float& value : images) {
    value = static_cast<float>(generator() >> 8) * 0x1p-23F - 1.0F;
  }
  return images;
}

ordered_json latency(const std::vector<double>& times, const std::vector<double>& percentiles) {
  const double sum = std::accumulate(times.begin(), times.end(), 0.0);
  ordered_json result;
  result["min"] = 1e3 * *std::min_element(times.begin(), times.end());
  result["mean"] = 1e3 * sum / static_cast<double>(times.size());
  result["p50"] = 1e3 * percentile_of(times, 50);
  for (const double percentile : percentiles) {
    result['p' + decimal(percentile)] = 1e3 * percentile_of(times, percentile);
  }
  return result;
}

Result<ordered_json> measure_here(const Configuration& configuration, const Effort& effort) {
  Result<Workload> workload = Workload::open(configuration);
  XC_RETURN_IF_ERROR(workload.status());
  const Result<double> first = workload->run();
  XC_RETURN_IF_ERROR(first.status());
  const Result<std::vector<double>> times = timed_runs(*workload, effort);
  XC_RETURN_IF_ERROR(times.status());

  const SessionInfo& info = workload->session.info();
  const double sum = std::accumulate(times->begin(), times->end(), 0.0);
  const double images = static_cast<double>(info.input.n) * static_cast<double>(times->size());
  double macs = 0;
  for (const LayerInfo& layer : info.layers) {
    macs += static_cast<double>(layer.macs);
  }
  ordered_json row;
  row["device"] = device_text(info);
  row["precision"] = precision_name(info.precision);
  row["threads"] = info.threads;
  row["batch"] = info.input.n;
  row["height"] = info.input.h;
  row["width"] = info.input.w;
  row["timed"] = configuration.network_only ? "network" : "run";
  row["runs"] = times->size();
  row["images_per_s"] = images / sum;
  row["ms_per_image"] = 1e3 * sum / images;
  row["latency_ms"] = latency(*times, effort.percentiles);
  row["gmacs"] = 1e-9 * macs;
  row["gflops_per_s"] = 2e-9 * macs / percentile_of(*times, 50);
  row["arena_bytes"] = info.arena_bytes;
  row["parameter_bytes"] = info.parameter_bytes;
  row["load_ms"] = 1e3 * workload->load_s;
  row["create_ms"] = 1e3 * workload->create_s;
  row["first_run_ms"] = 1e3 * *first;
  return row;
}

// What the child says: the row, or {"error": code, "message": text}.
std::string answer(const Configuration& configuration, const Effort& effort) {
  Result<ordered_json> row =
      Status(Code::kOutOfMemory, "not enough memory to measure; use a smaller batch or size");
  try {
    row = measure_here(configuration, effort);
  } catch (const std::bad_alloc&) {
    // It stays what it was.
  }
  if (row.ok()) {
    return json_text(*row);
  }
  ordered_json error;
  error["error"] = static_cast<int>(row.status().code());
  error["message"] = row.status().message();
  return json_text(error);
}

std::string read_all(int file) {
  std::string text;
  std::array<char, 4096> buffer{};
  for (;;) {
    const std::ptrdiff_t count = read_some(file, buffer.data(), buffer.size());
    if (count <= 0) {
      return text;
    }
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

Status system_failure(const char* what) {
  return {Code::kInternal, std::string(what) + " failed: " + std::strerror(errno)};
}

}  // namespace

std::string device_text(const SessionInfo& info) {
  return info.device_description.empty() ? info.device
                                         : info.device + " (" + info.device_description + ')';
}

std::string to_string(const Configuration& c) {
  std::string text = "batch " + std::to_string(c.batch);
  if (c.height > 0) {
    text += ", " + std::to_string(c.height) + 'x' + std::to_string(c.width);
  }
  text += std::string(", ") + precision_name(c.precision);
  if (c.threads > 0) {
    text += ", " + std::to_string(c.threads) + (c.threads == 1 ? " thread" : " threads");
  }
  return text;
}

Result<Workload> Workload::open(const Configuration& configuration) {
  Clock::time_point start = Clock::now();
  Result<std::shared_ptr<const Model>> model =
      Model::load(configuration.model, {.arch = configuration.arch});
  XC_RETURN_IF_ERROR(cli::as_model_failure(model.status()));
  const double load_s = seconds_since(start);

  start = Clock::now();
  SessionOptions options;
  options.device = configuration.device;
  options.precision = configuration.precision;
  options.batch = configuration.batch;
  options.height = configuration.height;
  options.width = configuration.width;
  options.threads = configuration.threads;
  options.spin_wait = true;  // the network is measured, and not how soon a thread is woken
  Result<Session> session = Session::create(*model, options);
  XC_RETURN_IF_ERROR(cli::as_model_failure(session.status()));
  const double create_s = seconds_since(start);

  try {
    const SessionInfo& info = session->info();
    std::vector<float> images = draw_images(info.input);
    std::vector<float> logits(static_cast<std::size_t>(info.logits.elements()));
    return Workload{*model,        *std::move(session),       std::move(images),
                    Layout::kNHWC, std::move(logits),         load_s,
                    create_s,      configuration.network_only};
  } catch (const std::bad_alloc&) {
    return Status(Code::kOutOfMemory,
                  "not enough memory for the pictures of a run; use a smaller "
                  "batch or size");
  }
}

Status Workload::read_input(const std::string& path) {
  const Result<NpyArray> array = read_npy(path);
  XC_RETURN_IF_ERROR(cli::as_usage_failure(array.status()));
  const Shape& s = session.info().input;
  const std::vector<std::int64_t> nchw = {s.n, s.c, s.h, s.w};
  const std::vector<std::int64_t> nhwc = {s.n, s.h, s.w, s.c};
  if (array->type != NpyArray::Type::kF32 || (array->shape != nchw && array->shape != nhwc)) {
    return {Code::kInvalidArgument,
            "the input '" + path + "' is not a float32 array for " + xception::to_string(s) +
                " (N x 3 x H x W or N x H x W x 3); set --batch and --size to its shape"};
  }
  layout = array->shape == nchw ? Layout::kNCHW : Layout::kNHWC;
  std::memcpy(images.data(), array->data.data(), array->data.size());
  return {};
}

Status Workload::write_logits(const std::string& path) const {
  const Shape& s = session.info().logits;
  return write_npy(path, {s.n, s.c}, logits.data());
}

Result<double> Workload::run() {
  const SessionInfo& info = session.info();
  const Clock::time_point start = Clock::now();
  XC_RETURN_IF_ERROR(session.run(TensorView<const float>{images.data(), info.input, layout},
                                 TensorView<float>{logits.data(), info.logits, Layout::kNHWC}));
  return seconds_since(start);
}

Result<double> Workload::time() {
  if (!network_only) {
    return run();
  }
  const Result<std::vector<double>> times = session.time_network(1);
  XC_RETURN_IF_ERROR(times.status());
  return times->front();
}

bool is_enough(const Effort& effort, std::size_t count, double seconds) {
  constexpr std::size_t kLeast = 3;
  return effort.runs > 0 ? count >= static_cast<std::size_t>(effort.runs)
                         : count >= kLeast && seconds >= effort.duration_s;
}

Result<std::vector<double>> timed_runs(Workload& workload, const Effort& effort) {
  const Clock::time_point start = Clock::now();
  while (seconds_since(start) < effort.warmup_s) {
    XC_RETURN_IF_ERROR(workload.time().status());
  }
  std::vector<double> times;
  double sum = 0;
  while (!is_enough(effort, times.size(), sum)) {
    const Result<double> time = workload.time();
    XC_RETURN_IF_ERROR(time.status());
    times.push_back(*time);
    sum += *time;
  }
  return times;
}

std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t total = 0;
  std::size_t resident = 0;
  statm >> total >> resident;
  return statm ? resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) : 0;
}

Result<ordered_json> measure_model(const Configuration& configuration, const Effort& effort) {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) {
    return system_failure("pipe");
  }
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) {
    const Status status = system_failure("fork");
    close(ends[0]);
    close(ends[1]);
    return status;
  }
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // nobody would wait for what it measures
    if (getppid() != parent) {
      _exit(1);  // it went before that
    }
    close(ends[0]);
    const std::string said = answer(configuration, effort);
    _exit(write_all(ends[1], said.data(), said.size()) == 0 ? 0 : 1);
  }
  close(ends[1]);
  const std::string text = read_all(ends[0]);
  close(ends[0]);
  int state = 0;
  rusage usage{};
  while (wait4(child, &state, 0, &usage) < 0) {
    if (errno != EINTR) {
      return system_failure("wait4");
    }
  }
  ordered_json row = ordered_json::parse(text, nullptr, false);
  if (WIFSIGNALED(state)) {
    const int signal = WTERMSIG(state);
    return Status(Code::kInternal, "the process that measured was ended by signal " +
                                       std::to_string(signal) +
                                       (signal == 9 ? ", probably for want of memory" : ""));
  }
  if (row.is_discarded()) {
    return Status(Code::kInternal, "the process that measured ended without a result");
  }
  if (row.contains("error")) {
    return Status(static_cast<Code>(row["error"].get<int>()), row["message"].get<std::string>());
  }
  row["peak_rss_bytes"] = 1024 * static_cast<std::int64_t>(usage.ru_maxrss);
  return row;
}

}  // namespace xception::bench
