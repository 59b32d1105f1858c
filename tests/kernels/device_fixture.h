// Tensors of a test on the device: poisoned before a kernel writes them, guarded around, and looked
// at when they come back. What goes wrong with the device itself ends the test.
//
// On a GPU every buffer lies between guard bands that must stay as they were. On the emulator
// nothing does: there a buffer ends where its allocation ends, so that a single byte beside it is a
// fault, read or written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/gpu.h"
#include "kernels/problem.h"
#include "random.h"
#include "testing.h"

namespace xception {

using Values = std::vector<float>;

inline constexpr Numeric kNumerics[] = {Numeric::kFp32, Numeric::kFp16, Numeric::kBf16};

// 3x3 that keep the size, and halve it.
inline constexpr Window kSame = {3, 1, {1, 1, 1, 1}};
inline constexpr Window kHalf = {3, 2, {1, 1, 1, 1}};

// Whether a GPU answers, or the emulator. Warns where none does; fails where XC_EMULATOR_DEVICE
// says that one should.
bool have_device();

GpuInfo device_under_test();

class DeviceBuffer {
 public:
  // Every byte is 0xFF: a NaN in every element type.
  explicit DeviceBuffer(std::size_t bytes);
  explicit DeviceBuffer(std::span<const std::byte> contents);
  ~DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(DeviceBuffer&&) = delete;

  std::byte* data() const { return base_ + guard_; }
  float* floats() const { return reinterpret_cast<float*>(data()); }
  std::size_t bytes() const { return bytes_; }

  void upload(std::span<const std::byte> contents) const;
  void poison() const;
  // Waits for the device. Checks the guard bands.
  std::vector<std::byte> download() const;

 private:
  std::byte* base_ = nullptr;
  std::size_t guard_ = 0;
  std::size_t bytes_ = 0;
};

// An activation as the kernels have it: see channel_stride() in gpu.h.
class DeviceActivation {
 public:
  DeviceActivation(const Shape& shape, Numeric numeric);  // poisoned
  DeviceActivation(const Shape& shape, Numeric numeric, const Values& dense);

  void* data() const { return buffer_.data(); }
  void poison() const { buffer_.poison(); }
  // Dense. Waits for the device; checks that all padding is zero and the guard bands are intact.
  Values values() const;
  // Everything, padding included, bit by bit.
  std::vector<std::byte> bits() const { return buffer_.download(); }

 private:
  Shape shape_;
  Numeric numeric_;
  DeviceBuffer buffer_;
};

// An activation that is only read.
DeviceBuffer device_activation(const Shape& shape, Numeric numeric, const Values& dense);

// Pictures as the kernels read them: see picture_row() in gpu.h.
DeviceBuffer device_pictures(const Shape& shape, Numeric numeric, const Values& dense);
// Dense. Waits for the device; checks that all padding is zero and the guard bands are intact.
Values picture_values(const DeviceBuffer& pictures, const Shape& shape, Numeric numeric);

// float32, one value a channel, zero from values.size() to channel_stride(values.size()).
DeviceBuffer device_vector(const Values& values);

// What an element type keeps of each value.
Values rounded(Numeric numeric, Values values);

// Images [first, first + count) of `batch`.
Values images(const Values& values, int batch, int first, int count);

// Waits for all work; the message of an error of the device, empty where there is none.
std::string device_error();

// Runs launch(void* dst) twice, each time into a poisoned activation, and returns what it wrote.
// Checks that both results are the same bit by bit, padding and guard bands.
template <class Launch>
Values run_twice(const Shape& shape, Numeric numeric, Launch launch) {
  DeviceActivation dst(shape, numeric);
  std::vector<std::byte> bits[2];
  Values values;
  for (std::vector<std::byte>& result : bits) {
    dst.poison();
    const Status status = launch(dst.data());
    INFO(status.message());
    REQUIRE(status.ok());
    const std::string error = device_error();
    INFO(error);
    REQUIRE(error.empty());
    result = dst.bits();
    values = dst.values();
  }
  CHECK(bits[0] == bits[1]);
  return values;
}

// The steps of an epilogue, drawn, on the host and on the device.
struct EpilogueSteps {
  bool shift = false;
  bool relu = false;
  bool second = false;
  bool residual = false;
  bool final_relu = false;
};

// All 32, by the bits of `index`.
EpilogueSteps epilogue_steps(unsigned index);

class EpilogueCase {
 public:
  // Whole numbers where `integers`; scales of both signs.
  EpilogueCase(Random& random, const EpilogueSteps& steps, const Shape& dst, Numeric numeric,
               bool integers);

  Epilogue host() const;
  // The same of absolute values and without ReLU: run on absolute operands, it gives the sum of the
  // magnitudes that rounding errors scale with.
  Epilogue magnitudes() const;
  DeviceEpilogue device() const;

 private:
  EpilogueSteps steps_;
  Values shift_;
  Values second_scale_;
  Values second_shift_;
  Values residual_;
  Values absolute_[4];
  DeviceBuffer device_shift_;
  DeviceBuffer device_scale_;
  DeviceBuffer device_second_shift_;
  DeviceActivation device_residual_;
};

Values absolute(Values values);

// How far a result may lie from the one in double precision.
struct Tolerance {
  double of_magnitude = 0;  // share of the sum of all terms' magnitudes
  double of_value = 0;      // share of the value itself
  double absolute = 0;
};

// Of a result in whose float32 computation at most `roundings` lie on the way from an operand to
// the result, rounded once more where it is stored. Source: Higham, Accuracy and Stability of
// Numerical Algorithms, lemma 3.1: n roundings are off by n * u / (1 - n * u) at most.
Tolerance derived_tolerance(int roundings, Numeric stored);

// Roundings of an epilogue's steps.
int roundings(const EpilogueSteps& steps);

// Checks every value, and tells of the worst one. A NaN fails.
void check_close(const Values& actual, const Values& expected, const Values& magnitudes,
                 const Tolerance& tolerance);

// Checks that actual is expected, each rounded once to `stored`: what is asked where the arithmetic
// is exact. Tells of the first that differs.
void check_equal(const Values& actual, const Values& expected, Numeric stored);

// Equal bit by bit: a NaN equals itself, and 0 is not -0.
bool same_bits(const Values& a, const Values& b);

}  // namespace xception

// Leaves a test, with a warning, where there is nothing to run kernels on.
#define XC_NEEDS_DEVICE()                   \
  do {                                      \
    if (!::xception::have_device()) return; \
  } while (false)
