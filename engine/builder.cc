#include "engine/builder.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "engine/decimal.h"
#include "engine/safetensors_header.h"

namespace xception {
namespace {

constexpr int kImageChannels = 3;
constexpr std::int64_t kMaxClasses = 1 << 24;

Status negative_variance(const std::string& name, float value, std::size_t index) {
  return {Code::kBadModel, "tensor '" + name + "' has the value " + decimal(value) + " at index " +
                               std::to_string(index) + "; a variance cannot be negative"};
}

}  // namespace

GraphBuilder::GraphBuilder(Parameters& parameters, double bn_eps)
    : parameters_(parameters), bn_eps_(bn_eps) {
  append("input", Input{kImageChannels}, {}, kImageChannels);
}

void GraphBuilder::fail(const Status& status) {
  if (status_.ok()) {
    status_ = status;
  }
}

ValueId GraphBuilder::append(const std::string& name, Op op, std::vector<ValueId> inputs,
                             int channels) {
  const int call = calls_[name]++;
  channels_.push_back(channels);
  return graph_.append(
      {call == 0 ? name : name + '#' + std::to_string(call), std::move(op), std::move(inputs)});
}

ValueId GraphBuilder::conv(const std::string& name, ValueId src, const Conv& conv) {
  Conv2d op;
  op.out_channels = conv.depthwise ? channels(src) : conv.out;
  op.size = conv.size;
  op.stride = conv.stride;
  op.pad = conv.pad;
  op.depthwise = conv.depthwise;
  if (status_.ok()) {
    const Result<const TensorEntry*> weight = parameters_.take(
        name + ".weight",
        {op.out_channels, conv.depthwise ? 1 : channels(src), conv.size, conv.size});
    if (weight.ok()) {
      op.weight = *weight;
    } else {
      fail(weight.status());
    }
  }
  if (status_.ok() && conv.bias) {
    std::shared_ptr<const Affine>& affine = affines_[name];
    if (affine == nullptr) {
      const Result<std::vector<float>> bias =
          parameters_.take_values(name + ".bias", op.out_channels);
      if (bias.ok()) {
        affine = std::make_shared<Affine>(
            Affine{std::vector<double>(bias->size(), 1.0), {bias->begin(), bias->end()}});
      } else {
        fail(bias.status());
      }
    }
    op.affine = affine;
  }
  const int out_channels = op.out_channels;
  return append(name, std::move(op), {src}, out_channels);
}

ValueId GraphBuilder::batch_norm(const std::string& name, ValueId src) {
  std::shared_ptr<const Affine>& affine = affines_[name];
  if (status_.ok() && affine == nullptr) {
    const int count = channels(src);
    const Result<std::vector<float>> gamma = parameters_.take_values(name + ".weight", count);
    const Result<std::vector<float>> beta = parameters_.take_values(name + ".bias", count);
    const Result<std::vector<float>> mean = parameters_.take_values(name + ".running_mean", count);
    const Result<std::vector<float>> variance =
        parameters_.take_values(name + ".running_var", count);
    for (const auto* values : {&gamma, &beta, &mean, &variance}) {
      if (!values->ok()) {
        fail(values->status());
      }
    }
    if (status_.ok()) {
      auto norm = std::make_shared<Affine>();
      for (std::size_t c = 0; c < static_cast<std::size_t>(count); ++c) {
        // Below 0 by less than epsilon the root would exist, but no variance is.
        if ((*variance)[c] < 0) {
          fail(negative_variance(name + ".running_var", (*variance)[c], c));
          break;
        }
        const double scale = (*gamma)[c] / std::sqrt((*variance)[c] + bn_eps_);
        norm->scale.push_back(scale);
        norm->shift.push_back((*beta)[c] - (*mean)[c] * scale);
      }
      affine = std::move(norm);
    }
  }
  return append(name, BatchNorm{affine}, {src}, channels(src));
}

ValueId GraphBuilder::relu(const std::string& name, ValueId src) {
  return append(name, Relu{}, {src}, channels(src));
}

ValueId GraphBuilder::add(const std::string& name, ValueId main, ValueId shortcut) {
  return append(name, Add{}, {main, shortcut}, channels(main));
}

ValueId GraphBuilder::max_pool(const std::string& name, ValueId src, PadMode pad_mode) {
  MaxPool pool;
  pool.pad_mode = pad_mode;
  return append(name, pool, {src}, channels(src));
}

ValueId GraphBuilder::avg_pool(const std::string& name, ValueId src, int size) {
  return append(name, AvgPool{size, 1}, {src}, channels(src));
}

ValueId GraphBuilder::global_avg_pool(const std::string& name, ValueId src) {
  return append(name, GlobalAvgPool{}, {src}, channels(src));
}

ValueId GraphBuilder::linear(const std::string& name, ValueId src) {
  const TensorEntry* weight = parameters_.find(name + ".weight");
  if (weight == nullptr) {
    fail({Code::kBadModel, "tensor '" + name + ".weight' is missing"});
    return src;
  }
  const std::vector<std::int64_t>& shape = weight->shape;
  if (shape.size() != 2 || shape[0] < 1 || shape[0] > kMaxClasses || shape[1] != channels(src)) {
    fail({Code::kBadModel, "tensor " + quoted_name(weight->name) + " has shape " +
                               shape_string(shape) + ", expected [outputs, " +
                               std::to_string(channels(src)) + "]"});
    return src;
  }
  Conv conv;
  conv.out = static_cast<int>(weight->shape[0]);
  conv.bias = parameters_.find(name + ".bias") != nullptr;
  return this->conv(name, src, conv);
}

// The numbers N, in order, of the Linear layers `name`.N. Fails where one has a bias only.
std::vector<int> GraphBuilder::numbered_linears(const std::string& name) {
  const std::string prefix = name + '.';
  std::vector<int> numbers;
  for (const std::string& found : parameters_.names_below(prefix)) {
    const std::size_t dot = found.rfind('.');
    const std::string module = found.substr(0, dot);
    const std::string number = module.substr(std::min(prefix.size(), module.size()));
    const bool is_number =
        number.size() <= 4 &&
        std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!is_number) {
      continue;
    }
    if (found.substr(dot) == ".weight" && !number.empty()) {
      numbers.push_back(std::stoi(number));
    } else if (found.substr(dot) == ".bias" && parameters_.find(module + ".weight") == nullptr) {
      fail({Code::kBadModel,
            "tensor '" + module + ".weight' is missing, while '" + found + "' is there"});
    }
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

// softmax(0, z) is (1 - sigmoid(z), sigmoid(z)). The Linear before stays as PyTorch has it.
ValueId GraphBuilder::two_classes(const std::string& name, ValueId logit) {
  const auto weight = std::make_shared<TensorEntry>();
  weight->name = name + ".weight";
  weight->shape = {2, 1};
  weight->constant = {0.0F, 1.0F};
  graph_.constants.push_back(weight);
  Conv2d op;
  op.weight = weight.get();
  op.out_channels = 2;
  return append(name, std::move(op), {logit}, 2);
}

GraphBuilder::Head GraphBuilder::head(ValueId features) {
  Head head{features, 0};
  if (parameters_.find("fc.weight") != nullptr) {
    head.value = linear("fc", features);
    head.outputs = channels(head.value);
  } else {
    for (const int number : numbered_linears("fc")) {
      if (head.outputs > 0) {
        head.value = relu("fc.relu" + std::to_string(number), head.value);
      }
      head.value = linear("fc." + std::to_string(number), head.value);
      head.outputs = channels(head.value);
    }
  }
  if (head.outputs == 1) {
    head.value = two_classes("fc.two_classes", head.value);
  }
  return head;
}

Result<Graph> GraphBuilder::finish() {
  if (status_.ok()) {
    fail(parameters_.check_all_taken());
  }
  if (!status_.ok()) {
    return status_;
  }
  return std::move(graph_);
}

}  // namespace xception
