#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/no_throw.h"
#include "engine/session_impl.h"

namespace xception {

const char* precision_name(Precision precision) {
  switch (precision) {
    case Precision::kFp32:
      return "fp32";
    case Precision::kBf16:
      return "bf16";
    case Precision::kFp16:
      return "fp16";
    case Precision::kTf32:
      return "tf32";
  }
  return "unknown";
}

void Session::Impl::set_normalisation(const Preprocess& preprocess) {
  normalisation.mean = preprocess.mean;
  normalisation.std = preprocess.std;
  normalisation.values = normalisation_table(preprocess);
}

Status Session::Impl::report_layer(std::size_t step) {
  const Shape& shape = shapes[step + 1];
  layer_values.resize(static_cast<std::size_t>(shape.elements()));
  XC_RETURN_IF_ERROR(backend->copy_out(at(step + 1), shape, wide[step + 1], layer_values.data()));
  return callback({&info.layers[step], layer_values});
}

// Starts where that does not mean waiting for the result. Layers are reported from collect.
Status Session::Impl::submit(const Pictures& pictures) {
  if (submitted - collected == slots()) {
    return {Code::kInvalidArgument, "collect the logits of an earlier run before submitting more"};
  }
  const std::size_t slot = submitted % slots();
  XC_RETURN_IF_ERROR(backend->stage(slot, pictures));
  started[slot] = slots() > 1 && !callback;
  if (started[slot]) {
    XC_RETURN_IF_ERROR(backend->start(slot, {}));
  }
  ++submitted;
  return {};
}

// What needs the session for itself: the next logits would be those of the run that waits.
Status Session::Impl::check_idle(const char* before) const {
  return submitted == collected
             ? Status()
             : Status(Code::kInvalidArgument,
                      std::string("collect the logits of an earlier run before ") + before);
}

Status Session::Impl::collect(float* logits) {
  if (submitted == collected) {
    return {Code::kInvalidArgument, "nothing was submitted whose logits could be collected"};
  }
  const std::size_t slot = collected++ % slots();
  if (!started[slot]) {
    Backend::AfterStep after;
    if (callback) {
      after = [this](std::size_t step) { return report_layer(step); };
    }
    XC_RETURN_IF_ERROR(backend->start(slot, after));
  }
  return backend->finish(slot, logits);
}

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

const SessionInfo& Session::info() const { return impl_->info; }

void Session::set_normalisation(const Preprocess& preprocess) {
  impl_->set_normalisation(preprocess);
}

void Session::set_layer_callback(LayerCallback callback) { impl_->callback = std::move(callback); }

namespace {

// Of images or logits, as the caller gives them.
Status check_view(const char* what, const void* data, const Shape& shape, const char* verb,
                  const Shape& expected) {
  if (shape != expected) {
    return {Code::kInvalidArgument, std::string(what) + " have shape " + to_string(shape) +
                                        ", this session " + verb + ' ' + to_string(expected)};
  }
  if (data == nullptr) {
    return {Code::kInvalidArgument, std::string(what) + " have no memory: their pointer is null"};
  }
  return {};
}

Status check_logits(const SessionInfo& info, TensorView<float> logits) {
  return check_view("logits", logits.data, logits.shape, "writes", info.logits);
}

// A run needs memory for a layer callback, a profile and the text of a failure only.
template <class Body>
Status guarded(Body&& body) {
  return no_throw([] { return "not enough memory to run the session"; }, body);
}

}  // namespace

Status Session::Impl::check_run(TensorView<float> logits) const {
  XC_RETURN_IF_ERROR(check_idle("another"));
  return check_logits(info, logits);
}

Result<Pictures> Session::Impl::check_pictures(TensorView<const float> images) const {
  XC_RETURN_IF_ERROR(check_view("images", images.data, images.shape, "takes", info.input));
  return Pictures{images.data, images.layout, nullptr, nullptr};
}

Result<Pictures> Session::Impl::check_pictures(TensorView<const std::uint8_t> images) const {
  XC_RETURN_IF_ERROR(check_view("images", images.data, images.shape, "takes", info.input));
  if (images.layout != Layout::kNHWC) {
    return Status(Code::kInvalidArgument, "8-bit images must be NHWC");
  }
  return Pictures{nullptr, Layout::kNHWC, images.data, &normalisation};
}

template <class T>
Status Session::Impl::submit_images(TensorView<const T> images) {
  return guarded([&]() -> Status {
    const Result<Pictures> pictures = check_pictures(images);
    XC_RETURN_IF_ERROR(pictures.status());
    return submit(*pictures);
  });
}

Status Session::submit(TensorView<const float> images) { return impl_->submit_images(images); }

Status Session::submit(TensorView<const std::uint8_t> images) {
  return impl_->submit_images(images);
}

template <class T>
Status Session::Impl::enqueue(TensorView<const T> images, TensorView<float> logits,
                              CUstream_st* stream) {
  return guarded([&]() -> Status {
    XC_RETURN_IF_ERROR(check_run(logits));
    const Result<Pictures> pictures = check_pictures(images);
    XC_RETURN_IF_ERROR(pictures.status());
    if (callback) {
      return {Code::kInvalidArgument,
              "enqueue() returns before a layer is done; use run() with a layer callback"};
    }
    return backend->enqueue(*pictures, logits.data, stream);
  });
}

Status Session::enqueue(TensorView<const float> images, TensorView<float> logits,
                        CUstream_st* stream) {
  return impl_->enqueue(images, logits, stream);
}

Status Session::enqueue(TensorView<const std::uint8_t> images, TensorView<float> logits,
                        CUstream_st* stream) {
  return impl_->enqueue(images, logits, stream);
}

Status Session::collect(TensorView<float> logits) {
  return guarded([&]() -> Status {
    XC_RETURN_IF_ERROR(check_logits(impl_->info, logits));
    return impl_->collect(logits.data);
  });
}

template <class T>
Status Session::Impl::run(TensorView<const T> images, TensorView<float> logits) {
  XC_RETURN_IF_ERROR(guarded([&] { return check_run(logits); }));
  XC_RETURN_IF_ERROR(submit_images(images));
  return guarded([&] { return collect(logits.data); });
}

Status Session::run(TensorView<const float> images, TensorView<float> logits) {
  return impl_->run(images, logits);
}

Status Session::run(TensorView<const std::uint8_t> images, TensorView<float> logits) {
  return impl_->run(images, logits);
}

Result<Profile> Session::profile(int runs) {
  Profile profile;
  const Status status = guarded([&]() -> Status {
    XC_RETURN_IF_ERROR(impl_->check_idle("a profile"));
    for (int run = 0; run < runs; ++run) {
      XC_RETURN_IF_ERROR(impl_->backend->time_steps(impl_->last_slot(),
                                                    profile.emplace_back(impl_->steps.size())));
    }
    return {};
  });
  XC_RETURN_IF_ERROR(status);
  return profile;
}

Result<std::vector<double>> Session::time_network(int runs) {
  std::vector<double> times;
  const Status status = guarded([&]() -> Status {
    XC_RETURN_IF_ERROR(impl_->check_idle("a measurement"));
    for (int run = 0; run < runs; ++run) {
      const Result<double> seconds = impl_->backend->time_network(impl_->last_slot());
      XC_RETURN_IF_ERROR(seconds.status());
      times.push_back(*seconds);
    }
    return {};
  });
  XC_RETURN_IF_ERROR(status);
  return times;
}

void softmax(TensorView<const float> logits, TensorView<float> probabilities) {
  const std::int64_t rows = logits.shape.elements() / std::max(logits.shape.c, 1);
  for (std::int64_t row = 0; row < rows; ++row) {
    const float* src = logits.data + row * logits.shape.c;
    const float* const end = src + logits.shape.c;
    const double largest = *std::max_element(src, end);
    // Each is computed twice, so that none has to be kept.
    const auto exponential = [largest](float x) { return std::exp(x - largest); };
    const double sum = std::accumulate(
        src, end, 0.0, [&](double before, float x) { return before + exponential(x); });
    std::transform(src, end, probabilities.data + row * logits.shape.c,
                   [&](float x) { return static_cast<float>(exponential(x) / sum); });
  }
}

}  // namespace xception
