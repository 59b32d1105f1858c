// The obvious loops: every operation in double precision, one sum an output in one order. They are
// the oracle of every kernel and backend. float in, float out, accumulation in double; NHWC.
//
// `src` and `dst` must not overlap, except that `dst` may be `src` in relu, batch_norm and softmax.
// Extents are taken as given: checking them is the caller's part.
#pragma once

#include <cstdint>

#include "kernels/problem.h"

namespace xception::reference {

// ReLU of src where problem.relu_on_load, convolution, dense or depthwise, then the epilogue.
// Weights in PyTorch's order: [k][c][size][size], or [c][1][size][size] where problem.depthwise.
void conv(const ConvProblem& problem, const float* src, const float* weights,
          const Epilogue& epilogue, float* dst);

// y = (x - mean[c]) / sqrt(variance[c] + epsilon) * gamma[c] + beta[c], over `pixels` rows of
// `channels` values.
void batch_norm(std::int64_t pixels, int channels, double epsilon, const float* gamma,
                const float* beta, const float* mean, const float* variance, const float* src,
                float* dst);

void relu(std::int64_t elements, const float* src, float* dst);

void add(std::int64_t elements, const float* a, const float* b, float* dst);

// `residual` (the shape of dst) is added after pooling; null leaves it out.
void max_pool(const PoolProblem& problem, const float* src, const float* residual, float* dst);

void avg_pool(const PoolProblem& problem, const float* src, float* dst);

// {n, h, w, c} -> {n, 1, 1, c}, the mean over all pixels.
void global_avg_pool(const Shape& src_shape, const float* src, float* dst);

// dst[n][k] = bias[k] + sum over c of src[n][c] * weights[k][c]; bias may be null.
void linear(int n, int c, int k, const float* src, const float* weights, const float* bias,
            float* dst);

// Over each of `rows` rows of `columns` values, with the row's maximum subtracted first.
void softmax(std::int64_t rows, int columns, const float* src, float* dst);

// uint8 -> (x / 255 - mean[c]) / std[c].
void normalize(std::int64_t pixels, int channels, const float* mean, const float* std,
               const std::uint8_t* src, float* dst);

}  // namespace xception::reference
