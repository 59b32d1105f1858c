#include "picture.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

#include "message.h"
#include "stopwatch.h"
#include "targets.h"

namespace xception::cli {
namespace {

// Everything about files that does not change from one to the next.
struct FileLoader {
  std::vector<Input> inputs;
  DecodeOptions decode;
  Preprocess preprocess;
  mutable std::mutex large;  // held by the one thread that may hold a large picture

  // A picture of more bytes is large.
  static constexpr std::int64_t kLarge = std::int64_t{64} << 20;

  Status load(const Input& input, Picture& picture) const {
    XC_RETURN_IF_ERROR(input.status);
    thread_local Image recycled;  // the decoded picture before this one
    // Released last, when the decoded picture is gone: -j must not multiply what one may take.
    std::unique_lock<std::mutex> turn(large, std::defer_lock);
    DecodeOptions options = decode;
    options.before_allocating = [&turn](std::int64_t bytes) {
      if (bytes > kLarge && !turn.owns_lock()) {
        turn.lock();
      }
    };
    const Clock::time_point start = Clock::now();
    Result<DecodedImage> decoded =
        decode_image_file(input.path(), options, std::exchange(recycled, {}));
    picture.decode_seconds = seconds_since(start);
    XC_RETURN_IF_ERROR(decoded.status());
    picture.decoder = decoded->decoder;
    picture.warnings = std::move(decoded->warnings);

    const Clock::time_point decoded_at = Clock::now();
    Result<Image> fitted = fit(decoded->image, preprocess);
    picture.preprocess_seconds = seconds_since(decoded_at);
    XC_RETURN_IF_ERROR(fitted.status().with_context("'" + input.name + "'"));
    picture.height = fitted->height;
    picture.width = fitted->width;
    picture.pixels = std::move(fitted->pixels);
    if (static_cast<std::int64_t>(decoded->image.pixels.capacity()) <= kLarge) {
      recycled = std::move(decoded->image);
    }
    return {};
  }
};

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t extent : shape) {
    text += text.empty() ? "" : "x";
    text += std::to_string(extent);
  }
  return text.empty() ? "scalar" : text;
}

// Picture `index` of `array`, whose shape was checked.
Picture slice(const NpyArray& array, const std::string& name, std::size_t index) {
  const bool bytes = array.type == NpyArray::Type::kU8;
  Picture picture;
  picture.name = name + '[' + std::to_string(index) + ']';
  picture.decoder = "npy";
  picture.height = static_cast<int>(array.shape[bytes ? 1 : 2]);
  picture.width = static_cast<int>(array.shape[bytes ? 2 : 3]);
  const std::size_t elements =
      static_cast<std::size_t>(picture.height) * static_cast<std::size_t>(picture.width) * 3;
  const std::byte* data = array.data.data() + index * elements * (bytes ? 1 : sizeof(float));
  if (bytes) {
    picture.pixels.resize(elements);
    std::memcpy(picture.pixels.data(), data, elements);
  } else {
    picture.values.resize(elements);
    std::memcpy(picture.values.data(), data, elements * sizeof(float));
  }
  return picture;
}

// A rectifier may turn NaN into 0, so that it would not show in the output.
// And no normalised pixel is anywhere near the limit: beyond it float32 sums lose everything else.
Status check_values(const Picture& picture) {
  const auto strange = std::find_if(picture.values.begin(), picture.values.end(),
                                    [](float x) { return !(std::abs(x) < 1e6F); });
  return strange == picture.values.end()
             ? Status()
             : Status(Code::kInvalidArgument,
                      "'" + picture.name + "': value " +
                          std::to_string(strange - picture.values.begin()) +
                          " is NaN, or not between -1e6 and 1e6, which is no input for a network");
}

// Runs `load` and turns what a lack of memory throws into the picture's failure.
template <class F>
Picture guarded(const std::string& name, F&& load) {
  Picture picture;
  try {
    picture.name = name;
    picture.status = load(picture);
  } catch (const std::bad_alloc&) {
    picture = {};  // leaves some for the sentence
    picture.name = name;
    picture.status = Status(Code::kOutOfMemory, "not enough memory for '" + name + "'");
  }
  if (!picture.status.ok()) {
    picture.pixels = std::vector<std::uint8_t>();  // which frees, where = {} would not
    picture.values = std::vector<float>();
  }
  return picture;
}

}  // namespace

PictureSource picture_files(std::vector<Input> inputs, const Options& options,
                            const Preprocess& preprocess) {
  auto loader = std::make_shared<FileLoader>();
  loader->inputs = std::move(inputs);
  loader->decode.max_pixels = options.max_pixels;
  loader->decode.apply_exif = options.apply_exif;
  loader->preprocess = preprocess;
  PictureSource source;
  source.count = loader->inputs.size();
  for (const Input& input : loader->inputs) {
    source.name_width = std::max(source.name_width, text_width(printable(input.name)));
  }
  source.load = [loader](std::size_t i) {
    const Input& input = loader->inputs[i];
    return guarded(input.name, [&](Picture& p) { return loader->load(input, p); });
  };
  return source;
}

Result<PictureSource> picture_array(const std::string& path, const Options& options) {
  Result<NpyArray> read = read_npy(path);
  XC_RETURN_IF_ERROR(as_usage_failure(read.status()));
  const auto array = std::make_shared<NpyArray>(*std::move(read));
  const bool bytes = array->type == NpyArray::Type::kU8;
  const std::vector<std::int64_t>& shape = array->shape;
  const auto is_side = [](std::int64_t extent) { return extent >= 1 && extent <= kMaxSide; };
  if (shape.size() != 4 || shape[0] < 1 || shape[bytes ? 3 : 1] != 3 ||
      !is_side(shape[bytes ? 1 : 2]) || !is_side(shape[bytes ? 2 : 3])) {
    return Status(Code::kInvalidArgument,
                  "'" + path + "' has the shape " + shape_text(shape) + "; expected " +
                      (bytes ? "N x H x W x 3 of uint8" : "N x 3 x H x W of float32") +
                      ", at least one picture and sides of 1 to " + std::to_string(kMaxSide));
  }
  if (!bytes && (options.mean || options.std)) {
    return Status(Code::kInvalidArgument,
                  "'" + path +
                      "' is float32 and fed as it is, which --mean and --std contradict; "
                      "give uint8 or leave them out");
  }
  const auto load = [array, path](std::size_t i) {
    return guarded(path, [&](Picture& picture) {
      picture = slice(*array, path, i);
      return check_values(picture);
    });
  };
  const auto count = static_cast<std::size_t>(shape[0]);
  const std::string last_name = path + '[' + std::to_string(count - 1) + ']';
  PictureSource source;
  source.count = count;
  source.load = load;
  source.name_width = text_width(printable(last_name));
  source.height = static_cast<int>(shape[bytes ? 1 : 2]);
  source.width = static_cast<int>(shape[bytes ? 2 : 3]);
  return source;
}

Status name_array(const Status& status, const std::string& path) {
  return path.empty() || status.code() != Code::kInvalidArgument
             ? status
             : status.with_context("'" + path + "'");
}

Result<PictureSource> open_inputs(const Options& options, const Preprocess& preprocess) {
  if (!options.raw_input.empty()) {
    XC_RETURN_IF_ERROR(check_targets(options, {}));
    return picture_array(options.raw_input, options);
  }
  std::vector<std::string> notes;
  Result<std::vector<Input>> inputs = list_inputs(options, notes);
  for (const std::string& note : notes) {
    if (!options.quiet) {
      say("warning: " + note);
    }
  }
  XC_RETURN_IF_ERROR(inputs.status());
  XC_RETURN_IF_ERROR(check_targets(options, *inputs));
  return picture_files(*std::move(inputs), options, preprocess);
}

}  // namespace xception::cli
