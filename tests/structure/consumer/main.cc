// Uses both libraries by their public headers: a picture of one pixel, a failure as a value, and
// the devices, for which all backends have to be linked.
#include <xception/engine.h>
#include <xception/image.h>
#include <xception/status.h>

#include <cstdio>

int main() {
  const xception::Image pixel{1, 1, {255, 128, 0}};
  const auto resized = xception::resize(pixel, 2, 2, xception::Interpolation::kBilinear);
  if (!resized.ok() || resized.value().pixels.size() != 12 || resized.value().pixels[11] != 0) {
    std::fputs("resize: wrong result\n", stderr);
    return 1;
  }
  const auto damaged = xception::decode_image({});
  if (damaged.ok()) {
    std::fputs("an empty file was taken for a picture\n", stderr);
    return 1;
  }
  const xception::DeviceList list = xception::list_devices();
  if (list.devices.empty() || list.devices[0].name != "cpu") {
    std::fputs("the CPU is no device\n", stderr);
    return 1;
  }
  std::printf("%s: %s\n", xception::code_name(damaged.status().code()),
              damaged.status().message().c_str());
  return 0;
}
