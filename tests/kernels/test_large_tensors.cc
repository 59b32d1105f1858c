// Tensors of more than 2^31 elements. Only their last pictures are there, and of each kernel only
// the last blocks run: an offset that does not fit its type leads out of what is there, which is a
// fault, or to another place in it, where the values are others.
//
// Convolutions that multiply matrices have their offsets tested on the host: see test_tiles.cc and
// test_picture_conv.cc.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "device_fixture.h"
#include "emulator/control.h"
#include "kernels/bn_relu.h"
#include "kernels/depthwise.h"
#include "kernels/linear.h"
#include "kernels/normalize.h"
#include "kernels/picture_conv.h"
#include "kernels/pointwise.h"
#include "kernels/pool.h"
#include "kernels/softmax.h"
#include "random.h"
#include "testing.h"

namespace xception {
namespace {

constexpr int kThere = 8;      // pictures
constexpr int kMany = 46'000;  // in which they are the last
constexpr std::uint64_t kBlocks = 2;

using Bytes = std::vector<std::byte>;

// Where a tensor of kMany pictures would begin, of which `there` holds the last.
std::byte* begin_of(const DeviceBuffer& there, int many) {
  const std::size_t picture = there.bytes() / kThere;
  return there.data() - static_cast<std::size_t>(many - kThere) * picture;
}

// While it lives, a kernel is its last blocks.
class LastBlocks {
 public:
  explicit LastBlocks(const emulator::Control& control) : control_(control) {
    control_.last_blocks(kBlocks);
  }
  ~LastBlocks() { control_.last_blocks(0); }
  LastBlocks(const LastBlocks&) = delete;
  LastBlocks& operator=(const LastBlocks&) = delete;

 private:
  const emulator::Control& control_;
};

// `launch(n, src, dst)` computes n pictures. What the last blocks write of many is, element by
// element, what all blocks write of the last pictures alone.
template <class Launch>
void check_end(const Bytes& src, std::size_t dst_bytes, std::size_t element_bytes,
               const Launch& launch, int many = kMany) {
  const emulator::Control* control = emulator::emulator_control();
  REQUIRE(control != nullptr);
  // Of the larger of the two; elements of src have at most four bytes.
  const std::size_t elements = std::max(dst_bytes / element_bytes, src.size() / sizeof(float));
  REQUIRE(elements / kThere * static_cast<std::size_t>(many) >
          std::size_t{std::numeric_limits<std::int32_t>::max()});
  const DeviceBuffer there(src);
  const DeviceBuffer alone(dst_bytes);
  const DeviceBuffer end(dst_bytes);
  const auto run = [&](int n, const std::byte* from, std::byte* to) {
    const Status status = launch(n, from, to);
    INFO(status.message());
    REQUIRE(status.ok());
    const std::string error = device_error();
    INFO(error);
    REQUIRE(error.empty());
  };
  run(kThere, there.data(), alone.data());
  {
    const LastBlocks only(*control);
    run(many, begin_of(there, many), begin_of(end, many));
  }

  const Bytes expected = alone.download();
  const Bytes actual = end.download();
  const Bytes poison(element_bytes, std::byte{0xFF});
  int written = 0;
  for (std::size_t at = 0; at < actual.size(); at += element_bytes) {
    const auto element = actual.begin() + static_cast<std::ptrdiff_t>(at);
    if (!std::equal(poison.begin(), poison.end(), element)) {
      ++written;
      INFO("element " << at / element_bytes);
      REQUIRE(std::equal(element, element + static_cast<std::ptrdiff_t>(element_bytes),
                         expected.begin() + static_cast<std::ptrdiff_t>(at)));
    }
  }
  CHECK(written > 0);
}

Bytes draw_activation(Random& random, const Shape& shape, Numeric numeric) {
  return DeviceActivation(shape, numeric, rounded(numeric, random.normals(shape.elements())))
      .bits();
}

std::size_t activation_bytes(const Shape& shape, Numeric numeric) {
  return static_cast<std::size_t>(device_elements(shape)) * element_bytes(numeric);
}

constexpr Shape kShape = {kThere, 9, 9, 728};

Shape of_pictures(int n) { return {n, kShape.h, kShape.w, kShape.c}; }

}  // namespace

TEST_CASE("the end of a large tensor: depthwise convolutions") {
  XC_RANDOM(random);
  const GpuInfo gpu = device_under_test();
  for (const Numeric numeric : kNumerics) {
    CAPTURE(numeric_name(numeric));
    const ConvProblem problem = {kShape, kShape.c, kSame, true};
    const Values weights = random.normals(std::int64_t{kShape.c} * 9);
    const DeviceBuffer packed(pack_depthwise(problem, numeric, gpu, weights.data()));
    check_end(draw_activation(random, kShape, numeric), activation_bytes(kShape, numeric),
              element_bytes(numeric), [&](int n, const void* src, void* dst) {
                return depthwise({of_pictures(n), kShape.c, kSame, true}, numeric, gpu,
                                 {src, packed.data(), dst, {}}, nullptr);
              });
  }
}

TEST_CASE("the end of a large tensor: a depthwise convolution of small maps") {
  XC_RANDOM(random);
  const GpuInfo gpu = device_under_test();
  constexpr Shape kSmall = {kThere, 2, 2, 8208};
  constexpr int kMore = 65'535;
  const ConvProblem problem = {kSmall, kSmall.c, kSame, true};
  const Values weights = random.normals(std::int64_t{kSmall.c} * 9);
  const DeviceBuffer packed(pack_depthwise(problem, Numeric::kFp16, gpu, weights.data()));
  check_end(
      draw_activation(random, kSmall, Numeric::kFp16), activation_bytes(kSmall, Numeric::kFp16), 2,
      [&](int n, const void* src, void* dst) {
        return depthwise({{n, kSmall.h, kSmall.w, kSmall.c}, kSmall.c, kSame, true}, Numeric::kFp16,
                         gpu, {src, packed.data(), dst, {}}, nullptr);
      },
      kMore);
}

TEST_CASE("the end of a large tensor: batch norm and ReLU") {
  XC_RANDOM(random);
  const DeviceBuffer shift = device_vector(random.normals(kShape.c));
  GpuInfo gpu = device_under_test();
  gpu.multiprocessors = 1'000'000;  // so many blocks that each thread has one vector
  DeviceEpilogue epilogue;
  epilogue.shift = shift.floats();
  epilogue.relu = true;
  check_end(draw_activation(random, kShape, Numeric::kFp16),
            activation_bytes(kShape, Numeric::kFp16), 2, [&](int n, const void* src, void* dst) {
              return bn_relu(of_pictures(n), Numeric::kFp16, gpu, {src, dst, epilogue}, nullptr);
            });
}

TEST_CASE("the end of a large tensor: pools") {
  XC_RANDOM(random);
  const Bytes src = draw_activation(random, kShape, Numeric::kFp16);
  const auto check = [&](const Window& window, auto pool) {
    const Shape dst = PoolProblem{kShape, window}.dst();
    check_end(src, activation_bytes(dst, Numeric::kFp16), 2,
              [&](int n, const void* from, void* to) {
                return pool({of_pictures(n), window}, Numeric::kFp16, {from, to, nullptr}, nullptr);
              });
  };
  check(kSame, max_pool);
  check({2, 1, {}}, avg_pool);
}

TEST_CASE("the end of a large tensor: global average pool") {
  XC_RANDOM(random);
  constexpr int kMore = 400'000;
  check_end(
      draw_activation(random, kShape, Numeric::kFp16),
      activation_bytes({kThere, 1, 1, kShape.c}, Numeric::kFp32), 4,
      [&](int n, const void* src, void* dst) {
        return global_avg_pool(of_pictures(n), Numeric::kFp16, {src, dst, true}, nullptr);
      },
      kMore);
}

TEST_CASE("the end of a large tensor: what is added") {
  XC_RANDOM(random);
  const Bytes src = draw_activation(random, kShape, Numeric::kFp16);
  const DeviceBuffer added(draw_activation(random, kShape, Numeric::kFp16));
  const auto residual = [&](int n) { return n == kThere ? added.data() : begin_of(added, n); };
  check_end(
      src, activation_bytes(kShape, Numeric::kFp16), 2, [&](int n, const void* from, void* to) {
        return max_pool({of_pictures(n), kSame}, Numeric::kFp16, {from, to, residual(n)}, nullptr);
      });
  GpuInfo gpu = device_under_test();
  gpu.multiprocessors = 1'000'000;  // as above
  check_end(src, activation_bytes(kShape, Numeric::kFp16), 2,
            [&](int n, const void* from, void* to) {
              DeviceEpilogue epilogue;
              epilogue.residual = residual(n);
              return bn_relu(of_pictures(n), Numeric::kFp16, gpu, {from, to, epilogue}, nullptr);
            });
}

// In the largest tiles and the smallest, which one multiprocessor and very many make chosen.
TEST_CASE("the end of a large tensor: dense 1x1 convolutions, and what is added") {
  XC_RANDOM(random);
  const Values weights = random.normals(std::int64_t{kShape.c} * kShape.c);
  const Bytes src = draw_activation(random, kShape, Numeric::kFp16);
  for (const bool wgmma : {true, false}) {
    GpuInfo gpu = device_under_test();
    if (wgmma && !gpu.has_wgmma) {
      continue;
    }
    gpu.has_wgmma = wgmma;
    for (const int multiprocessors : {1, 1'000'000}) {
      gpu.multiprocessors = multiprocessors;
      for (const auto& [stride, many] : {std::pair(1, kMany), std::pair(2, 120'000)}) {
        CAPTURE(wgmma, multiprocessors, stride);
        const Window window = {1, stride, {}};
        const ConvProblem problem = {kShape, kShape.c, window};
        const DeviceBuffer packed(pack_pointwise(problem, Numeric::kFp16, gpu, weights.data()));
        const DeviceBuffer added(draw_activation(random, problem.dst(), Numeric::kFp16));
        check_end(
            src, activation_bytes(problem.dst(), Numeric::kFp16), 2,
            [&, &window = window](int n, const void* from, void* to) {
              DenseArgs args = {from, packed.data(), to, {}};
              args.epilogue.residual = n == kThere ? added.data() : begin_of(added, n);
              return pointwise({of_pictures(n), kShape.c, window}, Numeric::kFp16, gpu, args,
                               nullptr);
            },
            many);
      }
    }
  }
}

TEST_CASE("the end of many pictures: their convolution") {
  XC_RANDOM(random);
  constexpr int kPictures = 800'000;
  constexpr int kChannels = 32;
  const auto shape = [](int n) { return Shape{n, 31, 31, kPictureColours}; };
  const GpuInfo gpu = device_under_test();
  const ConvProblem problem = {shape(kThere), kChannels, kSame};
  const Values weights = random.normals(kChannels * 27);
  const DeviceBuffer packed(pack_picture(problem, Numeric::kFp16, weights.data()));
  const Values values = rounded(Numeric::kFp16, random.normals(shape(kThere).elements()));
  check_end(
      device_pictures(shape(kThere), Numeric::kFp16, values).download(),
      activation_bytes(problem.dst(), Numeric::kFp16), 2,
      [&](int n, const void* from, void* to) {
        return picture_conv({shape(n), kChannels, kSame}, Numeric::kFp16, gpu,
                            {from, packed.data(), to, {}}, nullptr);
      },
      kPictures);
}

TEST_CASE("the end of many pictures: float32 ones are rounded") {
  XC_RANDOM(random);
  constexpr int kPictures = 9000;
  const auto shape = [](int n) { return Shape{n, 299, 299, kPictureColours}; };
  const Values values = random.normals(shape(kThere).elements());
  const auto bytes = std::as_bytes(std::span(values));
  for (const Layout layout : {Layout::kNHWC, Layout::kNCHW}) {
    check_end(
        {bytes.begin(), bytes.end()},
        static_cast<std::size_t>(picture_elements(shape(kThere))) * element_bytes(Numeric::kFp16),
        2,
        [&](int n, const void* from, void* to) {
          return copy_pictures(shape(n), Numeric::kFp16,
                               {static_cast<const float*>(from), layout, to}, nullptr);
        },
        kPictures);
  }
}

TEST_CASE("the end of many vectors: linear and softmax") {
  XC_RANDOM(random);
  constexpr int kVectors = 522'400;
  constexpr int kLogits = 4104;
  const LinearProblem problem = {kThere, 24, kLogits};
  const Values weights = random.normals(std::int64_t{problem.c} * problem.k);
  const DeviceBuffer packed(pack_linear(problem, Numeric::kFp16, weights.data()));
  const std::size_t logit_bytes = activation_bytes({kThere, 1, 1, kLogits}, Numeric::kFp32);
  check_end(
      draw_activation(random, {kThere, 1, 1, problem.c}, Numeric::kFp16), logit_bytes, 4,
      [&](int n, const void* src, void* dst) {
        return linear({n, problem.c, problem.k}, Numeric::kFp16,
                      {src, packed.data(), nullptr, static_cast<float*>(dst)}, nullptr);
      },
      kVectors);
  check_end(
      draw_activation(random, {kThere, 1, 1, kLogits}, Numeric::kFp32), logit_bytes, 4,
      [&](int n, const void* src, void* dst) {
        return softmax(n, kLogits, static_cast<const float*>(src), static_cast<float*>(dst),
                       nullptr);
      },
      kVectors);
}

TEST_CASE("the end of many pictures: normalize") {
  XC_RANDOM(random);
  constexpr int kPictures = 9000;
  const auto shape = [](int n) { return Shape{n, 299, 299, 3}; };
  Bytes src(static_cast<std::size_t>(shape(kThere).elements()));
  std::generate(src.begin(), src.end(),
                [&] { return static_cast<std::byte>(random.integer(0, 255)); });
  check_end(
      src, static_cast<std::size_t>(picture_elements(shape(kThere))) * 2, 2,
      [&](int n, const void* from, void* to) {
        NormalizeArgs args;
        args.src = static_cast<const std::uint8_t*>(from);
        args.mean = {0.5F, 0.25F, 0.75F};
        args.std = {0.5F, 0.25F, 1.0F};
        args.dst = to;
        return normalize(shape(n), Numeric::kFp16, args, nullptr);
      },
      kPictures);
}

}  // namespace xception
