// What bench prints: where a timing was taken, the rows, and how they stand to an older report.
#pragma once

#include <iosfwd>
#include <nlohmann/json.hpp>
#include <string>

#include "xception/engine.h"

namespace xception::bench {

enum class Format { kMarkdown, kCsv, kJson };

// "md", "csv", "json".
Result<Format> parse_format(const std::string& text);

// {machine: cpu, cores, load_average (of the last minute, at the call)} and {build: version,
// compiler, type, commit}: no figure goes without.
nlohmann::ordered_json describe_machine();
nlohmann::ordered_json describe_build();

// On one line where `indent` is -1. A file's name need not be UTF-8, JSON has to be: what is not is
// replaced.
std::string json_text(const nlohmann::ordered_json& json, int indent = -1);

// `report` is {tool, model, machine, build, rows}, of layers with `session` before the rows. As CSV
// a line has a row, with the members of latency_ms as columns latency_ms_p50 and so on, and then
// all that stands around the rows: machine_cpu, build_commit.
void print_models(std::ostream& out, const nlohmann::ordered_json& report, Format format);
void print_layers(std::ostream& out, const nlohmann::ordered_json& report, Format format);

// A report of `bench model` that was kept. Fails with kInvalidArgument where the file cannot be
// read or is none, and where it is of another network than `report`, whose rows are not looked at.
Result<nlohmann::ordered_json> read_baseline(const std::string& path,
                                             const nlohmann::ordered_json& report);

// Compares the medians of the rows with those of a baseline that read_baseline() read from `path`:
// device, precision, threads, batch and size have to be equal. Prints a line for each row, and what
// else is different. Returns how many are slower than the old ones by more than `max_regress` (0.05
// is 5 %); fails where the baseline has none of the rows.
Result<int> compare_with_baseline(std::ostream& out, const nlohmann::ordered_json& report,
                                  const std::string& path, const nlohmann::ordered_json& baseline,
                                  double max_regress);

}  // namespace xception::bench
