// One input on its way to the network, and where such inputs come from.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "inputs.h"
#include "options.h"
#include "xception/image.h"

namespace xception::cli {

struct Picture {
  std::string name;
  Status status;  // of reading and decoding; where it is a failure there are no values
  int height = 0;
  int width = 0;
  std::vector<std::uint8_t> pixels;  // HWC, or
  std::vector<float> values;         // CHW, normalised
  const char* decoder = "";
  std::vector<std::string> warnings;
  double decode_seconds = 0;      // reading included
  double preprocess_seconds = 0;  // resize and crop
};

// `load(i)` makes picture i of `count`; from several threads at once. What it fails with is the
// picture's status; it throws std::bad_alloc where there is no memory even for that.
struct PictureSource {
  std::size_t count = 0;
  std::function<Picture(std::size_t)> load;
  std::size_t name_width = 0;  // of the longest name
  int height = 0;              // of every picture, where that is known before it is loaded
  int width = 0;
};

PictureSource picture_files(std::vector<Input> inputs, const Options& options,
                            const Preprocess& preprocess);

// The pictures of an array. Fails with kInvalidArgument where it is none that can be fed.
Result<PictureSource> picture_array(const std::string& path, const Options& options);

// A failure of arguments, with the name of the array that the pictures' size comes from in front of
// it, if that is `path`; "" is none.
Status name_array(const Status& status, const std::string& path);

// The inputs that the options name, of either kind; says what list_inputs notes of them. Fails with
// kInvalidArgument too where an output would be written over one of them.
Result<PictureSource> open_inputs(const Options& options, const Preprocess& preprocess);

}  // namespace xception::cli
