// stb_image, compiled once and fenced in: its memory comes out of a budget, and reading past the
// end of the file, which it answers with zeros, is noticed.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "image_decoders.h"

namespace {

// What the decode on this thread may still allocate. Each block carries its size in front, so that
// freeing gives it back.
thread_local std::size_t budget_left = 0;
thread_local bool budget_exceeded = false;
thread_local bool memory_lacking = false;  // within the budget
constexpr std::size_t kBlockHeader = alignof(std::max_align_t);

void* budget_realloc(void* old, std::size_t size) {
  std::size_t old_size = 0;
  void* base = nullptr;
  if (old != nullptr) {
    base = static_cast<char*>(old) - kBlockHeader;
    std::memcpy(&old_size, base, sizeof old_size);
  }
  if (size > budget_left + old_size || size > SIZE_MAX - kBlockHeader) {
    budget_exceeded = true;
    return nullptr;
  }
  // Zeroed, so that no path of the library can show bytes that nobody wrote.
  void* block = base == nullptr ? std::calloc(1, size + kBlockHeader)
                                : std::realloc(base, size + kBlockHeader);
  if (block == nullptr) {
    memory_lacking = true;
    return nullptr;
  }
  budget_left = budget_left + old_size - size;
  std::memcpy(block, &size, sizeof size);
  return static_cast<char*>(block) + kBlockHeader;
}

void* budget_malloc(std::size_t size) { return budget_realloc(nullptr, size); }

void budget_free(void* old) {
  if (old == nullptr) {
    return;
  }
  void* base = static_cast<char*>(old) - kBlockHeader;
  std::size_t size = 0;
  std::memcpy(&size, base, sizeof size);
  budget_left += size;
  std::free(base);
}

}  // namespace

#define STBI_MALLOC(size) budget_malloc(size)
#define STBI_REALLOC(block, size) budget_realloc(block, size)
#define STBI_FREE(block) budget_free(block)
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_ONLY_PNG
#ifndef XCEPTION_HAVE_JPEG
#define STBI_ONLY_JPEG
#endif
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#ifdef __clang__
#pragma clang diagnostic ignored "-Wunused-function"
#else
#pragma GCC diagnostic ignored "-Wunused-function"
#endif
#include <stb_image.h>

namespace xception::decoders {
namespace {

struct Source {
  Bytes file;
  std::size_t at = 0;
  bool past_end = false;
};

int source_read(void* user, char* data, int size) {
  Source& source = *static_cast<Source*>(user);
  const std::size_t left = source.file.size() - source.at;
  const std::size_t count = std::min(left, static_cast<std::size_t>(std::max(size, 0)));
  if (count == 0 && size > 0) {
    source.past_end = true;
    return 0;
  }
  std::memcpy(data, source.file.data() + source.at, count);
  source.at += count;
  return static_cast<int>(count);
}

void source_skip(void* user, int count) {
  Source& source = *static_cast<Source*>(user);
  if (count > 0) {
    source.at = std::min(source.file.size(), source.at + static_cast<std::size_t>(count));
  }
}

int source_eof(void* user) {
  const Source& source = *static_cast<const Source*>(user);
  return source.at >= source.file.size() ? 1 : 0;
}

constexpr stbi_io_callbacks kCallbacks = {source_read, source_skip, source_eof};

Status damaged(const char* name, const Source& source) {
  const char* reason = stbi_failure_reason();
  if (source.past_end) {
    return truncated(name);
  }
  // Not by the reason: where memory runs out, stb_image sometimes leaves that of an earlier file.
  if (memory_lacking) {
    throw std::bad_alloc();
  }
  if (budget_exceeded) {
    return bad_image(
        std::string("decoding the ") + name + " file needs more memory than " +
        "a picture of its size should, or more than 1 GiB; save it anew or scale it down");
  }
  return bad_image(std::string("the ") + name + " file is damaged or of a kind that is not read (" +
                   (reason != nullptr && *reason != '\0' ? reason : "no reason given") + ")");
}

// A file that is given to stb_image: as it was read, and as it was written anew.
std::int64_t held_bytes(Bytes file) { return 2 * static_cast<std::int64_t>(file.size()); }

// 8-bit samples: gray, gray + alpha, RGB or RGBA.
struct StbPixels {
  int width = 0;
  int height = 0;
  int channels = 0;
  std::unique_ptr<std::uint8_t, void (*)(void*)> data{nullptr, nullptr};
};

Result<StbPixels> stb_decode(Bytes file, const char* name, std::int64_t width,
                             std::int64_t height) {
  if (std::max(width, height) > STBI_MAX_DIMENSIONS) {
    return bad_image("a " + std::string(name) + " file of this kind is read up to " +
                     std::to_string(STBI_MAX_DIMENSIONS) + " pixels a side, and this one is " +
                     std::to_string(width) + " x " + std::to_string(height) + "; scale it down");
  }
  // Per pixel: 16-bit RGBA inflated into a buffer that doubles, unfiltered into another. The rest
  // is for pictures a pixel wide, which JPEG rounds up to whole blocks.
  const std::int64_t natural =
      32 * width * height + 3 * static_cast<std::int64_t>(file.size()) + (std::int64_t{16} << 20);
  budget_left = static_cast<std::size_t>(
      std::clamp(kMaxWorkingBytes - held_bytes(file), std::int64_t{0}, natural));
  budget_exceeded = false;
  memory_lacking = false;
  Source source{file};
  StbPixels pixels;
  pixels.data = {stbi_load_from_callbacks(&kCallbacks, &source, &pixels.width, &pixels.height,
                                          &pixels.channels, 0),
                 stbi_image_free};
  if (pixels.data == nullptr || source.past_end) {
    return damaged(name, source);
  }
  if (pixels.width != width || pixels.height != height || pixels.channels < 1 ||
      pixels.channels > 4) {
    return bad_image(std::string("the ") + name + " file contradicts its own header");
  }
  return pixels;
}

}  // namespace

std::optional<std::size_t> stb_inflate(Bytes data, std::span<std::uint8_t> out) {
  constexpr std::size_t kMost = INT32_MAX;
  if (data.size() > kMost || out.size() > kMost) {
    return std::nullopt;
  }
  const int made = stbi_zlib_decode_buffer(
      reinterpret_cast<char*>(out.data()), static_cast<int>(out.size()),
      reinterpret_cast<const char*>(data.data()), static_cast<int>(data.size()));
  return made >= 0 ? std::optional(static_cast<std::size_t>(made)) : std::nullopt;
}

Result<DecodedImage> stb_decode_rgb(Bytes file, const char* name, std::int64_t width,
                                    std::int64_t height) {
  Result<StbPixels> pixels = stb_decode(file, name, width, height);
  if (!pixels.ok()) {
    return pixels.status();
  }
  const std::int64_t held = held_bytes(file) + width * height * pixels->channels;
  Result<DecodedImage> decoded = blank_picture(held, width, height);
  XC_RETURN_IF_ERROR(decoded.status());
  decoded->decoder = "stb_image";
  const std::size_t count = decoded->image.pixels.size() / 3;
  const std::uint8_t* src = pixels->data.get();
  std::uint8_t* dst = decoded->image.pixels.data();
  const auto step = static_cast<std::size_t>(pixels->channels);
  if (step == 3) {
    std::memcpy(dst, src, count * 3);
    return decoded;
  }
  const std::size_t green = step > 2 ? 1 : 0;
  const std::size_t blue = step > 2 ? 2 : 0;
  for (std::size_t i = 0; i < count; ++i) {
    dst[3 * i] = src[step * i];
    dst[3 * i + 1] = src[step * i + green];
    dst[3 * i + 2] = src[step * i + blue];
  }
  return decoded;
}

#ifndef XCEPTION_HAVE_JPEG
namespace {

// The tables of one DHT segment: a byte, 16 counts, as many values. stb_image before 2.28 writes
// beyond its table where the counts add up to more than a byte can tell apart.
bool huffman_tables_fit(Bytes segment) {
  constexpr std::size_t kCounts = 17;
  while (!segment.empty()) {
    std::size_t values = 0;
    for (std::size_t i = 1; i < kCounts && i < segment.size(); ++i) {
      values += u8(segment, i);
    }
    if (values > 256 || segment.size() < kCounts + values) {
      return false;
    }
    segment = segment.subspan(kCounts + values);
  }
  return true;
}

// Looks at every DHT segment up to the end of the image, as stb_image comes to them. Between
// segments, and in the coded data behind SOS, anything but FF and a marker is stepped over.
bool all_huffman_tables_fit(Bytes file) {
  std::size_t at = 0;
  while (at + 1 < file.size()) {
    const unsigned marker = u8(file, at + 1);
    if (u8(file, at) != 0xFF || marker == 0 || marker == 0xFF) {
      ++at;
      continue;
    }
    if (marker == 0xD9) {
      return true;
    }
    at += 2;
    const bool alone = marker >= 0xD0 && marker <= 0xD8;  // restarts and the start of image
    if (alone || file.size() - at < 2) {
      continue;
    }
    const std::size_t length = be16(file, at);
    if (length < 2 || file.size() - at < length) {
      return marker != 0xC4;  // nothing can follow
    }
    if (marker == 0xC4 && !huffman_tables_fit(file.subspan(at + 2, length - 2))) {
      return false;
    }
    at += length;
  }
  return true;
}

}  // namespace

Result<DecodedImage> decode_jpeg(Bytes file, const DecodeOptions& options, Image recycled) {
  recycled = Image();  // stb_image makes its own pixels
  if (!all_huffman_tables_fit(file)) {
    return bad_image("the JPEG file is damaged: its Huffman tables are impossible");
  }
  budget_left = std::size_t{16} << 20;
  budget_exceeded = false;
  Source source{file};
  int width = 0;
  int height = 0;
  int channels = 0;
  if (stbi_info_from_callbacks(&kCallbacks, &source, &width, &height, &channels) == 0) {
    return damaged("JPEG", source);
  }
  XC_RETURN_IF_ERROR(check_extent(width, height, 12, options));
  return stb_decode_rgb(file, "JPEG", width, height);
}
#endif

}  // namespace xception::decoders
