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
  if (epilogue.scale != nullptr) {
    y *= epilogue.scale[k];
  }
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

// The sums of kOutputs output channels from `first` on at one window, over source channels
// [c_begin, c_end). Each has its own order, and their additions do not wait for one another.
template <int kOutputs>
void conv_sums(const ConvProblem& problem, const float* src, const float* weights, int n, int p,
               int q, int first, int c_begin, int c_end, double (&sums)[kOutputs]) {
  const int size = problem.window.size;
  const std::int64_t channels = c_end - c_begin;  // the extent of the weights' second axis
  std::fill(sums, sums + kOutputs, 0.0);
  for (int c = c_begin; c < c_end; ++c) {
    for (int r = 0; r < size; ++r) {
      for (int s = 0; s < size; ++s) {
        const int y = p * problem.window.stride - problem.window.pad.top + r;
        const int x = q * problem.window.stride - problem.window.pad.left + s;
        if (!inside(problem.src, y, x)) {
          continue;
        }
        double value = src[offset(problem.src, n, y, x, c)];
        if (problem.relu_on_load) {
          value = clamp_to_zero(value);
        }
        for (int i = 0; i < kOutputs; ++i) {
          const std::int64_t row = (first + i) * channels + (c - c_begin);
          sums[i] += static_cast<double>(weights[(row * size + r) * size + s]) * value;
        }
      }
    }
  }
}

}  // namespace

void conv(const ConvProblem& problem, const float* src, const float* weights,
          const Epilogue& epilogue, float* dst) {
  const Shape out = problem.dst();
  const auto compute = [&]<int kOutputs>(int n, int p, int q, int first) {
    const int c_begin = problem.depthwise ? first : 0;
    const int c_end = problem.depthwise ? first + 1 : problem.src.c;
    double sums[kOutputs];
    conv_sums(problem, src, weights, n, p, q, first, c_begin, c_end, sums);
    for (int i = 0; i < kOutputs; ++i) {
      const std::int64_t element = offset(out, n, p, q, first + i);
      dst[element] = static_cast<float>(apply(epilogue, first + i, element, sums[i]));
    }
  };
  constexpr int kOutputs = 8;
  for_each_element({out.n, out.h, out.w, 1}, [&](int n, int p, int q, int) {
    int k = 0;
    for (; !problem.depthwise && k + kOutputs <= out.c; k += kOutputs) {
      compute.template operator()<kOutputs>(n, p, q, k);
    }
    for (; k < out.c; ++k) {
      compute.template operator()<1>(n, p, q, k);
    }
  });
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
