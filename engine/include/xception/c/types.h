// The interface for C, and for languages that call C. A function does what its namesake in
// <xception/engine.h> or <xception/image.h> does, and what stands there holds here: shapes,
// threads, what fails with which code. What is different is told here.
//
// A function that can fail returns a status: null on success, else a failure that is the caller's
// to free. What it makes, it writes through its last argument, and only on success; that is the
// caller's too, and goes to the function whose name ends in _free, which takes null as well. Every
// string is UTF-8 as far as its source was, ends in a zero, and lives as long as what it was got
// from. A function that is given to be called may not throw or jump out.
#ifndef XCEPTION_C_TYPES_H
#define XCEPTION_C_TYPES_H

// NOLINTBEGIN(modernize-use-using, modernize-deprecated-headers): it is C

#pragma GCC visibility push(default)  // what programs see of the shared library

#ifdef __cplusplus
extern "C" {
#endif

#define XCEPTION_NODISCARD __attribute__((warn_unused_result))

#ifdef __cplusplus
#define XCEPTION_ANY_INT : int  // a C program may put any number into an enumeration
#else
#define XCEPTION_ANY_INT
#endif

// xception::Code.
typedef enum xception_code XCEPTION_ANY_INT {
  XCEPTION_OK,
  XCEPTION_INVALID_ARGUMENT,
  XCEPTION_NOT_FOUND,
  XCEPTION_IO,
  XCEPTION_BAD_MODEL,
  XCEPTION_BAD_IMAGE,
  XCEPTION_UNSUPPORTED,
  XCEPTION_DEVICE,
  XCEPTION_OUT_OF_MEMORY,
  XCEPTION_INTERNAL
} xception_code;

// "bad_model".
const char* xception_code_name(xception_code code);

// xception::Status, null where that is a success.
typedef struct xception_status xception_status;

xception_code xception_status_code(const xception_status* status);
const char* xception_status_message(const xception_status* status);  // "" of a success
void xception_status_free(const xception_status* status);

typedef enum xception_layout XCEPTION_ANY_INT { XCEPTION_NHWC, XCEPTION_NCHW } xception_layout;

// xception::Shape.
typedef struct xception_shape {
  int n;
  int h;
  int w;
  int c;
} xception_shape;

typedef enum xception_resize_mode XCEPTION_ANY_INT {
  XCEPTION_CENTER,
  XCEPTION_SQUASH,
  XCEPTION_BORDER
} xception_resize_mode;

typedef enum xception_interpolation XCEPTION_ANY_INT {
  XCEPTION_NEAREST,
  XCEPTION_BILINEAR,
  XCEPTION_BICUBIC
} xception_interpolation;

// xception::Preprocess. A model's own stands in its xception_model_info.
typedef struct xception_preprocess {
  int size;
  int keep_min;
  int keep_max;
  xception_resize_mode mode;
  double crop_pct;
  xception_interpolation interpolation;
  float mean[3];
  float std[3];
} xception_preprocess;

#ifdef __cplusplus
}
#endif

#pragma GCC visibility pop

// NOLINTEND(modernize-use-using, modernize-deprecated-headers)

#endif
