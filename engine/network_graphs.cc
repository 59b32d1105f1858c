#include "engine/network_graphs.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace xception {
namespace {

// --- seed and seed_depthwise -------------------------------------------------------------------

class SeedNetwork {
 public:
  SeedNetwork(GraphBuilder& builder, const NetworkConfig& config)
      : b_(builder), config_(config), depthwise_(config.arch == "seed_depthwise") {}

  ValueId build() {
    ValueId x = b_.conv("feature.0", b_.input(), conv3x3(channels(32)));
    x = b_.relu("feature.2", b_.batch_norm("feature.1", x));
    x = b_.conv("feature.3", x, conv3x3(channels(64)));
    x = b_.relu("feature.5", b_.batch_norm("feature.4", x));

    ValueId y = b_.relu("block1.1", separable("block1.0", x, channels(128)));
    y = separable("block1.2", y, channels(128));
    x = halve("block1.3", y, "conv3", x, "add1");
    x = down("block2", x, channels(256), channels(256), "conv4", "add2");
    x = down("block3", x, channels(728), channels(728), "conv5", "add3");
    for (int repeat = 0; repeat < 8; ++repeat) {
      x = middle(x);
    }
    x = down("block5", x, channels(728), channels(1024), "conv7", "add5");
    x = relu_separable_norm("block6", 0, x, channels(1536));
    x = relu_separable_norm("block6", 3, x, channels(2048));
    return b_.avg_pool("block6.6", x, 2);
  }

 private:
  int channels(int full) const { return scaled_channels(full, config_.width); }

  static GraphBuilder::Conv conv3x3(int out) {
    return {.out = out, .size = 3, .pad = 1, .bias = true};
  }

  ValueId separable(const std::string& name, ValueId x, int out) {
    GraphBuilder::Conv spatial = conv3x3(b_.channels(x));
    spatial.depthwise = depthwise_;
    x = b_.batch_norm(name + ".depthwise.1", b_.conv(name + ".depthwise.0", x, spatial));
    x = config_.sep_relu ? b_.relu(name + ".depthwise.2", x) : x;
    x = b_.conv(name + ".pointwise.0", x, {.out = out, .bias = true});
    x = b_.batch_norm(name + ".pointwise.1", x);
    return config_.sep_relu ? b_.relu(name + ".pointwise.2", x) : x;
  }

  // The modules name.first to name.(first + 2).
  ValueId relu_separable_norm(const std::string& name, int first, ValueId x, int out) {
    const auto module = [&](int i) { return name + '.' + std::to_string(first + i); };
    x = separable(module(1), b_.relu(module(0), x), out);
    return b_.batch_norm(module(2), x);
  }

  // Max pooling of `main` plus a strided 1x1 convolution of `src`.
  ValueId halve(const std::string& pool, ValueId main, const std::string& shortcut, ValueId src,
                const std::string& add) {
    const int out = b_.channels(main);
    main = b_.max_pool(pool, main, PadMode::kExplicit);
    const ValueId skip = b_.conv(shortcut, src, {.out = out, .stride = 2, .bias = true});
    return b_.add(add, main, skip);
  }

  ValueId down(const std::string& name, ValueId src, int between, int out,
               const std::string& shortcut, const std::string& add) {
    ValueId x = relu_separable_norm(name, 0, src, between);
    x = relu_separable_norm(name, 3, x, out);
    return halve(name + ".6", x, shortcut, src, add);
  }

  // One module, applied again and again with the same weights.
  ValueId middle(ValueId x) {
    ValueId y = x;
    for (int i = 0; i < 3; ++i) {
      y = relu_separable_norm("block4.feature", 3 * i, y, channels(728));
    }
    return b_.add("block4.add", y, x);
  }

  GraphBuilder& b_;
  const NetworkConfig& config_;
  bool depthwise_;
};

// --- xception ----------------------------------------------------------------------------------

class PaperNetwork {
 public:
  PaperNetwork(GraphBuilder& builder, const NetworkConfig& config)
      : b_(builder), pool_pad_(config.pool_pad) {}

  ValueId build() {
    ValueId x = b_.conv("conv1", b_.input(), {.out = 32, .size = 3, .stride = 2});
    x = b_.relu("act1", b_.batch_norm("bn1", x));
    x = b_.conv("conv2", x, {.out = 64, .size = 3});
    x = b_.relu("act2", b_.batch_norm("bn2", x));
    x = block("block1", x, {128, 128}, Shortcut::kConv, false);
    x = block("block2", x, {256, 256}, Shortcut::kConv, true);
    x = block("block3", x, {728, 728}, Shortcut::kConv, true);
    for (int i = 4; i <= 11; ++i) {
      x = block("block" + std::to_string(i), x, {728, 728, 728}, Shortcut::kIdentity, true);
    }
    x = block("block12", x, {728, 1024}, Shortcut::kConv, true);
    x = b_.relu("act3", b_.batch_norm("bn3", separable("conv3", x, 1536)));
    x = b_.relu("act4", b_.batch_norm("bn4", separable("conv4", x, 2048)));
    return b_.global_avg_pool("global_pool", x);
  }

 private:
  enum class Shortcut { kIdentity, kConv };

  ValueId separable(const std::string& name, ValueId x, int out) {
    x = b_.conv(name + ".conv1", x, {.size = 3, .pad = 1, .depthwise = true});
    return b_.conv(name + ".pointwise", x, {.out = out});
  }

  ValueId block(const std::string& name, ValueId src, const std::vector<int>& widths,
                Shortcut shortcut, bool starts_with_relu) {
    int module = 0;
    const auto next = [&] { return name + ".rep." + std::to_string(module++); };
    ValueId x = src;
    for (const int width : widths) {
      if (module > 0 || starts_with_relu) {
        x = b_.relu(next(), x);
      }
      x = separable(next(), x, width);
      x = b_.batch_norm(next(), x);
    }
    if (shortcut == Shortcut::kIdentity) {
      return b_.add(name + ".add", x, src);
    }
    x = b_.max_pool(next(), x, pool_pad_);
    const ValueId skip = b_.conv(name + ".skip", src, {.out = widths.back(), .stride = 2});
    return b_.add(name + ".add", x, b_.batch_norm(name + ".skipbn", skip));
  }

  GraphBuilder& b_;
  PadMode pool_pad_;
};

}  // namespace

int scaled_channels(int channels, double width) {
  return std::max(8, static_cast<int>(std::floor(channels * width / 8 + 0.5)) * 8);
}

ValueId append_seed(GraphBuilder& builder, const NetworkConfig& config) {
  return SeedNetwork(builder, config).build();
}

ValueId append_xception(GraphBuilder& builder, const NetworkConfig& config) {
  return PaperNetwork(builder, config).build();
}

}  // namespace xception
