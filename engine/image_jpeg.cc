// JPEG by libjpeg-turbo, set as Pillow sets it: slow integer DCT, fancy upsampling, its colour
// conversions. libjpeg reports errors by longjmp, so the two functions that can be jumped out of
// hold nothing with a destructor.
#ifdef XCEPTION_HAVE_JPEG

#include <algorithm>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <new>
#include <utility>
#include <vector>

// jpeglib.h needs <cstdio> before it.
#include <jpeglib.h>

// It needs jpeglib.h before it: how messages are numbered depends on the version that that is of,
// and Ubuntu's is another than Debian's.
#include <jerror.h>

#include "image_decoders.h"

namespace xception::decoders {
namespace {

#ifdef LIBJPEG_TURBO_VERSION
constexpr const char* kDecoderName = "libjpeg-turbo";
#else
constexpr const char* kDecoderName = "libjpeg";
#endif

// A progressive file of a few kilobytes can ask for thousands of passes over a large picture. What
// writes such files makes about ten; as many as this of the largest picture take seconds.
constexpr int kScansOfAny = 20;
constexpr std::int64_t kMaxScans = 500;

std::int64_t most_scans(const jpeg_decompress_struct& info) {
  const std::int64_t pixels =
      std::max<std::int64_t>(std::int64_t{info.image_width} * info.image_height, 1);
  return std::clamp<std::int64_t>(kScansOfAny * kMaxPixels / pixels, kScansOfAny, kMaxScans);
}

struct Decoder {
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  jpeg_progress_mgr progress;
  std::jmp_buf on_error;
  char message[JMSG_LENGTH_MAX];  // the error, or the first warning
};

Decoder& owner(j_common_ptr info) { return *static_cast<Decoder*>(info->client_data); }

[[noreturn]] void leave(j_common_ptr info) {
  info->err->format_message(info, owner(info).message);
  std::longjmp(owner(info).on_error, 1);
}

void note_warning(j_common_ptr info, int level) {
  if (level >= 0) {
    return;
  }
  // Both mean that part of the picture is missing; libjpeg would paint the rest gray.
  const int code = info->err->msg_code;
  if (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER) {
    leave(info);
  }
  if (info->err->num_warnings++ == 0) {
    info->err->format_message(info, owner(info).message);
  }
}

void limit_scans(j_common_ptr info) {
  const std::int64_t most = most_scans(owner(info).info);
  if (owner(info).info.input_scan_number > most) {
    std::snprintf(owner(info).message, JMSG_LENGTH_MAX, "more than %d scans",
                  static_cast<int>(most));
    std::longjmp(owner(info).on_error, 1);
  }
}

bool read_header(Decoder* decoder, const unsigned char* data, unsigned long size) {
  decoder->info.err = jpeg_std_error(&decoder->errors);
  decoder->errors.error_exit = leave;
  decoder->errors.emit_message = note_warning;
  decoder->progress.progress_monitor = limit_scans;
  decoder->info.client_data = decoder;
  if (setjmp(decoder->on_error) != 0) {
    return false;
  }
  jpeg_create_decompress(&decoder->info);
  decoder->info.progress = &decoder->progress;
  decoder->info.mem->max_memory_to_use = static_cast<long>(kMaxWorkingBytes);
  jpeg_mem_src(&decoder->info, data, size);
  jpeg_read_header(&decoder->info, TRUE);
  return true;
}

// a * b / 255, rounded, as Pillow computes it.
unsigned mul_div_255(unsigned a, unsigned b) {
  const unsigned product = a * b + 128;
  return ((product >> 8) + product) >> 8;
}

void gray_to_rgb(const std::uint8_t* src, unsigned width, std::uint8_t* dst) {
  for (unsigned x = 0; x < width; ++x, dst += 3) {
    dst[0] = dst[1] = dst[2] = src[x];
  }
}

// Adobe stores CMYK inverted, and Pillow takes every four-channel JPEG to be Adobe's: after the
// inversion, paint = 255 - sample and light = (255 - black) - paint * (255 - black) / 255.
void cmyk_to_rgb(const std::uint8_t* src, unsigned width, std::uint8_t* dst) {
  for (unsigned x = 0; x < width; ++x, src += 4, dst += 3) {
    const unsigned light = src[3];
    for (int c = 0; c < 3; ++c) {
      dst[c] = static_cast<std::uint8_t>(light - mul_div_255(255U - src[c], light));
    }
  }
}

// `row` has room for four samples a pixel.
bool read_pixels(Decoder* decoder, std::uint8_t* pixels, std::uint8_t* row) {
  if (setjmp(decoder->on_error) != 0) {
    return false;
  }
  jpeg_decompress_struct* info = &decoder->info;
  info->out_color_space = info->num_components == 1   ? JCS_GRAYSCALE
                          : info->num_components == 3 ? JCS_RGB
                                                      : JCS_CMYK;
  info->dct_method = JDCT_ISLOW;
  info->do_fancy_upsampling = TRUE;
  jpeg_start_decompress(info);
  const std::size_t stride = std::size_t{3} * info->output_width;
  while (info->output_scanline < info->output_height) {
    std::uint8_t* dst = pixels + stride * info->output_scanline;
    JSAMPROW rows[1] = {info->num_components == 3 ? dst : row};
    jpeg_read_scanlines(info, rows, 1);
    if (info->num_components == 1) {
      gray_to_rgb(row, info->output_width, dst);
    } else if (info->num_components == 4) {
      cmyk_to_rgb(row, info->output_width, dst);
    }
  }
  jpeg_finish_decompress(info);
  return true;
}

Status too_large() {
  return bad_image("decoding the JPEG file needs more than 1 GiB; scale it down");
}

Status damaged(const Decoder& decoder) {
  const int code = decoder.errors.msg_code;
  if (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER) {
    return truncated("JPEG");
  }
  // Of the numbers that libjpeg gives its places, the even ones are where malloc() had nothing, the
  // odd ones where it was not even asked.
  if (code == JERR_OUT_OF_MEMORY && decoder.errors.msg_parm.i[0] % 2 == 0) {
    throw std::bad_alloc();
  }
  if (code == JERR_NO_BACKING_STORE || code == JERR_OUT_OF_MEMORY) {
    return too_large();
  }
  return bad_image(std::string("the JPEG file is damaged or of a kind that is not read (") +
                   decoder.message + ")");
}

Result<DecodedImage> decode(Decoder* decoder, Bytes file, const DecodeOptions& options,
                            Image recycled) {
  if (!read_header(decoder, reinterpret_cast<const unsigned char*>(file.data()), file.size())) {
    return damaged(*decoder);
  }
  jpeg_decompress_struct& info = decoder->info;
  // Several scans are collected as 16-bit coefficients before the first pixel is made.
  const int scans_bytes = jpeg_has_multiple_scans(&info) != 0 ? 2 * info.num_components : 0;
  XC_RETURN_IF_ERROR(check_extent(info.image_width, info.image_height, 3 + scans_bytes, options));
  if (info.num_components != 1 && info.num_components != 3 && info.num_components != 4) {
    return bad_image("the JPEG file has " + std::to_string(info.num_components) +
                     " colour components; 1, 3 or 4 are read");
  }
  DecodedImage decoded;
  decoded.decoder = kDecoderName;
  decoded.image = image_in_memory_of(std::move(recycled), info.image_width, info.image_height);
  const auto held = static_cast<std::int64_t>(file.size() + decoded.image.pixels.size());
  if (held >= kMaxWorkingBytes) {
    return too_large();
  }
  info.mem->max_memory_to_use = static_cast<long>(kMaxWorkingBytes - held);
  std::vector<std::uint8_t> row(std::size_t{4} * info.image_width);
  if (!read_pixels(decoder, decoded.image.pixels.data(), row.data())) {
    return damaged(*decoder);
  }
  if (decoder->errors.num_warnings > 0) {
    decoded.warnings.push_back(std::string("the JPEG data is damaged (") + decoder->message +
                               "), so some pixels may be wrong");
  }
  return decoded;
}

// Frees libjpeg's memory however decode() is left.
struct OwnedDecoder : Decoder {
  OwnedDecoder() : Decoder() {}
  OwnedDecoder(const OwnedDecoder&) = delete;
  OwnedDecoder& operator=(const OwnedDecoder&) = delete;
  ~OwnedDecoder() { jpeg_destroy_decompress(&info); }
};

}  // namespace

Result<DecodedImage> decode_jpeg(Bytes file, const DecodeOptions& options, Image recycled) {
  OwnedDecoder decoder;
  return decode(&decoder, file, options, std::move(recycled));
}

}  // namespace xception::decoders

#endif  // XCEPTION_HAVE_JPEG
