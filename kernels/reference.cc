#include "kernels/reference.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace xception::reference {
namespace {

// Offset of element (n, y, x, c) of an NHWC tensor.
std::int64_t offset(const Shape& shape, int n, int y, int x, int c) {
  return ((static_cast<std::int64_t>(n) * shape.h + y) * shape.w + x) * shape.c + c;
}

bool inside(const Shape& shape, int y, int x) {
  return y >= 0 && y < shape.h && x >= 0 && x < shape.w;
}

// Calls visit(n, p, q, k) for every element of `shape`, in NHWC order.
template <class Visit>
void for_each_element(const Shape& shape, Visit visit) {
  for (int n = 0; n < shape.n; ++n) {
    for (int p = 0; p < shape.h; ++p) {
      for (int q = 0; q < shape.w; ++q) {
        for (int k = 0; k < shape.c; ++k) {
          visit(n, p, q, k);
        }
      }
    }
  }
}

// max(value, 0) that lets a NaN through, so that a poisoned input shows in the output.
double clamp_to_zero(double value) { return value < 0.0 ? 0.0 : value; }

double apply(const Epilogue& epilogue, int k, std::int64_t element, double y) {
  if (epilogue.shift != nullptr) {
    y += epilogue.shift[k];
  }
  if (epilogue.relu) {
    y = clamp_to_zero(y);
  }
  if (epilogue.second_scale != nullptr) {
    y = y * epilogue.second_scale[k] + epilogue.second_shift[k];
  }
  if (epilogue.residual != nullptr) {
    y += epilogue.residual[element];
  }
  if (epilogue.final_relu) {
    y = clamp_to_zero(y);
  }
  return y;
}

// Sums that are added up beside one another, so that no addition waits for the one before it: of
// kBesideOutputs channels at kBesidePixels pixels. Each has its own order: the window's places,
// then the source's channels.
constexpr int kBesidePixels = 64;
constexpr int kBesideOutputs = 8;
using Sums = double[kBesidePixels][kBesideOutputs];

// Where the source has channel 0 for place (r, s) of an output pixel's window, pixels of all images
// being counted on; null in the padding.
const float* source_pixel(const ConvProblem& problem, const float* src, std::int64_t pixel, int r,
                          int s) {
  const Shape out = problem.dst();
  const std::int64_t row = pixel / out.w;
  const int y = static_cast<int>(row % out.h) * problem.window.stride - problem.window.pad.top + r;
  const int x =
      static_cast<int>(pixel % out.w) * problem.window.stride - problem.window.pad.left + s;
  return inside(problem.src, y, x)
             ? src + offset(problem.src, static_cast<int>(row / out.h), y, x, 0)
             : nullptr;
}

double load(const ConvProblem& problem, float value) {
  return problem.relu_on_load ? clamp_to_zero(value) : static_cast<double>(value);
}

// Adds, for one place of the window, what `pixels` source pixels give to output channels from
// `first` on. `weights` are those of the place, and those of the next source channel `step` on.
void add_dense(const ConvProblem& problem, const float* const* sources, int pixels,
               const float* weights, int first, int outputs, std::int64_t step, Sums& sums) {
  for (int c = 0; c < problem.src.c; ++c) {
    double weight[kBesideOutputs] = {};
    for (int i = 0; i < outputs; ++i) {
      weight[i] = weights[(std::int64_t{first + i} * problem.src.c + c) * step];
    }
    for (int j = 0; j < pixels; ++j) {
      if (sources[j] != nullptr) {
        const double value = load(problem, sources[j][c]);
        for (int i = 0; i < kBesideOutputs; ++i) {
          sums[j][i] += weight[i] * value;
        }
      }
    }
  }
}

// The same where each output channel has its own source channel.
void add_depthwise(const ConvProblem& problem, const float* const* sources, int pixels,
                   const float* weights, int first, int outputs, std::int64_t step, Sums& sums) {
  for (int j = 0; j < pixels; ++j) {
    for (int i = 0; sources[j] != nullptr && i < outputs; ++i) {
      sums[j][i] +=
          static_cast<double>(weights[(first + i) * step]) * load(problem, sources[j][first + i]);
    }
  }
}

}  // namespace

void conv(const ConvProblem& problem, const float* src, const float* weights,
          const Epilogue& epilogue, float* dst) {
  const Shape out = problem.dst();
  const int size = problem.window.size;
  const std::int64_t all_pixels = std::int64_t{out.n} * out.h * out.w;
  const auto add = problem.depthwise ? add_depthwise : add_dense;
  for (std::int64_t pixel = 0; pixel < all_pixels; pixel += kBesidePixels) {
    const auto pixels = static_cast<int>(std::min<std::int64_t>(kBesidePixels, all_pixels - pixel));
    for (int k = 0; k < out.c; k += kBesideOutputs) {
      const int outputs = std::min(kBesideOutputs, out.c - k);
      Sums sums = {};
      for (int place = 0; place < size * size; ++place) {
        const float* sources[kBesidePixels];
        for (int j = 0; j < pixels; ++j) {
          sources[j] = source_pixel(problem, src, pixel + j, place / size, place % size);
        }
        add(problem, sources, pixels, weights + place, k, outputs, std::int64_t{size} * size, sums);
      }
      for (int j = 0; j < pixels; ++j) {
        for (int i = 0; i < outputs; ++i) {
          const std::int64_t element = (pixel + j) * out.c + k + i;
          dst[element] = static_cast<float>(apply(epilogue, k + i, element, sums[j][i]));
        }
      }
    }
  }
}

void batch_norm(std::int64_t pixels, int channels, double epsilon, const float* gamma,
                const float* beta, const float* mean, const float* variance, const float* src,
                float* dst) {
  for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
    for (int c = 0; c < channels; ++c) {
      const std::int64_t i = pixel * channels + c;
      const double centred = static_cast<double>(src[i]) - mean[c];
      dst[i] = static_cast<float>(centred / std::sqrt(variance[c] + epsilon) * gamma[c] + beta[c]);
    }
  }
}

void relu(std::int64_t elements, const float* src, float* dst) {
  for (std::int64_t i = 0; i < elements; ++i) {
    dst[i] = src[i] < 0.0F ? 0.0F : src[i];
  }
}

void add(std::int64_t elements, const float* a, const float* b, float* dst) {
  for (std::int64_t i = 0; i < elements; ++i) {
    dst[i] = static_cast<float>(static_cast<double>(a[i]) + b[i]);
  }
}

void max_pool(const PoolProblem& problem, const float* src, const float* residual, float* dst) {
  const Shape out = problem.dst();
  const Window& window = problem.window;
  for_each_element(out, [&](int n, int p, int q, int c) {
    double best = -std::numeric_limits<double>::infinity();
    for (int r = 0; r < window.size; ++r) {
      for (int s = 0; s < window.size; ++s) {
        const int y = p * window.stride - window.pad.top + r;
        const int x = q * window.stride - window.pad.left + s;
        if (!inside(problem.src, y, x)) {
          continue;
        }
        const double value = src[offset(problem.src, n, y, x, c)];
        // value > best alone would drop a NaN; a NaN in best survives because it compares false.
        best = std::isnan(value) || value > best ? value : best;
      }
    }
    const std::int64_t element = offset(out, n, p, q, c);
    dst[element] = static_cast<float>(residual == nullptr ? best : best + residual[element]);
  });
}

void avg_pool(const PoolProblem& problem, const float* src, float* dst) {
  const Shape out = problem.dst();
  const Window& window = problem.window;
  for_each_element(out, [&](int n, int p, int q, int c) {
    double sum = 0.0;
    int count = 0;
    for (int r = 0; r < window.size; ++r) {
      for (int s = 0; s < window.size; ++s) {
        const int y = p * window.stride - window.pad.top + r;
        const int x = q * window.stride - window.pad.left + s;
        if (inside(problem.src, y, x)) {
          sum += src[offset(problem.src, n, y, x, c)];
          ++count;
        }
      }
    }
    // A window that lies wholly in the padding has no pixels to average.
    dst[offset(out, n, p, q, c)] = static_cast<float>(count == 0 ? 0.0 : sum / count);
  });
}

void global_avg_pool(const Shape& src_shape, const float* src, float* dst) {
  const std::int64_t pixels = static_cast<std::int64_t>(src_shape.h) * src_shape.w;
  for (int n = 0; n < src_shape.n; ++n) {
    for (int c = 0; c < src_shape.c; ++c) {
      double sum = 0.0;
      for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
        sum += src[(n * pixels + pixel) * src_shape.c + c];
      }
      dst[static_cast<std::int64_t>(n) * src_shape.c + c] =
          static_cast<float>(sum / static_cast<double>(pixels));
    }
  }
}

void linear(int n, int c, int k, const float* src, const float* weights, const float* bias,
            float* dst) {
  for (int row = 0; row < n; ++row) {
    for (int out = 0; out < k; ++out) {
      double sum = bias == nullptr ? 0.0 : bias[out];
      for (int i = 0; i < c; ++i) {
        sum += static_cast<double>(src[static_cast<std::int64_t>(row) * c + i]) *
               weights[static_cast<std::int64_t>(out) * c + i];
      }
      dst[static_cast<std::int64_t>(row) * k + out] = static_cast<float>(sum);
    }
  }
}

void softmax(std::int64_t rows, int columns, const float* src, float* dst) {
  std::vector<double> exponentials(static_cast<std::size_t>(columns));
  for (std::int64_t row = 0; row < rows; ++row) {
    const float* in = src + row * columns;
    float* out = dst + row * columns;
    const double top = columns == 0 ? 0.0 : *std::max_element(in, in + columns);
    double sum = 0.0;
    for (int i = 0; i < columns; ++i) {
      exponentials[static_cast<std::size_t>(i)] = std::exp(in[i] - top);
      sum += exponentials[static_cast<std::size_t>(i)];
    }
    for (int i = 0; i < columns; ++i) {
      out[i] = static_cast<float>(exponentials[static_cast<std::size_t>(i)] / sum);
    }
  }
}

void normalize(std::int64_t pixels, int channels, const float* mean, const float* std,
               const std::uint8_t* src, float* dst) {
  for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
    for (int c = 0; c < channels; ++c) {
      const std::int64_t i = pixel * channels + c;
      dst[i] = static_cast<float>((src[i] / 255.0 - mean[c]) / std[c]);
    }
  }
}

}  // namespace xception::reference
