// The layers of the named networks and the edge cases of their operations, as problems: one list
// for the tests of all backends.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/problem.h"

namespace xception {

struct NamedConv {
  std::string name;  // of the module that runs first with this shape
  ConvProblem problem;
  int times = 1;  // how often one inference runs this shape
};

struct NamedPool {
  std::string name;
  PoolProblem problem;
  bool average = false;
};

struct NamedShapes {
  std::vector<NamedConv> convs;
  std::vector<NamedPool> pools;
};

// Multiplications of a convolution's sum; padding counts as pixels, as is usual for such figures.
inline std::int64_t multiplications(const ConvProblem& problem) {
  const std::int64_t taps = std::int64_t{problem.window.size} * problem.window.size;
  return problem.dst().elements() * taps * (problem.depthwise ? 1 : problem.src.c);
}

inline std::int64_t weight_elements(const ConvProblem& problem) {
  const std::int64_t taps = std::int64_t{problem.window.size} * problem.window.size;
  return problem.k * taps * (problem.depthwise ? 1 : problem.src.c);
}

namespace shapes_detail {

inline Window window(int size, int stride, int pad) { return {size, stride, {pad, pad, pad, pad}}; }

class Builder {
 public:
  explicit Builder(int n) : n_(n) {}

  void conv(const std::string& name, int pixels, int c, int k, Window window, int times = 1) {
    shapes_.convs.push_back({name, {{n_, pixels, pixels, c}, k, window, false}, times});
  }

  // 3x3 over c channels (one each where `depthwise`), then 1x1 to k channels.
  void separable(const std::string& first, const std::string& second, int pixels, int c, int k,
                 bool depthwise, int times = 1) {
    shapes_.convs.push_back(
        {first, {{n_, pixels, pixels, c}, c, shapes_detail::window(3, 1, 1), depthwise}, times});
    conv(second, pixels, c, k, shapes_detail::window(1, 1, 0), times);
  }

  void pool(const std::string& name, int pixels, int c, Window window, bool average = false) {
    shapes_.pools.push_back({name, {{n_, pixels, pixels, c}, window}, average});
  }

  NamedShapes take() { return std::move(shapes_); }

 private:
  int n_;
  NamedShapes shapes_;
};

}  // namespace shapes_detail

// The network of the seed document at 32x32: its separable convolutions have a dense 3x3, or with
// `depthwise` the one that the document's text describes (seed_depthwise).
inline NamedShapes seed_shapes(int n, bool depthwise) {
  using shapes_detail::window;
  shapes_detail::Builder net(n);
  const auto separable = [&](const std::string& name, int pixels, int c, int k, int times = 1) {
    net.separable(name + ".depthwise.0", name + ".pointwise.0", pixels, c, k, depthwise, times);
  };
  net.conv("feature.0", 32, 3, 32, window(3, 1, 1));
  net.conv("feature.3", 32, 32, 64, window(3, 1, 1));
  separable("block1.0", 32, 64, 128);
  separable("block1.2", 32, 128, 128);
  net.pool("block1.3", 32, 128, window(3, 2, 1));
  net.conv("conv3", 32, 64, 128, window(1, 2, 0));
  separable("block2.1", 16, 128, 256);
  separable("block2.4", 16, 256, 256);
  net.pool("block2.6", 16, 256, window(3, 2, 1));
  net.conv("conv4", 16, 128, 256, window(1, 2, 0));
  separable("block3.1", 8, 256, 728);
  separable("block3.4", 8, 728, 728);
  net.pool("block3.6", 8, 728, window(3, 2, 1));
  net.conv("conv5", 8, 256, 728, window(1, 2, 0));
  separable("block4.feature.1", 4, 728, 728, 3 * 8 + 1);  // three layers eight times, and block5.1
  separable("block5.4", 4, 728, 1024);
  net.pool("block5.6", 4, 1024, window(3, 2, 1));
  net.conv("conv7", 4, 728, 1024, window(1, 2, 0));
  separable("block6.1", 2, 1024, 1536);
  separable("block6.4", 2, 1536, 2048);
  net.pool("block6.6", 2, 2048, window(2, 1, 0), /*average=*/true);
  return net.take();
}

// The network of Chollet, CVPR 2017, at 299x299; names as in timm's legacy_xception.
inline NamedShapes xception_shapes(int n) {
  using shapes_detail::window;
  shapes_detail::Builder net(n);
  const auto separable = [&](const std::string& name, int pixels, int c, int k, int times = 1) {
    net.separable(name + ".conv1", name + ".pointwise", pixels, c, k, /*depthwise=*/true, times);
  };
  net.conv("conv1", 299, 3, 32, window(3, 2, 0));
  net.conv("conv2", 149, 32, 64, window(3, 1, 0));
  separable("block1.rep.0", 147, 64, 128);
  separable("block1.rep.3", 147, 128, 128);
  net.pool("block1.rep.5", 147, 128, window(3, 2, 1));
  net.conv("block1.skip", 147, 64, 128, window(1, 2, 0));
  separable("block2.rep.1", 74, 128, 256);
  separable("block2.rep.4", 74, 256, 256);
  net.pool("block2.rep.6", 74, 256, window(3, 2, 1));
  net.conv("block2.skip", 74, 128, 256, window(1, 2, 0));
  separable("block3.rep.1", 37, 256, 728);
  separable("block3.rep.4", 37, 728, 728);
  net.pool("block3.rep.6", 37, 728, window(3, 2, 1));
  net.conv("block3.skip", 37, 256, 728, window(1, 2, 0));
  separable("block4.rep.1", 19, 728, 728, 3 * 8 + 1);  // blocks 4 to 11, and block12.rep.1
  separable("block12.rep.4", 19, 728, 1024);
  net.pool("block12.rep.6", 19, 1024, window(3, 2, 1));
  net.conv("block12.skip", 19, 728, 1024, window(1, 2, 0));
  separable("conv3", 10, 1024, 1536);
  separable("conv4", 10, 1536, 2048);
  return net.take();
}

// Both networks by one, two and three pictures: of the paper's, by two its layers on maps of 19
// pixels and fewer, by three those of 10, since an emulator takes long for larger ones.
inline std::vector<NamedShapes> layers_of_networks(bool depthwise_seed) {
  std::vector<NamedShapes> all = {seed_shapes(1, depthwise_seed), seed_shapes(2, depthwise_seed),
                                  seed_shapes(3, depthwise_seed), xception_shapes(1)};
  for (const auto& [pictures, pixels] : {std::pair(2, 19), std::pair(3, 10)}) {
    NamedShapes shapes = xception_shapes(pictures);
    const auto too_large = [most = pixels](const auto& layer) {
      return layer.problem.src.h > most;
    };
    std::erase_if(shapes.convs, too_large);
    std::erase_if(shapes.pools, too_large);
    all.push_back(std::move(shapes));
  }
  return all;
}

// Small and awkward: pictures of size 1, 2, 3 and prime, not square; channels that fill no vector;
// padding on one side only, as TensorFlow's 'same' has it; windows that fit once or not at all.
inline std::vector<ConvProblem> edge_convs(int n) {
  std::vector<ConvProblem> problems;
  const std::vector<std::pair<int, int>> planes = {{1, 1}, {2, 3}, {3, 2}, {7, 5}, {11, 13}};
  const std::vector<std::pair<int, int>> channels = {{1, 1},  {3, 8},  {8, 3},    {13, 13},
                                                     {1, 13}, {13, 1}, {728, 13}, {13, 728}};
  const std::vector<Window> windows = {{1, 1, {}},           {1, 2, {}}, {3, 1, {1, 1, 1, 1}},
                                       {3, 2, {1, 1, 1, 1}}, {3, 1, {}}, {3, 2, {0, 0, 1, 1}},
                                       {3, 2, {1, 0, 0, 1}}, {2, 1, {}}};
  for (const auto& [h, w] : planes) {
    for (const Window& window : windows) {
      for (const auto& [c, k] : channels) {
        problems.push_back({{n, h, w, c}, k, window, false});
      }
      for (const int c : {1, 3, 8, 13, 728}) {
        problems.push_back({{n, h, w, c}, c, window, true});
      }
    }
  }
  return problems;
}

inline std::vector<PoolProblem> edge_pools(int n) {
  std::vector<PoolProblem> problems;
  const std::vector<Window> windows = {
      {3, 2, {1, 1, 1, 1}}, {3, 2, {0, 0, 1, 1}}, {2, 1, {}}, {3, 1, {1, 0, 0, 1}}};
  const std::vector<std::pair<int, int>> planes = {{1, 1}, {2, 3}, {3, 2}, {7, 5}, {11, 13}};
  for (const auto& [h, w] : planes) {
    for (const Window& window : windows) {
      for (const int c : {1, 3, 8, 13, 728}) {
        problems.push_back({{n, h, w, c}, window});
      }
    }
  }
  return problems;
}

}  // namespace xception
