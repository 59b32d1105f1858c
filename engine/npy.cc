// NumPy's .npy: a magic number, a version, a header that is a Python dict literal, the data.
#include <bit>
#include <limits>
#include <optional>
#include <string_view>

#include "atomic_file.h"
#include "image_file.h"
#include "no_throw.h"
#include "xception/image.h"

namespace xception {
namespace {

static_assert(std::endian::native == std::endian::little, ".npy data is copied as it stands");

constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr std::size_t kMaxHeader = std::size_t{1} << 20;

Status bad_npy(const std::string& message) {
  return Status(Code::kBadImage, "the .npy file " + message);
}

Status not_npy() { return bad_npy("does not begin with \\x93NUMPY; write it with numpy.save"); }

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

struct Header {
  std::optional<std::string> descr;
  std::optional<bool> fortran_order;
  std::optional<std::vector<std::int64_t>> shape;
};

// The dict literal {'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), } and nothing else.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  // Nothing where the text is not such a literal.
  std::optional<Header> parse() {
    Header header;
    if (!take('{')) {
      return std::nullopt;
    }
    while (!take('}')) {
      if (!entry(&header) || (!take(',') && peek() != '}')) {
        return std::nullopt;
      }
    }
    skip_space();
    const bool whole = header.descr && header.fortran_order && header.shape;
    return text_.empty() && whole ? std::optional<Header>(std::move(header)) : std::nullopt;
  }

 private:
  void skip_space() {
    const std::size_t begin = text_.find_first_not_of(" \t\r\n");
    text_.remove_prefix(begin == std::string_view::npos ? text_.size() : begin);
  }
  char peek() {
    skip_space();
    return text_.empty() ? '\0' : text_.front();
  }
  bool take(char c) {
    if (peek() != c) {
      return false;
    }
    text_.remove_prefix(1);
    return true;
  }
  bool take(std::string_view word) {
    skip_space();
    if (!text_.starts_with(word)) {
      return false;
    }
    text_.remove_prefix(word.size());
    return true;
  }

  std::optional<std::string> string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') {
      return std::nullopt;
    }
    const std::size_t end = text_.find(quote, 1);
    if (end == std::string_view::npos) {
      return std::nullopt;
    }
    std::string value(text_.substr(1, end - 1));
    text_.remove_prefix(end + 1);
    return value;
  }

  // The list of a structured type's fields, [('r', '|u1'), ('g', '<f4', (2,))], as it stands. What
  // is in it does not matter: no such type is read.
  std::optional<std::string> fields() {
    int depth = 0;
    char quote = '\0';
    for (std::size_t i = 0; i < text_.size(); ++i) {
      const char c = text_[i];
      if (quote != '\0') {
        quote = c == quote ? '\0' : quote;
      } else if (c == '\'' || c == '"') {
        quote = c;
      } else if (c == '[' || c == '(') {
        ++depth;
      } else if ((c == ']' || c == ')') && --depth == 0) {
        std::string value(text_.substr(0, i + 1));
        text_.remove_prefix(i + 1);
        return value;
      }
    }
    return std::nullopt;
  }

  std::optional<std::int64_t> number() {
    skip_space();
    std::int64_t value = 0;
    std::size_t digits = 0;
    for (; digits < text_.size() && text_[digits] >= '0' && text_[digits] <= '9'; ++digits) {
      if (digits == 18) {  // the next digit could overflow, and no file is that large
        return std::nullopt;
      }
      value = value * 10 + (text_[digits] - '0');
    }
    text_.remove_prefix(digits);
    return digits > 0 ? std::optional<std::int64_t>(value) : std::nullopt;
  }

  std::optional<std::vector<std::int64_t>> tuple() {
    std::vector<std::int64_t> values;
    if (!take('(')) {
      return std::nullopt;
    }
    while (!take(')')) {
      const std::optional<std::int64_t> value = number();
      if (!value) {
        return std::nullopt;
      }
      values.push_back(*value);
      const bool comma = take(',');
      // (3) is the number 3 in Python and no tuple.
      if (!comma && (peek() != ')' || values.size() == 1)) {
        return std::nullopt;
      }
    }
    return values;
  }

  // One key and its value, each key once.
  bool entry(Header* header) {
    const std::optional<std::string> key = string();
    if (!key || !take(':')) {
      return false;
    }
    if (*key == "descr" && !header->descr) {
      header->descr = peek() == '[' ? fields() : string();
      return header->descr.has_value();
    }
    if (*key == "shape" && !header->shape) {
      header->shape = tuple();
      return header->shape.has_value();
    }
    if (*key == "fortran_order" && !header->fortran_order) {
      if (take("True")) {
        header->fortran_order = true;
      } else if (take("False")) {
        header->fortran_order = false;
      }
      return header->fortran_order.has_value();
    }
    return false;
  }

  std::string_view text_;
};

// Where the header is and how long, by version.
struct HeaderSpan {
  std::size_t at = 0;
  std::size_t size = 0;
};

Result<HeaderSpan> find_header(std::string_view file) {
  if (!file.starts_with(kMagic)) {
    return not_npy();
  }
  const auto byte = [&](std::size_t at) {
    return static_cast<std::size_t>(static_cast<unsigned char>(file[at]));
  };
  if (file.size() < 10) {
    return bad_npy("is cut short in its header");
  }
  const std::size_t major = byte(6);
  if (major < 1 || major > 3 || byte(7) != 0) {
    return bad_npy("has version " + std::to_string(major) + "." + std::to_string(byte(7)) +
                   "; 1.0, 2.0 and 3.0 are read");
  }
  HeaderSpan header{10, byte(8) | byte(9) << 8};
  if (major > 1) {
    if (file.size() < 12) {
      return bad_npy("is cut short in its header");
    }
    header = {12, byte(8) | byte(9) << 8 | byte(10) << 16 | byte(11) << 24};
  }
  if (header.size > file.size() - header.at) {
    return bad_npy("is cut short in its header");
  }
  if (header.size > kMaxHeader) {
    return bad_npy("has a header of more than 1 MiB, which no plain array needs");
  }
  return header;
}

// The bytes that `shape` takes; nothing where that is more than `limit`.
std::optional<std::size_t> byte_count(const std::vector<std::int64_t>& shape, std::size_t element,
                                      std::size_t limit) {
  std::size_t bytes = element;
  for (const std::int64_t extent : shape) {
    if (extent == 0) {
      return 0;
    }
  }
  for (const std::int64_t extent : shape) {
    if (static_cast<std::size_t>(extent) > limit / bytes) {
      return std::nullopt;
    }
    bytes *= static_cast<std::size_t>(extent);
  }
  return bytes;
}

// Everything but the data, whose beginning goes to `data_at`; it reaches to the end of the file.
Result<NpyArray> parse_checked(std::string_view file, std::size_t* data_at) {
  Result<HeaderSpan> span = find_header(file);
  if (!span.ok()) {
    return span.status();
  }
  const std::optional<Header> header = HeaderParser(file.substr(span->at, span->size)).parse();
  if (!header) {
    return bad_npy("has a damaged header; descr, fortran_order and shape are expected, once each");
  }
  NpyArray array;
  if (header->descr->starts_with('[')) {
    return bad_npy("holds records of several fields; save one of them, as uint8 or float32");
  }
  if (*header->descr == "|u1" || *header->descr == "<u1") {
    array.type = NpyArray::Type::kU8;
  } else if (*header->descr != "<f4") {
    return bad_npy("holds elements of type '" + *header->descr +
                   "'; uint8 ('|u1') and little-endian float32 ('<f4') are read");
  }
  if (*header->fortran_order) {
    return bad_npy("is in Fortran order; save numpy.ascontiguousarray(x) instead");
  }
  array.shape = *header->shape;
  *data_at = span->at + span->size;
  const std::string_view data = file.substr(*data_at);
  const std::size_t element = array.type == NpyArray::Type::kU8 ? 1 : 4;
  const std::optional<std::size_t> expected = byte_count(array.shape, element, data.size());
  if (!expected) {
    return bad_npy("is cut short: " + std::to_string(data.size()) +
                   " bytes of data are fewer than its shape takes");
  }
  if (*expected != data.size()) {
    return bad_npy("holds " + std::to_string(data.size()) +
                   " bytes of data where its shape takes " + std::to_string(*expected));
  }
  return array;
}

std::string make_header(const std::vector<std::int64_t>& shape) {
  std::string dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    dict.append(i > 0 ? " " : "").append(std::to_string(shape[i])).append(",");
  }
  if (shape.size() > 1) {
    dict.pop_back();
  }
  dict += "), }";
  // The data begins at a multiple of 64, as NumPy writes it.
  const std::size_t total = (10 + dict.size() + 1 + 63) / 64 * 64;
  dict.append(total - 10 - dict.size() - 1, ' ');
  dict += '\n';
  std::string header(kMagic);
  header +=
      {'\x01', '\x00', static_cast<char>(dict.size() & 0xFF), static_cast<char>(dict.size() >> 8)};
  return header + dict;
}

const char* no_memory_for_array() { return "not enough memory for the .npy array"; }

}  // namespace

Result<NpyArray> parse_npy(std::span<const std::byte> bytes) {
  return no_throw(no_memory_for_array, [&] {
    std::size_t data_at = 0;
    Result<NpyArray> array = parse_checked(as_text(bytes), &data_at);
    if (array.ok()) {
      array->data.assign(bytes.begin() + static_cast<std::ptrdiff_t>(data_at), bytes.end());
    }
    return array;
  });
}

Result<NpyArray> read_npy(const std::string& path) {
  return no_throw(no_memory_for_array, [&]() -> Result<NpyArray> {
    FileLimits limits;
    limits.check_head = [](std::span<const std::byte> head) {
      return as_text(head).starts_with(kMagic) ? Status() : not_npy();
    };
    Result<std::vector<std::byte>> bytes = read_file(path, limits);
    XC_RETURN_IF_ERROR(bytes.status());
    std::size_t data_at = 0;
    Result<NpyArray> array = parse_checked(as_text(*bytes), &data_at);
    if (!array.ok()) {
      return array.status().with_context(path == "-" ? "standard input" : "'" + path + "'");
    }
    // Moved, since a second copy could be a gibibyte.
    bytes->erase(bytes->begin(), bytes->begin() + static_cast<std::ptrdiff_t>(data_at));
    array->data = *std::move(bytes);
    return array;
  });
}

Status write_npy(const std::string& path, const std::vector<std::int64_t>& shape,
                 const float* data) {
  return no_throw(no_memory_for_array, [&]() -> Status {
    if (path.find('\0') != std::string::npos) {
      return {Code::kInvalidArgument,
              std::string("cannot write '") + path.c_str() + "': its name has a zero byte in it"};
    }
    for (const std::int64_t extent : shape) {
      if (extent < 0) {
        return {Code::kInvalidArgument, "an array cannot have a negative extent"};
      }
    }
    const std::optional<std::size_t> size =
        byte_count(shape, sizeof(float), std::numeric_limits<std::ptrdiff_t>::max());
    // 64 extents are more than NumPy reads, and fill no header of version 1.0.
    if (!size || shape.size() > 64) {
      return {Code::kInvalidArgument, "the shape of the array for '" + path + "' is too large"};
    }
    const std::string header = make_header(shape);
    AtomicFile file;
    XC_RETURN_IF_ERROR(file.open(path));
    XC_RETURN_IF_ERROR(file.write(header.data(), header.size()));
    XC_RETURN_IF_ERROR(file.write(reinterpret_cast<const char*>(data), *size));
    return file.finish();
  });
}

}  // namespace xception
