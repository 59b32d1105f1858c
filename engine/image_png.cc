// PNG: the chunks are walked and checked here; stb_image inflates and unfilters.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

#include "image_decoders.h"

namespace xception::decoders {
namespace {

constexpr std::size_t kSignature = 8;
constexpr std::size_t kChunkFrame = 12;  // length, type, CRC

constexpr std::uint32_t chunk_type(const char (&name)[5]) {
  std::uint32_t type = 0;
  for (int i = 0; i < 4; ++i) {
    type = type << 8 | static_cast<unsigned char>(name[i]);
  }
  return type;
}

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t n = 0; n < 256; ++n) {
    std::uint32_t c = n;
    for (int bit = 0; bit < 8; ++bit) {
      c = (c & 1) != 0 ? 0xEDB88320U ^ (c >> 1) : c >> 1;
    }
    table[n] = c;
  }
  return table;
}

// The CRC-32 of PNG (ISO 3309).
std::uint32_t crc32(Bytes bytes) {
  static constexpr std::array<std::uint32_t, 256> kTable = make_crc_table();
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const std::byte b : bytes) {
    crc = kTable[(crc ^ std::to_integer<std::uint32_t>(b)) & 0xFF] ^ (crc >> 8);
  }
  return ~crc;
}

// Appends bytes in the order a file format wants them.
class ByteWriter {
 public:
  explicit ByteWriter(std::size_t expected) { bytes_.reserve(expected); }
  void u8(unsigned v) {  // push_back here makes gcc 14 warn of what it inlines
    bytes_.resize(bytes_.size() + 1);
    bytes_.back() = static_cast<std::byte>(v & 0xFF);
  }
  void le16(unsigned v) { u8(v), u8(v >> 8); }
  void be16(unsigned v) { u8(v >> 8), u8(v); }
  void le32(std::uint32_t v) { le16(v), le16(v >> 16); }
  void be32(std::uint32_t v) { be16(v >> 16), be16(v); }
  void copy(Bytes more) { bytes_.insert(bytes_.end(), more.begin(), more.end()); }
  std::size_t size() const { return bytes_.size(); }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

struct Chunk {
  std::uint32_t type = 0;
  Bytes whole;  // with length, type and CRC
  Bytes data;
  bool critical() const { return (type & 0x20000000U) == 0; }
};

// The chunk at `at`; a critical one with a matching CRC.
Result<Chunk> read_chunk(Bytes file, std::size_t at) {
  if (file.size() - at < kChunkFrame || file.size() - at - kChunkFrame < be32(file, at)) {
    return truncated("PNG");
  }
  const std::size_t length = be32(file, at);
  Chunk chunk;
  chunk.type = be32(file, at + 4);
  chunk.whole = file.subspan(at, length + kChunkFrame);
  chunk.data = file.subspan(at + 8, length);
  if (chunk.critical() && crc32(file.subspan(at + 4, length + 4)) != be32(file, at + 8 + length)) {
    return bad_image("the PNG file is damaged: a checksum does not match; fetch it again");
  }
  return chunk;
}

Result<Palette> read_palette_chunk(const Chunk& chunk) {
  const std::size_t entries = chunk.data.size() / 3;
  if (chunk.data.size() % 3 != 0 || entries > 256) {
    return bad_image("the PNG file is damaged: its palette has an impossible size");
  }
  Palette palette{};
  for (std::size_t i = 0; i < entries * 3; ++i) {
    palette[i / 3][i % 3] = static_cast<std::uint8_t>(u8(chunk.data, i));
  }
  return palette;
}

void write_palette(const Palette& palette, ByteWriter* out) {
  out->be32(768);
  out->be32(chunk_type("PLTE"));
  for (const auto& entry : palette) {
    for (const std::uint8_t c : entry) {
      out->u8(c);
    }
  }
  out->be32(0);  // stb_image does not look at checksums
}

// Everything after IHDR that makes pixels: palette, data, end; or data alone, without what is
// around them, where a place for the palette is given. Ancillary chunks go.
Status write_chunks(Bytes file, std::size_t at, std::optional<Palette>* palette, ByteWriter* out) {
  const bool only_data = palette != nullptr;
  for (;;) {
    Result<Chunk> chunk = read_chunk(file, at);
    if (!chunk.ok()) {
      return chunk.status();
    }
    at += chunk->whole.size();
    if (chunk->type == chunk_type("PLTE")) {
      Result<Palette> read = read_palette_chunk(*chunk);
      XC_RETURN_IF_ERROR(read.status());
      if (only_data) {
        *palette = *read;
      } else {
        write_palette(*read, out);
      }
    } else if (chunk->type == chunk_type("IDAT")) {
      if (!chunk->data.empty()) {  // stb_image would copy from no memory at all
        out->copy(only_data ? chunk->data : chunk->whole);
      }
    } else if (chunk->type == chunk_type("IEND")) {
      out->copy(only_data ? Bytes() : chunk->whole);
    } else if (chunk->critical()) {
      return bad_image(
          "the PNG file has a chunk that this reader does not know; save it anew as "
          "plain PNG");
    }
    if (chunk->type == chunk_type("IEND")) {
      return Status();
    }
  }
}

// Samples a pixel of the colour type; 0 for what does not exist.
int channel_count(unsigned colour_type) {
  constexpr std::array<int, 7> kChannels = {1, 0, 3, 1, 2, 0, 4};
  return colour_type < kChannels.size() ? kChannels[colour_type] : 0;
}

unsigned paeth(int left, int above, int corner) {
  const int estimate = left + above - corner;
  const int to_left = std::abs(estimate - left);
  const int to_above = std::abs(estimate - above);
  const int to_corner = std::abs(estimate - corner);
  if (to_left <= to_above && to_left <= to_corner) {
    return static_cast<unsigned>(left);
  }
  return static_cast<unsigned>(to_above <= to_corner ? above : corner);
}

// Undoes the filter of one row, whose byte stands in front of it; `above` is nullptr for the first.
bool unfilter(std::uint8_t* row, const std::uint8_t* above, std::size_t size, std::size_t step) {
  const unsigned filter = row[-1];
  for (std::size_t i = 0; i < size; ++i) {
    const unsigned a = i >= step ? row[i - step] : 0U;
    const unsigned b = above != nullptr ? above[i] : 0U;
    const unsigned c = above != nullptr && i >= step ? above[i - step] : 0U;
    switch (filter) {
      case 0:
        return true;
      case 1:
        row[i] = static_cast<std::uint8_t>(row[i] + a);
        break;
      case 2:
        row[i] = static_cast<std::uint8_t>(row[i] + b);
        break;
      case 3:
        row[i] = static_cast<std::uint8_t>(row[i] + (a + b) / 2);
        break;
      case 4:
        row[i] = static_cast<std::uint8_t>(
            row[i] + paeth(static_cast<int>(a), static_cast<int>(b), static_cast<int>(c)));
        break;
      default:
        return false;
    }
  }
  return true;
}

// Pixels of 8-bit samples or indices without interlacing, all in one buffer: stb_image
// would hold such a picture two to three times. Nothing where anything is odd, for stb_image to
// judge.
std::optional<Image> decode_rows(const std::vector<std::byte>& data, std::int64_t width,
                                 std::int64_t height, int channels, const Palette* palette) {
  const auto rows = static_cast<std::size_t>(height);
  const auto columns = static_cast<std::size_t>(width);
  const auto step = static_cast<std::size_t>(channels);
  const std::size_t row_bytes = columns * step;
  // The file, once more as one stream, and these pixels; beyond, stb_image's own limit decides.
  const auto most = static_cast<std::size_t>(kMaxWorkingBytes);
  const std::size_t file = 2 * data.size();
  if (row_bytes + 1 > most / rows ||
      file + rows * (row_bytes + 1) + (channels < 3 ? rows * columns * 3 : 0) > most) {
    return std::nullopt;
  }
  std::vector<std::uint8_t> raw(rows * (row_bytes + 1));
  if (stb_inflate(data, raw) != raw.size()) {
    return std::nullopt;
  }
  for (std::size_t y = 0; y < rows; ++y) {
    std::uint8_t* row = raw.data() + y * (row_bytes + 1) + 1;
    if (!unfilter(row, y > 0 ? row - (row_bytes + 1) : nullptr, row_bytes, step)) {
      return std::nullopt;
    }
  }
  // Three samples a pixel: to the front of the same buffer where it has room, which each pixel
  // reaches from behind, else to another.
  Image image = channels < 3 ? blank_image(width, height) : Image();
  std::uint8_t* dst = channels < 3 ? image.pixels.data() : raw.data();
  const std::size_t green = channels < 3 ? 0 : 1;
  const std::size_t blue = channels < 3 ? 0 : 2;
  for (std::size_t y = 0; y < rows; ++y) {
    const std::uint8_t* src = raw.data() + y * (row_bytes + 1) + 1;
    for (std::size_t x = 0; x < columns; ++x, src += step, dst += 3) {
      const std::array<std::uint8_t, 3> pixel =
          palette != nullptr ? (*palette)[src[0]]
                             : std::array<std::uint8_t, 3>{src[0], src[green], src[blue]};
      std::copy(pixel.begin(), pixel.end(), dst);
    }
  }
  if (channels >= 3) {
    raw.resize(rows * columns * 3);
    image.width = static_cast<int>(width);
    image.height = static_cast<int>(height);
    image.pixels = std::move(raw);
  }
  return image;
}

}  // namespace

Result<DecodedImage> decode_png(Bytes file, const DecodeOptions& options) {
  Result<Chunk> header = read_chunk(file, kSignature);
  if (!header.ok()) {
    return header.status();
  }
  if (header->type != chunk_type("IHDR") || header->data.size() != 13) {
    return bad_image("the PNG file is damaged: it does not begin with its header");
  }
  const std::int64_t width = be32(header->data, 0);
  const std::int64_t height = be32(header->data, 4);
  const unsigned depth = u8(header->data, 8);
  const int channels = channel_count(u8(header->data, 9));
  const bool plain_rows = depth == 8 && channels > 0 && be16(header->data, 10) == 0 &&
                          u8(header->data, 12) == 0;  // methods of the standard, not interlaced
  const int pixel_bytes = plain_rows ? channels + (channels < 3 ? 3 : 0) : depth == 16 ? 24 : 12;
  XC_RETURN_IF_ERROR(check_extent(width, height, pixel_bytes, options));
  const std::size_t first_chunk = kSignature + header->whole.size();
  if (plain_rows) {
    ByteWriter data(file.size());
    std::optional<Palette> palette;
    XC_RETURN_IF_ERROR(write_chunks(file, first_chunk, &palette, &data));
    // A palette beside colours is a suggestion.
    const bool indexed = u8(header->data, 9) == 3;
    std::optional<Image> image;
    if (!indexed || palette) {
      image = decode_rows(data.take(), width, height, channels, indexed ? &*palette : nullptr);
    }
    if (image) {
      return DecodedImage{*std::move(image), "stb_image", {}};
    }
  }
  ByteWriter plain(file.size() + 1024);
  plain.copy(file.first(kSignature));
  plain.copy(header->whole);
  XC_RETURN_IF_ERROR(write_chunks(file, first_chunk, nullptr, &plain));
  Result<DecodedImage> decoded = stb_decode_rgb(plain.take(), "PNG", width, height);
  const bool gray16 = depth == 16 && u8(header->data, 9) == 0;
  if (decoded.ok() && gray16) {
    decoded->warnings.emplace_back(
        "16-bit gray is reduced to its high byte, where Pillow's convert('RGB') would turn every "
        "sample above 255 white");
  }
  return decoded;
}

}  // namespace xception::decoders
