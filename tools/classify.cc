#include "classify.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "batch.h"
#include "interrupt.h"
#include "layer_dump.h"
#include "message.h"
#include "network.h"
#include "output.h"
#include "picture_queue.h"
#include "progress.h"
#include "records.h"
#include "stopwatch.h"
#include "tensor_dump.h"

namespace xception::cli {
namespace {

std::size_t choose_batch(const Options& options, std::size_t count) {
  constexpr std::size_t kUsual = 8;
  const std::size_t most = options.dump_layers.empty() ? kUsual : 64;
  return std::min(count, options.batch > 0 ? static_cast<std::size_t>(options.batch) : most);
}

// One at least, though it gains nothing where there is one picture, or one core: the main thread
// has to see a signal while a picture is read.
std::size_t choose_threads(const Options& options, std::size_t count) {
  const std::size_t cores = std::max(1U, std::thread::hardware_concurrency());
  const std::size_t wanted =
      options.jobs > 0 ? static_cast<std::size_t>(options.jobs) : std::min<std::size_t>(cores, 4);
  return std::min(wanted, count);
}

class Classification {
 public:
  Classification(const Options& options, Network network, std::size_t count, std::size_t name_width)
      : options_(options),
        network_(std::move(network)),
        batch_size_(choose_batch(options, count)),
        facts_{options.model,     network_.info().arch,
               options.device,    precision_name(options.precision),
               network_.labels(), name_width},
        formatter_(make_formatter(options.format, options.scores, facts_)),
        progress_(options, count),
        tensor_dump_(options.dump_input),
        layer_dump_(options.dump_layers) {}

  std::size_t batch_size() const { return batch_size_; }

  // Everything that can fail before the first picture: the output, the device, the weights.
  Status begin(const PictureSource& source);
  Status add(const Picture& picture);
  // Writes the results of the batch that is being computed, if there is one.
  Status collect();
  // Runs what waits.
  Status catch_up();
  // The same, and closes the output.
  Status end();
  // Writes the array of --dump-input.
  Status dump() { return tensor_dump_.finish(); }
  // Leaves the output with what is done: the run was `stopped`, as the sentence has it that tells
  // of it.
  Status leave(const std::string& stopped);

  Totals& totals() { return totals_; }
  bool stopped() const { return stopped_; }
  bool closed_pipe() const { return output_.closed_pipe(); }
  // Says that --dump-input is not written, and why. False where none was asked for.
  bool lost_dump(const std::string& why) const;
  void report(std::size_t threads);

 private:
  // A batch that the session computes, while the next one is gathered.
  struct Running {
    Session* session;
    std::vector<Record> records;
    Clock::time_point submitted;
  };

  Status run_waiting();
  Status submit();
  Status put_out(const std::vector<Record>& records);
  Status put_out(const Record& record);

  const Options& options_;
  Network network_;
  std::size_t batch_size_;
  RunFacts facts_;
  std::unique_ptr<Formatter> formatter_;
  Output output_;
  Progress progress_;
  TensorDump tensor_dump_;
  LayerDump layer_dump_;
  std::vector<Record> waiting_;  // in the order of the inputs, failed ones too
  Batch batch_;                  // the pictures among them
  std::optional<Running> running_;
  Clock::time_point collected_ = Clock::now();  // the last batch
  Totals totals_;
  int batches_ = 0;
  bool stopped_ = false;  // --fail-fast has seen a failure
};

Status Classification::begin(const PictureSource& source) {
  if (!options_.dump_layers.empty()) {
    if (source.count > batch_size_) {
      return {Code::kInvalidArgument,
              "--dump-layers takes one batch, and " + std::to_string(source.count) +
                  " inputs are more than one of " + std::to_string(batch_size_)};
    }
    XC_RETURN_IF_ERROR(layer_dump_.prepare());
  }
  XC_RETURN_IF_ERROR(tensor_dump_.prepare());
  const int size = network_.preprocess().size;
  const Result<Session*> session =
      network_.session(static_cast<int>(batch_size_), source.height > 0 ? source.height : size,
                       source.width > 0 ? source.width : size);
  XC_RETURN_IF_ERROR(name_array(session.status(), options_.raw_input));
  const SessionInfo& info = (*session)->info();
  facts_.device = info.device;
  say_place(options_, facts_.arch, info);
  catch_interrupts();  // from here on there is something to save, and nothing waits unseen
  XC_RETURN_IF_ERROR(output_.open(options_.output));
  totals_.start = Clock::now();
  return output_.write(formatter_->begin());
}

Status Classification::add(const Picture& picture) {
  totals_.decode += picture.decode_seconds;
  totals_.preprocess += picture.preprocess_seconds;
  if (!options_.quiet) {
    for (const std::string& warning : picture.warnings) {
      progress_.clear();
      say("warning: '" + picture.name + "': " + warning);
    }
  }
  if (picture.status.ok()) {
    if (!batch_.takes(picture)) {
      XC_RETURN_IF_ERROR(run_waiting());
    }
    batch_.add(picture);
  }
  waiting_.push_back(make_record(picture));
  if (options_.fail_fast && !picture.status.ok()) {
    return catch_up();  // what came before it
  }
  const bool full = static_cast<std::size_t>(batch_.shape.n) == batch_size_;
  return full || batch_.shape.n == 0 ? run_waiting() : Status();
}

// Results leave in the order of the inputs, so what is being computed comes before what has failed.
Status Classification::run_waiting() {
  if (batch_.shape.n > 0) {
    return submit();
  }
  XC_RETURN_IF_ERROR(collect());
  return put_out(std::exchange(waiting_, {}));
}

Status Classification::submit() {
  const bool same = running_ && running_->session->info().input == batch_.shape;
  if (!same) {
    XC_RETURN_IF_ERROR(collect());
  }
  if (!options_.dump_layers.empty() && batches_++ > 0) {
    return {Code::kInvalidArgument,
            "--dump-layers takes one batch; give pictures of one size, or --size"};
  }
  const Clock::time_point asked = Clock::now();
  Result<Session*> session = network_.session(batch_.shape.n, batch_.shape.h, batch_.shape.w);
  XC_RETURN_IF_ERROR(session.status());
  totals_.prepare += seconds_since(asked);
  facts_.device = (*session)->info().device;
  if (!options_.dump_layers.empty()) {
    (*session)->set_layer_callback(
        [this](const LayerOutput& output) { return layer_dump_.write(output); });
  }
  Running next = {*session, std::exchange(waiting_, {}), Clock::now()};
  const Status submitted = submit_batch(**session, batch_);
  tensor_dump_.add(batch_, network_.preprocess());
  batch_.clear();
  XC_RETURN_IF_ERROR(collect());
  XC_RETURN_IF_ERROR(submitted);
  running_ = std::move(next);
  return (*session)->info().runs_in_flight > 1 ? Status() : collect();
}

Status Classification::collect() {
  if (!running_) {
    return {};
  }
  Running done = *std::exchange(running_, std::nullopt);
  std::vector<float> logits;
  XC_RETURN_IF_ERROR(collect_batch(*done.session, logits));
  // The batch before it may have been computed while this one was submitted already.
  const double seconds = seconds_since(std::max(done.submitted, collected_));
  collected_ = Clock::now();
  totals_.compute += seconds;
  const double each_ms = seconds * 1000 / done.session->info().input.n;
  const auto classes = static_cast<std::ptrdiff_t>(network_.info().classes);
  auto row = logits.cbegin();
  for (Record& record : done.records) {
    if (record.status.ok()) {
      rank({row, row + classes}, options_, record);
      row += classes;
      record.compute_ms = each_ms;
    }
  }
  return put_out(done.records);
}

Status Classification::put_out(const std::vector<Record>& records) {
  for (const Record& record : records) {
    if (!stopped_) {
      XC_RETURN_IF_ERROR(put_out(record));
    }
  }
  progress_.update(totals_);
  return output_.flush();
}

Status Classification::put_out(const Record& record) {
  ++totals_.done;
  if (!record.status.ok()) {
    ++totals_.failed;
    stopped_ = options_.fail_fast;
    if (!formatter_->shows_failures()) {
      progress_.clear();
      XC_RETURN_IF_ERROR(output_.flush());  // so that both streams tell it in the same order
      say(record.status.message());
    }
  }
  return output_.write(formatter_->record(record));
}

Status Classification::catch_up() {
  XC_RETURN_IF_ERROR(run_waiting());
  return collect();
}

Status Classification::end() {
  XC_RETURN_IF_ERROR(catch_up());
  progress_.clear();
  XC_RETURN_IF_ERROR(output_.write(formatter_->end()));
  return output_.finish();
}

Status Classification::leave(const std::string& stopped) {
  progress_.clear();
  XC_RETURN_IF_ERROR(output_.write(formatter_->end()));
  const Result<std::string> kept = output_.keep_partial();
  XC_RETURN_IF_ERROR(kept.status());
  say(stopped + " after " + std::to_string(totals_.done) + " input" +
      (totals_.done == 1 ? "" : "s") +
      (kept->empty() ? "" : "; their results are in '" + *kept + "'"));
  return {};
}

bool Classification::lost_dump(const std::string& why) const {
  if (options_.dump_input.empty()) {
    return false;
  }
  say("--dump-input '" + options_.dump_input + "' is not written: " + why);
  return true;
}

void Classification::report(std::size_t threads) {
  progress_.clear();
  if (options_.verbose) {
    const double elapsed = seconds_since(totals_.start);
    std::array<char, 320> text{};
    std::snprintf(text.data(), text.size(),
                  "%zu pictures in %.2f s (%.1f a second): decode %.2f s and preprocess %.2f s on "
                  "%zu thread%s, prepare %.2f s, compute %.2f s, network idle for want of "
                  "pictures %.2f s",
                  totals_.done, elapsed, static_cast<double>(totals_.done) / elapsed,
                  totals_.decode, totals_.preprocess, std::max<std::size_t>(threads, 1),
                  threads > 1 ? "s" : "", totals_.prepare, totals_.compute, totals_.idle);
    say(text.data());
  }
  if (totals_.failed > 0 && !options_.quiet) {
    say(std::to_string(totals_.failed) + " of " + std::to_string(totals_.done) + " inputs failed" +
        (stopped_ ? "; stopped at the first (--fail-fast)" : ""));
  }
}

// Takes every picture through the classification.
Status feed(PictureQueue& queue, Classification& run) {
  while (!run.stopped()) {
    if (!queue.ready()) {
      XC_RETURN_IF_ERROR(run.collect());  // nobody waits for a result because a picture is late
    }
    const Clock::time_point start = Clock::now();
    std::optional<Picture> picture = queue.next();
    run.totals().idle += seconds_since(start);
    if (!picture) {
      break;
    }
    XC_RETURN_IF_ERROR(run.add(*std::move(picture)));
  }
  return {};
}

int failure(const Status& status) {
  say(status.message());
  return exit_status(status.code());
}

}  // namespace

int classify(const Options& options) {
  Result<Network> network = Network::load(options);
  if (!network.ok()) {
    return failure(network.status());
  }
  const Result<PictureSource> source = open_inputs(options, network->preprocess());
  if (!source.ok()) {
    return failure(source.status());
  }
  Classification run(options, *std::move(network), source->count, source->name_width);
  Status status = run.begin(*source);
  if (!status.ok()) {
    return interrupted() != 0 ? 128 + interrupted() : failure(status);
  }
  const std::size_t threads = choose_threads(options, source->count);
  PictureQueue queue(*source, threads, 2 * run.batch_size() + threads);
  status = feed(queue, run);
  if (const int signal = interrupted(); signal != 0 && status.ok()) {
    status = run.catch_up();
    if (!status.ok() && !run.closed_pipe()) {
      say(status.message());
    }
    const Status left = run.leave("interrupted");
    if (status.ok() && !left.ok() && !run.closed_pipe()) {
      say(left.message());
    }
    static_cast<void>(run.lost_dump("the run was interrupted"));
    return 128 + signal;
  }
  if (status.ok()) {
    status = run.end();
  }
  const bool complete = status.ok();
  if (complete) {
    status = run.dump();
  }
  if (run.closed_pipe()) {
    const bool lost = run.lost_dump("nobody reads the results any more");
    return lost || run.totals().failed > 0 ? kExitSomeFailed : 0;
  }
  if (!status.ok()) {
    const int code = failure(status);
    if (!complete && run.totals().done > 0) {
      static_cast<void>(run.leave("stopped"));  // where the output is what failed, nothing is left
    }
    return code;
  }
  run.report(threads);
  return run.totals().failed > 0 ? kExitSomeFailed : 0;
}

}  // namespace xception::cli
