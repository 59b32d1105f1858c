#include "options.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "message.h"
#include "option_group.h"
#include "output.h"

namespace xception::cli {
namespace {

const Names<Format> kFormats = {{"text", Format::kText},
                                {"jsonl", Format::kJsonLines},
                                {"json", Format::kJson},
                                {"csv", Format::kCsv}};
const Names<Scores> kScores = {{"prob", Scores::kProb}, {"logit", Scores::kLogit}};
const Names<ResizeMode> kResizeModes = {{"center", ResizeMode::kCenter},
                                        {"squash", ResizeMode::kSquash},
                                        {"border", ResizeMode::kBorder}};
const Names<Interpolation> kInterpolations = {{"bicubic", Interpolation::kBicubic},
                                              {"bilinear", Interpolation::kBilinear},
                                              {"nearest", Interpolation::kNearest}};
const Names<bool> kExif = {{"ignore", false}, {"apply", true}};
const Names<bool> kSwitch = {{"on", true}, {"off", false}};
const Names<Precision> kPrecisions = {{"fp32", Precision::kFp32},
                                      {"bf16", Precision::kBf16},
                                      {"fp16", Precision::kFp16},
                                      {"tf32", Precision::kTf32}};

// Empty where `name` may be a device, else what is wrong with it.
std::string check_device(const std::string& name) {
  const std::string kind = name.substr(0, name.find(':'));
  if (kind == name && (name == "auto" || name == "cpu" || name == "reference")) {
    return {};
  }
  if (kind == "cuda" || kind == "cudnn") {
    const std::string number = kind == name ? "0" : name.substr(kind.size() + 1);
    if (!number.empty() && number.size() < 4 &&
        number.find_first_not_of("0123456789") == std::string::npos) {
      return {};
    }
  }
  return "'" + name + "' is none of auto, cpu, cuda, cuda:N, cudnn, cudnn:N and reference";
}

// What only a run that classifies takes; the other modes exclude it.
using OptionList = std::vector<CLI::Option*>;

struct Sets {
  OptionList classify;  // shape the records, and mean nothing where there are none
  OptionList fitting;   // shape how picture files become arrays
  OptionList pictures;  // the same, and how arrays become tensors
  OptionList inputs;
};

void add_inputs(CLI::App& app, Options& o, Sets& sets) {
  Group group(app, "Inputs");
  CLI::Option* names = group.value("input", o.inputs, "FILE|DIR|-",
                                   "Pictures, folders of pictures, - for a picture on stdin");
  CLI::Option* recursive =
      group.flag("-r,--recursive", o.recursive, "Look into the folders of folders too");
  CLI::Option* list = group.value("--files-from", o.files_from, "F|-",
                                  "Read names of files and folders from F, one a line");
  group
      .flag("-0", o.null_separated, "Names in --files-from end in NUL, as find -print0 writes them")
      ->needs(list);
  CLI::Option* raw = group.value("--raw-input", o.raw_input, "X.npy",
                                 "Feed an array: uint8 NHWC, or float32 NCHW, normalised already");
  raw->excludes(names)->excludes(list)->excludes(recursive);
  sets.inputs = {names, recursive, list, raw};
}

void add_model(CLI::App& app, Options& o) {
  Group group(app, "Model");
  group.value("-m,--model", o.model, "FILE", "The weight file (safetensors)");
  std::string names;
  for (const std::string& name : known_networks()) {
    names += (names.empty() ? "" : "|") + name;
  }
  group.value("--arch", o.arch, names, "The network, where the file does not say it")
      ->check(CLI::IsMember(known_networks()).description(""));
  group.value("--labels", o.labels, "F", "Names of the classes, one a line, for the model's own");
  group.flag("--verify", o.verify, "Check the weight file's SHA-256, however large it is");
}

void add_output(CLI::App& app, Options& o, Sets& sets) {
  Group group(app, "Output");
  sets.classify = {
      group.value("-k,--top", o.top, "K", "Classes a picture (default 5)")
          ->transform(whole(1, 1'000'000)),
      group.choice("-f,--format", o.format, kFormats, "How to write the results (default text)"),
      group.value("-o,--output", o.output, "FILE",
                  "Write the results there when they are complete"),
      group.choice("--scores", o.scores, kScores, "What text prints and --threshold looks at"),
      group.number("--threshold", o.threshold, -1e30, 1e30, "Leave out classes that score below X"),
      group.value("--dump-input", o.dump_input, "X.npy",
                  "Write the tensor that was fed, float32 NCHW, of all pictures"),
      group.flag("--fail-fast", o.fail_fast, "Stop at the first input that fails"),
  };
}

void add_image(CLI::App& app, Options& o, Sets& sets) {
  Group group(app, "Image (defaults: the model's own)");
  sets.fitting = {
      group.value("--size", o.size, "S", "Side of the input in pixels")
          ->transform(whole(1, kMaxSide)),
      group.choice("--resize-mode", o.resize_mode, kResizeModes, "How a picture is made square"),
      group.number("--crop-pct", o.crop_pct, 0.01, 1, "Share of the short side that is kept"),
      group.choice("--interp", o.interpolation, kInterpolations, "Filter of the resize"),
      group.choice("--exif", o.apply_exif, kExif, "The orientation in EXIF (default ignore)"),
      group
          .value("--max-pixels", o.max_pixels, "N", "Refuse pictures with more (default 178956970)")
          ->transform(whole(1, std::int64_t{1} << 40)),
  };
  sets.pictures = sets.fitting;
  sets.pictures.push_back(group.triple("--mean", o.mean, false, "Mean of pixels scaled to 0..1"));
  sets.pictures.push_back(
      group.triple("--std", o.std, true, "Standard deviation of pixels scaled to 0..1"));
}

void add_run(CLI::App& app, Options& o) {
  Group group(app, "Run");
  group
      .value("-d,--device", o.device, "D",
             "auto, cpu, cuda, cuda:N; to compare: cudnn, reference (slow)")
      ->check(check_device);
  group.value("-b,--batch", o.batch, "N", "Pictures a batch (default 8, or as many as there are)")
      ->transform(whole(1, kMaxBatch));
  group.value("-j,--jobs", o.jobs, "N", "Threads that decode (default: one a core, at most 4)")
      ->transform(whole(1, 256));
  group.choice("--precision", o.precision, kPrecisions,
               "Of weights and activations (default fp32)");
  group
      .value("--threads", o.threads, "N",
             "Threads of the network on the CPU (default: those that the process may use)")
      ->transform(whole(1, 1024));
  group.choice("--cuda-graph", o.cuda_graph, kSwitch,
               "off: start every step on the GPU by itself (default on)");
}

void add_checks(CLI::App& app, Options& o, bool& info, const Sets& sets) {
  Group group(app, "Check");
  CLI::Option* show = group.flag("--info", info, "Print network, preprocessing and plan");
  // Into no variable: for one, CLI11 2.4 calls the transform where the flag is not given.
  CLI::Option* profile =
      app.add_flag("--profile{20}")
          ->description("Time every layer, median of N runs (default 20)")
          ->transform(whole(1, 1'000'000))
          ->each([&o](const std::string& runs) { o.profile_runs = std::stoi(runs); })
          ->group("Check");
  CLI::Option* compare =
      group.value("--compare", o.compare, "REF", "Compare every layer with a golden file's");
  for (CLI::Option* number :
       {group.number("--atol", o.atol, 0, 1e30, "Tolerance of --compare (default 0)"),
        group.number("--rtol", o.rtol, 0, 1e30, "Times max|ref|, layers (default 1e-5)"),
        group.number("--rtol-logits", o.rtol_logits, 0, 1e30,
                     "Times max|ref|, logits (default 1e-4)")}) {
    number->needs(compare);
  }
  CLI::Option* dump = group.value("--dump-layers", o.dump_layers, "DIR",
                                  "Write every layer's output as DIR/NAME.npy, float32 NCHW");
  group.choice("--fusion", o.fuse, kSwitch, "off: every PyTorch module is a layer (default on)");

  show->excludes(profile)->excludes(compare)->excludes(dump);
  profile->excludes(compare)->excludes(dump);
  compare->excludes(app.get_option("--batch"));
  for (CLI::Option* option : sets.inputs) {
    show->excludes(option);
  }
  for (CLI::Option* option : sets.classify) {
    for (CLI::Option* mode : {show, profile, compare}) {
      mode->excludes(option);
    }
  }
}

void add_others(CLI::App& app, Options& o, bool& list_devices, bool& version) {
  Group group(app, "Other");
  CLI::Option* quiet = group.flag("-q,--quiet", o.quiet, "No warnings and no progress");
  group.flag("-v,--verbose", o.verbose, "Say what ran where, and how long it took")
      ->excludes(quiet);
  group.flag("--no-progress", o.no_progress, "No progress line on a terminal");
  group.flag("--list-devices", list_devices, "Print the devices that there are");
  group.flag("--version", version, "Print version and build");
  app.set_help_flag("-h,--help", "Print this text")->group("Other");
}

// What CLI11 cannot say: rules between values.
std::string contradiction(const Options& o, const Sets& sets) {
  if (o.mode == Mode::kVersion || o.mode == Mode::kListDevices) {
    return {};
  }
  if (o.model.empty()) {
    return "no model; name a weight file with -m";
  }
  auto dashes = std::count(o.inputs.begin(), o.inputs.end(), "-");
  for (const std::string* name : {&o.files_from, &o.raw_input, &o.labels}) {
    dashes += *name == "-" ? 1 : 0;
  }
  if (dashes > 1) {
    return "standard input is read once; '-' stands for one picture, for names with --files-from "
           "or --labels, or for the tensor of --raw-input";
  }
  if (o.mode == Mode::kClassify && !o.has_inputs()) {
    return "no inputs; name pictures or folders, or see --help";
  }
  if (o.resize_mode && *o.resize_mode != ResizeMode::kCenter && o.crop_pct) {
    return "--crop-pct belongs to --resize-mode center; the other modes crop nothing";
  }
  for (const CLI::Option* option : sets.pictures) {
    if (o.mode == Mode::kCompare && !o.has_inputs() && option->count() > 0) {
      return option->get_name() +
             " is about pictures, and --compare without any feeds the golden file's own input";
    }
  }
  return {};
}

int usage_error(const std::string& message) {
  say(message + " (--help lists the options)");
  return kExitUsage;
}

}  // namespace

std::optional<int> parse_options(int argc, char** argv, Options& o) {
  CLI::App app("Classifies pictures with a network of the Xception family.", "xception-infer");
  app.formatter(std::make_shared<HelpFormatter>());
  bool info = false;
  bool list_devices = false;
  bool version = false;
  Sets sets;
  add_inputs(app, o, sets);
  add_model(app, o);
  add_output(app, o, sets);
  add_image(app, o, sets);
  add_run(app, o);
  add_checks(app, o, info, sets);
  add_others(app, o, list_devices, version);
  for (CLI::Option* option : sets.fitting) {
    app.get_option("--raw-input")->excludes(option);
  }
  try {
    parse_whole(app, argc, argv);
  } catch (const CLI::CallForHelp&) {
    return print_result({}, app.help());
  } catch (const CLI::ExtrasError& error) {
    return usage_error(std::string(error.what()) +
                       "; a file whose name begins with - is given as ./-NAME, or behind --");
  } catch (const CLI::ParseError& error) {
    return usage_error(error.what());
  }
  const std::pair<bool, Mode> modes[] = {{version, Mode::kVersion},
                                         {list_devices, Mode::kListDevices},
                                         {info, Mode::kInfo},
                                         {o.profile_runs > 0, Mode::kProfile},
                                         {!o.compare.empty(), Mode::kCompare}};
  for (const auto& [wanted, mode] : modes) {
    if (wanted) {
      o.mode = mode;
      break;
    }
  }
  const std::string problem = contradiction(o, sets);
  return problem.empty() ? std::nullopt : std::optional<int>(usage_error(problem));
}

}  // namespace xception::cli
