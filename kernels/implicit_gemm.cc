#include "kernels/implicit_gemm.h"

#include <limits>

#include "kernels/numeric.h"

namespace xception {
namespace {

bool aligned(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % kChunkBytes == 0;
}

// Why the shape is refused; empty where it is not.
std::string refused_shape(const ConvProblem& problem, int size) {
  const Shape& src = problem.src;
  const Window& window = problem.window;
  const auto outside = [size](int pad) { return pad < 0 || pad >= size; };
  if (src.n < 1 || src.h < 1 || src.w < 1 || src.c < 1 || problem.k < 1) {
    return "every extent must be at least 1";
  }
  constexpr int kMostChannels = 1 << 24;  // sizes in bytes are int
  if (src.c > kMostChannels || problem.k > kMostChannels) {
    return "at most 2^24 channels";
  }
  if (problem.depthwise || problem.relu_on_load) {
    return "the convolution is dense and takes its source as it is";
  }
  if (window.size != size || window.stride < 1 || window.stride > 2) {
    return "the window must be of size " + std::to_string(size) + " and stride 1 or 2";
  }
  if (outside(window.pad.top) || outside(window.pad.left) || outside(window.pad.bottom) ||
      outside(window.pad.right)) {
    return "the padding must be smaller than the window";
  }
  const Shape dst = problem.dst();
  if (dst.h < 1 || dst.w < 1) {
    return "the window does not fit the picture";
  }
  // Rows of the product are counted in int, its elements in 64 bits; a tile may begin beyond the
  // last.
  constexpr std::int64_t kMost = std::numeric_limits<int>::max() - kMatrixTiles[0].rows;
  if (std::int64_t{dst.n} * dst.h * dst.w > kMost) {
    return "at most 2^31 output pixels less one tile";
  }
  return "";
}

}  // namespace

ConvGeometry conv_geometry(const ConvProblem& problem, Numeric numeric) {
  const Shape dst = problem.dst();
  ConvGeometry geometry;
  geometry.src_h = problem.src.h;
  geometry.src_w = problem.src.w;
  geometry.src_stride = channel_stride(problem.src.c);
  geometry.dst_h = dst.h;
  geometry.dst_w = dst.w;
  geometry.channels = problem.k;
  geometry.dst_stride = channel_stride(problem.k);
  geometry.pixels = dst.n * dst.h * dst.w;
  geometry.stride = problem.window.stride;
  geometry.pad_top = problem.window.pad.top;
  geometry.pad_left = problem.window.pad.left;
  geometry.depth_tiles = static_cast<int>(ceil_div(geometry.src_stride, tile_depth(numeric)));
  return geometry;
}

std::string dense_name(const std::string& operation, const ConvProblem& problem, Numeric numeric) {
  return operation + " " + to_string(problem.src) + " -> " + std::to_string(problem.k) +
         ", stride " + std::to_string(problem.window.stride) + ", " + numeric_name(numeric);
}

Status check_dense(const std::string& operation, const ConvProblem& problem, int size,
                   Numeric numeric, const GpuInfo& gpu, const DenseArgs& args) {
  const auto refuse = [&](Code code, const std::string& reason) {
    return Status(code, dense_name(operation, problem, numeric) + ": " + reason);
  };
  if (const std::string reason = refused_shape(problem, size); !reason.empty()) {
    return refuse(Code::kInvalidArgument, reason);
  }
  if (!pick_matrix_math(numeric, gpu.arch)) {
    return refuse(Code::kUnsupported, "a GPU of sm_" + std::to_string(gpu.arch) +
                                          " has no tf32; use fp32 or fp16, or one from sm_80 on");
  }
  const DeviceEpilogue& epilogue = args.epilogue;
  if (args.src == nullptr || args.weights == nullptr || args.dst == nullptr) {
    return refuse(Code::kInvalidArgument, "source, weights or destination is missing");
  }
  if ((epilogue.second_scale == nullptr) != (epilogue.second_shift == nullptr)) {
    return refuse(Code::kInvalidArgument, "a second scale needs a second shift, and it a scale");
  }
  for (const void* pointer :
       {args.src, args.weights, static_cast<const void*>(args.dst), epilogue.residual,
        static_cast<const void*>(epilogue.shift), static_cast<const void*>(epilogue.second_scale),
        static_cast<const void*>(epilogue.second_shift)}) {
    if (!aligned(pointer)) {
      return refuse(Code::kInvalidArgument, "a buffer does not start at a multiple of 16 bytes");
    }
  }
  return {};
}

std::vector<std::byte> pack_dense(const ConvProblem& problem, Numeric numeric,
                                  const float* weights) {
  const int taps = problem.window.size * problem.window.size;
  const int depth = tile_depth(numeric);
  const std::int64_t tiles = ceil_div(channel_stride(problem.src.c), depth);
  const std::int64_t blocks = ceil_div(problem.k, kBlockColumns);
  const int per_word = 4 / static_cast<int>(element_bytes(numeric));
  std::vector<float> ordered;
  ordered.reserve(static_cast<std::size_t>(blocks * taps * tiles * kBlockColumns * depth));
  for (int block = 0; block < blocks; ++block) {
    for (int tap = 0; tap < taps; ++tap) {
      for (int tile = 0; tile < tiles; ++tile) {
        for (int element = 0; element < kBlockColumns * depth; ++element) {
          const WeightWord at = weight_word(element / per_word);
          const int k = block * kBlockColumns + at.channel;
          const int c = tile * depth + at.word * per_word + element % per_word;
          const bool inside = k < problem.k && c < problem.src.c;
          const float weight =
              inside ? weights[(std::int64_t{k} * problem.src.c + c) * taps + tap] : 0.0F;
          ordered.push_back(numeric == Numeric::kTf32 ? round_to_tf32(weight) : weight);
        }
      }
    }
  }
  std::vector<std::byte> packed(ordered.size() * element_bytes(numeric));
  to_numeric(ordered, numeric, packed.data());
  return packed;
}

}  // namespace xception
