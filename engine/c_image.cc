#include "xception/c/image.h"

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/c_interface.h"
#include "xception/image.h"

namespace xception::c {
namespace {

static_assert(kMaxPixels == XCEPTION_MAX_PIXELS);

// What every xception_image is. The C++ picture is the one that counts.
struct OwnedImage : xception_image {
  DecodedImage decoded;
  std::vector<const char*> texts;
};

DecodeOptions to_options(const xception_decode_options* options) {
  DecodeOptions result;
  if (options == nullptr) {
    return result;
  }
  if (options->max_pixels != 0) {
    result.max_pixels = options->max_pixels;
  }
  result.apply_exif = options->apply_exif;
  if (options->before_allocating != nullptr) {
    result.before_allocating = [tell = options->before_allocating, context = options->context](
                                   std::int64_t bytes) { tell(context, bytes); };
  }
  return result;
}

xception_image* release(DecodedImage decoded) {
  auto owned = std::make_unique<OwnedImage>();
  owned->decoded = std::move(decoded);
  for (const std::string& warning : owned->decoded.warnings) {
    owned->texts.push_back(warning.c_str());
  }
  owned->width = owned->decoded.image.width;
  owned->height = owned->decoded.image.height;
  owned->pixels = owned->decoded.image.pixels.data();
  owned->decoder = owned->decoded.decoder;
  owned->warnings = owned->texts.data();
  owned->warning_count = owned->texts.size();
  return owned.release();
}

xception_image* release(Image image) { return release(DecodedImage{std::move(image), "", {}}); }

const Image& picture_of(const xception_image* image) {
  return static_cast<const OwnedImage*>(image)->decoded.image;
}

// `make` makes a picture of `source`, which may not be null.
template <class Make>
const xception_status* make_image(const void* source, const char* what, xception_image** image,
                                  const Make& make) {
  return call([&]() -> Status {
    XC_RETURN_IF_ERROR(need(source, what));
    XC_RETURN_IF_ERROR(need(image, "the image to make"));
    auto made = make();
    XC_RETURN_IF_ERROR(made.status());
    *image = release(*std::move(made));
    return {};
  });
}

}  // namespace
}  // namespace xception::c

namespace c = xception::c;
using xception::Image;
using xception::Result;
using xception::Status;

const xception_status* xception_image_make(int width, int height, xception_image** image) {
  return c::make_image(&width, "width", image, [&]() -> Result<Image> {
    const auto pixels = std::int64_t{width} * height;
    if (width <= 0 || height <= 0 || pixels > xception::kMaxPixels) {
      return Status(xception::Code::kInvalidArgument,
                    "no picture of " + std::to_string(width) + " x " + std::to_string(height) +
                        " pixels: both sides must be positive and their product at most " +
                        std::to_string(xception::kMaxPixels));
    }
    return Image{width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(pixels) * 3)};
  });
}

const xception_status* xception_image_decode(const void* bytes, size_t size,
                                             const xception_decode_options* options,
                                             xception_image** image) {
  return c::make_image(bytes, "bytes", image, [&] {
    return xception::decode_image(std::span(static_cast<const std::byte*>(bytes), size),
                                  c::to_options(options));
  });
}

const xception_status* xception_image_decode_file(const char* path,
                                                  const xception_decode_options* options,
                                                  xception_image** image) {
  return c::make_image(path, "path", image,
                       [&] { return xception::decode_image_file(path, c::to_options(options)); });
}

const xception_status* xception_image_resize(const xception_image* image, int width, int height,
                                             xception_interpolation interpolation,
                                             xception_image** resized) {
  return c::make_image(image, "image", resized, [&]() -> Result<Image> {
    xception::Interpolation converted = {};
    XC_RETURN_IF_ERROR(
        c::convert(interpolation, XCEPTION_BICUBIC, "xception_interpolation", &converted));
    return xception::resize(c::picture_of(image), width, height, converted);
  });
}

const xception_status* xception_image_fit(const xception_image* image,
                                          const xception_preprocess* preprocess,
                                          xception_image** fitted) {
  return c::make_image(image, "image", fitted, [&]() -> Result<Image> {
    xception::Preprocess converted;
    XC_RETURN_IF_ERROR(c::convert(preprocess, &converted));
    return xception::fit(c::picture_of(image), converted);
  });
}

void xception_image_free(xception_image* image) { delete static_cast<c::OwnedImage*>(image); }

const xception_status* xception_normalise(const uint8_t* src, int64_t pixels,
                                          const xception_preprocess* preprocess, float* dst) {
  return c::call([&]() -> Status {
    XC_RETURN_IF_ERROR(c::need(src, "src"));
    XC_RETURN_IF_ERROR(c::need(dst, "dst"));
    xception::Preprocess converted;
    XC_RETURN_IF_ERROR(c::convert(preprocess, &converted));
    xception::normalise(src, pixels, converted, dst);
    return {};
  });
}
