#include "session_fixture.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <span>

#include "testing.h"

namespace xception {

std::shared_ptr<const Model> load(const std::string& bytes) {
  const auto model = Model::load(std::as_bytes(std::span(bytes)));
  INFO(model.status().message());
  REQUIRE(model.ok());
  return *model;
}

Session create(std::shared_ptr<const Model> model, const SessionOptions& options) {
  auto session = Session::create(std::move(model), options);
  INFO(session.status().message());
  REQUIRE(session.ok());
  return *std::move(session);
}

Status create_status(const std::shared_ptr<const Model>& model, const SessionOptions& options) {
  return Session::create(model, options).status();
}

bool has_bf16() {
  std::ifstream file("/proc/cpuinfo");
  const std::string cpu((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return cpu.find("avx512_bf16") != std::string::npos;
}

SessionOptions joining(int threads) {
  return {.device = "cpu",
          .batch = kJoiningBatch,
          .height = kJoiningSide,
          .width = kJoiningSide,
          .threads = threads};
}

SessionOptions chaining(int threads) {
  return {.device = "cpu", .batch = 3, .height = 150, .width = 150, .threads = threads};
}

void check_joins(const Session& session, const char* last) {
  const std::vector<LayerInfo>& layers = session.info().layers;
  CHECK(std::any_of(layers.begin(), layers.end(), [&](const LayerInfo& layer) {
    const std::size_t behind = layer.operation.rfind(", ") + 2;
    return layer.operation.starts_with("separable") &&
           layer.operation.substr(behind).starts_with(last);
  }));
}

Values pictures(Random& random, const Shape& shape) {
  Values values = random.normals(shape.elements(), 0.5F);
  const std::size_t size = values.size() / static_cast<std::size_t>(shape.n);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] += 0.5F * static_cast<float>(i / size % 4) - 0.7F;
  }
  return values;
}

std::vector<std::uint8_t> pixels(Random& random, const Shape& shape) {
  std::vector<std::uint8_t> values(static_cast<std::size_t>(shape.elements()));
  for (std::uint8_t& value : values) {
    value = static_cast<std::uint8_t>(random.integer(0, 255));
  }
  return values;
}

namespace {

template <class T>
Values run_at(Session& session, const T* images) {
  const SessionInfo& info = session.info();
  Values logits(static_cast<std::size_t>(info.logits.elements()),
                std::numeric_limits<float>::quiet_NaN());
  const Status status =
      session.run(TensorView<const T>{images, info.input}, {logits.data(), info.logits});
  INFO(status.message());
  REQUIRE(status.ok());
  return logits;
}

}  // namespace

Values run(Session& session, const Values& images, int first) {
  const Shape& input = session.info().input;
  const std::int64_t size = input.elements() / input.n;
  REQUIRE((first + input.n) * size <= static_cast<std::int64_t>(images.size()));
  return run_at(session, images.data() + first * size);
}

Values run(Session& session, const std::vector<std::uint8_t>& images) {
  REQUIRE(static_cast<std::int64_t>(images.size()) == session.info().input.elements());
  return run_at(session, images.data());
}

Status run(Session& session, const Values& images, Values& logits) {
  const SessionInfo& info = session.info();
  logits.assign(static_cast<std::size_t>(info.logits.elements()),
                std::numeric_limits<float>::quiet_NaN());
  return session.run(TensorView<const float>{images.data(), info.input},
                     {logits.data(), info.logits});
}

Values run(Session& session, const Values& images, Layout layout) {
  const SessionInfo& info = session.info();
  Values logits(static_cast<std::size_t>(info.logits.elements()));
  REQUIRE(session
              .run(TensorView<const float>{images.data(), info.input, layout},
                   {logits.data(), info.logits})
              .ok());
  return logits;
}

std::vector<Layer> run_layers(Session& session, const Values& images) {
  std::vector<Layer> layers;
  session.set_layer_callback([&](const LayerOutput& output) {
    layers.push_back({output.layer->name, {output.values.begin(), output.values.end()}});
    return Status();
  });
  run(session, images);
  session.set_layer_callback({});
  return layers;
}

void check_refused(const Status& status, Code code, const std::string& message) {
  CHECK(status.code() == code);
  CHECK(status.message() == message);
}

void check_says(const Status& status, const std::vector<std::string>& words) {
  CAPTURE(status.message());
  for (const std::string& part : words) {
    CAPTURE(part);
    CHECK(status.message().find(part) != std::string::npos);
  }
}

float relative_difference(const Values& a, const Values& b) {
  REQUIRE(a.size() == b.size());
  float largest = 0;
  float difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    REQUIRE(std::isfinite(a[i]));
    largest = std::max(largest, std::abs(b[i]));
    difference = std::max(difference, std::abs(a[i] - b[i]));
  }
  REQUIRE(largest > 0);
  return difference / largest;
}

}  // namespace xception
