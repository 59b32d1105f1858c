#include "bench_report.h"

#include <algorithm>
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

std::string size_text(const ordered_json& row) {
  return row["height"].dump() + 'x' + row["width"].dump();
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
  std::vector<Column> columns;
  const auto add = [&](const std::string& heading, const auto& cell, bool text = false) {
    Column& column = columns.emplace_back(Column{heading, {}, text});
    for (const ordered_json& row : rows) {
      column.cells.push_back(cell(row));
    }
  };
  const auto add_number = [&](const std::string& heading, const char* key, int digits,
                              double scale = 1) {
    add(heading, [=](const ordered_json& row) { return number(row[key], digits, scale); });
  };
  add(
      "device", [](const ordered_json& row) { return row["device"].get<std::string>(); }, true);
  add(
      "precision", [](const ordered_json& r) { return r["precision"].get<std::string>(); }, true);
  add_number("threads", "threads", 0);
  add_number("batch", "batch", 0);
  add("size", size_text);
  add_number("runs", "runs", 0);
  add_number("images/s", "images_per_s", 2);
  add_number("ms/image", "ms_per_image", 3);
  for (const auto& [name, value] : rows.front()["latency_ms"].items()) {
    add(name + " ms",
        [key = name](const ordered_json& row) { return number(row["latency_ms"][key], 3); });
  }
  constexpr double kMiB = 1.0 / (1 << 20);
  add_number("GFLOP/s", "gflops_per_s", 1);
  add_number("arena MiB", "arena_bytes", 1, kMiB);
  add_number("weights MiB", "parameter_bytes", 1, kMiB);
  add_number("load ms", "load_ms", 1);
  add_number("create ms", "create_ms", 1);
  add_number("first run ms", "first_run_ms", 1);
  add_number("peak RSS MiB", "peak_rss_bytes", 1, kMiB);
  print_table(out, columns);
}

// The kind of an operation: "conv1x1 s2 +bn" is a "conv1x1", "separable: ..." a "separable", and
// "relu+ depthwise3x3" a "depthwise3x3", which has its ReLU on load.
std::string kind_of(const ordered_json& layer) {
  constexpr std::string_view kOnLoad = "relu+ ";
  std::string operation = layer["operation"].get<std::string>();
  operation.erase(0, operation.starts_with(kOnLoad) ? kOnLoad.size() : 0);
  return operation.substr(0, operation.find_first_of(": "));
}

void print_layers_markdown(std::ostream& out, const ordered_json& report) {
  print_heading(out, report);
  const ordered_json& session = report["session"];
  const int threads = session["threads"].get<int>();
  const auto text = [&](const char* key) { return session[key].get<std::string>(); };
  out << "on " << text("device") << ", " << text("precision")
      << (threads == 0 ? "" : ", " + std::to_string(threads) + " thread" + (threads > 1 ? "s" : ""))
      << ", input " << text("input") << "; medians of " << session["runs"] << " runs\n"
      << "whole run " << number(session["run_ms"], 3) << " ms, all steps "
      << number(session["steps_ms"], 3) << " ms\n\n";
  std::vector<Column> layers = {{"layer", {}, true},    {"operation", {}, true}, {"by", {}, true},
                                {"output", {}, true},   {"ms", {}, false},       {"%", {}, false},
                                {"GFLOP/s", {}, false}, {"GB/s", {}, false}};
  std::map<std::string, std::pair<int, double>> kinds;
  for (const ordered_json& row : report["rows"]) {
    std::size_t column = 0;
    for (const char* key : {"name", "operation", "implementation", "output"}) {
      layers[column++].cells.push_back(row[key].get<std::string>());
    }
    layers[column++].cells.push_back(number(row["median_ms"], 4));
    layers[column++].cells.push_back(number(row["share"], 1, 100));
    layers[column++].cells.push_back(number(row["gflops_per_s"], 1));
    layers[column++].cells.push_back(number(row["gb_per_s"], 1));
    auto& [count, time] = kinds[kind_of(row)];
    ++count;
    time += row["median_ms"].get<double>();
  }
  print_table(out, layers);

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

// What two rows must share to be compared.
std::string key_of(const ordered_json& row) {
  std::string key;
  for (const char* member : {"device", "precision", "threads", "batch", "height", "width"}) {
    key += row.at(member).dump() + ' ';
  }
  return key + row.value("timed", "run");
}

Status not_a_report(const std::string& path, const std::string& why) {
  return {Code::kInvalidArgument,
          "--baseline: '" + path + "' is not a report of 'bench model -o json' (" + why + ')'};
}

}  // namespace

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

void print_models(std::ostream& out, const ordered_json& report, Format format) {
  if (format == Format::kJson) {
    out << json_text(report, 2) << '\n';
  } else if (format == Format::kCsv) {
    print_csv(out, report);
  } else {
    print_models_markdown(out, report);
  }
}

void print_layers(std::ostream& out, const ordered_json& report, Format format) {
  if (format == Format::kMarkdown) {
    print_layers_markdown(out, report);
  } else {
    print_models(out, report, format);
  }
}

Result<ordered_json> read_baseline(const std::string& path, const ordered_json& report) {
  const Status unreadable(Code::kInvalidArgument, "--baseline: '" + path + "' cannot be read");
  std::ifstream file(path);
  if (!file) {
    return unreadable;
  }
  try {
    ordered_json baseline = ordered_json::parse(file);
    for (const ordered_json& row : baseline.at("rows")) {
      key_of(row);
      if (!(row.at("latency_ms").at("p50").get<double>() > 0)) {
        return not_a_report(path, "a median is not above 0");
      }
    }
    for (const char* key : {"cpu", "cores"}) {
      baseline.at("machine").at(key);
    }
    for (const char* key : {"compiler", "type"}) {
      baseline.at("build").at(key);
    }
    for (const char* key : {"arch", "classes", "parameters"}) {
      const ordered_json& old = baseline.at("model").at(key);
      if (old != report["model"][key]) {
        return Status(Code::kInvalidArgument,
                      "--baseline: '" + path + "' is of another network: its " + key + ' ' +
                          json_text(old) + ", and here " + json_text(report["model"][key]));
      }
    }
    return baseline;
  } catch (const std::ios_base::failure&) {  // a folder
    return unreadable;
  } catch (const nlohmann::json::exception& error) {
    return not_a_report(path, error.what());
  }
}

Result<int> compare_with_baseline(std::ostream& out, const ordered_json& report,
                                  const std::string& path, const ordered_json& baseline,
                                  double max_regress) {
  std::map<std::string, double> medians;
  for (const ordered_json& row : baseline["rows"]) {
    medians[key_of(row)] = row["latency_ms"]["p50"].get<double>();
  }
  for (const auto& [group, key] : {std::pair("machine", "cpu"), std::pair("machine", "cores"),
                                   std::pair("build", "compiler"), std::pair("build", "type")}) {
    if (baseline[group][key] != report[group][key]) {
      out << "bench: another " << group << " than the baseline's, whose " << key << " is "
          << json_text(baseline[group][key]) << '\n';
    }
  }
  int compared = 0;
  int slower = 0;
  for (const ordered_json& row : report["rows"]) {
    out << "bench: batch " << row["batch"] << ", " << size_text(row) << ", "
        << row["precision"].get<std::string>() << ", " << row["threads"] << " threads: ";
    const auto old = medians.find(key_of(row));
    if (old == medians.end()) {
      out << "not in the baseline\n";
      continue;
    }
    const double now = row["latency_ms"]["p50"].get<double>();
    const double change = now / old->second - 1;
    const bool regressed = change > max_regress;
    out << "median " << fixed(now, 3) << " ms, was " << fixed(old->second, 3) << " ms ("
        << (change > 0 ? "+" : "") << fixed(100 * change, 1) << " %)"
        << (regressed ? ": slower than allowed" : "") << '\n';
    ++compared;
    slower += regressed ? 1 : 0;
  }
  if (compared == 0) {
    return Status(Code::kInvalidArgument,
                  "--baseline: '" + path + "' has none of the configurations that were run");
  }
  return slower;
}

}  // namespace xception::bench
