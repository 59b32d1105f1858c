// What bench prints: where a timing was taken, and the rows.
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

// `report` is {tool, model, machine, build, rows}, of layers and kernels with `session` before the
// rows. As CSV a line has a row, with the members of latency_ms as columns latency_ms_p50 and so
// on, and then all that stands around the rows: machine_cpu, build_commit.
void print_models(std::ostream& out, const nlohmann::ordered_json& report, Format format);
void print_layers(std::ostream& out, const nlohmann::ordered_json& report, Format format);
void print_kernels(std::ostream& out, const nlohmann::ordered_json& report, Format format);

// "299x299", of a row of `bench model`.
std::string size_text(const nlohmann::ordered_json& row);

}  // namespace xception::bench
