// oneDNN 2.6 and 3.x under one set of calls. 2.x makes a primitive descriptor of an operation
// descriptor, 3.x in one go; what else differs stands here too.
#pragma once

#include <dnnl.hpp>
#include <mutex>
#include <string_view>

namespace xception::onednn {

// Strides and paddings of a window, as oneDNN takes them.
struct WindowDims {
  dnnl::memory::dims size;
  dnnl::memory::dims stride;
  dnnl::memory::dims pad_begin;
  dnnl::memory::dims pad_end;
};

// Goes on to the next implementation where oneDNN's choice may be wrong: what 2.6 takes for a 1x1
// convolution that adds float32 to sums of bf16 is, of an odd number of channels, for some numbers
// of pixels (of 13 channels, 90). With whatever it is asked besides, in whatever version, to be
// safe.
inline void pass_over_wrong(dnnl::convolution_forward::primitive_desc& desc,
                            const dnnl::memory::desc& src) {
#if DNNL_VERSION_MAJOR >= 3
  const bool is_odd = src.get_dims()[1] % 2 == 1;
#else
  const bool is_odd = src.dims()[1] % 2 == 1;
#endif
  const auto is_wrong = [&] {
    return is_odd && std::string_view(desc.impl_info_str()).starts_with("jit_bf16_1x1");
  };
  while (is_wrong() && desc.next_impl()) {
  }
}

// One convolution at a time may be described in a process: 2.6 has a variable of it in which one
// that is bf16 leaves what one that is float32 reads at that moment, and then a stem's three
// channels are taken for four (openvinotoolkit/oneDNN, pull request 167). 3.1 and 3.7 were not seen
// to do so.
inline std::mutex& descriptions() {
  static std::mutex mutex;
  return mutex;
}

// `bias` may be an empty descriptor.
inline dnnl::convolution_forward::primitive_desc convolution(
    const dnnl::engine& engine, const dnnl::memory::desc& src, const dnnl::memory::desc& weights,
    const dnnl::memory::desc& bias, const dnnl::memory::desc& dst, const WindowDims& window,
    const dnnl::primitive_attr& attr) {
  constexpr auto kKind = dnnl::prop_kind::forward_inference;
  constexpr auto kAlgorithm = dnnl::algorithm::convolution_direct;
  const std::scoped_lock one_at_a_time(descriptions());
#if DNNL_VERSION_MAJOR >= 3
  dnnl::convolution_forward::primitive_desc made(engine, kKind, kAlgorithm, src, weights, bias, dst,
                                                 window.stride, window.pad_begin, window.pad_end,
                                                 attr);
#else
  const dnnl::convolution_forward::desc desc(kKind, kAlgorithm, src, weights, bias, dst,
                                             window.stride, window.pad_begin, window.pad_end);
  dnnl::convolution_forward::primitive_desc made(desc, attr, engine);
#endif
  pass_over_wrong(made, src);  // here: the next one is made of `desc` again
  return made;
}

inline dnnl::pooling_forward::primitive_desc pooling(
    const dnnl::engine& engine, dnnl::algorithm algorithm, const dnnl::memory::desc& src,
    const dnnl::memory::desc& dst, const WindowDims& window, const dnnl::primitive_attr& attr) {
  constexpr auto kKind = dnnl::prop_kind::forward_inference;
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::memory::dims no_dilation(window.size.size(), 0);
  return {engine,
          kKind,
          algorithm,
          src,
          dst,
          window.stride,
          window.size,
          no_dilation,
          window.pad_begin,
          window.pad_end,
          attr};
#else
  const dnnl::pooling_forward::desc desc(kKind, algorithm, src, dst, window.stride, window.size,
                                         window.pad_begin, window.pad_end);
  return {desc, attr, engine};
#endif
}

inline dnnl::eltwise_forward::primitive_desc relu(const dnnl::engine& engine,
                                                  const dnnl::memory::desc& values,
                                                  const dnnl::primitive_attr& attr) {
  constexpr auto kKind = dnnl::prop_kind::forward_inference;
  constexpr auto kRelu = dnnl::algorithm::eltwise_relu;
#if DNNL_VERSION_MAJOR >= 3
  return {engine, kKind, kRelu, values, values, 0.0F, 0.0F, attr};
#else
  return {dnnl::eltwise_forward::desc(kKind, kRelu, values, 0.0F, 0.0F), attr, engine};
#endif
}

inline dnnl::binary::primitive_desc binary(const dnnl::engine& engine, dnnl::algorithm algorithm,
                                           const dnnl::memory::desc& a, const dnnl::memory::desc& b,
                                           const dnnl::memory::desc& dst,
                                           const dnnl::primitive_attr& attr) {
#if DNNL_VERSION_MAJOR >= 3
  return {engine, algorithm, a, b, dst, attr};
#else
  return {dnnl::binary::desc(algorithm, a, b, dst), attr, engine};
#endif
}

inline void append_relu(dnnl::post_ops& ops) {
#if DNNL_VERSION_MAJOR >= 3
  ops.append_eltwise(dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
#else
  ops.append_eltwise(1.0F, dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
#endif
}

}  // namespace xception::onednn
