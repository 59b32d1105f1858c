// How pictures become input for a network: the part of a model that is not weights.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#pragma GCC visibility push(default)  // what programs see of the shared library

namespace xception {

// The largest side of any network's input, in pixels.
inline constexpr int kMaxSide = 16384;

enum class ResizeMode {
  kCenter,  // short side to floor(size / crop_pct), then the middle size x size
  kSquash,  // both sides to size, aspect ratio given up
  kBorder,  // long side to size, the rest filled with round(255 * mean)
};

enum class Interpolation { kNearest, kBilinear, kBicubic };

struct Preprocess {
  int size = 299;  // side of the network's input in pixels
  // A picture whose sides both lie in [keep_min, keep_max] is taken as it is, neither resized nor
  // cropped: the seed networks accept 17..32. keep_max 0 switches this off.
  int keep_min = 0;
  int keep_max = 0;
  ResizeMode mode = ResizeMode::kCenter;
  double crop_pct = 0.8975;  // kCenter only
  Interpolation interpolation = Interpolation::kBicubic;
  // Of pixels scaled to 0..1, in the order red, green, blue: (x / 255 - mean) / std.
  std::array<float, 3> mean = {0.5F, 0.5F, 0.5F};
  std::array<float, 3> std = {0.5F, 0.5F, 0.5F};

  friend bool operator==(const Preprocess&, const Preprocess&) = default;
};

// What the network is fed for an 8-bit sample of channel c (0 red, 1 green, 2 blue): float32
// arithmetic in torchvision's order, so that the result is the same to the bit.
inline float normalised(std::uint8_t sample, std::size_t c, const Preprocess& preprocess) {
  return (static_cast<float>(sample) / 255.0F - preprocess.mean[c]) / preprocess.std[c];
}

// The same of every sample, channel by channel.
using NormalisationTable = std::array<std::array<float, 256>, 3>;
inline NormalisationTable normalisation_table(const Preprocess& preprocess) {
  NormalisationTable table;
  for (std::size_t c = 0; c < table.size(); ++c) {
    for (std::size_t sample = 0; sample < table[c].size(); ++sample) {
      table[c][sample] = normalised(static_cast<std::uint8_t>(sample), c, preprocess);
    }
  }
  return table;
}

}  // namespace xception

#pragma GCC visibility pop
