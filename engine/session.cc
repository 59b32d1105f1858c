#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/decimal.h"
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

Status Session::Impl::set_normalisation(const Preprocess& preprocess) {
  for (std::size_t c = 0; c < preprocess.std.size(); ++c) {
    if (!std::isfinite(preprocess.mean[c]) || !(preprocess.std[c] > 0) ||
        !std::isfinite(preprocess.std[c])) {
      return {Code::kInvalidArgument, "pictures cannot be normalised with mean " +
                                          decimal(preprocess.mean[c]) + " and std " +
                                          decimal(preprocess.std[c]) +
                                          "; both must be finite, and std above 0"};
    }
  }
  normalisation.mean = preprocess.mean;
  normalisation.std = preprocess.std;
  normalisation.values = normalisation_table(preprocess);
  return {};
}

Status Session::Impl::report_layer(const LayerCallback& report, std::size_t step) {
  const Shape& shape = shapes[step + 1];
  layer_values.resize(static_cast<std::size_t>(shape.elements()));
  XC_RETURN_IF_ERROR(backend->copy_out(at(step + 1), shape, wide[step + 1], layer_values.data()));
  return report({&info.layers[step], layer_values});
}

// Starts where that does not mean waiting for the result. Layers are reported from collect.
Status Session::Impl::submit(const Pictures& pictures) {
  if (submitted - collected == slots()) {
    return {Code::kInvalidArgument, "collect the logits of an earlier run before submitting more"};
  }
  const std::size_t slot = submitted % slots();
  XC_RETURN_IF_ERROR(backend->stage(slot, pictures));
  started[slot] = slots() > 1 && callback == nullptr;
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
    const std::shared_ptr<const LayerCallback> report = callback;  // which may set another one
    Backend::AfterStep after;
    if (report) {
      after = [this, &report](std::size_t step) { return report_layer(*report, step); };
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

Status check_runs(int runs) {
  return runs >= 0
             ? Status()
             : Status(Code::kInvalidArgument, std::to_string(runs) + " runs: expected 0 or more");
}

Status check_logits(const SessionInfo& info, TensorView<float> logits) {
  return check_view("logits", logits.data, logits.shape, "writes", info.logits);
}

}  // namespace

// A run needs memory for a layer callback, a profile and the text of a failure only.
template <class Body>
Status Session::Impl::call(const Body& body) {
  struct Scope {
    bool& flag;
    ~Scope() { flag = false; }
  };
  const auto no_memory = [] { return "not enough memory to run the session"; };
  if (in_call) {
    return no_throw(no_memory, [] {
      return Status(Code::kInvalidArgument,
                    "the session is in a call already; a layer callback may not run it");
    });
  }
  in_call = true;
  const Scope scope{in_call};
  return no_throw(no_memory, body);
}

Status Session::set_normalisation(const Preprocess& preprocess) {
  return impl_->call([&] { return impl_->set_normalisation(preprocess); });
}

void Session::set_layer_callback(LayerCallback callback) {
  impl_->callback = callback ? std::make_shared<const LayerCallback>(std::move(callback)) : nullptr;
}

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
  return call([&]() -> Status {
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
  return call([&]() -> Status {
    XC_RETURN_IF_ERROR(check_run(logits));
    const Result<Pictures> pictures = check_pictures(images);
    XC_RETURN_IF_ERROR(pictures.status());
    if (callback != nullptr) {
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
  return impl_->call([&]() -> Status {
    XC_RETURN_IF_ERROR(check_logits(impl_->info, logits));
    return impl_->collect(logits.data);
  });
}

template <class T>
Status Session::Impl::run(TensorView<const T> images, TensorView<float> logits) {
  return call([&]() -> Status {
    XC_RETURN_IF_ERROR(check_run(logits));
    const Result<Pictures> pictures = check_pictures(images);
    XC_RETURN_IF_ERROR(pictures.status());
    XC_RETURN_IF_ERROR(submit(*pictures));
    return collect(logits.data);
  });
}

Status Session::run(TensorView<const float> images, TensorView<float> logits) {
  return impl_->run(images, logits);
}

Status Session::run(TensorView<const std::uint8_t> images, TensorView<float> logits) {
  return impl_->run(images, logits);
}

Result<Profile> Session::profile(int runs) {
  Profile profile;
  const Status status = impl_->call([&]() -> Status {
    XC_RETURN_IF_ERROR(check_runs(runs));
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
  const Status status = impl_->call([&]() -> Status {
    XC_RETURN_IF_ERROR(check_runs(runs));
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

Result<double> Session::time_layer(std::size_t layer, int runs) {
  double seconds = 0;
  const Status status = impl_->call([&]() -> Status {
    XC_RETURN_IF_ERROR(check_runs(runs));
    if (layer >= impl_->steps.size()) {
      return {Code::kInvalidArgument, "there is no layer " + std::to_string(layer) +
                                          "; the last is " +
                                          std::to_string(impl_->steps.size() - 1)};
    }
    XC_RETURN_IF_ERROR(impl_->check_idle("a measurement"));
    const Result<double> measured = impl_->backend->time_step(layer, runs);
    XC_RETURN_IF_ERROR(measured.status());
    seconds = *measured;
    return {};
  });
  XC_RETURN_IF_ERROR(status);
  return seconds;
}

namespace {

void softmax_row(std::span<const float> logits, float* probabilities) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  // Each is computed twice, so that none has to be kept.
  const auto exponential = [largest](float x) { return std::exp(x - largest); };
  const double sum =
      std::accumulate(logits.begin(), logits.end(), 0.0,
                      [&](double before, float x) { return before + exponential(x); });
  std::transform(logits.begin(), logits.end(), probabilities,
                 [&](float x) { return static_cast<float>(exponential(x) / sum); });
}

}  // namespace

Status softmax(TensorView<const float> logits, TensorView<float> probabilities) {
  const auto no_memory = [] { return "not enough memory for the probabilities"; };
  return no_throw(no_memory, [&]() -> Status {
    const Shape& shape = logits.shape;
    const bool possible = shape.n >= 0 && shape.h >= 0 && shape.w >= 0 && shape.c >= 0;
    if (shape != probabilities.shape || !possible || logits.data == nullptr ||
        probabilities.data == nullptr) {
      return {Code::kInvalidArgument, "no probabilities " + to_string(probabilities.shape) +
                                          " of logits " + to_string(shape) +
                                          ": both need memory, and one shape"};
    }
    const auto classes = static_cast<std::size_t>(shape.c);
    for (std::int64_t at = 0; at < shape.elements(); at += shape.c) {
      softmax_row({logits.data + at, classes}, probabilities.data + at);
    }
    return {};
  });
}

}  // namespace xception
