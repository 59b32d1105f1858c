#include "network.h"

#include <algorithm>
#include <utility>

#include "message.h"
#include "name_list.h"

namespace xception::cli {

Result<Network> Network::load(const Options& options) {
  Network network;
  Result<std::shared_ptr<const Model>> model =
      Model::load(options.model, {options.arch, options.verify});
  XC_RETURN_IF_ERROR(as_model_failure(model.status()));
  network.model_ = *std::move(model);
  if (options.mode == Mode::kClassify && !network.info().has_head) {
    return Status(Code::kBadModel,
                  "model '" + options.model + "' has no head ('fc.weight' and 'fc.bias'), so its " +
                      std::to_string(network.info().classes) +
                      " outputs are features and no classes; train one, or read the features "
                      "through the library");
  }
  XC_RETURN_IF_ERROR(network.apply(options));
  network.labels_ = network.info().labels;
  if (!options.labels.empty()) {
    XC_RETURN_IF_ERROR(network.read_labels(options.labels));
  }
  network.session_options_.device = options.device;
  network.session_options_.precision = options.precision;
  network.session_options_.threads = options.threads;
  network.session_options_.fuse = options.fuse;
  network.session_options_.cuda_graph = options.cuda_graph;
  return network;
}

Status Network::apply(const Options& options) {
  preprocess_ = info().preprocess;
  if (options.size) {
    // A size that was asked for holds for every picture.
    preprocess_.size = *options.size;
    preprocess_.keep_min = 0;
    preprocess_.keep_max = 0;
  }
  preprocess_.mode = options.resize_mode.value_or(preprocess_.mode);
  preprocess_.crop_pct = options.crop_pct.value_or(preprocess_.crop_pct);
  preprocess_.interpolation = options.interpolation.value_or(preprocess_.interpolation);
  preprocess_.mean = options.mean.value_or(preprocess_.mean);
  preprocess_.std = options.std.value_or(preprocess_.std);
  if (options.crop_pct && preprocess_.mode != ResizeMode::kCenter) {
    return {Code::kInvalidArgument,
            "--crop-pct belongs to --resize-mode center, which this model does not use by itself"};
  }
  const int size = preprocess_.size;
  if (!info().takes(size)) {
    return {Code::kInvalidArgument, "--size " + std::to_string(size) + ": network '" + info().arch +
                                        "' takes " + std::to_string(info().min_side) + " to " +
                                        std::to_string(info().max_side) + " pixels"};
  }
  return {};
}

Status Network::read_labels(const std::string& path) {
  Result<std::vector<std::string>> labels = read_name_list(path, '\n', "labels");
  XC_RETURN_IF_ERROR(labels.status());
  labels_ = *std::move(labels);
  if (labels_.size() != static_cast<std::size_t>(info().classes)) {
    const std::string name = path == "-" ? "standard input" : "'" + path + "'";
    return {Code::kInvalidArgument, name + " has " + std::to_string(labels_.size()) +
                                        " lines, the model has " + std::to_string(info().classes) +
                                        " classes; give one line for each"};
  }
  return {};
}

Result<Session*> Network::session(int batch, int height, int width) {
  constexpr std::size_t kKept = 4;
  const Shape shape = {batch, height, width, 3};
  const auto found =
      std::find_if(sessions_.begin(), sessions_.end(),
                   [&shape](const Session& session) { return session.info().input == shape; });
  if (found != sessions_.end()) {
    sessions_.splice(sessions_.begin(), sessions_, found);
    return &sessions_.front();
  }
  if (sessions_.size() == kKept) {
    sessions_.pop_back();  // first, so that both never hold memory at once
  }
  SessionOptions options = session_options_;
  options.batch = batch;
  options.height = height;
  options.width = width;
  Result<Session> session = Session::create(model_, options);
  if (!session.ok() && session.status().code() == Code::kOutOfMemory && !sessions_.empty()) {
    sessions_.clear();  // what is kept for later pictures may be what is in the way
    session = Session::create(model_, options);
  }
  XC_RETURN_IF_ERROR(as_model_failure(session.status()));
  XC_RETURN_IF_ERROR(session->set_normalisation(preprocess_));
  sessions_.push_front(*std::move(session));
  return &sessions_.front();
}

std::string place_text(const SessionInfo& info) {
  std::string text = info.device;
  if (!info.device_description.empty()) {
    text += " (" + info.device_description + ')';
  }
  text += std::string(", ") + precision_name(info.precision);
  return info.threads > 0 ? text + ", " + std::to_string(info.threads) +
                                (info.threads > 1 ? " threads" : " thread")
                          : text;
}

void say_place(const Options& options, const std::string& arch, const SessionInfo& info) {
  if (!options.verbose) {
    return;
  }
  say("network '" + arch + "' on " + place_text(info) + ", batches of " +
      std::to_string(info.input.n));
  if (options.device != "auto" || info.device != "cpu") {
    return;
  }
  const DeviceList list = list_devices();
  std::string reasons = list.no_cuda;
  for (const DeviceInfo& device : list.devices) {
    if (!device.usable) {
      reasons += (reasons.empty() ? "" : "; ") + device.name + " is " + device.description;
    }
  }
  say("no GPU is used: " + reasons);
}

}  // namespace xception::cli
