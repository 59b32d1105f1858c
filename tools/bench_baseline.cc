#include "bench_baseline.h"

#include <fstream>
#include <map>
#include <ostream>
#include <utility>

#include "bench_report.h"
#include "table.h"

namespace xception::bench {
namespace {

using cli::fixed;
using nlohmann::ordered_json;

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
