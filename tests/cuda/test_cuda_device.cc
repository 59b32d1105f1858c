// Which GPUs code runs on, and how activations lie there: host code, no device.
#include "engine/cuda_device.h"

#include <algorithm>
#include <vector>

#include "engine/cuda_layout.h"
#include "kernels/numeric.h"
#include "random.h"
#include "testing.h"

namespace xception {

TEST_CASE("machine code runs on its own major version, PTX on everything later") {
  using cuda::has_code_for;
  constexpr const char* kTargets = "75-real,80-real,86-real,90-real,120-virtual";
  for (const int arch : {75, 80, 86, 87, 89, 90, 120, 121, 130}) {
    CAPTURE(arch);
    CHECK(has_code_for(kTargets, arch));
  }
  for (const int arch : {50, 61, 70, 72, 100, 103, 110}) {
    CAPTURE(arch);
    CHECK_FALSE(has_code_for(kTargets, arch));
  }
  CHECK(has_code_for("75-virtual", 103));
  CHECK_FALSE(has_code_for("", 80));
}

TEST_CASE("an activation comes back from the device's layout, zeros between its channels") {
  XC_RANDOM(random);
  for (const int channels : {1, 3, 4, 5, 16, 17, 728}) {
    for (const Numeric numeric : {Numeric::kFp32, Numeric::kTf32, Numeric::kFp16, Numeric::kBf16}) {
      const Shape shape = {2, 3, random.integer(1, 5), channels};
      CAPTURE(channels, numeric_name(numeric));
      const std::vector<float> values = random.integers(shape.elements());  // exact in all
      std::vector<std::byte> device(device_bytes(shape, numeric), std::byte{0xFF});
      to_device_layout(values.data(), shape, numeric, device.data());
      std::vector<float> back(values.size());
      from_device_layout(device.data(), shape, numeric, back.data());
      CHECK(back == values);

      const std::size_t stride =
          static_cast<std::size_t>(channel_stride(channels)) * element_bytes(numeric);
      const std::size_t used = static_cast<std::size_t>(channels) * element_bytes(numeric);
      for (std::size_t i = 0; i < device.size(); ++i) {
        if (i % stride >= used) {
          REQUIRE(device[i] == std::byte{0});
        }
      }
    }
  }
}

TEST_CASE("pictures lie in the device's layout, from either of the host's, zeros behind the rows") {
  XC_RANDOM(random);
  for (const int width : {1, 5, 6, 16, 37}) {
    for (const Numeric numeric : {Numeric::kFp32, Numeric::kTf32, Numeric::kFp16, Numeric::kBf16}) {
      const Shape shape = {2, random.integer(1, 4), width, 3};
      CAPTURE(width, numeric_name(numeric));
      const std::vector<float> values = random.integers(shape.elements());  // exact in all
      std::vector<std::byte> device(picture_bytes(shape, numeric), std::byte{0xFF});
      to_picture_layout(values.data(), Layout::kNHWC, shape, numeric, device.data());
      std::vector<float> elements(device.size() / element_bytes(numeric));
      from_numeric(device.data(), numeric, elements);
      const int row = picture_row(width);
      REQUIRE(elements.size() == static_cast<std::size_t>(shape.n * shape.h * row));
      std::size_t next = 0;
      for (std::size_t i = 0; i < elements.size(); ++i) {
        const bool sample = static_cast<int>(i) % row < 3 * width;
        REQUIRE(elements[i] == (sample ? values[next] : 0.0F));
        next += sample ? 1 : 0;
      }

      std::vector<float> nchw(values.size());
      const std::size_t plane = static_cast<std::size_t>(shape.h * shape.w);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::size_t pixel = i / 3;
        nchw[(pixel / plane * 3 + i % 3) * plane + pixel % plane] = values[i];
      }
      std::vector<std::byte> other(device.size(), std::byte{0xFF});
      to_picture_layout(nchw.data(), Layout::kNCHW, shape, numeric, other.data());
      CHECK(other == device);
    }
  }
}

}  // namespace xception
