#include "engine/safetensors.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <new>
#include <utility>

#include "engine/byte_source.h"
#include "engine/no_throw.h"
#include "engine/safetensors_header.h"

namespace xception {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

// Read, checked and converted in pieces that stay in the cache.
constexpr std::size_t kPieceBytes = std::size_t{1} << 18;

std::string no_memory(const std::string& title) { return "not enough memory to read " + title; }

bool all_finite(std::span<const float> values) {
  constexpr std::uint32_t kExponent = 0x7F800000U;
  std::uint32_t found = 0;
  for (const float value : values) {  // no early exit, so that it vectorises, and on SSE2 too
    const std::uint32_t exponent = std::bit_cast<std::uint32_t>(value) & kExponent;
    found |= exponent == kExponent ? 1U : 0U;
  }
  return found == 0;
}

// Without branches, so that the loop over it vectorises. Subnormal halves are normal floats,
// computed without a subnormal in between: the host may run with subnormals flushed to zero.
float from_half(std::uint16_t half) {
  const std::uint32_t exponent = half & 0x7C00U;
  const auto mantissa = static_cast<float>(static_cast<std::int32_t>(half & 0x03FFU));
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(mantissa * 0x1p-24F);
  // The exponent's bias goes from 15 to 127, and once more for infinity and NaN.
  const std::uint32_t rebias = (112U << 23) << static_cast<std::uint32_t>(exponent == 0x7C00U);
  const std::uint32_t normal = ((half & 0x7FFFU) << 13) + rebias;
  const std::uint32_t use_normal = 0U - static_cast<std::uint32_t>(exponent != 0);
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16;
  return std::bit_cast<float>(sign | (normal & use_normal) | (subnormal & ~use_normal));
}

float from_bfloat(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

template <class T, class Convert>
void convert_chunk(std::span<const std::byte> bytes, std::span<float> values, Convert convert) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    T stored;
    std::memcpy(&stored, bytes.data() + i * sizeof(T), sizeof(T));
    values[i] = convert(stored);
  }
}

void convert(StoredType type, std::span<const std::byte> bytes, std::span<float> values) {
  switch (type) {
    case StoredType::kF16:
      return convert_chunk<std::uint16_t>(bytes, values, from_half);
    case StoredType::kBF16:
      return convert_chunk<std::uint16_t>(bytes, values, from_bfloat);
    case StoredType::kF64:
      return convert_chunk<double>(bytes, values, [](double x) { return static_cast<float>(x); });
    case StoredType::kF32:
    case StoredType::kI64:
      break;  // read in place; refused before
  }
}

// Names the first value of a chunk that is not finite; `first` is the chunk's first index.
Status not_finite(const std::string& title, const TensorEntry& entry, std::size_t first,
                  std::span<const float> values) {
  const auto at =
      std::find_if(values.begin(), values.end(), [](float x) { return !std::isfinite(x); });
  const char* what = std::isnan(*at)                  ? "not a number"
                     : entry.type == StoredType::kF64 ? "infinite or too large for float32"
                                                      : "infinite";
  const std::size_t index = first + static_cast<std::size_t>(at - values.begin());
  return Status(Code::kBadModel, "tensor " + quoted_name(entry.name) + " of " + title +
                                     " is unusable: its value at index " + std::to_string(index) +
                                     " is " + what + "; fetch or export the model again");
}

// What the user has probably passed where the first eight bytes are no header length.
std::string not_safetensors(std::span<const std::byte, 8> bytes, std::uint64_t header_bytes) {
  std::array<char, 8> text{};
  std::memcpy(text.data(), bytes.data(), bytes.size());
  const std::string_view magic(text.data(), text.size());
  const bool pickle = magic[0] == '\x80' && magic[1] >= 2 && magic[1] <= 5;
  if (pickle || magic.starts_with("PK\x03\x04")) {
    return "it looks like a PyTorch checkpoint; convert it with weights/export.py";
  }
  if (magic.starts_with("\x89HDF")) {
    return "it looks like Keras weights in HDF5, which are not read; load them into the network in "
           "PyTorch, and convert what that saves with weights/export.py";
  }
  return "its first 8 bytes claim a header of " + std::to_string(header_bytes) + " bytes, " +
         (header_bytes > kMaxHeaderBytes ? "above the format's limit of 100000000"
                                         : "more than the file has") +
         "; fetch it again, or export the model with weights/export.py";
}

struct DigestFree {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

}  // namespace

std::size_t size_of(StoredType type) {
  switch (type) {
    case StoredType::kF16:
    case StoredType::kBF16:
      return 2;
    case StoredType::kF32:
      return 4;
    case StoredType::kF64:
    case StoredType::kI64:
      return 8;
  }
  return 0;
}

const char* stored_type_name(StoredType type) {
  switch (type) {
    case StoredType::kF16:
      return "F16";
    case StoredType::kBF16:
      return "BF16";
    case StoredType::kF32:
      return "F32";
    case StoredType::kF64:
      return "F64";
    case StoredType::kI64:
      return "I64";
  }
  return "";
}

std::int64_t TensorEntry::elements() const {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) {
    product *= extent;
  }
  return product;
}

std::string shape_string(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

WeightFile::WeightFile(std::unique_ptr<const ByteSource> source) : source_(std::move(source)) {}
WeightFile::~WeightFile() = default;

const std::string& WeightFile::name() const { return source_->name(); }
const std::string& WeightFile::title() const { return source_->title(); }

Result<std::shared_ptr<const WeightFile>> WeightFile::open(const std::string& path,
                                                           const std::string& what) {
  const auto text = [&] { return no_memory(what + " '" + path + "'"); };
  return no_throw(text, [&]() -> Result<std::shared_ptr<const WeightFile>> {
    Result<std::unique_ptr<const ByteSource>> source = ByteSource::open_file(path, what);
    XC_RETURN_IF_ERROR(source.status());
    return load(std::move(source).value());
  });
}

Result<std::shared_ptr<const WeightFile>> WeightFile::from_memory(
    std::span<const std::byte> bytes) {
  return no_throw([] { return no_memory("model '(memory)'"); },
                  [&] { return load(ByteSource::of_memory(bytes)); });
}

Result<std::shared_ptr<const WeightFile>> WeightFile::load(
    std::unique_ptr<const ByteSource> source) {
  const std::shared_ptr<WeightFile> file(new WeightFile(std::move(source)));
  XC_RETURN_IF_ERROR(file->parse());
  return std::shared_ptr<const WeightFile>(file);
}

Status WeightFile::parse() {
  const std::string& model = title();
  const std::uint64_t file_bytes = source_->size();
  if (file_bytes == 0) {
    return Status(Code::kBadModel,
                  model + " is empty, expected a .safetensors file; fetch or export it again");
  }
  std::array<std::byte, 8> length_bytes{};
  if (file_bytes < length_bytes.size()) {
    return Status(Code::kBadModel, model + " is " + std::to_string(file_bytes) +
                                       " bytes long, too short for a safetensors file (at least "
                                       "8 bytes); fetch or export it again");
  }
  XC_RETURN_IF_ERROR(source_->read(0, length_bytes));
  const auto header_bytes = std::bit_cast<std::uint64_t>(length_bytes);
  if (header_bytes > std::min(kMaxHeaderBytes, file_bytes - length_bytes.size())) {
    return Status(Code::kBadModel, model + " is no safetensors file: " +
                                       not_safetensors(length_bytes, header_bytes));
  }
  data_begin_ = length_bytes.size() + header_bytes;
  data_bytes_ = file_bytes - data_begin_;

  std::string json(static_cast<std::size_t>(header_bytes), '\0');
  XC_RETURN_IF_ERROR(source_->read(length_bytes.size(), std::as_writable_bytes(std::span(json))));
  Result<SafetensorsHeader> header = parse_safetensors_header(json, data_bytes_);
  XC_RETURN_IF_ERROR(header.status().with_context(
      model + " is no sound safetensors file, fetch or export it again"));
  entries_ = std::move(header->entries);
  metadata_ = std::move(header->metadata);

  by_name_.resize(entries_.size());
  for (std::size_t i = 0; i < by_name_.size(); ++i) {
    by_name_[i] = i;
  }
  std::sort(by_name_.begin(), by_name_.end(),
            [this](std::size_t a, std::size_t b) { return entries_[a].name < entries_[b].name; });
  return {};
}

const TensorEntry* WeightFile::find(std::string_view name) const {
  const auto at =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [this](std::size_t i, std::string_view n) { return entries_[i].name < n; });
  return at != by_name_.end() && entries_[*at].name == name ? &entries_[*at] : nullptr;
}

Status WeightFile::read(const TensorEntry& entry, std::span<float> values) const {
  if (static_cast<std::size_t>(entry.elements()) != values.size()) {
    return other_tensor(entry, values.size());
  }
  return read(entry, 0, values);
}

Status WeightFile::other_tensor(const TensorEntry& entry, std::size_t values) const {
  return Status(Code::kInvalidArgument, "tensor " + quoted_name(entry.name) + " of shape " +
                                            shape_string(entry.shape) + " is none of " + title() +
                                            ", or was asked for as " + std::to_string(values) +
                                            " values");
}

Status WeightFile::read(const TensorEntry& entry, std::size_t begin,
                        std::span<float> values) const {
  if (!entry.constant.empty() && begin <= entry.constant.size() &&
      values.size() <= entry.constant.size() - begin) {
    std::copy_n(entry.constant.begin() + static_cast<std::ptrdiff_t>(begin), values.size(),
                values.begin());
    return {};
  }
  const auto text = [&] { return no_memory(title()); };
  return no_throw(text, [&]() -> Status {
    if (entry.type == StoredType::kI64) {
      return Status(Code::kInvalidArgument, "tensor " + quoted_name(entry.name) + " of " + title() +
                                                " holds integers (I64), not weights");
    }
    const std::size_t size = size_of(entry.type);
    if (entry.begin > entry.end || entry.end > data_bytes_ ||
        begin > (entry.end - entry.begin) / size ||
        values.size() > (entry.end - entry.begin) / size - begin) {
      return other_tensor(entry, values.size());
    }
    const bool in_place = entry.type == StoredType::kF32;
    const std::size_t most = kPieceBytes / size;
    std::vector<std::byte> staging(in_place ? 0 : std::min(values.size(), most) * size);
    for (std::size_t first = 0; first < values.size(); first += most) {
      const auto chunk = values.subspan(first, std::min(most, values.size() - first));
      const auto bytes =
          in_place ? std::as_writable_bytes(chunk) : std::span(staging).first(chunk.size() * size);
      XC_RETURN_IF_ERROR(source_->read(data_begin_ + entry.begin + (begin + first) * size, bytes));
      convert(entry.type, bytes, chunk);
      if (!all_finite(chunk)) {
        return not_finite(title(), entry, begin + first, chunk);
      }
    }
    return {};
  });
}

Result<std::string> WeightFile::sha256() const {
  const auto text = [&] { return no_memory(title()); };
  return no_throw(text, [&]() -> Result<std::string> {
    const Status failed(Code::kInternal, "OpenSSL cannot compute SHA-256");
    const std::unique_ptr<EVP_MD_CTX, DigestFree> context(EVP_MD_CTX_new());
    if (context == nullptr) {
      throw std::bad_alloc();
    }
    if (EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1) {
      return failed;
    }
    std::vector<std::byte> chunk(kPieceBytes);
    for (std::uint64_t offset = 0; offset < data_bytes_; offset += chunk.size()) {
      const auto bytes =
          std::span(chunk).first(std::min<std::uint64_t>(chunk.size(), data_bytes_ - offset));
      XC_RETURN_IF_ERROR(source_->read(data_begin_ + offset, bytes));
      if (EVP_DigestUpdate(context.get(), bytes.data(), bytes.size()) != 1) {
        return failed;
      }
    }
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int length = 0;
    if (EVP_DigestFinal_ex(context.get(), digest.data(), &length) != 1) {
      return failed;
    }
    std::string hex;
    for (const unsigned char byte : std::span(digest).first(length)) {
      hex += "0123456789abcdef"[byte >> 4];
      hex += "0123456789abcdef"[byte & 15];
    }
    return hex;
  });
}

}  // namespace xception
