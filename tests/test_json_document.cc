// JSON of files: what is read, what is discarded, and how it goes where memory is out.
#include "engine/json_document.h"

#include <new>
#include <nlohmann/json.hpp>
#include <string>

#include "allocations.h"
#include "testing.h"

namespace xception {
namespace {

using nlohmann::json;

constexpr const char* kText =
    R"({"a":[[{},{"b":[1,-2,[0.5,[]]]}],true,"a text that is longer than a short string"],)"
    R"("c":null,"d":{"e":{"f":[[1],[2],[3]]}}})";

std::string nested(int levels) {
  return std::string(static_cast<std::size_t>(levels), '[') +
         std::string(static_cast<std::size_t>(levels), ']');
}

}  // namespace

TEST_CASE("JSON is read as it stands, and of two equal keys the last") {
  for (const char* text : {kText, "3", " [] ", "\"\\u00e9\"", "18446744073709551615", "1e3"}) {
    CAPTURE(text);
    CHECK(*parse_json(text) == json::parse(text));
  }
  CHECK(*parse_json(R"({"a":[1],"a":{"b":2}})") == json::parse(R"({"a":{"b":2}})"));
}

TEST_CASE("what is no JSON, too deep or too long is discarded") {
  const std::string text = kText;
  for (std::size_t length = 0; length < text.size(); ++length) {
    CAPTURE(length);
    CHECK(parse_json(text.substr(0, length))->is_discarded());
  }
  for (const char* broken : {"[1,]", "{} {}", "[1}", "nothing", "1e999", "'a'", "// a\n1"}) {
    CAPTURE(broken);
    CHECK(parse_json(broken)->is_discarded());
  }
  CHECK(parse_json(nested(16))->is_array());
  CHECK(parse_json(nested(17))->is_discarded());
  CHECK(parse_json("[" + std::string(kMaxJsonBytes - 2, ' ') + "]")->is_array());
  CHECK(parse_json("[" + std::string(kMaxJsonBytes - 1, ' ') + "]")->is_discarded());
}

// Complete, cut off, and with a member that is replaced.
TEST_CASE("JSON goes without memory, whatever of it was there when that ran out") {
  const std::string text = kText;
  for (const std::string& part : {text, text.substr(0, text.size() - 20), text.substr(0, 40),
                                  "{\"x\":" + text + ",\"x\":" + text + "}"}) {
    CAPTURE(part);
    int failures = 0;
    for (bool done = false; !done; ++failures) {
      allocations::fail_from(failures);
      bool thrown = false;
      try {
        const JsonDocument document = parse_json(part);
        allocations::fail_from(0);  // it is there, and goes now
      } catch (const std::bad_alloc&) {
        thrown = true;
      }
      static_cast<void>(allocations::cancel_failure());
      done = !thrown;
    }
    CHECK(failures > 10);
  }
}

}  // namespace xception
