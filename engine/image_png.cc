// PNG: the chunks are walked and checked here; stb_image inflates and unfilters.
#include <array>
#include <optional>

#include "image_rebuild.h"

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

struct Chunk {
  std::uint32_t type = 0;
  Bytes whole;  // with length, type and CRC
  Bytes data;
  bool critical() const { return (type & 0x20000000U) == 0; }
};

Status truncated() {
  return bad_image("the PNG file ends before its picture does; it is truncated, fetch it again");
}

// The chunk at `at`; a critical one with a matching CRC.
Result<Chunk> read_chunk(Bytes file, std::size_t at) {
  if (file.size() - at < kChunkFrame || file.size() - at - kChunkFrame < be32(file, at)) {
    return truncated();
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

Status write_palette(const Chunk& chunk, ByteWriter* out) {
  const std::size_t entries = chunk.data.size() / 3;
  if (chunk.data.size() % 3 != 0 || entries > 256) {
    return bad_image("the PNG file is damaged: its palette has an impossible size");
  }
  Palette palette = gray_ramp();
  for (std::size_t i = 0; i < entries * 3; ++i) {
    palette[i / 3][i % 3] = static_cast<std::uint8_t>(u8(chunk.data, i));
  }
  out->be32(768);
  out->be32(chunk_type("PLTE"));
  for (const auto& entry : palette) {
    for (const std::uint8_t c : entry) {
      out->u8(c);
    }
  }
  out->be32(0);  // stb_image does not look at checksums
  return Status();
}

// Everything after IHDR that makes pixels: palette, data, end. Ancillary chunks go.
Status write_chunks(Bytes file, std::size_t at, ByteWriter* out) {
  for (;;) {
    Result<Chunk> chunk = read_chunk(file, at);
    if (!chunk.ok()) {
      return chunk.status();
    }
    at += chunk->whole.size();
    if (chunk->type == chunk_type("PLTE")) {
      XC_RETURN_IF_ERROR(write_palette(*chunk, out));
    } else if (chunk->type == chunk_type("IDAT") || chunk->type == chunk_type("IEND")) {
      out->copy(chunk->whole);
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

}  // namespace

Palette gray_ramp() {
  Palette palette{};
  for (std::size_t i = 0; i < palette.size(); ++i) {
    palette[i].fill(static_cast<std::uint8_t>(i));
  }
  return palette;
}

Result<DecodedImage> decode_png(Bytes file, std::int64_t max_pixels) {
  Result<Chunk> header = read_chunk(file, kSignature);
  if (!header.ok()) {
    return header.status();
  }
  if (header->type != chunk_type("IHDR") || header->data.size() != 13) {
    return bad_image("the PNG file is damaged: it does not begin with its header");
  }
  const std::int64_t width = be32(header->data, 0);
  const std::int64_t height = be32(header->data, 4);
  XC_RETURN_IF_ERROR(check_extent(width, height, max_pixels));
  ByteWriter plain(file.size() + 1024);
  plain.copy(file.first(kSignature));
  plain.copy(header->whole);
  XC_RETURN_IF_ERROR(write_chunks(file, plain.size(), &plain));
  Result<DecodedImage> decoded = stb_decode_rgb(plain.take(), "PNG", width, height);
  const bool gray16 = u8(header->data, 8) == 16 && u8(header->data, 9) == 0;
  if (decoded.ok() && gray16) {
    decoded->warnings.emplace_back(
        "16-bit gray is reduced to its high byte, where Pillow's convert('RGB') would turn every "
        "sample above 255 white");
  }
  return decoded;
}

}  // namespace xception::decoders
