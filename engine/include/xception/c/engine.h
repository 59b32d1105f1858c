// <xception/engine.h> for C, but for known_networks() and for bytes of a model that stay the
// caller's; <xception/c/types.h> says how to read it.
#ifndef XCEPTION_C_ENGINE_H
#define XCEPTION_C_ENGINE_H

// NOLINTBEGIN(modernize-use-using, modernize-deprecated-headers): it is C

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "xception/c/types.h"

struct CUstream_st;

#pragma GCC visibility push(default)  // what programs see of the shared library

#ifdef __cplusplus
extern "C" {
#endif

typedef struct xception_model_options {
  const char* arch;  // null: what the file says of itself
  bool verify;
} xception_model_options;

typedef struct xception_model_info {
  const char* file;
  const char* arch;
  bool has_head;
  int classes;
  const char* const* labels;  // `classes` of them, or null
  xception_preprocess preprocess;
  int64_t parameters;
  int min_side;
  int max_side;
} xception_model_info;

// A reference to an immutable xception::Model: sessions that were made from it outlive it.
typedef struct xception_model xception_model;

// `options` may be null.
XCEPTION_NODISCARD const xception_status* xception_model_load(const char* path,
                                                              const xception_model_options* options,
                                                              xception_model** model);
// The model keeps a copy of the bytes, as long as it or a session of it is there.
XCEPTION_NODISCARD const xception_status* xception_model_load_memory(
    const void* bytes, size_t size, const xception_model_options* options, xception_model** model);
// Null of null.
const xception_model_info* xception_model_get_info(const xception_model* model);
void xception_model_free(xception_model* model);

typedef struct xception_device_info {
  const char* name;
  const char* description;
  bool usable;
} xception_device_info;

typedef struct xception_device_list {
  const xception_device_info* devices;
  size_t device_count;
  const char* no_cuda;  // "" where a GPU is among them
} xception_device_list;

XCEPTION_NODISCARD const xception_status* xception_list_devices(const xception_device_list** list);
void xception_device_list_free(const xception_device_list* list);

typedef enum xception_precision XCEPTION_ANY_INT {
  XCEPTION_FP32,
  XCEPTION_BF16,
  XCEPTION_FP16,
  XCEPTION_TF32
} xception_precision;

// "bf16".
const char* xception_precision_name(xception_precision precision);

typedef struct xception_session_options {
  const char* device;
  xception_precision precision;
  int batch;
  int height;
  int width;
  int threads;
  bool fuse;
  bool cuda_graph;
  bool spin_wait;
} xception_session_options;

// Those of xception::SessionOptions. They are not all zeros: begin with these.
xception_session_options xception_session_default_options(void);

typedef struct xception_layer_info {
  const char* name;
  const char* operation;
  const char* implementation;
  const xception_shape* inputs;
  size_t input_count;
  xception_shape output;
  int64_t macs;
  size_t parameter_bytes;
  size_t input_bytes;
  size_t output_bytes;
  size_t arena_offset;
} xception_layer_info;

typedef struct xception_session_info {
  const char* device;
  const char* device_description;
  double peak_flops_per_s;
  double peak_bytes_per_s;
  xception_precision precision;
  xception_shape input;
  xception_shape logits;
  int threads;
  int runs_in_flight;
  size_t arena_bytes;
  size_t parameter_bytes;
  const xception_layer_info* layers;
  size_t layer_count;
} xception_session_info;

// A xception::Session: one thread at a time.
typedef struct xception_session xception_session;

// Null in place of `options` is xception_session_default_options().
XCEPTION_NODISCARD const xception_status* xception_session_create(
    const xception_model* model, const xception_session_options* options,
    xception_session** session);
// Null of null.
const xception_session_info* xception_session_get_info(const xception_session* session);
void xception_session_free(xception_session* session);

typedef enum xception_type XCEPTION_ANY_INT { XCEPTION_FLOAT32, XCEPTION_UINT8 } xception_type;

// A TensorView of pictures: float32 of either layout and normalised, or 8-bit RGB, NHWC.
typedef struct xception_images {
  const void* data;
  xception_type type;
  xception_layout layout;
  xception_shape shape;
} xception_images;

// `logits` has room for `count` values, which must be those of xception_session_info::logits: batch
// times classes.
XCEPTION_NODISCARD const xception_status* xception_session_run(xception_session* session,
                                                               const xception_images* images,
                                                               float* logits, size_t count);
XCEPTION_NODISCARD const xception_status* xception_session_submit(xception_session* session,
                                                                  const xception_images* images);
XCEPTION_NODISCARD const xception_status* xception_session_collect(xception_session* session,
                                                                   float* logits, size_t count);
// `images->data` and `logits` are in memory of the session's device.
XCEPTION_NODISCARD const xception_status* xception_session_enqueue(xception_session* session,
                                                                   const xception_images* images,
                                                                   float* logits, size_t count,
                                                                   struct CUstream_st* stream);

XCEPTION_NODISCARD const xception_status* xception_session_set_normalisation(
    xception_session* session, const xception_preprocess* preprocess);

// Called with the `context` it was set with. XCEPTION_OK goes on; any other code ends the run,
// which fails with it. `values` has `count` values, float32 NHWC, valid until it returns.
typedef xception_code (*xception_layer_callback)(void* context, const xception_layer_info* layer,
                                                 const float* values, size_t count);
// Null: none.
XCEPTION_NODISCARD const xception_status* xception_session_set_layer_callback(
    xception_session* session, xception_layer_callback callback, void* context);

// Writes `runs` rows of layer_count seconds each; `count` is the room in `seconds`, which must be
// those.
XCEPTION_NODISCARD const xception_status* xception_session_profile(xception_session* session,
                                                                   int runs, double* seconds,
                                                                   size_t count);
// Writes `runs` seconds, for which there must be room: `count`.
XCEPTION_NODISCARD const xception_status* xception_session_time_network(xception_session* session,
                                                                        int runs, double* seconds,
                                                                        size_t count);

XCEPTION_NODISCARD const xception_status* xception_session_time_layer(xception_session* session,
                                                                      size_t layer, int runs,
                                                                      double* seconds);

// Of `rows` rows of `classes` logits each, to as many probabilities.
XCEPTION_NODISCARD const xception_status* xception_softmax(const float* logits, int rows,
                                                           int classes, float* probabilities);

#ifdef __cplusplus
}
#endif

#pragma GCC visibility pop

// NOLINTEND(modernize-use-using, modernize-deprecated-headers)

#endif
