// The weight file's format: what is read, what is refused and in which words, and what damage does.
#include "engine/safetensors.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "random.h"
#include "safetensors_bytes.h"
#include "testing.h"

namespace xception {
namespace {

Result<std::shared_ptr<const WeightFile>> open(const std::string& bytes) {
  return WeightFile::from_memory(std::as_bytes(std::span(bytes)));
}

// What a file of this header and `data_bytes` zeros is refused with; empty where it is accepted.
std::string refusal(const std::string& header, std::size_t data_bytes = 0) {
  const auto file = open(safetensors_bytes(header, std::string(data_bytes, '\0')));
  CHECK((file.ok() || file.status().code() == Code::kBadModel));
  return file.status().message();
}

std::string entry(const std::string& type, const std::string& shape, std::uint64_t begin,
                  std::uint64_t end) {
  return entry_json("a", type, shape, begin, end);
}

struct Read {
  Status status;
  std::vector<float> values;
};

// Tensor "t" of the file in `bytes`.
Read read(const std::string& bytes) {
  const auto file = open(bytes);
  REQUIRE(file.ok());
  const TensorEntry* tensor = (*file)->find("t");
  REQUIRE(tensor != nullptr);
  GuardedBuffer<float> values(tensor->elements());
  const Status status = (*file)->read(*tensor, {values.data(), values.copy().size()});
  CHECK(values.guards_intact());
  return {status, values.copy()};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

double half_value(unsigned bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31);
  const double mantissa = bits & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits >> 15 != 0 ? -magnitude : magnitude;
}

}  // namespace

TEST_CASE("entries come in the order of the data, with metadata beside them") {
  const std::string bytes =
      safetensors_bytes(" \n{" + entry_json("late", "F32", "[2,1]", 4, 12) +
                            ",\"__metadata__\":{\"k\":\"v\\u00e4\"," + "\"\":\"line\\nfeed\"}," +
                            entry_json("early", "BF16", "[2]", 0, 4) + "," +
                            entry_json("steps", "I64", "[]", 12, 20) + "," +
                            entry_json("none", "F16", "[3,0]", 4, 4) + "}\t  ",
                        std::string(20, '\0'));
  const auto opened = open(bytes);
  REQUIRE(opened.ok());
  const WeightFile& file = **opened;
  CHECK(file.name() == "(memory)");
  CHECK(file.data_bytes() == 20);
  CHECK(file.metadata() ==
        std::map<std::string, std::string>{{"k", "v\u00e4"}, {"", "line\nfeed"}});
  REQUIRE(file.entries().size() == 4);
  CHECK(file.entries()[0].name == "early");
  CHECK(file.entries()[1].name == "none");
  CHECK(file.entries()[2].name == "late");
  CHECK(file.entries()[3].name == "steps");
  CHECK(file.find("late") == &file.entries()[2]);
  CHECK(file.find("late")->shape == std::vector<std::int64_t>{2, 1});
  CHECK(file.find("late")->type == StoredType::kF32);
  CHECK(file.find("steps")->elements() == 1);
  CHECK(file.find("none")->elements() == 0);
  CHECK(file.find("") == nullptr);
  CHECK(file.find("zz") == nullptr);
  CHECK(shape_string(file.find("late")->shape) == "[2, 1]");
  CHECK(shape_string(file.find("steps")->shape) == "[]");
}

TEST_CASE("a file without tensors is sound") {
  CHECK(refusal("{}").empty());
  CHECK(refusal("{\"__metadata__\":{}}").empty());
}

TEST_CASE("a tensor without elements is sound whatever its other extents are") {
  for (const char* shape : {"[0]", "[0,4]", "[1099511627776,1099511627776,0]"}) {
    CHECK(refusal("{" + entry("F32", shape, 0, 0) + "}").empty());
  }
}

TEST_CASE("the header's JSON is refused where it is none") {
  const std::string sound = entry("F32", "[1]", 0, 4);
  CHECK(refusal("{" + sound + "}", 4).empty());
  const std::vector<std::string> broken = {std::string(),
                                           std::string("{"),
                                           std::string("  "),
                                           "{" + sound,
                                           "{" + sound + "}}",
                                           "{" + sound + "}x",
                                           "{" + sound + "," + "}",
                                           "{" + sound + "}" + std::string(1, '\0'),
                                           "\xEF\xBB\xBF{" + sound + "}",
                                           "/* */{" + sound + "}",
                                           "{'a':1}",
                                           std::string("{\"a\xFF\":{}}"),
                                           std::string("{\"a\xC3\":{}}"),
                                           std::string("{\"\\ud800\":{}}"),
                                           std::string("{\"a\":nan}"),
                                           std::string("{\"a\tb\":{}}"),
                                           std::string("{\"a\":1e999}")};
  for (const std::string& header : broken) {
    INFO(header);
    CHECK(contains(refusal(header, 4), "is not valid JSON"));
  }
}

std::string many_metadata() {
  std::string header = "{\"__metadata__\":{\"\":\"\"";
  for (int i = 0; i < 100000; ++i) {
    header += ",\"" + std::to_string(i) + "\":\"\"";
  }
  return header + "}}";
}

TEST_CASE("each rule of the header is refused in its own words") {
  const std::string ok = entry("F32", "[1]", 0, 4);
  const std::string second = entry_json("b", "F32", "[1]", 4, 8);
  struct Case {
    std::string header;
    std::size_t data_bytes;
    std::string words;
  };
  const std::vector<Case> cases = {
      {"[]", 0, "must be one JSON object"},
      {"7", 0, "must be one JSON object"},
      {"\"{}\"", 0, "must be one JSON object"},
      {"{\"a\":1}", 0, "tensor 'a' must be an object"},
      {"{\"a\":[]}", 0, "tensor 'a' must be an object"},
      {"{\"a\":{}}", 0, "tensor 'a' must have a dtype, a shape and data_offsets"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "tensor 'a' must have a dtype"},
      {"{\"a\":{\"dtype\":7}}", 4, "the dtype of tensor 'a' must be a string"},
      {"{\"a\":{\"shape\":4}}", 4,
       "the shape of tensor 'a' must be a list of whole numbers, 0 or more"},
      {"{\"a\":{\"shape\":[[1]]}}", 4,
       "the shape of tensor 'a' must be a list of whole numbers, 0 or more"},
      {"{\"a\":{\"shape\":[-1]}}", 4,
       "the shape of tensor 'a' must be a list of whole numbers, 0 or more"},
      {"{\"a\":{\"shape\":[1.0]}}", 4,
       "the shape of tensor 'a' must be a list of whole numbers, 0 or more"},
      {"{\"a\":{\"shape\":[\"1\"]}}", 4,
       "the shape of tensor 'a' must be a list of whole numbers, 0 or more"},
      {"{\"a\":{\"data_offsets\":[0]}}", 4, "data_offsets of tensor 'a' must be two whole numbers"},
      {"{\"a\":{\"data_offsets\":[0,4,8]}}", 4, "data_offsets of tensor 'a' must be two whole"},
      {"{\"a\":{\"data_offsets\":[null,4]}}", 4, "data_offsets of tensor 'a' must be two whole"},
      {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 4, "tensor 'a' has its dtype twice"},
      {"{\"a\":{\"extra\":1}}", 4, "tensor 'a' has a field 'extra'"},
      {"{" + ok + "," + ok + "}", 4, "tensor 'a' stands twice"},
      {"{" + ok + "," + second + "," + entry("F32", "[0]", 8, 8) + "}", 8, "'a' stands twice"},
      {many_metadata(), 0, "its __metadata__ has more than 100000 entries"},
      {"{\"__metadata__\":{\"k\":\"v\",\"k\":\"v\"}}", 0, "a key of its __metadata__ stands twice"},
      {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ stands twice"},
      {"{\"__metadata__\":{\"k\":1}}", 0, "__metadata__ must map strings to strings"},
      {"{\"__metadata__\":{\"k\":{}}}", 0, "__metadata__ must map strings to strings"},
      {"{\"__metadata__\":null}", 0, "__metadata__ must map strings to strings"},
      {"{" + entry("F8_E4M3", "[4]", 0, 4) + "}", 4, "tensor 'a' has the element type 'F8_E4M3'"},
      {"{" + entry("f32", "[1]", 0, 4) + "}", 4, "tensor 'a' has the element type 'f32'"},
      {"{\"a\\nb\":{}}", 0, "the name of tensor 'a?b' has control characters"},
      {"{\"a\\u0000\":{}}", 0, "the name of tensor 'a?' has control characters"},
      {"{\"a\\u007f\":{}}", 0, "the name of tensor 'a?' has control characters"},
      {"{\"a\\u0085b\":{}}", 0, "the name of tensor 'a?b' has control characters"},
      {"{\"a\\u009f\":{}}", 0, "the name of tensor 'a?' has control characters"},
      {"{\"a\\u00a0b\":1}", 0, "tensor 'a\u00a0b' must be an object"},
      {"{" + entry("F32", "[1]", 4, 0) + "}", 4, "ends at byte 0, before it begins at byte 4"},
      {"{" + entry("F32", "[2]", 0, 4) + "}", 4, "takes 8 bytes as F32, but its data_offsets give"},
      {"{" + entry("F16", "[]", 0, 4) + "}", 4, "of shape [] takes 2 bytes as F16"},
      {"{" + ok + "," + entry_json("b", "F32", "[1]", 2, 6) + "}", 6, "'b' overlaps that of"},
      {"{" + ok + "," + entry_json("b", "F32", "[1]", 0, 4) + "}", 4, "'b' overlaps that of"},
      {"{" + ok + "," + entry_json("b", "F32", "[1]", 8, 12) + "}", 12,
       "no tensor holds bytes 4 to 8 of the data, before tensor 'b'"},
      {"{" + entry("F32", "[1]", 4, 8) + "}", 8, "no tensor holds bytes 0 to 4"},
      {"{" + ok + "}", 5, "take 4 bytes of data, but the file has 5"},
      {"{" + ok + "}", 3, "but the file has 3; it was cut short"},
      {"{}", 1, "take 0 bytes of data, but the file has 1"},
      {"{" + entry("F32", "[4294967296,4294967296]", 0, 0) + "}", 0, "'a' overflows 64 bits"},
      {"{" + entry("F64", "[2305843009213693952]", 0, 0) + "}", 0, "'a' overflows 64 bits"},
      {"{" + entry("F32", "[9223372036854775808]", 0, 0) + "}", 0, "'a' overflows 64 bits"},
      {"{" + entry("F32", "[18446744073709551615,18446744073709551615]", 0, 4) + "}", 4,
       "'a' overflows 64 bits"},
      {"{" + entry("F32", "[18446744073709551616]", 0, 0) + "}", 0, "whole numbers"},
  };
  for (const Case& c : cases) {
    INFO(c.header);
    const std::string message = refusal(c.header, c.data_bytes);
    INFO(message);
    CHECK(contains(message,
                   "model '(memory)' is no sound safetensors file, fetch or export it again: "));
    CHECK(contains(message, c.words));
  }
}

TEST_CASE("ranks are bounded, and a long name is cut in messages between characters") {
  const auto of_rank = [](int rank) {
    std::string shape = "[1";
    for (int i = 1; i < rank; ++i) {
      shape += ",1";
    }
    return "{" + entry("F32", shape + "]", 0, 4) + "}";
  };
  CHECK(refusal(of_rank(64), 4).empty());
  CHECK(contains(refusal(of_rank(65), 4), "tensor 'a' has more than 64 dimensions"));
  std::string name = "x";
  for (int i = 0; i < 100; ++i) {
    name += "\u00e4";
  }
  CHECK(contains(refusal("{\"" + name + "\":1}"), "'" + name.substr(0, 99) + "...'"));
}

TEST_CASE("headers that claim more than they are") {
  for (const std::uint64_t claim :
       {std::uint64_t{3}, std::uint64_t{100'000'000}, std::uint64_t{100'000'001},
        std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    std::string bytes = safetensors_bytes("{}", "");
    std::memcpy(bytes.data(), &claim, sizeof(claim));
    const auto file = open(bytes);
    REQUIRE_FALSE(file.ok());
    CHECK(file.status().code() == Code::kBadModel);
    CHECK(contains(file.status().message(), std::to_string(claim) + " bytes, " +
                                                (claim > 100'000'000 ? "above the format's limit"
                                                                     : "more than the file has")));
  }
}

TEST_CASE("nesting of any depth is refused, not followed") {
  const std::string deep(1'000'000, '[');
  CHECK(contains(refusal(deep), "must be one JSON object"));
  CHECK(contains(refusal("{\"a\":" + deep), "tensor 'a' must be an object"));
  CHECK(contains(refusal("{\"a\":{\"shape\":" + deep), "list of whole numbers"));
  CHECK(contains(refusal("{\"__metadata__\":{\"k\":" + deep), "map strings to strings"));
}

TEST_CASE("values of every type arrive as float32") {
  XC_RANDOM(random);
  // More than one chunk of each type, and not a whole number of chunks.
  const std::vector<float> floats = random.normals(200'003);
  CHECK(read(one_tensor("F32", floats)).values == floats);

  const std::vector<double> doubles(floats.begin(), floats.end());
  CHECK(read(one_tensor("F64", doubles)).values == floats);
  CHECK(read(one_tensor("F64", std::vector<double>{0.1, 1e-50, -1e38})).values ==
        std::vector<float>{0.1F, 0.0F, -1e38F});

  std::vector<std::uint16_t> halves;
  std::vector<float> half_values;
  std::vector<std::uint16_t> bfloats;
  std::vector<float> bfloat_values;
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const auto stored = static_cast<std::uint16_t>(bits);
    if ((bits & 0x7C00) != 0x7C00) {
      halves.push_back(stored);
      half_values.push_back(static_cast<float>(half_value(bits)));
    }
    if ((bits & 0x7F80) != 0x7F80) {
      const std::uint32_t wide = bits << 16;
      bfloats.push_back(stored);
      std::memcpy(&bfloat_values.emplace_back(), &wide, sizeof(wide));
    }
  }
  // Bytes, not values: minus zero must keep its sign.
  CHECK(raw_bytes(read(one_tensor("F16", halves)).values) == raw_bytes(half_values));
  CHECK(raw_bytes(read(one_tensor("BF16", bfloats)).values) == raw_bytes(bfloat_values));
}

TEST_CASE("values that are no numbers are refused by tensor and index") {
  const auto refused = [](const std::string& bytes, const std::string& words) {
    const Read result = read(bytes);
    INFO(result.status.message());
    CHECK(result.status.code() == Code::kBadModel);
    CHECK(contains(result.status.message(), "tensor 't' of model '(memory)'"));
    CHECK(contains(result.status.message(), words));
  };
  std::vector<float> floats(70'000, 1.0F);
  floats[69'999] = -std::numeric_limits<float>::infinity();
  refused(one_tensor("F32", floats), "index 69999 is infinite");
  floats[66'000] = std::numeric_limits<float>::quiet_NaN();
  refused(one_tensor("F32", floats), "index 66000 is not a number");
  refused(one_tensor("F64", std::vector<double>{0, 1, 1e39}),
          "index 2 is infinite or too large for float32");
  refused(one_tensor("BF16", std::vector<std::uint16_t>{0, 0xFF80}), "index 1 is infinite");
  for (unsigned bits = 0; bits < 65536; ++bits) {
    if ((bits & 0x7C00) == 0x7C00) {
      refused(one_tensor("F16", std::vector<std::uint16_t>{0, static_cast<std::uint16_t>(bits)}),
              (bits & 0x3FF) == 0 ? "index 1 is infinite" : "index 1 is not a number");
    }
  }
}

TEST_CASE("a part of a tensor is read, and its faults are counted from the tensor's start") {
  std::vector<float> floats = {0, 1, 2, 3, 4, 5};
  floats[4] = std::numeric_limits<float>::quiet_NaN();
  const std::string bytes = one_tensor("F32", floats);
  const auto file = WeightFile::from_memory(std::as_bytes(std::span(bytes)));
  REQUIRE(file.ok());
  const TensorEntry& entry = *(*file)->find("t");
  std::vector<float> values(3);
  REQUIRE((*file)->read(entry, 1, values).ok());
  CHECK(values == std::vector<float>{1, 2, 3});
  CHECK(contains((*file)->read(entry, 3, values).message(), "index 4 is not a number"));
  for (const std::size_t begin : {std::size_t{4}, std::size_t{7}, ~std::size_t{0}}) {
    CHECK((*file)->read(entry, begin, values).code() == Code::kInvalidArgument);
  }
}

TEST_CASE("read refuses what it cannot give") {
  const std::string bytes = one_tensor("F32", std::vector<float>{1, 2});
  const std::string integers = one_tensor("I64", std::vector<std::int64_t>{5});
  const auto file = open(bytes);
  REQUIRE(file.ok());
  std::vector<float> three(3);
  const auto code = [&](const TensorEntry& tensor, std::size_t count) {
    return (*file)->read(tensor, std::span(three).first(count)).code();
  };
  TensorEntry tensor = (*file)->entries()[0];
  CHECK(code(tensor, 2) == Code::kOk);
  CHECK(code(tensor, 1) == Code::kInvalidArgument);
  CHECK(code(tensor, 3) == Code::kInvalidArgument);
  tensor.end += 4;
  CHECK(code(tensor, 3) == Code::kInvalidArgument);
  const Read whole = read(integers);
  CHECK(whole.status.code() == Code::kInvalidArgument);
  CHECK(contains(whole.status.message(), "holds integers (I64)"));
}

TEST_CASE("sha256 is that of the data section alone") {
  const auto digest = [](const std::string& bytes) {
    const auto file = open(bytes);
    REQUIRE(file.ok());
    return (*file)->sha256().value();
  };
  CHECK(digest(safetensors_bytes("{}", "")) ==
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  // FIPS 180-2, appendix B.3: a million letters a.
  CHECK(digest(one_tensor("F16", std::vector<std::uint16_t>(500'000, 0x6161))) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("any byte damaged: refused, or another sound file") {
  const std::string sound =
      safetensors_bytes("{\"__metadata__\":{\"k\":\"v\"}," + entry_json("a", "F32", "[2]", 0, 8) +
                            "," + entry_json("b", "I64", "[]", 8, 16) + "}",
                        std::string(16, '\x3f'));
  REQUIRE(open(sound).ok());
  int accepted = 0;
  int refused = 0;
  for (std::size_t at = 0; at < sound.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string damaged = sound;
      damaged[at] = static_cast<char>(value);
      const auto file = open(damaged);
      if (!file.ok()) {
        ++refused;
        CHECK(file.status().code() == Code::kBadModel);
        continue;
      }
      ++accepted;
      for (const TensorEntry& tensor : (*file)->entries()) {
        std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
        const Code code = (*file)->read(tensor, values).code();
        CHECK((code == Code::kOk || code == Code::kBadModel || tensor.type == StoredType::kI64));
      }
    }
  }
  CHECK(accepted > 16 * 256);  // all data, and most letters of names
  CHECK(refused > accepted);
}

TEST_CASE("any length but the right one is refused") {
  const std::string sound = one_tensor("F32", std::vector<float>{1, 2, 3});
  REQUIRE(open(sound).ok());
  for (std::size_t length = 0; length < sound.size(); ++length) {
    CHECK(open(sound.substr(0, length)).status().code() == Code::kBadModel);
  }
  CHECK(open(sound + '\0').status().code() == Code::kBadModel);
}

}  // namespace xception
