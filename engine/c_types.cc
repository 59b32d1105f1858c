#include "xception/c/types.h"

#include <algorithm>
#include <new>

#include "engine/c_interface.h"

namespace xception::c {
namespace {

static_assert(static_cast<int>(Code::kOk) == XCEPTION_OK);
static_assert(static_cast<int>(Code::kInvalidArgument) == XCEPTION_INVALID_ARGUMENT);
static_assert(static_cast<int>(Code::kNotFound) == XCEPTION_NOT_FOUND);
static_assert(static_cast<int>(Code::kIo) == XCEPTION_IO);
static_assert(static_cast<int>(Code::kBadModel) == XCEPTION_BAD_MODEL);
static_assert(static_cast<int>(Code::kBadImage) == XCEPTION_BAD_IMAGE);
static_assert(static_cast<int>(Code::kUnsupported) == XCEPTION_UNSUPPORTED);
static_assert(static_cast<int>(Code::kDevice) == XCEPTION_DEVICE);
static_assert(static_cast<int>(Code::kOutOfMemory) == XCEPTION_OUT_OF_MEMORY);
static_assert(static_cast<int>(Code::kInternal) == XCEPTION_INTERNAL);
static_assert(static_cast<int>(ResizeMode::kCenter) == XCEPTION_CENTER);
static_assert(static_cast<int>(ResizeMode::kSquash) == XCEPTION_SQUASH);
static_assert(static_cast<int>(ResizeMode::kBorder) == XCEPTION_BORDER);
static_assert(static_cast<int>(Interpolation::kNearest) == XCEPTION_NEAREST);
static_assert(static_cast<int>(Interpolation::kBilinear) == XCEPTION_BILINEAR);
static_assert(static_cast<int>(Interpolation::kBicubic) == XCEPTION_BICUBIC);

// Where there is no memory for a failure either.
const xception_status kNoMemory = {{Code::kOutOfMemory, "out of memory"}};

}  // namespace

const xception_status* to_c(Status status) noexcept {
  if (status.ok()) {
    return nullptr;
  }
  const auto* made = new (std::nothrow) xception_status{std::move(status)};
  return made != nullptr ? made : &kNoMemory;
}

Status need(const void* pointer, const char* what) {
  return pointer != nullptr ? Status()
                            : Status(Code::kInvalidArgument, std::string(what) + " is null");
}

Status convert(const xception_preprocess* preprocess, Preprocess* converted) {
  XC_RETURN_IF_ERROR(need(preprocess, "preprocess"));
  XC_RETURN_IF_ERROR(
      convert(preprocess->mode, XCEPTION_BORDER, "xception_resize_mode", &converted->mode));
  XC_RETURN_IF_ERROR(convert(preprocess->interpolation, XCEPTION_BICUBIC, "xception_interpolation",
                             &converted->interpolation));
  converted->size = preprocess->size;
  converted->keep_min = preprocess->keep_min;
  converted->keep_max = preprocess->keep_max;
  converted->crop_pct = preprocess->crop_pct;
  std::copy_n(preprocess->mean, 3, converted->mean.begin());
  std::copy_n(preprocess->std, 3, converted->std.begin());
  return {};
}

xception_preprocess to_c(const Preprocess& preprocess) {
  xception_preprocess result = {
      .size = preprocess.size,
      .keep_min = preprocess.keep_min,
      .keep_max = preprocess.keep_max,
      .mode = static_cast<xception_resize_mode>(preprocess.mode),
      .crop_pct = preprocess.crop_pct,
      .interpolation = static_cast<xception_interpolation>(preprocess.interpolation),
      .mean = {},
      .std = {},
  };
  std::copy(preprocess.mean.begin(), preprocess.mean.end(), result.mean);
  std::copy(preprocess.std.begin(), preprocess.std.end(), result.std);
  return result;
}

}  // namespace xception::c

using xception::c::kNoMemory;

const char* xception_code_name(xception_code code) {
  return xception::code_name(static_cast<xception::Code>(code));
}

xception_code xception_status_code(const xception_status* status) {
  return status == nullptr ? XCEPTION_OK : static_cast<xception_code>(status->status.code());
}

const char* xception_status_message(const xception_status* status) {
  return status == nullptr ? "" : status->status.message().c_str();
}

void xception_status_free(const xception_status* status) {
  if (status != &kNoMemory) {
    delete status;
  }
}
