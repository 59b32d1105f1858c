// <xception/image.h> for C, but for pictures that give their memory to others and .npy files;
// <xception/c/types.h> says how to read it.
#ifndef XCEPTION_C_IMAGE_H
#define XCEPTION_C_IMAGE_H

// NOLINTBEGIN(modernize-use-using, modernize-deprecated-headers): it is C

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "xception/c/types.h"

#pragma GCC visibility push(default)  // what programs see of the shared library

#ifdef __cplusplus
extern "C" {
#endif

#define XCEPTION_MAX_PIXELS 178956970  // xception::kMaxPixels

// 8-bit RGB, row-major, three bytes a pixel. The pixels may be written, the rest is to be read. The
// functions below make them, and take no others.
typedef struct xception_image {
  int width;
  int height;
  uint8_t* pixels;
  const char* decoder;  // "" where it was not decoded
  const char* const* warnings;
  size_t warning_count;
} xception_image;

typedef struct xception_decode_options {
  int64_t max_pixels;  // 0: XCEPTION_MAX_PIXELS
  bool apply_exif;
  void (*before_allocating)(void* context, int64_t bytes);  // may be null
  void* context;
} xception_decode_options;

// A black picture, to be filled with pixels that the program has. Both sides positive, at most
// XCEPTION_MAX_PIXELS.
XCEPTION_NODISCARD const xception_status* xception_image_make(int width, int height,
                                                              xception_image** image);
// `options` may be null.
XCEPTION_NODISCARD const xception_status* xception_image_decode(
    const void* bytes, size_t size, const xception_decode_options* options, xception_image** image);
XCEPTION_NODISCARD const xception_status* xception_image_decode_file(
    const char* path, const xception_decode_options* options, xception_image** image);
XCEPTION_NODISCARD const xception_status* xception_image_resize(
    const xception_image* image, int width, int height, xception_interpolation interpolation,
    xception_image** resized);
XCEPTION_NODISCARD const xception_status* xception_image_fit(const xception_image* image,
                                                             const xception_preprocess* preprocess,
                                                             xception_image** fitted);
void xception_image_free(xception_image* image);

XCEPTION_NODISCARD const xception_status* xception_normalise(const uint8_t* src, int64_t pixels,
                                                             const xception_preprocess* preprocess,
                                                             float* dst);

#ifdef __cplusplus
}
#endif

#pragma GCC visibility pop

// NOLINTEND(modernize-use-using, modernize-deprecated-headers)

#endif
