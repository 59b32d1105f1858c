// bench: times a model (`bench model`), its layers (`bench layer`) or its kernels (`bench kernel`).
// Results go to stdout, everything else to stderr. Exit status: 0 all well, 1 a run failed, 2
// usage, 3 model refused, 4 device, precision or memory not to be had, 5 slower than the baseline
// by more than allowed, or further from the reference.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <new>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "bench_baseline.h"
#include "bench_layers.h"
#include "bench_measure.h"
#include "bench_plan.h"
#include "bench_report.h"
#include "engine/decimal.h"
#include "message.h"
#include "not_empty.h"
#include "spin.h"

namespace xception::bench {
namespace {

using nlohmann::ordered_json;

constexpr int kExitTolerance = 5;

int fail(const Status& status) {
  std::cerr << "bench: " << status.message() << '\n';
  return cli::exit_status(status.code());
}

Status want_one(const Plan& plan, const char* what) {
  if (plan.configurations.size() == 1) {
    return {};
  }
  return {Code::kInvalidArgument, std::string(what) +
                                      " runs one configuration; give one value to " +
                                      "each of --batch, --size, --threads and --precision"};
}

ordered_json start_report(const char* tool, const ModelInfo& info) {
  ordered_json report;
  report["tool"] = tool;
  report["model"]["file"] = info.file;
  report["model"]["arch"] = info.arch;
  report["model"]["classes"] = info.classes;
  report["model"]["parameters"] = info.parameters;
  report["machine"] = describe_machine();
  report["build"] = describe_build();
  report["rows"] = ordered_json::array();
  return report;
}

// The exit status of a run that has printed its report.
int printed(int exit_status) {
  std::cout.flush();
  return std::cout ? exit_status : fail({Code::kIo, "cannot write standard output"});
}

int run_model(const Options& options, const Plan& plan) {
  ordered_json report;
  {  // Nothing of it may be left where a row is measured.
    const Result<std::shared_ptr<const Model>> model =
        Model::load(options.model, {.arch = options.arch});
    if (!model.ok()) {
      return fail(cli::as_model_failure(model.status()));
    }
    report = start_report("bench model", (*model)->info());
  }
  ordered_json baseline;
  if (!options.baseline.empty()) {
    Result<ordered_json> read = read_baseline(options.baseline, report);
    if (!read.ok()) {
      return fail(read.status());
    }
    baseline = *std::move(read);
  }
  int exit_status = 0;
  const bool progress = isatty(STDERR_FILENO) == 1 && plan.configurations.size() > 1;
  for (const Configuration& configuration : plan.configurations) {
    if (progress) {
      std::cerr << "bench: " << to_string(configuration) << '\n';
    }
    Result<ordered_json> row = measure_model(configuration, plan.effort);
    if (!row.ok()) {
      const int status = fail(row.status().with_context(to_string(configuration)));
      exit_status = exit_status == 0 ? status : exit_status;
      continue;
    }
    report["rows"].push_back(*std::move(row));
  }
  print_models(std::cout, report, plan.format);
  if (const int unwritten = printed(0); unwritten != 0 || options.baseline.empty()) {
    return exit_status == 0 ? unwritten : exit_status;
  }
  const Result<int> slower =
      compare_with_baseline(std::cerr, report, options.baseline, baseline, plan.max_regress);
  if (exit_status == 0) {
    exit_status = !slower.ok() ? fail(slower.status()) : *slower > 0 ? kExitTolerance : 0;
  }
  return exit_status;
}

// The logits go over none of the files that the run reads.
Status check_logits(const Options& options) {
  for (const std::string& read : {options.model, options.input}) {
    std::error_code none_there;
    if (!options.logits.empty() && std::filesystem::equivalent(options.logits, read, none_there)) {
      return {Code::kInvalidArgument,
              "--logits: '" + options.logits + "' is a file that is read; name another"};
    }
  }
  return {};
}

// Says "ready" and a JSON object on one line, then runs once for every line of standard input and
// answers with the milliseconds, so that another process can take turns with it.
int run_step(const Options& options, const Plan& plan) {
  const std::size_t before = resident_bytes();
  for (const Status& wrong : {want_one(plan, "--step"), check_logits(options)}) {
    if (!wrong.ok()) {
      return fail(wrong);
    }
  }
  Result<Workload> workload = Workload::open(plan.configurations.front());
  Status status = workload.status();
  if (status.ok() && !options.input.empty()) {
    status = workload->read_input(options.input);
  }
  if (!status.ok()) {
    return fail(status);
  }
  ordered_json ready;
  const ordered_json build = describe_build();
  ready["version"] = build["version"].get<std::string>() + ' ' + build["commit"].get<std::string>();
  ready["device"] = device_text(workload->session.info());
  ready["load_ms"] = 1e3 * workload->load_s;
  ready["create_ms"] = 1e3 * workload->create_s;
  ready["rss_bytes_before"] = before;
  std::cout << "ready " << ready.dump() << std::endl;
  bool first = true;
  for (std::string line; std::getline(std::cin, line);) {
    if (first && options.network_only) {
      status = workload->run().status();  // for the logits
    }
    const Result<double> time = status.ok() ? workload->time() : Result<double>(status);
    status = time.status();
    if (status.ok() && first && !options.logits.empty()) {
      status = workload->write_logits(options.logits);
    }
    if (!status.ok()) {
      return fail(status);
    }
    first = false;
    std::cout << std::to_string(1e3 * *time) << std::endl;
  }
  return 0;
}

// A report of one configuration, whose session and rows `measure` gives.
template <class Measure>
Result<ordered_json> report_one(const char* tool, const Plan& plan, const Measure& measure) {
  XC_RETURN_IF_ERROR(want_one(plan, tool));
  Result<Workload> workload = Workload::open(plan.configurations.front());
  XC_RETURN_IF_ERROR(workload.status());
  ordered_json report = start_report(tool, workload->model->info());
  const Result<ordered_json> measured = measure(*workload);
  XC_RETURN_IF_ERROR(measured.status());
  report.erase("rows");  // what they were measured on goes before them
  report.update(*measured);
  return report;
}

int run_layer(const Plan& plan) {
  const Result<ordered_json> report = report_one("bench layer", plan, [&](Workload& workload) {
    return measure_layers(workload, plan.effort);
  });
  if (!report.ok()) {
    return fail(report.status());
  }
  print_layers(std::cout, *report, plan.format);
  return printed(0);
}

int run_kernel(const Options& options, const Plan& plan) {
  const Result<ordered_json> report = report_one("bench kernel", plan, [&](Workload& workload) {
    return measure_kernels(workload, plan.effort, {options.layer, options.verify});
  });
  if (!report.ok()) {
    return fail(report.status());
  }
  print_kernels(std::cout, *report, plan.format);
  const ordered_json& session = (*report)["session"];
  const bool within = !options.verify || session["logits_difference"].get<double>() <=
                                             session["tolerance"].get<double>();  // NaN is not
  if (!within) {
    std::cerr << "bench: the logits differ from those of the double-precision loops by more than "
              << decimal(session["tolerance"].get<double>()) << " of the largest\n";
  }
  return printed(within ? 0 : kExitTolerance);
}

void add_common_options(CLI::App* app, Options* o) {
  app->add_option("-m,--model", o->model, "weight file (.safetensors)")
      ->required()
      ->check(cli::not_empty());
  app->add_option("--arch", o->arch, "network, where the file does not say")
      ->check(cli::not_empty());
  app->add_option("-d,--device", o->device, "auto, cpu, cuda, cuda:N, cudnn or reference")
      ->capture_default_str();
  app->add_option("-b,--batch", o->batches, "images a run: 1,8,32")->delimiter(',');
  app->add_option("--size", o->sizes, "side or HEIGHTxWIDTH: 299,224x320")->delimiter(',');
  app->add_option("--threads", o->threads, "CPU threads: 1,2 (0: all)")->delimiter(',');
  app->add_option("--precision", o->precisions, "fp32,bf16,fp16,tf32")->delimiter(',');
  app->add_option("--warmup-ms", o->warmup_ms, "milliseconds of untimed runs before the timed")
      ->capture_default_str();
  app->add_option("--duration", o->duration, "timed runs go on for so long: 3s, 500ms")
      ->capture_default_str();
  app->add_option("-r,--runs", o->runs, "this many timed runs, in place of --duration")
      ->check(cli::not_empty());
  app->add_option("-o,--output", o->output, "md, csv or json")->capture_default_str();
}

void add_kernel_options(CLI::App* kernel, Options* o) {
  add_common_options(kernel, o);
  kernel->get_option("--runs")->description("this many timed series, in place of --duration");
  kernel->add_option("--layer", o->layer, "only of layers with this in their name")
      ->check(cli::not_empty());
  kernel->add_flag(
      "--verify", o->verify,
      "compare with the double-precision loops; exit status 5 where logits are too far off");
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Times a model, its layers or its kernels.", "bench");
  app.require_subcommand(1);
  CLI::App* model = app.add_subcommand("model", "whole runs, a row for every configuration");
  add_common_options(model, &options);
  model->add_option("--percentiles", options.percentiles, "of the latency: 50,90,99")
      ->delimiter(',');
  model
      ->add_option("--baseline", options.baseline,
                   "report (-o json) to compare with; exit status 5 where a median is slower")
      ->check(cli::not_empty());
  model->add_option("--max-regress", options.max_regress, "by more than this share: 5%")
      ->needs("--baseline")
      ->capture_default_str();
  model->add_flag("--network-only", options.network_only,
                  "time the network alone, by a GPU's own clock: no copy of pictures or logits");
  CLI::Option* step = model->add_flag(
      "--step", options.step,
      "print 'ready', then run once for each line of standard input and print the milliseconds");
  for (const char* of_reports :
       {"--percentiles", "--baseline", "--warmup-ms", "--duration", "--runs", "--output"}) {
    step->excludes(model->get_option(of_reports));
  }
  model->add_option("--input", options.input, "pictures for --step: float32 .npy")
      ->needs(step)
      ->check(cli::not_empty());
  model->add_option("--logits", options.logits, ".npy for the logits of --step's first run")
      ->needs(step)
      ->check(cli::not_empty());
  CLI::App* layer = app.add_subcommand("layer", "every layer of one configuration");
  add_common_options(layer, &options);
  CLI::App* kernel = app.add_subcommand("kernel", "every kernel of one configuration by itself");
  add_kernel_options(kernel, &options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {
      return printed(app.exit(error));  // --help
    }
    std::cerr << "bench: " << error.what() << " (bench --help lists the options)\n";
    return cli::kExitUsage;
  }
  const Result<Plan> plan = make_plan(options);
  if (!plan.ok()) {
    return fail(plan.status());
  }
  if (layer->parsed()) {
    return run_layer(*plan);
  }
  if (kernel->parsed()) {
    return run_kernel(options, *plan);
  }
  return options.step ? run_step(options, *plan) : run_model(options, *plan);
}

}  // namespace
}  // namespace xception::bench

int main(int argc, char** argv) {
  xception::shorten_openmp_spin(argv);
  try {
    return xception::bench::run(argc, argv);
  } catch (const std::bad_alloc&) {
    std::cerr << "bench: not enough memory; use a smaller batch or size\n";
    return xception::cli::kExitDevice;
  } catch (const std::exception& error) {
    std::cerr << "bench: " << error.what() << '\n';
    return xception::cli::kExitSomeFailed;
  }
}
