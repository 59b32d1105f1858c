// From an image file to the pixels a network is fed, bit for bit as Pillow and torchvision make
// them. Everything here is a function of its arguments and the files that they name, may be called
// from any thread, and fails with kOutOfMemory besides what it says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "xception/preprocess.h"
#include "xception/status.h"
#include "xception/tensor.h"

#pragma GCC visibility push(default)  // what programs see of the shared library

namespace xception {

// 8-bit RGB, row-major, three bytes a pixel.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> pixels;
};

// Pillow's limit for a picture.
inline constexpr std::int64_t kMaxPixels = 178'956'970;

struct DecodeOptions {
  // width * height above this, or above 2^40, is refused before anything is allocated.
  std::int64_t max_pixels = kMaxPixels;
  // Turn and mirror the picture as its EXIF orientation says. PyTorch's pipeline does not.
  bool apply_exif = false;
  // Called on the decoding thread with a number of bytes that the file or its pixels are about to
  // take, several times a picture. It may wait, so that a program with many threads can keep large
  // pictures from being in memory all at once.
  std::function<void(std::int64_t bytes)> before_allocating;
};

struct DecodedImage {
  Image image;
  // Who made the pixels: "libjpeg-turbo", "libjpeg", "stb_image", or "xception" for PNM.
  const char* decoder = "";
  std::vector<std::string> warnings;  // one sentence each, for the user
};

// Decodes JPEG, PNG, BMP, GIF (first frame), PNM, TGA or PSD to RGB. Alpha is dropped, palettes
// are expanded, gray is replicated, 16-bit samples keep their high byte, Adobe CMYK is inverted.
// Fails with kBadImage on damage, on truncation, on an unknown format and on too many pixels.
//
// The memory of `recycled`, a picture that is no longer needed, may be used for the new one: on
// an Emerald Rapids fresh pages for 12 megapixels took half as long as decoding them from JPEG.
Result<DecodedImage> decode_image(std::span<const std::byte> bytes,
                                  const DecodeOptions& options = {}, Image recycled = {});

// Reads `path` ("-" is standard input), at most 512 MiB of it, and decodes it. A file that begins
// like no picture is not read further. Fails with kNotFound or kIo besides.
Result<DecodedImage> decode_image_file(const std::string& path, const DecodeOptions& options = {},
                                       Image recycled = {});

// Pillow's Image.resize for 8-bit RGB: separable, antialiased, 22-bit fixed-point coefficients.
// Fails with kInvalidArgument unless all four sides are positive and the result has at most
// kMaxPixels, with kBadImage where the picture, made as wide as the result, would have more than
// 2^29 pixels (one that is a pixel wide needs none of that), and with kOutOfMemory.
Result<Image> resize(const Image& image, int width, int height, Interpolation interpolation);

// Resize, crop and pad as `preprocess` says; what comes out has preprocess.size on both sides, or
// the picture's own where keep_min and keep_max let it through. Fails with kInvalidArgument where
// `image` is none, or a size, crop_pct or mean is impossible, and with kBadImage as resize does.
Result<Image> fit(const Image& image, const Preprocess& preprocess);

// dst[i] = (src[i] / 255 - mean) / std in float32, NHWC to NHWC; `pixels` counts all images'
// pixels.
void normalise(const std::uint8_t* src, std::int64_t pixels, const Preprocess& preprocess,
               float* dst);

// An array in NumPy's .npy format, version 1.0 to 3.0, C order, little-endian.
struct NpyArray {
  enum class Type { kU8, kF32 };
  Type type = Type::kF32;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> data;  // row-major, as `type` says
};

// Fails with kBadImage on anything but a whole uint8 or float32 array in C order.
Result<NpyArray> parse_npy(std::span<const std::byte> bytes);
// Of a file ("-" is standard input); fails with kNotFound or kIo besides.
Result<NpyArray> read_npy(const std::string& path);
// Writes float32 under a temporary name beside `path` and renames it, so that a full disk leaves
// no half file; a symbolic link stays one. Fails with kIo, and with kInvalidArgument where no array
// has such a shape.
Status write_npy(const std::string& path, const std::vector<std::int64_t>& shape,
                 const float* data);

}  // namespace xception

#pragma GCC visibility pop
