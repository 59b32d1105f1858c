// What oneDNN 2.6 does wrongly by itself, and engine/onednn.h has it not do.
#include <atomic>
#include <stop_token>
#include <thread>
#include <vector>

#include "engine/onednn.h"
#include "testing.h"

namespace xception {
namespace {

using dnnl::memory;

const dnnl::engine& cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::convolution_forward::primitive_desc describe(memory::data_type type, int channels, int side,
                                                   int window, int stride) {
  constexpr int kOut = 32;
  const int out = (side - window) / stride + 1;
  const auto activations = memory::format_tag::nhwc;
  return onednn::convolution(cpu(), {{1, channels, side, side}, type, activations},
                             {{kOut, channels, window, window}, type, memory::format_tag::any},
                             {{kOut}, memory::data_type::f32, memory::format_tag::x},
                             {{1, kOut, out, out}, type, activations},
                             {{window, window}, {stride, stride}, {0, 0}, {0, 0}},
                             dnnl::primitive_attr());
}

// The first output of a stem whose pictures are 1 and whose weights are 1, 2, ... 27.
float run_stem(int side) {
  const auto made = describe(memory::data_type::f32, 3, side, 3, 2);
  std::vector<float> images(static_cast<std::size_t>(3 * side * side), 1.0F);
  std::vector<float> weights;
  for (int i = 0; i < 32 * 27; ++i) {
    weights.push_back(static_cast<float>(i % 27 + 1));
  }
  std::vector<float> bias(32);
  const memory src(made.src_desc(), cpu(), images.data());
  memory plain({{32, 3, 3, 3}, memory::data_type::f32, memory::format_tag::oihw}, cpu(),
               weights.data());
  memory packed(made.weights_desc(), cpu());
  const memory shift(made.bias_desc(), cpu(), bias.data());
  std::vector<float> outputs(made.dst_desc().get_size() / sizeof(float));
  const memory dst(made.dst_desc(), cpu(), outputs.data());
  dnnl::stream stream(cpu());
  dnnl::reorder(plain, packed).execute(stream, plain, packed);
  dnnl::convolution_forward(made).execute(stream, {{DNNL_ARG_SRC, src},
                                                   {DNNL_ARG_WEIGHTS, packed},
                                                   {DNNL_ARG_BIAS, shift},
                                                   {DNNL_ARG_DST, dst}});
  stream.wait();
  return outputs.front();
}

}  // namespace

TEST_CASE("a float32 stem is right while bf16 convolutions are prepared on another thread") {
  dnnl::set_primitive_cache_capacity(0);  // or it would be prepared once
  std::atomic<int> done{0};
  const std::jthread other([&](const std::stop_token& end) {
    try {
      for (int i = 0; !end.stop_requested(); ++i) {
        describe(memory::data_type::bf16, 64, 20 + i % 10, 1, 1);
        while (i > 4 * done && !end.stop_requested()) {  // a mutex is not fair
          std::this_thread::yield();
        }
      }
    } catch (const dnnl::error&) {  // a processor without
    }
  });
  int wrong = 0;
  for (; done < 1500; ++done) {
    wrong += run_stem(71 + done % 15) == 27.0F * 28 / 2 ? 0 : 1;
  }
  CHECK(wrong == 0);
}

}  // namespace xception
