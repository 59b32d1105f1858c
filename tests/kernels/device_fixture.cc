#include "device_fixture.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "kernels/numeric.h"

namespace xception {
namespace {

constexpr std::size_t kGuardBytes = 4096;  // keeps the alignment of cudaMalloc
constexpr int kPoison = 0xFF;

bool on_emulator() { return std::getenv("XC_EMULATOR_DEVICE") != nullptr; }

void require_success(cudaError_t error, const char* what) {
  INFO(what << ": " << cudaGetErrorString(error));
  REQUIRE(error == cudaSuccess);
}

bool poisoned(const std::vector<unsigned char>& bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](unsigned char byte) { return byte == kPoison; });
}

std::size_t activation_bytes(const Shape& shape, Numeric numeric) {
  return static_cast<std::size_t>(device_elements(shape)) * element_bytes(numeric);
}

// Dense rows of `width` values to or from rows of `stride`.
Values spread(const Values& dense, int width, int stride) {
  const std::size_t rows = width == 0 ? 0 : dense.size() / static_cast<std::size_t>(width);
  Values result(rows * static_cast<std::size_t>(stride), 0.0F);
  for (std::size_t row = 0; row < rows; ++row) {
    std::copy_n(dense.begin() + static_cast<std::ptrdiff_t>(row) * width, width,
                result.begin() + static_cast<std::ptrdiff_t>(row) * stride);
  }
  return result;
}

std::vector<std::byte> in_numeric(const Values& values, Numeric numeric) {
  std::vector<std::byte> bytes(values.size() * element_bytes(numeric));
  to_numeric(values, numeric, bytes.data());
  return bytes;
}

double unit_roundoff(Numeric numeric) {
  switch (numeric) {
    case Numeric::kFp16:
      return 0x1p-11;
    case Numeric::kBf16:
      return 0x1p-8;
    default:
      return 0x1p-24;
  }
}

}  // namespace

bool have_device() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) {
    return true;
  }
  const std::string reason = error == cudaSuccess ? "no device" : cudaGetErrorString(error);
  if (on_emulator()) {
    FAIL("the emulator was asked for and does not answer: " << reason);
  }
  WARN("skipped, for there is no GPU and no emulator: " << reason);
  return false;
}

GpuInfo device_under_test() {
  const Result<GpuInfo> gpu = current_gpu();
  INFO(gpu.status().message());
  REQUIRE(gpu.ok());
  return *gpu;
}

std::string device_error() {
  const cudaError_t error = cudaDeviceSynchronize();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

DeviceBuffer::DeviceBuffer(std::size_t bytes)
    : guard_(on_emulator() ? 0 : kGuardBytes), bytes_(bytes) {
  void* base = nullptr;
  // One byte at least, so that an empty tensor has an address too.
  require_success(cudaMalloc(&base, std::max<std::size_t>(bytes_ + 2 * guard_, 1)), "cudaMalloc");
  base_ = static_cast<std::byte*>(base);
  require_success(cudaMemset(base_, kPoison, bytes_ + 2 * guard_), "cudaMemset");
}

DeviceBuffer::DeviceBuffer(std::span<const std::byte> contents) : DeviceBuffer(contents.size()) {
  upload(contents);
}

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)), guard_(other.guard_), bytes_(other.bytes_) {}

DeviceBuffer::~DeviceBuffer() {
  if (base_ != nullptr) {
    cudaFree(base_);
  }
}

void DeviceBuffer::upload(std::span<const std::byte> contents) const {
  REQUIRE(contents.size() == bytes_);
  require_success(cudaMemcpy(data(), contents.data(), bytes_, cudaMemcpyHostToDevice), "upload");
}

void DeviceBuffer::poison() const {
  require_success(cudaMemset(base_, kPoison, bytes_ + 2 * guard_), "cudaMemset");
}

std::vector<std::byte> DeviceBuffer::download() const {
  std::vector<std::byte> contents(bytes_);
  require_success(cudaMemcpy(contents.data(), data(), bytes_, cudaMemcpyDeviceToHost), "download");
  std::vector<unsigned char> guard(guard_);
  for (const std::byte* band : {base_, base_ + guard_ + bytes_}) {
    require_success(cudaMemcpy(guard.data(), band, guard_, cudaMemcpyDeviceToHost), "download");
    CHECK(poisoned(guard));
  }
  return contents;
}

DeviceActivation::DeviceActivation(const Shape& shape, Numeric numeric)
    : shape_(shape), numeric_(numeric), buffer_(activation_bytes(shape, numeric)) {}

DeviceActivation::DeviceActivation(const Shape& shape, Numeric numeric, const Values& dense)
    : shape_(shape), numeric_(numeric), buffer_(device_activation(shape, numeric, dense)) {}

namespace {

// The first `used` of every `stride` values that `buffer` holds. Checks that the others are zero.
Values gather(const DeviceBuffer& buffer, Numeric numeric, int used, int stride) {
  const std::vector<std::byte> bytes = buffer.download();
  Values padded(bytes.size() / element_bytes(numeric));
  from_numeric(bytes.data(), numeric, padded);
  Values dense;
  std::size_t dirty = 0;
  for (std::size_t i = 0; i < padded.size(); ++i) {
    if (i % static_cast<std::size_t>(stride) < static_cast<std::size_t>(used)) {
      dense.push_back(padded[i]);
    } else if (padded[i] != 0.0F || std::isnan(padded[i])) {
      ++dirty;
    }
  }
  INFO("padding that is not zero, behind " << used << " of " << stride << " elements");
  CHECK(dirty == 0);
  return dense;
}

}  // namespace

Values DeviceActivation::values() const {
  return gather(buffer_, numeric_, shape_.c, channel_stride(shape_.c));
}

DeviceBuffer device_activation(const Shape& shape, Numeric numeric, const Values& dense) {
  REQUIRE(static_cast<std::int64_t>(dense.size()) == shape.elements());
  return DeviceBuffer(in_numeric(spread(dense, shape.c, channel_stride(shape.c)), numeric));
}

DeviceBuffer device_pictures(const Shape& shape, Numeric numeric, const Values& dense) {
  REQUIRE(shape.c == kPictureColours);
  REQUIRE(static_cast<std::int64_t>(dense.size()) == shape.elements());
  return DeviceBuffer(
      in_numeric(spread(dense, kPictureColours * shape.w, picture_row(shape.w)), numeric));
}

Values picture_values(const DeviceBuffer& pictures, const Shape& shape, Numeric numeric) {
  return gather(pictures, numeric, kPictureColours * shape.w, picture_row(shape.w));
}

DeviceBuffer device_vector(const Values& values) {
  const int count = static_cast<int>(values.size());
  return DeviceBuffer(
      std::as_bytes(std::span<const float>(spread(values, count, channel_stride(count)))));
}

Values rounded(Numeric numeric, Values values) {
  const std::vector<std::byte> bytes = in_numeric(values, numeric);
  from_numeric(bytes.data(), numeric, values);
  return values;
}

Values images(const Values& values, int batch, int first, int count) {
  const auto each = static_cast<std::ptrdiff_t>(values.size()) / batch;
  return {values.begin() + first * each, values.begin() + (first + count) * each};
}

EpilogueSteps epilogue_steps(unsigned index) {
  const auto bit = [index](unsigned i) { return (index >> i & 1U) != 0; };
  return {bit(0), bit(1), bit(2), bit(3), bit(4)};
}

namespace {

Values draw(Random& random, bool integers, std::int64_t count) {
  return integers ? random.integers(count) : random.normals(count);
}

// Scales of both signs, none near zero; -2, -1, 1 or 2 where `integers`.
Values draw_scales(Random& random, bool integers, int count) {
  Values scales(static_cast<std::size_t>(count));
  for (float& scale : scales) {
    const float magnitude =
        integers ? static_cast<float>(random.integer(1, 2)) : 0.5F + std::abs(random.normal());
    scale = random.integer(0, 1) == 0 ? magnitude : -magnitude;
  }
  return scales;
}

}  // namespace

EpilogueCase::EpilogueCase(Random& random, const EpilogueSteps& steps, const Shape& dst,
                           Numeric numeric, bool integers)
    : steps_(steps),
      shift_(draw(random, integers, dst.c)),
      second_scale_(draw_scales(random, integers, dst.c)),
      second_shift_(draw(random, integers, dst.c)),
      residual_(rounded(numeric, draw(random, integers, steps.residual ? dst.elements() : 0))),
      absolute_{absolute(shift_), absolute(second_scale_), absolute(second_shift_),
                absolute(residual_)},
      device_shift_(device_vector(shift_)),
      device_scale_(device_vector(second_scale_)),
      device_second_shift_(device_vector(second_shift_)),
      device_residual_(steps.residual ? dst : Shape{0, 0, 0, dst.c}, numeric, residual_) {}

Epilogue EpilogueCase::host() const {
  Epilogue epilogue;
  epilogue.shift = steps_.shift ? shift_.data() : nullptr;
  epilogue.relu = steps_.relu;
  epilogue.second_scale = steps_.second ? second_scale_.data() : nullptr;
  epilogue.second_shift = steps_.second ? second_shift_.data() : nullptr;
  epilogue.residual = steps_.residual ? residual_.data() : nullptr;
  epilogue.final_relu = steps_.final_relu;
  return epilogue;
}

Epilogue EpilogueCase::magnitudes() const {
  Epilogue epilogue;
  epilogue.shift = steps_.shift ? absolute_[0].data() : nullptr;
  epilogue.second_scale = steps_.second ? absolute_[1].data() : nullptr;
  epilogue.second_shift = steps_.second ? absolute_[2].data() : nullptr;
  epilogue.residual = steps_.residual ? absolute_[3].data() : nullptr;
  return epilogue;
}

DeviceEpilogue EpilogueCase::device() const {
  DeviceEpilogue epilogue;
  epilogue.shift = steps_.shift ? device_shift_.floats() : nullptr;
  epilogue.relu = steps_.relu;
  epilogue.second_scale = steps_.second ? device_scale_.floats() : nullptr;
  epilogue.second_shift = steps_.second ? device_second_shift_.floats() : nullptr;
  epilogue.residual = steps_.residual ? device_residual_.data() : nullptr;
  epilogue.final_relu = steps_.final_relu;
  return epilogue;
}

Values absolute(Values values) {
  for (float& value : values) {
    value = std::abs(value);
  }
  return values;
}

Tolerance derived_tolerance(int roundings, Numeric stored) {
  constexpr double kFloat = 0x1p-24;
  Tolerance tolerance;
  tolerance.of_magnitude = roundings * kFloat / (1 - roundings * kFloat);
  // What is stored and the reference's own float32; the first is off by its share too.
  tolerance.of_value = unit_roundoff(stored) * (1 + tolerance.of_magnitude) + kFloat;
  tolerance.of_magnitude *= 1 + unit_roundoff(stored);
  tolerance.absolute = stored == Numeric::kFp16 ? 0x1p-25 : 0x1p-150;  // half the least denormal
  return tolerance;
}

int roundings(const EpilogueSteps& steps) {
  return (steps.shift ? 1 : 0) + (steps.second ? 2 : 0) + (steps.residual ? 1 : 0);
}

void check_close(const Values& actual, const Values& expected, const Values& magnitudes,
                 const Tolerance& tolerance) {
  REQUIRE(actual.size() == expected.size());
  REQUIRE(actual.size() == magnitudes.size());
  std::size_t beyond = 0;
  std::size_t worst = 0;
  double worst_excess = -1;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double bound = tolerance.of_magnitude * magnitudes[i] +
                         tolerance.of_value * std::abs(expected[i]) + tolerance.absolute;
    const double difference = std::abs(static_cast<double>(actual[i]) - expected[i]);
    if (!(difference <= bound)) {  // true of a NaN too
      ++beyond;
      const double excess = std::isnan(difference) ? INFINITY : difference - bound;
      if (excess > worst_excess) {
        worst_excess = excess;
        worst = i;
      }
    }
  }
  if (beyond > 0) {
    INFO("worst at " << worst << " of " << actual.size() << ": " << actual[worst] << " for "
                     << expected[worst] << ", magnitudes " << magnitudes[worst]);
    CHECK(beyond == 0);
  }
}

void check_equal(const Values& actual, const Values& expected, Numeric stored) {
  REQUIRE(actual.size() == expected.size());
  const Values wanted = rounded(stored, expected);
  std::size_t wrong = 0;
  std::size_t first = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    // 0 equals -0: which of the two a sum of zeros is depends on where it starts.
    if (!(actual[i] == wanted[i])) {
      first = wrong == 0 ? i : first;
      ++wrong;
    }
  }
  if (wrong > 0) {
    INFO("first at " << first << " of " << actual.size() << ": " << actual[first] << " for "
                     << wanted[first]);
    CHECK(wrong == 0);
  }
}

bool same_bits(const Values& a, const Values& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace xception
