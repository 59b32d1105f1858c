// What an operation computes, apart from how: extents, strides and the epilogue. Shared by the
// graph, the reference loops and every backend; no device header and no data in here.
//
// All activations are NHWC. p, q, k name output row, output column and output channel.
#pragma once

#include <cstdint>

#include "xception/tensor.h"

namespace xception {

// Zero padding before and after the picture; outputs that would start beyond it do not exist.
struct Padding {
  int top = 0;
  int left = 0;
  int bottom = 0;
  int right = 0;
  friend bool operator==(const Padding&, const Padding&) = default;
};

// A sliding window: size x size, the same stride both ways.
struct Window {
  int size = 1;
  int stride = 1;
  Padding pad;
  friend bool operator==(const Window&, const Window&) = default;
};

// Number of window positions along one side; 0 where the window does not fit.
constexpr int window_positions(int extent, int before, int after, int size, int stride) {
  const int padded = extent + before + after;
  return padded < size ? 0 : (padded - size) / stride + 1;
}

// Padding of TensorFlow's 'same' for one side: ceil(extent / stride) outputs, the odd element at
// the end. Source: TensorFlow, "Notes on padding", tf.nn.convolution.
constexpr int same_padding_total(int extent, int size, int stride) {
  const int outputs = (extent + stride - 1) / stride;
  const int total = (outputs - 1) * stride + size - extent;
  return total > 0 ? total : 0;
}

// Convolution with weights [k][c][size][size] (PyTorch's order), or [c][1][size][size] where
// depthwise.
struct ConvProblem {
  Shape src;
  int k = 0;  // output channels; equals src.c where depthwise
  Window window;
  bool depthwise = false;
  bool relu_on_load = false;  // x = max(x, 0) of every value read

  Shape dst() const {
    return {src.n,
            window_positions(src.h, window.pad.top, window.pad.bottom, window.size, window.stride),
            window_positions(src.w, window.pad.left, window.pad.right, window.size, window.stride),
            k};
  }
};

// What happens to a convolution's sum before it is stored, in this order. Every pointer has one
// value a channel k, `residual` one an output element; null leaves the step out. The affine's scale
// is in the weights already.
struct Epilogue {
  const float* shift = nullptr;         // y = y + shift[k]
  bool relu = false;                    // y = max(y, 0)
  const float* second_scale = nullptr;  // y = second_scale[k] * y + second_shift[k]
  const float* second_shift = nullptr;  //   (both or neither: a batch norm behind a ReLU)
  const float* residual = nullptr;      // y = y + residual[n][p][q][k]
  bool final_relu = false;              // y = max(y, 0)
};

// Max pooling pads with minus infinity; average pooling counts only windows inside the picture.
struct PoolProblem {
  Shape src;
  Window window;

  Shape dst() const {
    return {src.n,
            window_positions(src.h, window.pad.top, window.pad.bottom, window.size, window.stride),
            window_positions(src.w, window.pad.left, window.pad.right, window.size, window.stride),
            src.c};
  }
};

}  // namespace xception
