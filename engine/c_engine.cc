#include "xception/c/engine.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/c_interface.h"
#include "xception/engine.h"

// Each handle holds the C++ object, and the structs of C that point into it.

struct xception_model {
  std::shared_ptr<const xception::Model> model;
  std::vector<const char*> labels;
  xception_model_info info = {};
};

struct xception_session {
  xception::Session session;
  std::vector<std::vector<xception_shape>> inputs;  // of each layer
  std::vector<xception_layer_info> layers;
  xception_session_info info = {};
};

namespace xception::c {
namespace {

static_assert(static_cast<int>(Precision::kFp32) == XCEPTION_FP32);
static_assert(static_cast<int>(Precision::kBf16) == XCEPTION_BF16);
static_assert(static_cast<int>(Precision::kFp16) == XCEPTION_FP16);
static_assert(static_cast<int>(Precision::kTf32) == XCEPTION_TF32);
static_assert(static_cast<int>(Layout::kNHWC) == XCEPTION_NHWC);
static_assert(static_cast<int>(Layout::kNCHW) == XCEPTION_NCHW);

struct Devices : xception_device_list {
  DeviceList list;
  std::vector<xception_device_info> infos;
};

Shape to_shape(const xception_shape& shape) { return {shape.n, shape.h, shape.w, shape.c}; }

ModelOptions to_options(const xception_model_options* options) {
  ModelOptions result;
  if (options != nullptr) {
    result.arch = options->arch == nullptr ? "" : options->arch;
    result.verify = options->verify;
  }
  return result;
}

std::unique_ptr<xception_model> make_handle(std::shared_ptr<const Model> model) {
  auto handle = std::make_unique<xception_model>();
  handle->model = std::move(model);
  const ModelInfo& info = handle->model->info();
  for (const std::string& label : info.labels) {
    handle->labels.push_back(label.c_str());
  }
  handle->info = {
      .file = info.file.c_str(),
      .arch = info.arch.c_str(),
      .has_head = info.has_head,
      .classes = info.classes,
      .labels = handle->labels.empty() ? nullptr : handle->labels.data(),
      .preprocess = to_c(info.preprocess),
      .parameters = info.parameters,
      .min_side = info.min_side,
      .max_side = info.max_side,
  };
  return handle;
}

// `load` reads a model from `source`, which may not be null.
template <class Load>
const xception_status* load_model(const void* source, const char* what, xception_model** model,
                                  const Load& load) {
  return call([&]() -> Status {
    XC_RETURN_IF_ERROR(need(source, what));
    XC_RETURN_IF_ERROR(need(model, "model"));
    Result<std::shared_ptr<const Model>> loaded = load();
    XC_RETURN_IF_ERROR(loaded.status());
    *model = make_handle(*std::move(loaded)).release();
    return {};
  });
}

Status convert_options(const xception_session_options& options, SessionOptions* converted) {
  XC_RETURN_IF_ERROR(need(options.device, "xception_session_options::device"));
  XC_RETURN_IF_ERROR(
      convert(options.precision, XCEPTION_TF32, "xception_precision", &converted->precision));
  converted->device = options.device;
  converted->batch = options.batch;
  converted->height = options.height;
  converted->width = options.width;
  converted->threads = options.threads;
  converted->fuse = options.fuse;
  converted->cuda_graph = options.cuda_graph;
  converted->spin_wait = options.spin_wait;
  return {};
}

std::unique_ptr<xception_session> make_handle(Session session) {
  auto handle = std::make_unique<xception_session>(xception_session{std::move(session), {}, {}});
  const SessionInfo& info = handle->session.info();
  for (const LayerInfo& layer : info.layers) {
    std::vector<xception_shape>& inputs = handle->inputs.emplace_back();
    for (const Shape& input : layer.inputs) {
      inputs.push_back(to_c(input));
    }
    handle->layers.push_back({
        .name = layer.name.c_str(),
        .operation = layer.operation.c_str(),
        .implementation = layer.implementation.c_str(),
        .inputs = inputs.data(),
        .input_count = inputs.size(),
        .output = to_c(layer.output),
        .macs = layer.macs,
        .parameter_bytes = layer.parameter_bytes,
        .input_bytes = layer.input_bytes,
        .output_bytes = layer.output_bytes,
        .arena_offset = layer.arena_offset,
    });
  }
  handle->info = {
      .device = info.device.c_str(),
      .device_description = info.device_description.c_str(),
      .peak_flops_per_s = info.peak.flops_per_s,
      .peak_bytes_per_s = info.peak.bytes_per_s,
      .precision = static_cast<xception_precision>(info.precision),
      .input = to_c(info.input),
      .logits = to_c(info.logits),
      .threads = info.threads,
      .runs_in_flight = info.runs_in_flight,
      .arena_bytes = info.arena_bytes,
      .parameter_bytes = info.parameter_bytes,
      .layers = handle->layers.data(),
      .layer_count = handle->layers.size(),
  };
  return handle;
}

Status check_count(const char* what, std::size_t count, std::int64_t expected) {
  return count == static_cast<std::size_t>(expected)
             ? Status()
             : Status(Code::kInvalidArgument, std::string(what) + ": there is room for " +
                                                  std::to_string(count) + " values, not for " +
                                                  std::to_string(expected));
}

// What the session's function `body` does with pictures of the type that these are of.
template <class Body>
Status with_images(const xception_session* session, const xception_images* images,
                   const Body& body) {
  XC_RETURN_IF_ERROR(need(session, "session"));
  XC_RETURN_IF_ERROR(need(images, "images"));
  Layout layout = Layout::kNHWC;
  XC_RETURN_IF_ERROR(convert(images->layout, XCEPTION_NCHW, "xception_layout", &layout));
  int type = XCEPTION_FLOAT32;
  XC_RETURN_IF_ERROR(convert(images->type, XCEPTION_UINT8, "xception_type", &type));
  const Shape shape = to_shape(images->shape);
  if (type == XCEPTION_UINT8) {
    return body(TensorView<const std::uint8_t>{static_cast<const std::uint8_t*>(images->data),
                                               shape, layout});
  }
  return body(TensorView<const float>{static_cast<const float*>(images->data), shape, layout});
}

// `body` with a view of `count` logits, which may be no others than the session's.
template <class Body>
Status with_logits(const xception_session* session, float* logits, std::size_t count,
                   const Body& body) {
  XC_RETURN_IF_ERROR(need(session, "session"));
  const Shape& shape = session->session.info().logits;
  XC_RETURN_IF_ERROR(check_count("logits", count, shape.elements()));
  return body(TensorView<float>{logits, shape});
}

}  // namespace
}  // namespace xception::c

namespace c = xception::c;
using xception::Result;
using xception::Status;

const xception_status* xception_model_load(const char* path, const xception_model_options* options,
                                           xception_model** model) {
  return c::load_model(path, "path", model, [&] {
    return xception::Model::load(std::string(path), c::to_options(options));
  });
}

const xception_status* xception_model_load_memory(const void* bytes, size_t size,
                                                  const xception_model_options* options,
                                                  xception_model** model) {
  return c::load_model(bytes, "bytes", model, [&] {
    const auto* const first = static_cast<const std::byte*>(bytes);
    return xception::Model::load(std::vector<std::byte>(first, first + size),
                                 c::to_options(options));
  });
}

const xception_model_info* xception_model_get_info(const xception_model* model) {
  return model != nullptr ? &model->info : nullptr;
}

void xception_model_free(xception_model* model) { delete model; }

const xception_status* xception_list_devices(const xception_device_list** list) {
  return c::call([&]() -> Status {
    XC_RETURN_IF_ERROR(c::need(list, "list"));
    auto devices = std::make_unique<c::Devices>();
    devices->list = xception::list_devices();
    for (const xception::DeviceInfo& device : devices->list.devices) {
      devices->infos.push_back({device.name.c_str(), device.description.c_str(), device.usable});
    }
    devices->devices = devices->infos.data();
    devices->device_count = devices->infos.size();
    devices->no_cuda = devices->list.no_cuda.c_str();
    *list = devices.release();
    return {};
  });
}

void xception_device_list_free(const xception_device_list* list) {
  delete static_cast<const c::Devices*>(list);
}

const char* xception_precision_name(xception_precision precision) {
  return xception::precision_name(static_cast<xception::Precision>(precision));
}

xception_session_options xception_session_default_options(void) {
  const xception::SessionOptions defaults;
  return {
      .device = "auto",
      .precision = static_cast<xception_precision>(defaults.precision),
      .batch = defaults.batch,
      .height = defaults.height,
      .width = defaults.width,
      .threads = defaults.threads,
      .fuse = defaults.fuse,
      .cuda_graph = defaults.cuda_graph,
      .spin_wait = defaults.spin_wait,
  };
}

const xception_status* xception_session_create(const xception_model* model,
                                               const xception_session_options* options,
                                               xception_session** session) {
  return c::call([&]() -> Status {
    XC_RETURN_IF_ERROR(c::need(model, "model"));
    XC_RETURN_IF_ERROR(c::need(session, "session"));
    xception::SessionOptions converted;
    XC_RETURN_IF_ERROR(c::convert_options(
        options == nullptr ? xception_session_default_options() : *options, &converted));
    Result<xception::Session> created = xception::Session::create(model->model, converted);
    XC_RETURN_IF_ERROR(created.status());
    *session = c::make_handle(*std::move(created)).release();
    return {};
  });
}

const xception_session_info* xception_session_get_info(const xception_session* session) {
  return session != nullptr ? &session->info : nullptr;
}

void xception_session_free(xception_session* session) { delete session; }

const xception_status* xception_session_run(xception_session* session,
                                            const xception_images* images, float* logits,
                                            size_t count) {
  return c::call([&] {
    return c::with_logits(session, logits, count, [&](auto to) {
      return c::with_images(session, images,
                            [&](auto from) { return session->session.run(from, to); });
    });
  });
}

const xception_status* xception_session_submit(xception_session* session,
                                               const xception_images* images) {
  return c::call([&] {
    return c::with_images(session, images,
                          [&](auto from) { return session->session.submit(from); });
  });
}

const xception_status* xception_session_collect(xception_session* session, float* logits,
                                                size_t count) {
  return c::call([&] {
    return c::with_logits(session, logits, count,
                          [&](auto to) { return session->session.collect(to); });
  });
}

const xception_status* xception_session_enqueue(xception_session* session,
                                                const xception_images* images, float* logits,
                                                size_t count, CUstream_st* stream) {
  return c::call([&] {
    return c::with_logits(session, logits, count, [&](auto to) {
      return c::with_images(session, images,
                            [&](auto from) { return session->session.enqueue(from, to, stream); });
    });
  });
}

const xception_status* xception_session_set_normalisation(xception_session* session,
                                                          const xception_preprocess* preprocess) {
  return c::call([&]() -> Status {
    XC_RETURN_IF_ERROR(c::need(session, "session"));
    xception::Preprocess converted;
    XC_RETURN_IF_ERROR(c::convert(preprocess, &converted));
    return session->session.set_normalisation(converted);
  });
}

const xception_status* xception_session_set_layer_callback(xception_session* session,
                                                           xception_layer_callback callback,
                                                           void* context) {
  return c::call([&]() -> Status {
    XC_RETURN_IF_ERROR(c::need(session, "session"));
    if (callback == nullptr) {
      session->session.set_layer_callback({});
      return {};
    }
    session->session.set_layer_callback([=](const xception::LayerOutput& output) -> Status {
      const auto index = output.layer - session->session.info().layers.data();
      const xception_layer_info& layer = session->layers[static_cast<std::size_t>(index)];
      const xception_code code =
          callback(context, &layer, output.values.data(), output.values.size());
      if (code == XCEPTION_OK) {
        return {};
      }
      return {static_cast<xception::Code>(code),
              "the layer callback ended the run at " + output.layer->name};
    });
    return {};
  });
}

const xception_status* xception_session_profile(xception_session* session, int runs,
                                                double* seconds, size_t count) {
  return c::call([&]() -> Status {
    XC_RETURN_IF_ERROR(c::need(session, "session"));
    XC_RETURN_IF_ERROR(c::need(seconds, "seconds"));
    const std::int64_t steps = std::ssize(session->layers);
    XC_RETURN_IF_ERROR(c::check_count("seconds", count, std::max(runs, 0) * steps));
    const Result<xception::Profile> profile = session->session.profile(runs);
    XC_RETURN_IF_ERROR(profile.status());
    for (const std::vector<double>& run : *profile) {
      seconds = std::copy(run.begin(), run.end(), seconds);
    }
    return {};
  });
}

const xception_status* xception_session_time_network(xception_session* session, int runs,
                                                     double* seconds, size_t count) {
  return c::call([&]() -> Status {
    XC_RETURN_IF_ERROR(c::need(session, "session"));
    XC_RETURN_IF_ERROR(c::need(seconds, "seconds"));
    XC_RETURN_IF_ERROR(c::check_count("seconds", count, std::max(runs, 0)));
    const Result<std::vector<double>> times = session->session.time_network(runs);
    XC_RETURN_IF_ERROR(times.status());
    std::copy(times->begin(), times->end(), seconds);
    return {};
  });
}

const xception_status* xception_session_time_layer(xception_session* session, size_t layer,
                                                   int runs, double* seconds) {
  return c::call([&]() -> Status {
    XC_RETURN_IF_ERROR(c::need(session, "session"));
    XC_RETURN_IF_ERROR(c::need(seconds, "seconds"));
    const Result<double> measured = session->session.time_layer(layer, runs);
    XC_RETURN_IF_ERROR(measured.status());
    *seconds = *measured;
    return {};
  });
}

const xception_status* xception_softmax(const float* logits, int rows, int classes,
                                        float* probabilities) {
  return c::call([&] {
    const xception::Shape shape = {rows, 1, 1, classes};
    return xception::softmax({logits, shape}, {probabilities, shape});
  });
}
