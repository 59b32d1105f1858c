// The command line as a plain struct.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "xception/engine.h"
#include "xception/image.h"

namespace xception::cli {

enum class Mode { kClassify, kInfo, kProfile, kCompare, kListDevices, kVersion };
enum class Format { kText, kJsonLines, kJson, kCsv };
enum class Scores { kProb, kLogit };

struct Options {
  Mode mode = Mode::kClassify;

  std::vector<std::string> inputs;
  bool recursive = false;
  std::string files_from;
  bool null_separated = false;
  std::string raw_input;

  std::string model;
  std::string arch;
  std::string labels;
  bool verify = false;

  int top = 5;
  Format format = Format::kText;
  std::string output;  // empty: standard output
  Scores scores = Scores::kProb;
  std::optional<double> threshold;

  std::optional<int> size;
  std::optional<ResizeMode> resize_mode;
  std::optional<double> crop_pct;
  std::optional<Interpolation> interpolation;
  std::optional<std::array<float, 3>> mean;
  std::optional<std::array<float, 3>> std;
  bool apply_exif = false;
  std::string dump_input;
  std::int64_t max_pixels = kMaxPixels;

  std::string device = "auto";
  int batch = 0;  // 0: chosen from the number of inputs
  int jobs = 0;   // 0: chosen from the number of cores and inputs
  Precision precision = Precision::kFp32;
  int threads = 0;
  bool cuda_graph = true;

  int profile_runs = 0;
  std::string dump_layers;
  bool fuse = true;
  std::string compare;
  double atol = 0;
  double rtol = 1e-5;
  double rtol_logits = 1e-4;

  bool quiet = false;
  bool verbose = false;
  bool fail_fast = false;
  bool no_progress = false;

  bool has_inputs() const { return !inputs.empty() || !files_from.empty() || !raw_input.empty(); }
};

// Reads the command line into `options`, or, where the program ends with it (--help, wrong usage),
// says what there is to say and returns the exit status.
std::optional<int> parse_options(int argc, char** argv, Options& options);

}  // namespace xception::cli
