// Sessions of models that are damaged: values that are none, sums that overflow, and files that
// change under them.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "model_fixture.h"
#include "session_fixture.h"
#include "testing.h"
#include "xception/engine.h"

namespace xception {
namespace {

class TempFile {
 public:
  explicit TempFile(const std::string& bytes) {
    std::string pattern = (std::filesystem::temp_directory_path() / "xception-XXXXXX").string();
    const int descriptor = ::mkstemp(pattern.data());
    REQUIRE(descriptor >= 0);
    ::close(descriptor);
    path_ = pattern;
    std::ofstream(path_, std::ios::binary) << bytes;
    // Dated to 2001, so that any later write shows in the time of modification.
    const timespec times[2] = {{1'000'000'000, 0}, {1'000'000'000, 0}};
    REQUIRE(::utimensat(AT_FDCWD, path_.c_str(), times, 0) == 0);
  }
  ~TempFile() { std::filesystem::remove(path_); }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

TEST_CASE("a value that is none is named when its weights are packed") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  const float nan = std::nanf("");
  std::memcpy(fixture.at("conv5.weight").data.data() + 3 * sizeof(nan), &nan, sizeof(nan));
  const std::string bytes = fixture.bytes();
  const auto model = load(bytes);
  for (const char* device : {"cpu", "reference"}) {
    check_refused(create_status(model, {.device = device}), Code::kBadModel,
                  "tensor 'conv5.weight' of model '(memory)' is unusable: its value at index 3 is "
                  "not a number; fetch or export the model again");
  }
}

TEST_CASE("logits of pictures whose sums overflow are no numbers, whatever a ReLU makes of them") {
  XC_RANDOM(random);
  constexpr int kBatch = 2;
  int overflows = 0;
  for (const bool depthwise : {true, false}) {
    const ModelFixture sound = seed_fixture(random, {.depthwise = depthwise});
    for (const ModelFixture::Tensor& tensor : sound.tensors) {
      if (tensor.shape.size() != 4) {
        continue;
      }
      ModelFixture damaged = sound;
      const float huge = random.integer(0, 1) == 0 ? 3e38F : -3e38F;
      const auto at = static_cast<std::size_t>(
          random.integer(0, static_cast<int>(tensor.data.size() / sizeof(huge)) - 1));
      std::memcpy(damaged.at(tensor.name).data.data() + at * sizeof(huge), &huge, sizeof(huge));
      const std::string bytes = damaged.bytes();
      const auto model = load(bytes);
      Session reference =
          create(model, {.device = "reference", .batch = kBatch, .height = 17, .width = 18});
      const Values images = pictures(random, reference.info().input);
      const Values expected = run(reference, images);
      for (const bool fuse : {true, false}) {
        INFO(tensor.name << '[' << at << "], fuse " << fuse);
        Session session = create(model, {.device = "cpu",
                                         .batch = kBatch,
                                         .height = 17,
                                         .width = 18,
                                         .threads = 2,
                                         .fuse = fuse});
        const Values logits = run(session, images);
        for (std::size_t i = 0; i < logits.size(); ++i) {
          CHECK((std::isfinite(expected[i]) || std::isnan(logits[i])));
          overflows += std::isfinite(expected[i]) ? 0 : 1;
        }
      }
    }
  }
  CHECK(overflows > 0);
}

TEST_CASE("a batch norm's scale that float32 cannot hold gives no answer, not even of zeros") {
  XC_RANDOM(random);
  ModelFixture fixture = seed_fixture(random);
  for (ModelFixture::Tensor& tensor : fixture.tensors) {
    const bool is_shift = tensor.name.ends_with("running_mean") || tensor.name.ends_with("bias");
    if (is_shift && tensor.name != "fc.bias") {
      std::fill(tensor.data.begin(), tensor.data.end(), '\0');
    }
  }
  const float huge = 3e38F;
  const float none = 0;  // a variance; with eps the scale is 300 times as much
  std::memcpy(fixture.at("block2.2.weight").data.data(), &huge, sizeof(huge));
  std::memcpy(fixture.at("block2.2.running_var").data.data(), &none, sizeof(none));
  const std::string bytes = fixture.bytes();
  const auto model = load(bytes);
  for (const bool fuse : {true, false}) {
    Session session = create(model, {.device = "cpu", .height = 17, .width = 17, .fuse = fuse});
    const Values logits =
        run(session, Values(static_cast<std::size_t>(session.info().input.elements())));
    CHECK(std::all_of(logits.begin(), logits.end(), [](float x) { return std::isnan(x); }));
  }
}

TEST_CASE("a layer callback sees the logits that the caller gets") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  Session session = create(load(bytes), {.device = "cpu", .height = 17, .width = 17});
  Values images = pictures(random, session.info().input);
  CHECK(same_bits(run_layers(session, images).back().values, run(session, images)));
  images[0] = 1e20F;
  const Values seen = run_layers(session, images).back().values;
  CHECK(same_bits(seen, run(session, images)));
  CHECK(std::isnan(seen[0]));
}

TEST_CASE("a picture of what is no number spoils no other of its batch") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  const auto model = load(bytes);
  for (SessionOptions options :
       {SessionOptions{.device = "cpu", .batch = 3, .height = 17, .width = 18, .threads = 2},
        joining(2)}) {
    Session session = create(model, options);
    Values images = pictures(random, session.info().input);
    const Values expected = run(session, images);
    const std::size_t picture = images.size() / static_cast<std::size_t>(options.batch);
    const std::size_t classes = expected.size() / static_cast<std::size_t>(options.batch);
    for (const float strange : {std::nanf(""), INFINITY, -INFINITY, 1e13F, -3e38F}) {
      INFO("batch " << options.batch << ", " << strange);
      const float before = std::exchange(images[2 * picture - 1], strange);
      const Values logits = run(session, images);
      images[2 * picture - 1] = before;
      const auto row = [classes](const Values& of, std::size_t first, std::size_t last) {
        return Values(of.begin() + static_cast<std::ptrdiff_t>(first * classes),
                      of.begin() + static_cast<std::ptrdiff_t>(last * classes));
      };
      const Values spoilt = row(logits, 1, 2);
      CHECK(std::all_of(spoilt.begin(), spoilt.end(), [](float x) { return std::isnan(x); }));
      const auto pictures = static_cast<std::size_t>(options.batch);
      CHECK(same_bits(row(logits, 0, 1), row(expected, 0, 1)));
      CHECK(same_bits(row(logits, 2, pictures), row(expected, 2, pictures)));
    }
    CHECK(same_bits(run(session, images), expected));
  }
}

TEST_CASE("a file that changes between load and create is an error or no matter, never a crash") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  Session sound = create(load(bytes), {.device = "cpu", .threads = 1});
  const Values images = pictures(random, sound.info().input);
  const Values expected = run(sound, images);

  const auto load_path = [](const std::string& path) {
    const auto model = Model::load(path);
    REQUIRE(model.ok());
    return *model;
  };
  const auto check_unharmed = [&](const std::shared_ptr<const Model>& model) {
    Session session = create(model, {.device = "cpu", .threads = 1});
    CHECK(same_bits(run(session, images), expected));
  };
  const auto check_changed = [&](const std::shared_ptr<const Model>& model) {
    const Status status = create_status(model, {.device = "cpu"});
    CHECK(status.code() == Code::kIo);
    CHECK(status.message().rfind("model '" + model->info().file + "' ", 0) == 0);
    CHECK(status.message().ends_with(" after it was loaded; load it again"));
  };
  {
    const TempFile file(bytes);
    const auto model = load_path(file.path());
    std::filesystem::remove(file.path());
    check_unharmed(model);
  }
  {
    const TempFile file(bytes);
    const auto model = load_path(file.path());
    const TempFile other(std::string(bytes.size(), 'x'));
    std::filesystem::rename(other.path(), file.path());
    check_unharmed(model);
  }
  for (const std::size_t left : {std::size_t{0}, bytes.size() / 2, bytes.size() - 1}) {
    INFO(left << " bytes left");
    const TempFile file(bytes);
    const auto model = load_path(file.path());
    std::filesystem::resize_file(file.path(), left);
    check_changed(model);
  }
  {
    const TempFile file(bytes);
    const auto model = load_path(file.path());
    Session session = create(model, {.device = "cpu", .threads = 1});  // packed: the file may go
    std::ofstream(file.path(), std::ios::binary) << std::string(bytes.size(), 'x');
    CHECK(same_bits(run(session, images), expected));
  }
  {
    const TempFile file(bytes);
    const auto model = load_path(file.path());
    std::ofstream(file.path(), std::ios::binary) << std::string(bytes.size(), 'x');
    check_changed(model);
  }
}

}  // namespace xception
