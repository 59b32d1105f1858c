#include "engine/safetensors_header.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>
#include <utility>

namespace xception {
namespace {

using Json = nlohmann::json;

// No network has more; without a bound, "[0,0,...]" would cost eight bytes for every two.
constexpr std::size_t kMaxRank = 64;
constexpr std::size_t kMaxMetadata = 100000;  // entries, each of which takes a hundred bytes

Status bad(std::string message) { return Status(Code::kBadModel, std::move(message)); }

std::optional<StoredType> parse_type(std::string_view text) {
  for (const StoredType type : {StoredType::kF16, StoredType::kBF16, StoredType::kF32,
                                StoredType::kF64, StoredType::kI64}) {
    if (text == stored_type_name(type)) {
      return type;
    }
  }
  return std::nullopt;
}

bool is_control(std::string_view text, std::size_t i) {
  const auto byte = static_cast<unsigned char>(text[i]);
  if (byte == 0xC2 && i + 1 < text.size()) {  // U+0080 to U+009F in UTF-8
    return static_cast<unsigned char>(text[i + 1]) < 0xA0;
  }
  return byte < 0x20 || byte == 0x7F;
}

bool has_control(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_control(text, i)) {
      return true;
    }
  }
  return false;
}

// Builds the entries while the JSON is read, without a document in between: a document would keep
// the last of two equal keys and drop the first in silence. Anything that the grammar of the format
// does not have at this place ends the reading, so nesting never goes deeper than four levels.
class HeaderHandler final : public nlohmann::json_sax<Json> {
 public:
  SafetensorsHeader header;
  Status status;

  bool null() override { return unexpected(); }
  bool boolean(bool) override { return unexpected(); }
  bool number_integer(number_integer_t) override { return unexpected(); }
  bool number_float(number_float_t, const string_t&) override { return unexpected(); }
  bool binary(binary_t&) override { return unexpected(); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kShape) {
      if (entry_.shape.size() == kMaxRank) {
        return fail("tensor " + quoted_name(entry_.name) + " has more than 64 dimensions");
      }
      if (value > static_cast<number_unsigned_t>(std::numeric_limits<std::int64_t>::max())) {
        return fail("the shape of tensor " + quoted_name(entry_.name) + " overflows 64 bits");
      }
      entry_.shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (place_ == Place::kOffsets && offsets_ < 2) {
      (offsets_ == 0 ? entry_.begin : entry_.end) = value;
      ++offsets_;
      return true;
    }
    return unexpected();
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadataValue) {
      place_ = Place::kMetadata;
      if (header.metadata.size() == kMaxMetadata) {
        return fail("its __metadata__ has more than " + std::to_string(kMaxMetadata) + " entries");
      }
      if (!header.metadata.try_emplace(std::move(key_), std::move(value)).second) {
        return fail("a key of its __metadata__ stands twice");
      }
      return true;
    }
    if (place_ == Place::kType) {
      place_ = Place::kEntry;
      const std::optional<StoredType> type = parse_type(value);
      if (!type) {
        return fail("tensor " + quoted_name(entry_.name) + " has the element type " +
                    quoted_name(value) + "; weights are F32, F16, BF16 or F64 (or I64, ignored)");
      }
      entry_.type = *type;
      return true;
    }
    return unexpected();
  }

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::kStart:
        place_ = Place::kTop;
        return true;
      case Place::kMetadataStart:
        place_ = Place::kMetadata;
        return true;
      case Place::kEntryStart:
        place_ = Place::kEntry;
        return true;
      default:
        return unexpected();
    }
  }

  bool key(string_t& name) override {
    switch (place_) {
      case Place::kTop:
        return top_key(name);
      case Place::kMetadata:
        key_ = std::move(name);
        place_ = Place::kMetadataValue;
        return true;
      default:
        return entry_key(name);
    }
  }

  bool end_object() override {
    if (place_ == Place::kEntry) {
      if (!has_type_ || !has_shape_ || !has_offsets_) {
        return fail("tensor " + quoted_name(entry_.name) +
                    " must have a dtype, a shape and data_offsets");
      }
      header.entries.push_back(std::move(entry_));
    }
    place_ = place_ == Place::kTop ? Place::kStart : Place::kTop;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::kShapeStart) {
      place_ = Place::kShape;
      return true;
    }
    if (place_ == Place::kOffsetsStart) {
      place_ = Place::kOffsets;
      return true;
    }
    return unexpected();
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && offsets_ != 2) {
      return unexpected();
    }
    place_ = Place::kEntry;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return fail("its header is not valid JSON (at byte " + std::to_string(position) +
                " of the header)");
  }

 private:
  // What may come next.
  enum class Place {
    kStart,  // the object that is the header
    kTop,    // a tensor's name, or __metadata__
    kMetadataStart,
    kMetadata,  // a key
    kMetadataValue,
    kEntryStart,
    kEntry,  // dtype, shape or data_offsets
    kType,
    kShapeStart,
    kShape,  // an extent
    kOffsetsStart,
    kOffsets,  // begin, end
  };

  bool fail(std::string message) {
    status = bad(std::move(message));
    return false;
  }

  bool unexpected() {
    const std::string tensor = "tensor " + quoted_name(entry_.name);
    switch (place_) {
      case Place::kStart:
      case Place::kTop:
        return fail("its header must be one JSON object");
      case Place::kMetadataStart:
      case Place::kMetadata:
      case Place::kMetadataValue:
        return fail("its __metadata__ must map strings to strings");
      case Place::kEntryStart:
      case Place::kEntry:
        return fail(tensor + " must be an object with a dtype, a shape and data_offsets");
      case Place::kType:
        return fail("the dtype of " + tensor + " must be a string");
      case Place::kShapeStart:
      case Place::kShape:
        return fail("the shape of " + tensor + " must be a list of whole numbers, 0 or more");
      case Place::kOffsetsStart:
      case Place::kOffsets:
        break;
    }
    return fail("the data_offsets of " + tensor + " must be two whole numbers");
  }

  bool top_key(string_t& name) {
    if (name == "__metadata__") {
      place_ = Place::kMetadataStart;
      if (std::exchange(has_metadata_, true)) {
        return fail("__metadata__ stands twice in its header");
      }
      return true;
    }
    if (has_control(name)) {
      return fail("the name of tensor " + quoted_name(name) + " has control characters in it");
    }
    entry_ = TensorEntry{};
    entry_.name = std::move(name);
    has_type_ = has_shape_ = has_offsets_ = false;
    offsets_ = 0;
    place_ = Place::kEntryStart;
    return true;
  }

  bool entry_key(const string_t& name) {
    bool* seen = nullptr;
    if (name == "dtype") {
      seen = &has_type_;
      place_ = Place::kType;
    } else if (name == "shape") {
      seen = &has_shape_;
      place_ = Place::kShapeStart;
    } else if (name == "data_offsets") {
      seen = &has_offsets_;
      place_ = Place::kOffsetsStart;
    } else {
      return fail("tensor " + quoted_name(entry_.name) + " has a field " + quoted_name(name) +
                  ", which the format does not have");
    }
    if (std::exchange(*seen, true)) {
      return fail("tensor " + quoted_name(entry_.name) + " has its " + name + " twice");
    }
    return true;
  }

  Place place_ = Place::kStart;
  std::string key_;    // of the metadata value to come
  TensorEntry entry_;  // the one being read
  bool has_metadata_ = false;
  bool has_type_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
  int offsets_ = 0;  // how many of the two were read
};

Status check_names(const std::vector<TensorEntry>& entries) {
  std::vector<std::string_view> names;
  names.reserve(entries.size());
  for (const TensorEntry& entry : entries) {
    names.push_back(entry.name);
  }
  std::sort(names.begin(), names.end());
  const auto twin = std::adjacent_find(names.begin(), names.end());
  return twin == names.end() ? Status() : bad("tensor " + quoted_name(*twin) + " stands twice");
}

Status check_extent(const TensorEntry& entry) {
  const std::string tensor = "tensor " + quoted_name(entry.name);
  if (entry.begin > entry.end) {
    return bad("the data of " + tensor + " ends at byte " + std::to_string(entry.end) +
               ", before it begins at byte " + std::to_string(entry.begin));
  }
  std::int64_t elements = 1;
  std::uint64_t bytes = 0;
  const bool is_empty = std::count(entry.shape.begin(), entry.shape.end(), 0) > 0;
  for (const std::int64_t extent : entry.shape) {
    if (__builtin_mul_overflow(elements, is_empty ? 0 : extent, &elements)) {
      return bad("the shape of " + tensor + " overflows 64 bits");
    }
  }
  if (__builtin_mul_overflow(elements, size_of(entry.type), &bytes)) {
    return bad("the shape of " + tensor + " overflows 64 bits");
  }
  if (bytes != entry.end - entry.begin) {
    return bad(tensor + " of shape " + shape_string(entry.shape) + " takes " +
               std::to_string(bytes) + " bytes as " + stored_type_name(entry.type) +
               ", but its data_offsets give it " + std::to_string(entry.end - entry.begin));
  }
  return {};
}

// The entries, sorted, must follow each other from the first byte of the data to the last.
Status check_cover(const std::vector<TensorEntry>& entries, std::uint64_t data_bytes) {
  std::uint64_t covered = 0;
  for (const TensorEntry& entry : entries) {
    if (entry.begin != covered) {
      return bad(entry.begin < covered
                     ? "the data of tensor " + quoted_name(entry.name) + " overlaps that of another"
                     : "no tensor holds bytes " + std::to_string(covered) + " to " +
                           std::to_string(entry.begin) + " of the data, before tensor " +
                           quoted_name(entry.name));
    }
    covered = entry.end;
  }
  if (covered != data_bytes) {
    return bad("its tensors take " + std::to_string(covered) + " bytes of data, but the file has " +
               std::to_string(data_bytes) + (covered > data_bytes ? "; it was cut short" : ""));
  }
  return {};
}

}  // namespace

std::string quoted_name(std::string_view name) {
  constexpr std::size_t kMost = 100;
  std::size_t length = std::min(name.size(), kMost);
  while (length < name.size() && length > 0 &&
         (static_cast<unsigned char>(name[length]) & 0xC0) == 0x80) {
    --length;  // never cut inside a UTF-8 character
  }
  std::string text = "'";
  for (std::size_t i = 0; i < length; ++i) {
    const bool control = is_control(name, i);
    text += control ? '?' : name[i];
    if (control && static_cast<unsigned char>(name[i]) == 0xC2) {
      ++i;  // the second byte of the same character
    }
  }
  return text + (length < name.size() ? "...'" : "'");
}

Result<SafetensorsHeader> parse_safetensors_header(std::string_view json,
                                                   std::uint64_t data_bytes) {
  // nlohmann takes a zero byte for the end of the text and skips a byte order mark.
  const std::size_t zero = json.find('\0');
  if (zero != std::string_view::npos) {
    return bad("its header is not valid JSON (a zero byte at byte " + std::to_string(zero + 1) +
               " of the header)");
  }
  if (json.substr(0, 3) == "\xEF\xBB\xBF") {
    return bad("its header is not valid JSON (it begins with a byte order mark)");
  }
  HeaderHandler handler;
  if (!Json::sax_parse(json.begin(), json.end(), &handler)) {
    return handler.status.ok() ? bad("its header is not valid JSON") : handler.status;
  }
  SafetensorsHeader& header = handler.header;
  XC_RETURN_IF_ERROR(check_names(header.entries));
  for (const TensorEntry& entry : header.entries) {
    XC_RETURN_IF_ERROR(check_extent(entry));
  }
  std::sort(header.entries.begin(), header.entries.end(),
            [](const TensorEntry& a, const TensorEntry& b) {
              return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
            });
  XC_RETURN_IF_ERROR(check_cover(header.entries, data_bytes));
  return std::move(header);
}

}  // namespace xception
