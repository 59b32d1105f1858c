// From a thread's sums of a matrix product to the tensor that is kept.
#pragma once

#include <cstdint>

#include "kernels/column_vectors.cuh"
#include "kernels/epilogue.cuh"
#include "kernels/implicit_gemm.h"
#include "kernels/ptx.cuh"
#include "kernels/unrolled.cuh"
#include "kernels/vector.cuh"

namespace xception {

// Epilogue and store of what `product` holds.
template <class Product>
__device__ __forceinline__ void store_product(const ConvGeometry& geometry, const Product& product,
                                              int first_pixel, int first_channel,
                                              const DeviceEpilogue& epilogue,
                                              typename Product::Element* dst) {
  using T = typename Product::Element;
  constexpr int kWidth = Product::kWidth;
  using Vector = Words<kVectorWords<T, kWidth>>;
  const int pixel = first_pixel + product.first_row();
  const std::int64_t row_step = std::int64_t{geometry.dst_stride} * Product::kRowStep;
  const int rows = geometry.pixels - pixel;
  const int inside = (rows + Product::kRowStep - 1) / Product::kRowStep;  // of this lane's
#pragma unroll
  for (int vector = 0; vector < Product::kVectors; ++vector) {
    const int channel = first_channel + product.column(vector);
    if (channel >= geometry.dst_stride) {
      continue;
    }
    float y[Product::kRows][kWidth];
    const auto set = [&](const auto& value) {
#pragma unroll
      for (int i = 0; i < Product::kRows; ++i) {
#pragma unroll
        for (int e = 0; e < kWidth; ++e) {
          y[i][e] = value(i, e);
        }
      }
    };
    set([&](int i, int e) { return product.sum(i, vector, e); });
    const ChannelEpilogue<T, kWidth, true> finish(
        epilogue, [channel](const float* vector, float(&values)[kWidth]) {
          load_columns(vector + channel, values);
        });
    const std::int64_t offset = result_offset(geometry, pixel, channel);
    finish.apply_inner(offset, row_step, inside, y);
    // An infinity times the weights' padding would be NaN in the padding of the result.
    const int channels = geometry.channels - channel;
    if (channels < kWidth) {
      set([&](int i, int e) { return e < channels ? y[i][e] : 0.0F; });
    }
    const auto store = [&](const auto& packed) {
      each_inside<Product::kRows>(inside, [&](auto index) {
        constexpr int i = decltype(index)::value;
        store_words(reinterpret_cast<Vector*>(dst + offset + i * row_step), packed(y[i]));
      });
    };
    if (finish.final_relu()) {
      store([](const float(&row)[kWidth]) { return pack_relu<T, kWidth>(row); });
    } else {
      store([](const float(&row)[kWidth]) { return pack<T, kWidth>(row); });
    }
  }
}

}  // namespace xception
