#include "options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <memory>
#include <type_traits>
#include <utility>

#include "message.h"
#include "not_empty.h"
#include "output.h"

namespace xception::cli {
namespace {

// Names that an option takes, and what they mean.
template <class T>
using Names = std::vector<std::pair<const char*, T>>;

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

template <class T>
std::string join(const Names<T>& names) {
  std::string text;
  for (const auto& entry : names) {
    text += (text.empty() ? "" : "|") + std::string(entry.first);
  }
  return text;
}

std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

// The help text without what excludes what; error messages tell it when it matters.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(35); }
  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string type = option->get_type_name();
    return type.empty() || type == "BOOLEAN" ? "" : ' ' + type;
  }
  // "--profile{20}" is how CLI11 is told the default of an optional value.
  std::string make_option_name(const CLI::Option* option, bool positional) const override {
    const std::string name = CLI::Formatter::make_option_name(option, positional);
    const std::size_t brace = name.find('{');
    return brace == std::string::npos ? name : name.substr(0, brace) + "[=N]";
  }
};

// A whole number in decimal; both ends belong to the range. To be used as a transform, for CLI11 by
// itself takes 032 for 26 and 0x20 for 32. The help text does not show it, the error message does.
CLI::Validator whole(std::int64_t low, std::int64_t high) {
  const auto check = [=](std::string& text) -> std::string {
    std::int64_t value = 0;
    const char* const last = text.data() + text.size();
    const auto [end, error] = std::from_chars(text.data(), last, value);
    if (error != std::errc() || end != last || value < low || value > high) {
      return "'" + text + "' is not a whole number from " + std::to_string(low) + " to " +
             std::to_string(high);
    }
    text = std::to_string(value);
    return {};
  };
  return {check, ""};
}

// Adds options to one group of the help text.
class Group {
 public:
  Group(CLI::App& app, std::string name) : app_(app), name_(std::move(name)) {}

  CLI::Option* flag(const std::string& names, bool& target, const std::string& help) {
    return app_.add_flag(names, target, help)->group(name_);
  }

  // Any type that CLI11 reads by itself.
  template <class T>
  CLI::Option* value(const std::string& names, T& target, const std::string& type,
                     const std::string& help) {
    CLI::Option* option = app_.add_option(names, target, help)->type_name(type)->group(name_);
    if constexpr (std::is_same_v<T, std::string>) {
      option->check(not_empty());
    }
    return option;
  }

  // One of `names`.
  template <class T, class V>
  CLI::Option* choice(const std::string& option, T& target, const Names<V>& names,
                      const std::string& help) {
    const auto store = [option, &target, &names](const std::string& text) {
      for (const auto& [name, meaning] : names) {
        if (name == text) {
          target = meaning;
          return;
        }
      }
      throw CLI::ValidationError(option, "'" + text + "' is none of " + join(names));
    };
    return function(option, store, join(names), help);
  }

  // A number from `low` to `high`.
  template <class T>
  CLI::Option* number(const std::string& option, T& target, double low, double high,
                      const std::string& help) {
    const auto store = [=, &target](const std::string& text) {
      const std::optional<double> value = parse_number(text);
      if (!value || *value < low || *value > high) {
        std::array<char, 64> range{};
        std::snprintf(range.data(), range.size(), "%g to %g", low, high);
        throw CLI::ValidationError(option, "'" + text + "' is not a number from " + range.data());
      }
      target = *value;
    };
    return function(option, store, "X", help);
  }

  // Three numbers with commas between.
  CLI::Option* triple(const std::string& option, std::optional<std::array<float, 3>>& target,
                      bool positive, const std::string& help) {
    const auto store = [=, &target](const std::string& text) {
      const std::vector<std::string> parts = CLI::detail::split(text, ',');
      std::array<float, 3> values{};
      bool good = parts.size() == values.size();
      for (std::size_t i = 0; good && i < values.size(); ++i) {
        const std::optional<double> value = parse_number(parts[i]);
        values[i] = static_cast<float>(value.value_or(0.0));
        // The bounds of a weight file's own preprocessing: beyond them the network is fed noise.
        good = value && std::abs(*value) < 1e6 && (!positive || *value >= 1e-6);
      }
      if (!good) {
        throw CLI::ValidationError(option, "'" + text + "' is not three numbers " +
                                               (positive ? "from 1e-6" : "between -1e6 and") +
                                               (positive ? " to 1e6" : " 1e6") +
                                               " with commas between, as 0.5,0.5,0.5");
      }
      target = values;
    };
    return function(option, store, "R,G,B", help);
  }

 private:
  template <class F>
  CLI::Option* function(const std::string& option, const F& store, const std::string& type,
                        const std::string& help) {
    return app_.add_option_function<std::string>(option, store, help)
        ->type_name(type)
        ->group(name_);
  }

  CLI::App& app_;
  std::string name_;
};

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
  OptionList fitting;   // shape how picture files become tensors
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
  group.triple("--mean", o.mean, false, "Mean of pixels scaled to 0..1");
  group.triple("--std", o.std, true, "Standard deviation of pixels scaled to 0..1");
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
      .value("--threads", o.threads, "N", "Threads of the network on the CPU (default: all cores)")
      ->transform(whole(1, 1024));
  group.choice("--cuda-graph", o.cuda_graph, kSwitch,
               "off: start every step on the GPU by itself (default on)");
}

void add_checks(CLI::App& app, Options& o, bool& info, const Sets& sets) {
  Group group(app, "Check");
  CLI::Option* show = group.flag("--info", info, "Print network, preprocessing and plan");
  CLI::Option* profile = app.add_flag("--profile{20}", o.profile_runs,
                                      "Time every layer, median of N runs (default 20)")
                             ->transform(whole(1, 1'000'000))
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
std::string contradiction(const Options& o) {
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
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return print_result({}, app.help());
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
  const std::string problem = contradiction(o);
  return problem.empty() ? std::nullopt : std::optional<int>(usage_error(problem));
}

}  // namespace xception::cli
