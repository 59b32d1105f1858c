// The convolution of pictures against the reference loops: every width, padding and epilogue, and
// where its blocks and words lie.
#include "kernels/picture_conv.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "dense_fixture.h"
#include "random.h"
#include "shapes.h"
#include "testing.h"

namespace xception {
namespace {

std::vector<std::byte> pack(const ConvProblem& problem, Numeric numeric, const GpuInfo& /*gpu*/,
                            const float* weights) {
  return pack_picture(problem, numeric, weights);
}
constexpr DenseOperation kPictureConv = {picture_conv, pack, true};

}  // namespace

TEST_CASE("picture_conv: pictures of every width") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : dense_numerics()) {
    for (const int stride : {1, 2}) {
      const Window window = stride == 1 ? kSame : Window{3, 2, {}};
      for (const int width : {3, 15, 16, 17, 33, 64, 67, kPictureSpan * stride,
                              kPictureSpan * stride + 3, 2 * kPictureSpan * stride + 35}) {
        const ConvProblem problem = {{1, 3, width, 3}, random.integer(1, 70), window};
        check_dense_case(random, kPictureConv, problem, numeric, device_under_test(), kNone);
      }
    }
  }
}

TEST_CASE("picture_conv: strides, paddings and batches") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : dense_numerics()) {
    for (const Padding& pad : {Padding{}, Padding{2, 2, 2, 2}, Padding{0, 2, 1, 0},
                               Padding{2, 0, 0, 1}, Padding{1, 1, 1, 1}}) {
      for (const int stride : {1, 2}) {
        const Shape src = {random.integer(1, 3), random.integer(3, 6), random.integer(3, 40), 3};
        check_dense_case(random, kPictureConv, {src, random.integer(1, 40), {3, stride, pad}},
                         numeric, device_under_test(), kNone);
      }
    }
  }
}

TEST_CASE("picture_conv: every epilogue") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : dense_numerics()) {
    for (unsigned index = 0; index < 32; ++index) {
      const int k = std::vector<int>{3, 29, 40, 136}[index % 4];
      check_dense_case(random, kPictureConv, {{2, 3, 7, 3}, k, index % 3 == 0 ? kHalf : kSame},
                       numeric, device_under_test(), epilogue_steps(index));
    }
  }
}

TEST_CASE("picture_conv: an image's result does not depend on its batch") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  for (const Numeric numeric : dense_numerics()) {
    check_batch(random, kPictureConv, {{1, 9, 9, 3}, 40, kHalf}, numeric);
  }
}

TEST_CASE("picture_conv: what is not finite reaches the windows that hold it, and no others") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  constexpr int kHeight = 6;
  constexpr int kWidth = 37;
  for (const Numeric numeric : dense_numerics()) {
    for (const Window& window : {kSame, kHalf}) {
      const ConvProblem problem = {{1, kHeight, kWidth, 3}, 21, window};
      for (const float poison : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
        DenseOperands operands = draw_operands(random, problem, numeric, true);
        const int y = random.integer(0, kHeight - 1);
        const int x = random.integer(0, kWidth - 1);
        const int c = random.integer(0, 2);
        const int place = (y * kWidth + x) * 3 + c;
        operands.src[static_cast<std::size_t>(place)] = poison;
        for (float& weight : operands.weights) {
          weight = weight == 0.0F ? 1.0F : weight;  // times infinity that is no number
        }
        const Values actual =
            run_dense(kPictureConv, problem, numeric, device_under_test(), operands, {});
        const Shape dst = problem.dst();
        const auto holds = [&](int output, int input) {
          const int first = output * window.stride - 1;
          return input >= first && input < first + 3;
        };
        int wrong = 0;
        for (int p = 0; p < dst.h; ++p) {
          for (int q = 0; q < dst.w; ++q) {
            const int first = (p * dst.w + q) * dst.c;
            const float value = actual[static_cast<std::size_t>(first)];
            wrong += std::isfinite(value) == (holds(p, y) && holds(q, x)) ? 1 : 0;
          }
        }
        INFO(dense_name("picture_conv", problem, numeric)
             << ", " << poison << " at " << y << ", " << x << ", " << c);
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("picture_conv: every layer of the networks") {
  XC_NEEDS_DEVICE();
  XC_RANDOM(random);
  int layers = 0;
  for (const NamedShapes& shapes : layers_of_networks(false)) {
    for (const NamedConv& layer : shapes.convs) {
      if (layer.problem.src.c == kPictureColours) {
        INFO(layer.name << " of " << layer.problem.src.n);
        ++layers;
        check_dense_case(random, kPictureConv, layer.problem, Numeric::kFp16, device_under_test(),
                         {true, true, true, false, true}, /*exact_only=*/true);
      }
    }
  }
  CHECK(layers == 4);  // the paper's, and the seed's in three batches
}

TEST_CASE("picture_conv: what it cannot do is refused with the shape and the reason") {
  const GpuInfo gpu = {90, 132};
  alignas(16) std::byte memory[64] = {};
  const DenseArgs args = {memory, memory, memory + 32, {}};
  const auto message = [&](const ConvProblem& problem) {
    const Status status = picture_conv(problem, Numeric::kBf16, gpu, args, nullptr);
    CHECK(status.code() == Code::kInvalidArgument);
    return status.message();
  };
  CHECK(contains(message({{1, 4, 4, 4}, 16, kSame}),
                 "picture_conv 1x4x4x4 -> 16, stride 1, bf16: pictures have three channels"));
  CHECK(contains(message({{1, 4, 4, 3}, 16, {1, 1, {}}}), "the window must be of size 3"));
}

TEST_CASE("picture_conv: index arithmetic beyond 2^31 elements") {
  const ConvProblem picture = {{9000, 299, 299, 3}, 32, {3, 2, {}}};
  const PictureGeometry geometry = picture_geometry(picture, Numeric::kFp16);
  const PicturePosition end = picture_position(geometry, 9000 * 149 - 1);
  CHECK(picture_source(geometry, end.n, 2 * end.p + 3) == picture_elements(picture.src));
  CHECK(picture_result(geometry, end) + 149 == 9000LL * 149 * 149);
}

TEST_CASE("picture_conv: blocks cover every row, and its words stand on different banks") {
  constexpr int kBanks = 32;
  constexpr int kSector = 16;
  for (const Numeric numeric : {Numeric::kFp32, Numeric::kFp16}) {
    for (int stride = 1; stride <= 2; ++stride) {
      for (int width = 3; width < 1200; ++width) {
        const int pad = width % 3;
        const ConvProblem problem = {{1, 3, width, 3}, 32, {3, stride, {pad, pad, pad, pad}}};
        const PictureGeometry geometry = picture_geometry(problem, numeric);
        const int q = problem.dst().w;
        CHECK(geometry.columns * geometry.column_tiles >= q);
        CHECK(geometry.columns * (geometry.column_tiles - 1) < q);
        CHECK(geometry.columns <= kPictureSpan);
        CHECK(geometry.patch_elements * static_cast<int>(element_bytes(numeric)) <=
              geometry.patch_bytes);
        CHECK(geometry.patch_bytes % kChunkBytes == 0);
        // The patch begins a window's distance before the first pixel of every block.
        for (int tile = 0; tile < geometry.column_tiles; ++tile) {
          const int first = tile * geometry.columns;
          CHECK(picture_begin(geometry, first) % kSector == 0);
          CHECK(picture_begin(geometry, first) + geometry.origin == 3 * (first * stride - pad));
        }
        // What lane 4 * g + t reads at once: a word of a row of pixel g, and of row t the ninth
        // element.
        std::set<int> words[2];
        std::set<int> banks[2];
        for (int g = 0; g < 8; ++g) {
          const int window = geometry.origin + 3 * stride * picture_pixel(stride, g);
          for (int t = 0; t < 4; ++t) {
            const int row = window / 2 + t;
            const int ninth = std::min(t, 2) * geometry.patch_bytes / 4 + (window + 8) / 2;
            words[0].insert(row);
            banks[0].insert(row % kBanks);
            words[1].insert(ninth);
            banks[1].insert(ninth % kBanks);
          }
        }
        CHECK(banks[0].size() == words[0].size());
        if (numeric == Numeric::kFp16) {  // float32 is not read like that
          CHECK(banks[1].size() == words[1].size());
        }
      }
    }
  }
}

TEST_CASE("picture_conv: a warp's lanes share out its pixels") {
  for (const int stride : {1, 2}) {
    std::set<int> pixels;
    for (int g = 0; g < 8; ++g) {
      pixels.insert(picture_pixel(stride, g));
      pixels.insert(picture_pixel(stride, g) + picture_second(stride));
    }
    CHECK(pixels.size() == kPicturePixels);
    CHECK(*pixels.rbegin() == kPicturePixels - 1);
  }
}

}  // namespace xception
