#include "records.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "engine/decimal.h"
#include "message.h"
#include "table.h"

namespace xception::cli {
namespace {

using Json = nlohmann::ordered_json;

// `value` as a double, which JSON then prints with as few digits.
double shortest_double(float value) {
  const std::string text = decimal(value);
  double wide = 0;
  std::from_chars(text.data(), text.data() + text.size(), wide);
  return wide;
}

// Microseconds are what a clock can tell of such a span.
double rounded_ms(double ms) { return std::round(ms * 1000) / 1000; }

const std::string* label_of(const RunFacts& facts, int index) {
  return facts.labels.empty() ? nullptr : &facts.labels[static_cast<std::size_t>(index)];
}

// Columns: name, score, class; further classes stand below the first.
class TextFormatter : public Formatter {
 public:
  TextFormatter(Scores scores, const RunFacts& facts) : scores_(scores), facts_(facts) {}

  std::string record(const Record& record) override {
    if (!record.status.ok()) {
      return {};
    }
    constexpr std::size_t kWidest = 60;
    const std::size_t width = std::min(facts_.name_width, kWidest);
    std::string name = printable(record.input);
    name.append(width - std::min(width, text_width(name)), ' ');
    if (record.top.empty()) {
      return name + "        -  (no class reaches the threshold)\n";
    }
    std::string text;
    for (const Ranked& ranked : record.top) {
      text += text.empty() ? name : std::string(width, ' ');
      const std::string score =
          scores_ == Scores::kProb ? fixed(ranked.prob, 4) : decimal(ranked.logit);
      const std::string* label = label_of(facts_, ranked.index);
      text += "  " + std::string(7 - std::min<std::size_t>(7, score.size()), ' ') + score + "  ";
      text += label == nullptr ? "class " + std::to_string(ranked.index) : printable(*label);
      text += '\n';
    }
    return text;
  }
  bool shows_failures() const override { return false; }

 private:
  Scores scores_;
  const RunFacts& facts_;
};

Json to_json(const Record& record, const RunFacts& facts) {
  Json json;
  json["input"] = record.input;
  if (!record.status.ok()) {
    json["status"] = "error";
    json["code"] = code_name(record.status.code());
    json["message"] = record.status.message();
    return json;
  }
  json["status"] = "ok";
  json["model"] = facts.model;
  json["arch"] = facts.arch;
  json["device"] = facts.device;
  json["precision"] = facts.precision;
  json["decoder"] = record.decoder;
  json["size"] = {record.height, record.width};
  json["topk"] = Json::array();
  for (const Ranked& ranked : record.top) {
    const std::string* label = label_of(facts, ranked.index);
    Json entry;
    entry["index"] = ranked.index;
    entry["label"] = label == nullptr ? Json() : Json(*label);
    entry["prob"] = shortest_double(ranked.prob);
    entry["logit"] = shortest_double(ranked.logit);
    json["topk"].push_back(std::move(entry));
  }
  json["time_ms"] = {{"decode", rounded_ms(record.decode_ms)},
                     {"preprocess", rounded_ms(record.preprocess_ms)},
                     {"copy_in", nullptr},
                     {"compute", rounded_ms(record.compute_ms)},
                     {"copy_out", nullptr}};
  return json;
}

class JsonFormatter : public Formatter {
 public:
  JsonFormatter(bool lines, const RunFacts& facts) : lines_(lines), facts_(facts) {}

  std::string begin() override { return lines_ ? "" : "["; }
  std::string record(const Record& record) override {
    // A file name need not be UTF-8, JSON has to be.
    const std::string text =
        to_json(record, facts_).dump(-1, ' ', false, Json::error_handler_t::replace);
    if (lines_) {
      return text + '\n';
    }
    const char* before = first_ ? "\n" : ",\n";
    first_ = false;
    return before + text;
  }
  std::string end() override { return lines_ ? "" : "\n]\n"; }

 private:
  bool lines_;
  bool first_ = true;
  const RunFacts& facts_;
};

// RFC 4180. A row a class.
class CsvFormatter : public Formatter {
 public:
  explicit CsvFormatter(const RunFacts& facts) : facts_(facts) {}

  std::string begin() override {
    return "input,status,rank,index,label,prob,logit,model,arch,device,precision,decoder,height,"
           "width,decode_ms,preprocess_ms,compute_ms,code,message\r\n";
  }

  std::string record(const Record& record) override {
    if (!record.status.ok()) {
      return row({record.input, "error", "", "", "", "", "", facts_.model, facts_.arch,
                  facts_.device, facts_.precision, "", "", "", "", "", "",
                  code_name(record.status.code()), record.status.message()});
    }
    std::string text;
    for (std::size_t rank = 0; rank < std::max<std::size_t>(record.top.size(), 1); ++rank) {
      std::vector<std::string> ranked(5);  // stay empty where no class reaches the threshold
      if (rank < record.top.size()) {
        const Ranked& top = record.top[rank];
        const std::string* label = label_of(facts_, top.index);
        ranked = {std::to_string(rank + 1), std::to_string(top.index),
                  label == nullptr ? "" : *label, decimal(top.prob), decimal(top.logit)};
      }
      text += row({record.input, "ok", ranked[0], ranked[1], ranked[2], ranked[3], ranked[4],
                   facts_.model, facts_.arch, facts_.device, facts_.precision, record.decoder,
                   std::to_string(record.height), std::to_string(record.width),
                   fixed(record.decode_ms, 3), fixed(record.preprocess_ms, 3),
                   fixed(record.compute_ms, 3), "", ""});
    }
    return text;
  }

 private:
  static std::string row(const std::vector<std::string>& cells) { return csv_row(cells) + "\r\n"; }

  const RunFacts& facts_;
};

}  // namespace

Record make_record(const Picture& picture) {
  Record record;
  record.input = picture.name;
  record.status = picture.status;
  record.decoder = picture.decoder;
  record.height = picture.height;
  record.width = picture.width;
  record.decode_ms = picture.decode_seconds * 1000;
  record.preprocess_ms = picture.preprocess_seconds * 1000;
  return record;
}

void rank(const std::vector<float>& logits, const Options& options, Record& record) {
  const auto strange =
      std::find_if(logits.begin(), logits.end(), [](float x) { return !std::isfinite(x); });
  if (strange != logits.end()) {
    record.status = Status(Code::kInvalidArgument,
                           "'" + record.input +
                               "': the network's output is no finite number "
                               "(logit " +
                               std::to_string(strange - logits.begin()) + "); " +
                               (options.precision == Precision::kFp16
                                    ? "values left the range of fp16: use --precision bf16"
                                    : "values grew as they do with damaged weights: fetch or "
                                      "export the model again"));
    return;
  }
  const int classes = static_cast<int>(logits.size());
  std::vector<float> probabilities(logits.size());
  const Shape shape = {1, 1, 1, classes};
  record.status = softmax({logits.data(), shape}, {probabilities.data(), shape});
  if (!record.status.ok()) {
    return;
  }

  std::vector<int> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto top = order.begin() + std::min(options.top, classes);
  std::partial_sort(order.begin(), top, order.end(), [&](int a, int b) {
    const float x = logits[static_cast<std::size_t>(a)];
    const float y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  });
  for (auto at = order.begin(); at != top; ++at) {
    const auto i = static_cast<std::size_t>(*at);
    const float score = options.scores == Scores::kProb ? probabilities[i] : logits[i];
    // As the option was read, and as records print scores: in float32.
    if (!options.threshold || score >= static_cast<float>(*options.threshold)) {
      record.top.push_back({*at, probabilities[i], logits[i]});
    }
  }
}

std::unique_ptr<Formatter> make_formatter(Format format, Scores scores, const RunFacts& facts) {
  switch (format) {
    case Format::kText:
      break;
    case Format::kJsonLines:
      return std::make_unique<JsonFormatter>(true, facts);
    case Format::kJson:
      return std::make_unique<JsonFormatter>(false, facts);
    case Format::kCsv:
      return std::make_unique<CsvFormatter>(facts);
  }
  return std::make_unique<TextFormatter>(scores, facts);
}

}  // namespace xception::cli
