// What is known about a classified input, and how it is written in each format.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "options.h"
#include "picture.h"

namespace xception::cli {

struct Ranked {
  int index = 0;
  float prob = 0;
  float logit = 0;
};

struct Record {
  std::string input;
  Status status;
  const char* decoder = "";
  int height = 0;
  int width = 0;
  std::vector<Ranked> top;  // best first; of equal logits the lower index first
  double decode_ms = 0;
  double preprocess_ms = 0;
  double compute_ms = 0;
};

// The picture's names and times, and no classes yet.
Record make_record(const Picture& picture);

// The best options.top of `logits`, without those below the threshold. Turns the record into a
// failure where a logit is no finite number.
void rank(const std::vector<float>& logits, const Options& options, Record& record);

// What all records of a run share.
struct RunFacts {
  std::string model;
  std::string arch;
  std::string device;
  std::string precision;
  std::vector<std::string> labels;  // one a class, or empty
  std::size_t name_width = 0;       // of the longest input's name, for text
};

// Writes one format. Each function returns text to put out.
class Formatter {
 public:
  virtual ~Formatter() = default;
  virtual std::string begin() { return {}; }
  virtual std::string record(const Record& record) = 0;
  virtual std::string end() { return {}; }
  // Whether a failed input shows in the output itself, so that standard error need not tell.
  virtual bool shows_failures() const { return true; }
};

// `facts` must outlive the formatter; device and precision may still be unknown here.
std::unique_ptr<Formatter> make_formatter(Format format, Scores scores, const RunFacts& facts);

}  // namespace xception::cli
