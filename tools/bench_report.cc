#include "bench_report.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <ostream>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "commit.h"
#include "message.h"
#include "table.h"

namespace xception::bench {
namespace {

using cli::fixed;
using nlohmann::ordered_json;

std::string number(const ordered_json& value, int digits, double scale = 1) {
  return value.is_number() ? fixed(value.get<double>() * scale, digits) : "";
}

// Columns of a markdown table: a heading and what stands below it, right-aligned but for `text`.
struct Column {
  std::string heading;
  std::vector<std::string> cells;
  bool text = false;
};

void print_table(std::ostream& out, const std::vector<Column>& columns) {
  for (const Column& column : columns) {
    out << "| " << column.heading << ' ';
  }
  out << "|\n";
  for (const Column& column : columns) {
    out << (column.text ? "|---" : "|---:");
  }
  out << "|\n";
  for (std::size_t row = 0; row < columns.front().cells.size(); ++row) {
    for (const Column& column : columns) {
      out << "| " << column.cells[row] << ' ';
    }
    out << "|\n";
  }
}

// A table of a report's rows, each column of which is a function of a row.
class RowTable {
 public:
  explicit RowTable(const ordered_json& rows) : rows_(rows) {}

  template <class Cell>
  void add(const std::string& heading, const Cell& cell, bool text = false) {
    Column& column = columns_.emplace_back(Column{heading, {}, text});
    for (const ordered_json& row : rows_) {
      column.cells.push_back(cell(row));
    }
  }
  void add_text(const std::string& heading, const char* key) {
    add(
        heading, [=](const ordered_json& row) { return row[key].get<std::string>(); }, true);
  }
  void add_number(const std::string& heading, const char* key, int digits, double scale = 1) {
    add(heading, [=](const ordered_json& row) { return number(row[key], digits, scale); });
  }
  // Of layers and kernels. Without a roofline there is no column of it.
  void add_rates() {
    add_number("GFLOP/s", "gflops_per_s", 1);
    add_number("GB/s", "gb_per_s", 1);
    if (!rows_.front()["roofline_share"].is_null()) {
      add_number("% of roofline", "roofline_share", 0, 100);
    }
  }
  void print(std::ostream& out) const { print_table(out, columns_); }

 private:
  const ordered_json& rows_;  // one at least
  std::vector<Column> columns_;
};

void print_heading(std::ostream& out, const ordered_json& report) {
  const ordered_json& machine = report["machine"];
  const ordered_json& build = report["build"];
  const ordered_json& model = report["model"];
  const auto text = [](const ordered_json& value) { return value.get<std::string>(); };
  const std::string commit = text(build["commit"]);
  out << text(model["arch"]) << ", " << cli::printable(text(model["file"])) << ", "
      << model["parameters"] << " parameters\n"
      << text(machine["cpu"]) << ", " << machine["cores"] << " cores, load average "
      << number(machine["load_average"], 2) << '\n'
      << "xception " << text(build["version"]) << (commit.empty() ? "" : " commit " + commit)
      << ", " << text(build["compiler"]) << ", " << text(build["type"]) << '\n';
}

// A list is one cell: how long it is differs from row to row.
ordered_json joined(const ordered_json& list) {
  std::string text;
  for (const ordered_json& item : list) {
    text += (text.empty() ? "" : " + ") + item.get<std::string>();
  }
  return text;
}

void print_csv(std::ostream& out, const ordered_json& report) {
  const auto print_line = [&](ordered_json row, bool keys) {
    for (const auto& [key, value] : report.items()) {
      if (key != "rows") {
        row[key] = value;
      }
    }
    for (ordered_json& value : row) {
      value = value.is_array() ? joined(value) : value;
    }
    std::vector<std::string> cells;
    const ordered_json flat = row.flatten();
    for (const auto& [path, value] : flat.items()) {
      std::string& cell = cells.emplace_back(
          keys ? path.substr(1) : (value.is_string() ? value.get<std::string>() : value.dump()));
      if (keys) {
        std::replace(cell.begin(), cell.end(), '/', '_');
      }
    }
    out << cli::csv_row(cells) << '\n';
  };
  for (const ordered_json& row : report["rows"]) {
    if (&row == &report["rows"].front()) {
      print_line(row, true);
    }
    print_line(row, false);
  }
}

void print_models_markdown(std::ostream& out, const ordered_json& report) {
  const ordered_json& rows = report["rows"];
  if (rows.empty()) {
    return;
  }
  print_heading(out, report);
  out << '\n';
  if (rows.front().value("timed", "run") == "network") {
    out << "the network alone: no copies of pictures and logits\n\n";
  }
  RowTable table(rows);
  table.add_text("device", "device");
  table.add_text("precision", "precision");
  table.add_number("threads", "threads", 0);
  table.add_number("batch", "batch", 0);
  table.add("size", size_text);
  table.add_number("runs", "runs", 0);
  table.add_number("images/s", "images_per_s", 2);
  table.add_number("ms/image", "ms_per_image", 3);
  for (const auto& [name, value] : rows.front()["latency_ms"].items()) {
    table.add(name + " ms",
              [key = name](const ordered_json& row) { return number(row["latency_ms"][key], 3); });
  }
  constexpr double kMiB = 1.0 / (1 << 20);
  table.add_number("GFLOP/s", "gflops_per_s", 1);
  table.add_number("arena MiB", "arena_bytes", 1, kMiB);
  table.add_number("weights MiB", "parameter_bytes", 1, kMiB);
  table.add_number("load ms", "load_ms", 1);
  table.add_number("create ms", "create_ms", 1);
  table.add_number("first run ms", "first_run_ms", 1);
  table.add_number("peak RSS MiB", "peak_rss_bytes", 1, kMiB);
  table.print(out);
}

// The kind of an operation: "conv1x1 s2 +bn" is a "conv1x1", "separable: ..." a "separable", and
// "relu+ depthwise3x3" a "depthwise3x3", which has its ReLU on load.
std::string kind_of(const ordered_json& layer) {
  constexpr std::string_view kOnLoad = "relu+ ";
  std::string operation = layer["operation"].get<std::string>();
  operation.erase(0, operation.starts_with(kOnLoad) ? kOnLoad.size() : 0);
  return operation.substr(0, operation.find_first_of(": "));
}

// What layers and kernels were taken on. `of_what`: what the medians are of.
void print_session(std::ostream& out, const ordered_json& session, const std::string& of_what) {
  const int threads = session["threads"].get<int>();
  const auto text = [&](const char* key) { return session[key].get<std::string>(); };
  out << "on " << text("device") << ", " << text("precision")
      << (threads == 0 ? "" : ", " + std::to_string(threads) + " thread" + (threads > 1 ? "s" : ""))
      << ", input " << text("input") << "; medians of " << of_what << '\n';
  const ordered_json& roofline = session["roofline"];
  if (!roofline.is_null()) {
    out << "roofline, " << roofline["source"].get<std::string>() << ": "
        << number(roofline["flops_per_s"], 1, 1e-9) << " GFLOP/s, "
        << number(roofline["bytes_per_s"], 1, 1e-9) << " GB/s\n";
  }
}

void print_layers_markdown(std::ostream& out, const ordered_json& report) {
  print_heading(out, report);
  const ordered_json& session = report["session"];
  print_session(out, session, session["runs"].dump() + " runs");
  out << "whole run " << number(session["run_ms"], 3) << " ms, all steps "
      << number(session["steps_ms"], 3) << " ms\n\n";
  RowTable layers(report["rows"]);
  layers.add_text("layer", "name");
  layers.add_text("operation", "operation");
  layers.add_text("by", "implementation");
  layers.add_text("output", "output");
  layers.add_number("ms", "median_ms", 4);
  layers.add_number("%", "share", 1, 100);
  layers.add_rates();
  layers.print(out);

  std::map<std::string, std::pair<int, double>> kinds;
  for (const ordered_json& row : report["rows"]) {
    auto& [count, time] = kinds[kind_of(row)];
    ++count;
    time += row["median_ms"].get<double>();
  }
  std::vector<Column> summary = {
      {"operation", {}, true}, {"layers", {}, false}, {"ms", {}, false}, {"%", {}, false}};
  const double all = session["steps_ms"].get<double>();
  const auto add = [&](const std::string& name, std::size_t count, double ms) {
    summary[0].cells.push_back(name);
    summary[1].cells.push_back(std::to_string(count));
    summary[2].cells.push_back(fixed(ms, 4));
    summary[3].cells.push_back(fixed(100 * ms / all, 1));
  };
  for (const auto& [name, entry] : kinds) {
    add(name, static_cast<std::size_t>(entry.first), entry.second);
  }
  add("all", report["rows"].size(), all);
  out << '\n';
  print_table(out, summary);
}

std::string difference_text(const ordered_json& value) {
  const double difference = value.get<double>();
  return std::isnan(difference) ? "nan" : cli::scientific(difference, 1);
}

void print_kernels_markdown(std::ostream& out, const ordered_json& report) {
  print_heading(out, report);
  const ordered_json& session = report["session"];
  print_session(out, session, "series, each of one kernel back to back");
  if (session.contains("kernels_ms")) {
    out << "all kernels, as often as the network runs them: " << number(session["kernels_ms"], 3)
        << " ms\n";
  }
  if (session.contains("logits_difference")) {
    out << "logits differ from the double-precision loops' by "
        << difference_text(session["logits_difference"]) << " of the largest; tolerance "
        << difference_text(session["tolerance"]) << '\n';
  }
  out << '\n';
  RowTable kernels(report["rows"]);
  kernels.add_text("layer", "name");
  kernels.add_number("times", "times", 0);
  kernels.add_text("operation", "operation");
  kernels.add_text("by", "implementation");
  kernels.add(
      "inputs", [](const ordered_json& row) { return joined(row["inputs"]); }, true);
  kernels.add_text("output", "output");
  kernels.add_number("ms", "median_ms", 4);
  kernels.add_rates();
  if (report["rows"].front().contains("difference")) {
    kernels.add("difference",
                [](const ordered_json& row) { return difference_text(row["difference"]); });
  }
  kernels.print(out);
}

}  // namespace

std::string size_text(const ordered_json& row) {
  return row["height"].dump() + 'x' + row["width"].dump();
}

Result<Format> parse_format(const std::string& text) {
  if (text == "md") {
    return Format::kMarkdown;
  }
  if (text == "csv") {
    return Format::kCsv;
  }
  if (text == "json") {
    return Format::kJson;
  }
  return Status(Code::kInvalidArgument, "--output: '" + text + "' is not md, csv or json");
}

ordered_json describe_machine() {
  ordered_json machine;
  machine["cpu"] = "unknown";
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    if (line.rfind("model name", 0) == 0 && line.find(": ") != std::string::npos) {
      machine["cpu"] = line.substr(line.find(": ") + 2);
      break;
    }
  }
  machine["cores"] = std::thread::hardware_concurrency();
  double load = 0;
  machine["load_average"] = getloadavg(&load, 1) == 1 ? ordered_json(load) : ordered_json();
  return machine;
}

ordered_json describe_build() {
  ordered_json build;
  build["version"] = XC_VERSION;
  build["compiler"] = XC_COMPILER;
  build["type"] = XC_BUILD_TYPE;
  build["commit"] = cli::commit();
  return build;
}

std::string json_text(const ordered_json& json, int indent) {
  return json.dump(indent, ' ', false, ordered_json::error_handler_t::replace);
}

namespace {

using PrintMarkdown = void (*)(std::ostream& out, const ordered_json& report);

void print(std::ostream& out, const ordered_json& report, Format format, PrintMarkdown markdown) {
  if (format == Format::kJson) {
    out << json_text(report, 2) << '\n';
  } else if (format == Format::kCsv) {
    print_csv(out, report);
  } else {
    markdown(out, report);
  }
}

}  // namespace

void print_models(std::ostream& out, const ordered_json& report, Format format) {
  print(out, report, format, print_models_markdown);
}

void print_layers(std::ostream& out, const ordered_json& report, Format format) {
  print(out, report, format, print_layers_markdown);
}

void print_kernels(std::ostream& out, const ordered_json& report, Format format) {
  print(out, report, format, print_kernels_markdown);
}

}  // namespace xception::bench
