#include "model_fixture.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "safetensors_bytes.h"

namespace xception {
namespace {

std::int64_t product(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) {
    count *= extent;
  }
  return count;
}

// Writes down the parameters of modules as PyTorch names them.
class Writer {
 public:
  explicit Writer(Random* random) : random_(random) {}

  void conv(const std::string& name, int out, int in, int size, bool bias) {
    add(name + ".weight", {out, in, size, size},
        std::sqrt(2.0F / static_cast<float>(in * size * size)));
    if (bias) {
      add(name + ".bias", {out}, 0.1F);
    }
  }

  void norm(const std::string& name, int channels, float size = 1.0F) {
    add(name + ".weight", {channels}, 0.2F, size);
    add(name + ".bias", {channels}, 0.2F);
    add(name + ".running_mean", {channels}, 0.2F);
    add(name + ".running_var", {channels}, 0.1F, 1.0F);
    fixture_.tensors.push_back({name + ".num_batches_tracked", "I64", {}, std::string(8, '\1')});
  }

  void linear(const std::string& name, int out, int in) {
    add(name + ".weight", {out, in}, 1.0F / std::sqrt(static_cast<float>(in)));
    add(name + ".bias", {out}, 0.1F);
  }

  ModelFixture take() { return std::move(fixture_); }

 private:
  // Values of the normal distribution around `mean`; those of a norm's weight get both signs. Zeros
  // where there is no generator.
  void add(const std::string& name, const std::vector<std::int64_t>& shape, float deviation,
           float mean = 0.0F) {
    const auto count = static_cast<std::size_t>(product(shape));
    if (random_ == nullptr) {
      fixture_.tensors.push_back({name, "F16", shape, std::string(2 * count, '\0')});
      return;
    }
    std::vector<float> values = random_->normals(product(shape), deviation);
    for (float& value : values) {
      // Three deviations are enough: a variance stays positive.
      value = mean + std::clamp(value, -3 * deviation, 3 * deviation);
      if (mean != 0.0F && name.ends_with(".weight") && random_->integer(0, 2) == 0) {
        value = -value;
      }
    }
    fixture_.add(name, shape, values);
  }

  Random* random_;
  ModelFixture fixture_;
};

int scaled(int channels, double width) {
  return std::max(8, 8 * static_cast<int>(std::floor(channels * width / 8 + 0.5)));
}

}  // namespace

ModelFixture::Tensor& ModelFixture::at(std::string_view name) {
  for (Tensor& tensor : tensors) {
    if (tensor.name == name) {
      return tensor;
    }
  }
  throw std::logic_error("the fixture has no tensor " + std::string(name));
}

std::vector<float> ModelFixture::values(std::string_view name) {
  const Tensor& tensor = at(name);
  std::vector<float> values(tensor.data.size() / sizeof(float));
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  return values;
}

void ModelFixture::add(const std::string& name, const std::vector<std::int64_t>& shape,
                       const std::vector<float>& values) {
  tensors.push_back({name, "F32", shape, raw_bytes(values)});
}

void ModelFixture::remove(std::string_view name) {
  at(name);
  std::erase_if(tensors, [&](const Tensor& tensor) { return tensor.name == name; });
}

void ModelFixture::rename(const std::function<std::string(const std::string&)>& new_name) {
  for (Tensor& tensor : tensors) {
    tensor.name = new_name(tensor.name);
  }
}

void ModelFixture::flatten_pointwise() {
  for (Tensor& tensor : tensors) {
    if (tensor.shape.size() == 4 && tensor.shape[2] == 1 && tensor.shape[3] == 1) {
      tensor.shape.resize(2);
    }
  }
}

std::string ModelFixture::bytes() const {
  std::string header = "{\"__metadata__\":" + nlohmann::json(metadata).dump();
  std::string data;
  for (const Tensor& tensor : tensors) {
    const std::size_t begin = data.size();
    data += tensor.data;
    header += "," + entry_json(tensor.name, tensor.type, nlohmann::json(tensor.shape).dump(), begin,
                               data.size());
  }
  return safetensors_bytes(header + "}", data);
}

ModelFixture seed_fixture(Random& random, const SeedOptions& options) {
  Writer writer(&random);
  const auto channels = [&](int full) { return scaled(full, options.width); };
  const auto separable = [&](const std::string& name, int in, int out) {
    writer.conv(name + ".depthwise.0", channels(in), options.depthwise ? 1 : channels(in), 3, true);
    writer.norm(name + ".depthwise.1", channels(in));
    writer.conv(name + ".pointwise.0", channels(out), channels(in), 1, true);
    writer.norm(name + ".pointwise.1", channels(out));
  };
  // ReLU, separable, norm, ReLU, separable, norm, pooling
  const auto block = [&](const std::string& name, int in, int between, int out) {
    separable(name + ".1", in, between);
    writer.norm(name + ".2", channels(between));
    separable(name + ".4", between, out);
    writer.norm(name + ".5", channels(out));
  };
  writer.conv("feature.0", channels(32), 3, 3, true);
  writer.norm("feature.1", channels(32));
  writer.conv("feature.3", channels(64), channels(32), 3, true);
  writer.norm("feature.4", channels(64));
  writer.conv("conv3", channels(128), channels(64), 1, true);
  separable("block1.0", 64, 128);
  separable("block1.2", 128, 128);
  writer.conv("conv4", channels(256), channels(128), 1, true);
  block("block2", 128, 256, 256);
  writer.conv("conv5", channels(728), channels(256), 1, true);
  block("block3", 256, 728, 728);
  block("block4.feature", 728, 728, 728);
  separable("block4.feature.7", 728, 728);
  writer.norm("block4.feature.8", channels(728), 0.1F);  // adds to its own input eight times
  writer.conv("conv7", channels(1024), channels(728), 1, true);
  block("block5", 728, 728, 1024);
  block("block6", 1024, 1536, 2048);
  writer.linear("fc", options.classes, channels(2048));
  return writer.take();
}

ModelFixture xception_fixture() {
  Writer writer(nullptr);
  const auto separable = [&](const std::string& name, int in, int out) {
    writer.conv(name + ".conv1", in, 1, 3, false);
    writer.conv(name + ".pointwise", out, in, 1, false);
  };
  // `first` is 1 where the block begins with a ReLU.
  const auto block = [&](int number, int first, const std::vector<int>& channels) {
    const std::string name = "block" + std::to_string(number);
    if (channels.front() != channels.back()) {
      writer.conv(name + ".skip", channels.back(), channels.front(), 1, false);
      writer.norm(name + ".skipbn", channels.back());
    }
    for (std::size_t i = 0; i + 1 < channels.size(); ++i) {
      const int module = first + 3 * static_cast<int>(i);
      separable(name + ".rep." + std::to_string(module), channels[i], channels[i + 1]);
      writer.norm(name + ".rep." + std::to_string(module + 1), channels[i + 1]);
    }
  };
  writer.conv("conv1", 32, 3, 3, false);
  writer.norm("bn1", 32);
  writer.conv("conv2", 64, 32, 3, false);
  writer.norm("bn2", 64);
  block(1, 0, {64, 128, 128});
  block(2, 1, {128, 256, 256});
  block(3, 1, {256, 728, 728});
  for (int number = 4; number <= 11; ++number) {
    block(number, 1, {728, 728, 728, 728});
  }
  block(12, 1, {728, 728, 1024});
  separable("conv3", 1024, 1536);
  writer.norm("bn3", 1536);
  separable("conv4", 1536, 2048);
  writer.norm("bn4", 2048);
  writer.linear("fc", 1000, 2048);
  return writer.take();
}

}  // namespace xception
