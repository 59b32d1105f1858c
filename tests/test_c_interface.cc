// The C interface of the engine gives what the C++ one gives, refuses what only C lets through, and
// leaves nothing.
#include <algorithm>
#include <cstring>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "allocations.h"
#include "c_status.h"
#include "model_fixture.h"
#include "session_fixture.h"
#include "temp_dir.h"
#include "testing.h"
#include "xception/c/engine.h"
#include "xception/c/image.h"
#include "xception/engine.h"

namespace xception {
namespace {

// A small network and a session of it, by either interface.
struct BothSessions {
  explicit BothSessions(Random& random, const char* device = "cpu")
      : bytes(seed_fixture(random).bytes()) {
    std::string passing = bytes;
    require_ok(xception_model_load_memory(passing.data(), passing.size(), nullptr, &model));
    passing.assign(passing.size(), 'x');  // it has a copy
    xception_session_options options = xception_session_default_options();
    options.device = device;
    options.batch = 2;
    options.threads = 1;
    require_ok(xception_session_create(model, &options, &session));
    cpp.emplace(create(load(bytes), {.device = device, .batch = 2, .threads = 1}));
    info = xception_session_get_info(session);
    logits.resize(static_cast<std::size_t>(info->logits.n * info->logits.c));
  }
  ~BothSessions() {
    xception_session_free(session);
    xception_model_free(model);
  }
  BothSessions(const BothSessions&) = delete;
  BothSessions& operator=(const BothSessions&) = delete;

  xception_images images(const void* data, xception_type type, xception_layout layout) const {
    return {data, type, layout, info->input};
  }
  Shape shape() const { return cpp->info().input; }

  std::string bytes;
  xception_model* model = nullptr;
  xception_session* session = nullptr;
  const xception_session_info* info = nullptr;
  std::optional<Session> cpp;
  std::vector<float> logits;
};

Shape to_shape(const xception_shape& shape) { return {shape.n, shape.h, shape.w, shape.c}; }

void check_same(const xception_preprocess& c, const Preprocess& cpp) {
  CHECK(c.size == cpp.size);
  CHECK(c.keep_min == cpp.keep_min);
  CHECK(c.keep_max == cpp.keep_max);
  CHECK(static_cast<int>(c.mode) == static_cast<int>(cpp.mode));
  CHECK(c.crop_pct == cpp.crop_pct);
  CHECK(static_cast<int>(c.interpolation) == static_cast<int>(cpp.interpolation));
  CHECK(std::memcmp(c.mean, cpp.mean.data(), sizeof c.mean) == 0);
  CHECK(std::memcmp(c.std, cpp.std.data(), sizeof c.std) == 0);
}

}  // namespace

TEST_CASE("C: names, and what is done with null") {
  CHECK(xception_code_name(XCEPTION_OK) == std::string("ok"));
  CHECK(xception_code_name(XCEPTION_BAD_IMAGE) == std::string("bad_image"));
  CHECK(xception_precision_name(XCEPTION_FP32) == std::string("fp32"));
  CHECK(xception_precision_name(XCEPTION_BF16) == std::string("bf16"));
  CHECK(xception_precision_name(XCEPTION_FP16) == std::string("fp16"));
  CHECK(xception_precision_name(XCEPTION_TF32) == std::string("tf32"));
  CHECK(xception_status_code(nullptr) == XCEPTION_OK);
  CHECK(xception_status_message(nullptr) == std::string());
  xception_status_free(nullptr);
  xception_model_free(nullptr);
  xception_session_free(nullptr);
  xception_image_free(nullptr);
  xception_device_list_free(nullptr);
  CHECK(xception_model_get_info(nullptr) == nullptr);
  CHECK(xception_session_get_info(nullptr) == nullptr);
}

TEST_CASE("C: a model tells what it is") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random, {.classes = 3});
  fixture.metadata["xception.labels"] = R"(["ant", "bee", "cow"])";
  fixture.metadata["xception.preprocess"] =
      R"({"size": 24, "resize_mode": "border", "interpolation": "bilinear", "crop_pct": 0.5,
          "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]})";
  const std::string bytes = fixture.bytes();
  const std::shared_ptr<const Model> same = load(bytes);
  const ModelInfo& cpp = same->info();
  xception_model* model = nullptr;
  const xception_model_options options = {"seed_depthwise", false};
  require_ok(xception_model_load_memory(bytes.data(), bytes.size(), &options, &model));
  const xception_model_info* info = xception_model_get_info(model);
  CHECK(info->file == std::string("(memory)"));
  CHECK(info->arch == std::string("seed_depthwise"));
  CHECK(info->has_head);
  REQUIRE(info->classes == 3);
  CHECK(info->labels[0] == std::string("ant"));
  CHECK(info->labels[2] == std::string("cow"));
  CHECK(info->parameters == cpp.parameters);
  CHECK(info->min_side == cpp.min_side);
  CHECK(info->max_side == cpp.max_side);
  check_same(info->preprocess, cpp.preprocess);
  xception_model_free(model);
}

TEST_CASE("C: models that are none are refused, and so is what is not there") {
  xception_model* model = nullptr;
  check_fails(xception_model_load("/no/such/file", nullptr, &model), XCEPTION_NOT_FOUND,
              "/no/such/file");
  check_fails(xception_model_load_memory("text", 4, nullptr, &model), XCEPTION_BAD_MODEL, "");
  check_invalid(xception_model_load(nullptr, nullptr, &model), "path is null");
  check_invalid(xception_model_load("x", nullptr, nullptr), "model is null");
  check_invalid(xception_model_load_memory(nullptr, 4, nullptr, &model), "bytes is null");
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  const TempDir folder;
  const std::string path = folder.path("m.safetensors");
  std::ofstream(path, std::ios::binary) << bytes;
  const xception_model_options other = {"xception", false};
  const xception_model_options verify = {nullptr, true};
  for (const xception_model_options& options : {other, verify}) {  // there is no checksum in it
    check_fails(xception_model_load(path.c_str(), &options, &model), XCEPTION_BAD_MODEL, "");
    check_fails(xception_model_load_memory(bytes.data(), bytes.size(), &options, &model),
                XCEPTION_BAD_MODEL, "");
  }
  CHECK(model == nullptr);
  xception_session* session = nullptr;
  check_invalid(xception_session_create(nullptr, nullptr, &session), "model is null");
  CHECK(session == nullptr);
}

TEST_CASE("C: options of a session arrive") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  xception_model* model = nullptr;
  require_ok(xception_model_load_memory(bytes.data(), bytes.size(), nullptr, &model));
  xception_session_options options = xception_session_default_options();
  CHECK(options.device == std::string("auto"));
  CHECK(options.batch == 1);
  CHECK(options.fuse);
  CHECK(options.cuda_graph);
  CHECK_FALSE(options.spin_wait);
  xception_session* session = nullptr;
  options = {"reference", XCEPTION_FP32, 3, 17, 20, 0, false, true, false};
  require_ok(xception_session_create(model, &options, &session));
  const xception_session_info* info = xception_session_get_info(session);
  const Session cpp = create(
      load(bytes), {.device = "reference", .batch = 3, .height = 17, .width = 20, .fuse = false});
  CHECK(info->device == std::string("reference"));
  CHECK(to_shape(info->input) == Shape{3, 17, 20, 3});
  CHECK(to_shape(info->logits) == cpp.info().logits);
  CHECK(info->precision == XCEPTION_FP32);
  CHECK(info->threads == cpp.info().threads);
  CHECK(info->runs_in_flight == cpp.info().runs_in_flight);
  CHECK(info->arena_bytes == cpp.info().arena_bytes);
  CHECK(info->parameter_bytes == cpp.info().parameter_bytes);
  REQUIRE(info->layer_count == cpp.info().layers.size());
  for (std::size_t i = 0; i < info->layer_count; ++i) {
    const xception_layer_info& layer = info->layers[i];
    const LayerInfo& expected = cpp.info().layers[i];
    CHECK(layer.name == expected.name);
    CHECK(layer.operation == expected.operation);
    CHECK(layer.implementation == expected.implementation);
    REQUIRE(layer.input_count == expected.inputs.size());
    CHECK(to_shape(layer.inputs[layer.input_count - 1]) == expected.inputs.back());
    CHECK(to_shape(layer.output) == expected.output);
    CHECK(layer.macs == expected.macs);
    CHECK(layer.parameter_bytes == expected.parameter_bytes);
    CHECK(layer.input_bytes == expected.input_bytes);
    CHECK(layer.output_bytes == expected.output_bytes);
    CHECK(layer.arena_offset == expected.arena_offset);
  }
  xception_session_free(session);

  session = nullptr;
  options = xception_session_default_options();
  options.threads = -1;
  check_invalid(xception_session_create(model, &options, &session), "threads");
  options = xception_session_default_options();
  options.device = nullptr;
  check_invalid(xception_session_create(model, &options, &session), "device is null");
  options = xception_session_default_options();
  options.precision = static_cast<xception_precision>(4);
  check_invalid(xception_session_create(model, &options, &session), "xception_precision: 4");
  options.device = "cpu";
  options.precision = XCEPTION_TF32;
  check_fails(xception_session_create(model, &options, &session), XCEPTION_UNSUPPORTED, "tf32");
  CHECK(session == nullptr);
  xception_model_free(model);
}

TEST_CASE("C: a session gives the logits that C++ gives") {
  XC_RANDOM(random);
  BothSessions both(random);
  const std::vector<std::uint8_t> samples = pixels(random, both.shape());
  const Values values = pictures(random, both.shape());
  const Values expected_of_samples = run(*both.cpp, samples);
  const Values expected = run(*both.cpp, values);
  const Values expected_nchw = run(*both.cpp, values, Layout::kNCHW);
  REQUIRE(expected != expected_nchw);
  xception_model_free(both.model);  // sessions do without
  both.model = nullptr;

  const auto run_on = [&](const xception_images& images) {
    require_ok(xception_session_run(both.session, &images, both.logits.data(), both.logits.size()));
    return Values(both.logits.begin(), both.logits.end());
  };
  CHECK(run_on(both.images(samples.data(), XCEPTION_UINT8, XCEPTION_NHWC)) == expected_of_samples);
  CHECK(run_on(both.images(values.data(), XCEPTION_FLOAT32, XCEPTION_NHWC)) == expected);
  CHECK(run_on(both.images(values.data(), XCEPTION_FLOAT32, XCEPTION_NCHW)) == expected_nchw);

  const xception_images images = both.images(samples.data(), XCEPTION_UINT8, XCEPTION_NHWC);
  require_ok(xception_session_submit(both.session, &images));
  both.logits.assign(both.logits.size(), 0.0F);
  require_ok(xception_session_collect(both.session, both.logits.data(), both.logits.size()));
  CHECK(both.logits == expected_of_samples);

  xception_preprocess preprocess = {};
  Preprocess same;
  for (std::size_t c = 0; c < 3; ++c) {
    preprocess.mean[c] = same.mean[c] = 0.25F;
    preprocess.std[c] = same.std[c] = 2.0F;
  }
  require_ok(xception_session_set_normalisation(both.session, &preprocess));
  REQUIRE(both.cpp->set_normalisation(same).ok());
  const Values normalised_otherwise = run(*both.cpp, samples);
  CHECK(normalised_otherwise != expected_of_samples);
  CHECK(run_on(images) == normalised_otherwise);

  std::vector<float> probabilities(both.logits.size());
  std::vector<float> expected_probabilities(both.logits.size());
  require_ok(xception_softmax(both.logits.data(), both.info->logits.n, both.info->logits.c,
                              probabilities.data()));
  REQUIRE(softmax({both.logits.data(), both.cpp->info().logits},
                  {expected_probabilities.data(), both.cpp->info().logits})
              .ok());
  CHECK(probabilities == expected_probabilities);
}

TEST_CASE("C: what a session cannot run is refused") {
  XC_RANDOM(random);
  BothSessions both(random);
  const std::vector<std::uint8_t> samples = pixels(random, both.shape());
  xception_images images = both.images(samples.data(), XCEPTION_UINT8, XCEPTION_NHWC);
  float* logits = both.logits.data();
  const std::size_t count = both.logits.size();
  const auto run_fails = [&](const std::string& message) {
    check_invalid(xception_session_run(both.session, &images, logits, count), message);
  };
  check_invalid(xception_session_run(nullptr, &images, logits, count), "session is null");
  check_invalid(xception_session_run(both.session, nullptr, logits, count), "images is null");
  check_invalid(xception_session_run(both.session, &images, nullptr, count), "logits");
  check_invalid(xception_session_run(both.session, &images, logits, count - 1),
                "room for 13 values, not for 14");
  check_invalid(xception_session_collect(both.session, logits, count), "nothing was submitted");
  check_invalid(xception_session_collect(both.session, logits, count + 1), "room for 15");
  check_invalid(xception_session_submit(nullptr, &images), "session is null");
  check_fails(xception_session_enqueue(both.session, &images, logits, count, nullptr),
              XCEPTION_UNSUPPORTED, "");
  check_invalid(xception_session_set_normalisation(both.session, nullptr), "preprocess is null");
  check_invalid(xception_softmax(nullptr, 1, 2, logits), "memory");
  images.layout = XCEPTION_NCHW;
  run_fails("NHWC");
  images.layout = static_cast<xception_layout>(-1);
  run_fails("xception_layout: ");
  images = both.images(samples.data(), static_cast<xception_type>(2), XCEPTION_NHWC);
  run_fails("xception_type: 2");
  images = both.images(samples.data(), XCEPTION_UINT8, XCEPTION_NHWC);
  images.shape.n = 1;
  run_fails("images have shape 1x32x32x3");
}

namespace {

struct Seen {
  std::vector<std::string> names;
  std::size_t values = 0;
  std::string stop_at;
};

xception_code see(void* context, const xception_layer_info* layer, const float* values,
                  std::size_t count) {
  auto& seen = *static_cast<Seen*>(context);
  seen.names.emplace_back(layer->name);
  seen.values += values != nullptr ? count : 0;
  return layer->name == seen.stop_at ? XCEPTION_UNSUPPORTED : XCEPTION_OK;
}

}  // namespace

TEST_CASE("C: layers are reported, and timed") {
  XC_RANDOM(random);
  BothSessions both(random);
  const Values values = pictures(random, both.shape());
  const xception_images images = both.images(values.data(), XCEPTION_FLOAT32, XCEPTION_NHWC);
  const auto run_it = [&] {
    return xception_session_run(both.session, &images, both.logits.data(), both.logits.size());
  };
  std::vector<std::string> names;
  std::size_t expected_values = 0;
  for (const Layer& layer : run_layers(*both.cpp, values)) {
    names.push_back(layer.name);
    expected_values += layer.values.size();
  }
  Seen seen;
  require_ok(xception_session_set_layer_callback(both.session, see, &seen));
  require_ok(run_it());
  CHECK(seen.names == names);
  CHECK(seen.values == expected_values);
  seen = {};
  seen.stop_at = names[2];
  check_fails(run_it(), XCEPTION_UNSUPPORTED, "the layer callback ended the run at " + names[2]);
  CHECK(seen.names.size() == 3);
  require_ok(xception_session_set_layer_callback(both.session, nullptr, nullptr));
  require_ok(run_it());
  CHECK(seen.names.size() == 3);

  std::vector<double> seconds(2 * names.size(), -1.0);
  require_ok(xception_session_profile(both.session, 2, seconds.data(), seconds.size()));
  CHECK(*std::min_element(seconds.begin(), seconds.end()) >= 0);
  check_invalid(xception_session_profile(both.session, 2, seconds.data(), seconds.size() - 1),
                "seconds: there is room");
  check_invalid(xception_session_profile(both.session, -1, seconds.data(), 0), "-1 runs");
  seconds.assign(3, -1.0);
  require_ok(xception_session_time_network(both.session, 2, seconds.data(), 2));
  CHECK(seconds[1] > 0);
  CHECK(seconds[2] == -1.0);
  check_invalid(xception_session_time_network(both.session, 2, nullptr, 2), "seconds is null");
  check_invalid(xception_session_time_network(both.session, 2, seconds.data(), 1),
                "room for 1 values, not for 2");
  require_ok(xception_session_time_layer(both.session, names.size() - 1, 2, seconds.data() + 2));
  CHECK(seconds[2] > 0);
  check_invalid(xception_session_time_layer(both.session, names.size(), 2, seconds.data()),
                "no layer");
  check_invalid(xception_session_time_layer(both.session, 0, 2, nullptr), "seconds is null");
}

// Of the slow loops, whose times are those of their multiply-adds. Whatever else the machine does,
// it lets one of ten measurements go undisturbed.
TEST_CASE("C: a time is that of the layer in its place, as often as it ran") {
  XC_RANDOM(random);
  BothSessions both(random, "reference");
  const std::vector<xception_layer_info> layers(both.info->layers,
                                                both.info->layers + both.info->layer_count);
  const auto [least, most] = std::minmax_element(
      layers.begin(), layers.end(), [](const auto& a, const auto& b) { return a.macs < b.macs; });
  const auto slow = static_cast<std::size_t>(most - layers.begin());
  const auto quick = static_cast<std::size_t>(least - layers.begin());
  REQUIRE(most->macs > 50 * least->macs);
  std::vector<double> profiles(10 * layers.size());
  require_ok(xception_session_profile(both.session, 10, profiles.data(), profiles.size()));
  std::vector<double> in_place = {1e9, 1e9};
  std::vector<double> alone = {1e9, 1e9};  // once, twenty times
  for (std::size_t i = 0; i < 10; ++i) {
    in_place[0] = std::min(in_place[0], profiles[i * layers.size() + quick]);
    in_place[1] = std::min(in_place[1], profiles[i * layers.size() + slow]);
    for (const std::size_t many : {std::size_t{0}, std::size_t{1}}) {
      double seconds = 0;
      require_ok(xception_session_time_layer(both.session, slow, many != 0 ? 20 : 1, &seconds));
      alone[many] = std::min(alone[many], seconds);
    }
  }
  CHECK(in_place[1] > 2 * in_place[0]);
  CHECK(alone[1] > 5 * alone[0]);
}

TEST_CASE("C: the devices are those of C++") {
  const DeviceList expected = list_devices();
  const xception_device_list* list = nullptr;
  require_ok(xception_list_devices(&list));
  REQUIRE(list->device_count == expected.devices.size());
  for (std::size_t i = 0; i < list->device_count; ++i) {
    CHECK(list->devices[i].name == expected.devices[i].name);
    CHECK(list->devices[i].description == expected.devices[i].description);
    CHECK(list->devices[i].usable == expected.devices[i].usable);
  }
  CHECK(list->no_cuda == expected.no_cuda);
  xception_device_list_free(list);
  check_invalid(xception_list_devices(nullptr), "list is null");
}

namespace {

constexpr char kPicture[] = "P6 1 1 255\nabc";

}  // namespace

// The sanitizers' build looks for what is lost. A sort does without the memory that it asks for.
TEST_CASE("C: an allocation that fails is a status") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random, {.width = 0.01}).bytes();
  xception_session_options options = xception_session_default_options();
  options.device = "reference";
  int failures = 0;
  std::int64_t ahead = 0;
  for (bool done = false; !done; ahead += random.integer(1, 40)) {
    INFO("allocation " << ahead);
    xception_model* model = nullptr;
    xception_session* session = nullptr;
    xception_image* image = nullptr;
    allocations::fail_after(ahead);
    const xception_status* status =
        xception_model_load_memory(bytes.data(), bytes.size(), nullptr, &model);
    if (status == nullptr) {
      status = xception_session_create(model, &options, &session);
    }
    if (status == nullptr) {
      status = xception_image_decode(kPicture, sizeof kPicture, nullptr, &image);
    }
    done = allocations::cancel_failure();
    if (status != nullptr) {
      CHECK_FALSE(done);
      CHECK(xception_status_code(status) == XCEPTION_OUT_OF_MEMORY);
      ++failures;
    }
    xception_status_free(status);
    xception_image_free(image);
    xception_session_free(session);
    xception_model_free(model);
  }
  CHECK(failures > 20);
  // Where the failure itself finds no memory either.
  allocations::fail_from(0);
  const xception_status* status = xception_image_make(1, 1, nullptr);
  allocations::cancel_failure();
  CHECK(xception_status_code(status) == XCEPTION_OUT_OF_MEMORY);
  CHECK_THAT(xception_status_message(status), containing("out of memory"));
  xception_status_free(status);
}

}  // namespace xception
