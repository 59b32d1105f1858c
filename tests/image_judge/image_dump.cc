// Raw pixels for judge.py, which compares them with Pillow's and torchvision's. Reads one request a
// line on standard input, fields separated by tabs:
//   decode FILE EXIF(0|1)
//   fit    FILE MODE INTERPOLATION SIZE CROP_PCT KEEP_MIN KEEP_MAX MEAN(r,g,b)
//   resize FILE INTERPOLATION WIDTH HEIGHT
//   normalise FILE MEAN(r,g,b) STD(r,g,b)   (of the decoded picture)
// and answers each on standard output: a line "ok WIDTH HEIGHT BYTES DECODER" followed by as many
// bytes, or a line "error CODE MESSAGE".
#include <array>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "xception/image.h"

namespace {

using namespace xception;

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) {
    parts.push_back(part);
  }
  return parts;
}

std::array<float, 3> three(const std::string& text) {
  const std::vector<std::string> parts = split(text, ',');
  return {std::strtof(parts.at(0).c_str(), nullptr), std::strtof(parts.at(1).c_str(), nullptr),
          std::strtof(parts.at(2).c_str(), nullptr)};
}

Interpolation interpolation(const std::string& name) {
  return name == "nearest"    ? Interpolation::kNearest
         : name == "bilinear" ? Interpolation::kBilinear
                              : Interpolation::kBicubic;
}

Preprocess preprocess(const std::vector<std::string>& field) {
  Preprocess p;
  p.mode = field.at(2) == "squash"   ? ResizeMode::kSquash
           : field.at(2) == "border" ? ResizeMode::kBorder
                                     : ResizeMode::kCenter;
  p.interpolation = interpolation(field.at(3));
  p.size = std::stoi(field.at(4));
  p.crop_pct = std::stod(field.at(5));
  p.keep_min = std::stoi(field.at(6));
  p.keep_max = std::stoi(field.at(7));
  p.mean = three(field.at(8));
  return p;
}

void answer(const Image& image, const char* decoder, const void* data, std::size_t bytes) {
  std::printf("ok %d %d %zu %s\n", image.width, image.height, bytes, decoder);
  std::fwrite(data, 1, bytes, stdout);
}

Status run(const std::vector<std::string>& field) {
  DecodeOptions options;
  options.apply_exif = field.at(0) == "decode" && field.at(2) == "1";
  Result<DecodedImage> decoded = decode_image_file(field.at(1), options);
  if (!decoded.ok()) {
    return decoded.status();
  }
  Result<Image> image(std::move(decoded->image));
  if (field.at(0) == "resize") {
    image =
        resize(*image, std::stoi(field.at(3)), std::stoi(field.at(4)), interpolation(field.at(2)));
  } else if (field.at(0) == "fit") {
    image = fit(*image, preprocess(field));
  }
  if (!image.ok()) {
    return image.status();
  }
  if (field.at(0) == "normalise") {
    Preprocess p;
    p.mean = three(field.at(2));
    p.std = three(field.at(3));
    std::vector<float> values(image->pixels.size());
    normalise(image->pixels.data(), static_cast<std::int64_t>(values.size() / 3), p, values.data());
    answer(*image, decoded->decoder, values.data(), values.size() * sizeof(float));
  } else {
    answer(*image, decoded->decoder, image->pixels.data(), image->pixels.size());
  }
  return Status();
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    if (const Status status = run(split(line, '\t')); !status.ok()) {
      std::printf("error %s %s\n", code_name(status.code()), status.message().c_str());
    }
    std::fflush(stdout);
  }
  return 0;
}
