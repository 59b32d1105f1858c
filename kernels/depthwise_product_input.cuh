// What a depthwise product (depthwise_product.cuh) reads: where a thread stands in its block, and
// how the block's input comes to shared memory, all threads together.
//
// Shared memory: [rows][columns][32 channels], zeros where it lies outside the picture. A thread
// brings a piece of 16 bytes of a column, in all rows, and of the last two columns, which no thread
// has to itself, a piece in some.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise.h"
#include "kernels/gpu.h"
#include "kernels/ptx.cuh"
#include "kernels/unrolled.cuh"
#include "kernels/vector.cuh"

namespace xception {

struct DepthwiseProductParams {
  const std::byte* src;
  const std::byte* weights;
  std::byte* dst;
  DeviceEpilogue epilogue;
  int channels;
  int h;
  int w;
  int p;
  int q;
  int pad_top;
  int pad_left;
  unsigned chunks;
  int pixel_bytes;
  bool plain_epilogue;  // is_shift_and_relu()
  std::int64_t src_row_bytes;
  std::int64_t dst_row_bytes;
};

inline constexpr int kProductPixelBytes = kProductChannels * 2;  // in shared memory
inline constexpr unsigned kProductPieces = kProductPixelBytes / 16;
static_assert(kProductColumns * kProductPieces == 32, "a warp reads a piece a lane");

// Of the input of a block.
XC_HOST_DEVICE constexpr int product_rows(int strip_rows) { return 2 * strip_rows + 2; }
XC_HOST_DEVICE constexpr unsigned product_columns(unsigned warps) {
  return kProductColumns * warps + 2;
}

// Where a thread stands in a block of `block_rows` rows of output, whose input is at `tile`.
struct DepthwiseProductPlace {
  static constexpr int kPieceBytes = 16;
  static constexpr int kPieceChannels = kProductChannels / static_cast<int>(kProductPieces);

  __device__ __forceinline__ DepthwiseProductPlace(const DepthwiseProductParams& params,
                                                   std::uint32_t shared_tile, int block_rows)
      : tile(shared_tile),
        own(kept(tile + threadIdx.x * kPieceBytes)),
        row_bytes(kept(product_columns(blockDim.x / 32) * kProductPixelBytes)),
        column(threadIdx.x / kProductPieces),
        piece(threadIdx.x % kProductPieces),
        chunk(blockIdx.x % params.chunks),
        channel(static_cast<int>(chunk * kProductChannels + piece * kPieceChannels)),
        channels_left(static_cast<int>(kept(static_cast<unsigned>(params.channels - channel)))),
        p(static_cast<int>(kept(blockIdx.y * static_cast<unsigned>(block_rows)))),
        q(static_cast<int>(blockIdx.x / params.chunks * (blockDim.x / kProductPieces))) {}

  // Of a pixel, in bytes; behind its end where the tensor has no such channels.
  __device__ __forceinline__ int piece_start() const { return channel * 2; }

  const std::uint32_t tile;  // the block's input in shared memory
  const std::uint32_t own;   // this thread's first piece of it
  const std::uint32_t row_bytes;
  const std::uint32_t column;  // of the block
  const std::uint32_t piece;   // of a pixel
  const std::uint32_t chunk;
  const int channel;        // the first of the piece
  const int channels_left;  // from there on
  const int p;              // the block's first pixel
  const int q;
};

// What a thread does to bring the input of two strips of kRows rows, one below the other.
template <class T, int kRows, bool kRelu>
class DepthwiseProductInput {
  static constexpr int kInputRows = product_rows(kRows);
  static constexpr int kPieceBytes = DepthwiseProductPlace::kPieceBytes;
  static constexpr unsigned kEdgeColumns = 2;
  static constexpr unsigned kEdgePieces = kEdgeColumns * kProductPieces;  // of a row

 public:
  __device__ __forceinline__ DepthwiseProductInput(const DepthwiseProductParams& params,
                                                   const DepthwiseProductPlace& at)
      : params_(params),
        at_(at),
        edge_row_(threadIdx.x / kEdgePieces),
        edge_step_(blockDim.x / kEdgePieces),
        edge_column_(blockDim.x / kProductPieces + at.column % kEdgeColumns),
        edge_(at.tile + edge_row_ * at.row_bytes + edge_column_ * kProductPixelBytes +
              at.piece * kPieceBytes) {}

  // Asks for it; what goes through registers has landed.
  __device__ __forceinline__ void fetch() const {
    const int x = at_.q + static_cast<int>(at_.column) - params_.pad_left;
    const int y = at_.p - params_.pad_top;
    const auto below = [](int row) { return (1U << min(max(row, 0), kInputRows)) - 1; };
    // 16 times bit i: whether row i is inside.
    const std::uint32_t rows = kPieceBytes * (below(params_.h - y) & ~below(-y));
    // Columns that are inside, and have these channels.
    const unsigned columns = at_.piece_start() < params_.pixel_bytes ? params_.w : 0;
    const auto rows_inside = [&](int column) {
      return static_cast<unsigned>(column) < columns ? rows : 0;
    };
    // Where the column stands in the first row, were it inside.
    const std::byte* const first =
        params_.src + (std::int64_t{blockIdx.z} * params_.h + y) * params_.src_row_bytes +
        std::int64_t{x} * params_.pixel_bytes + at_.piece_start();
    const int to_edge = static_cast<int>(edge_column_ - at_.column);
    std::uint32_t edge_inside = rows_inside(x + to_edge) >> edge_row_;
    const std::byte* edge_from =
        first + std::int64_t{to_edge} * params_.pixel_bytes + edge_row_ * params_.src_row_bytes;
    const std::uint32_t own_inside = rows_inside(x);
    const std::byte* from = first;
    ChunkCopy copies[kInputRows];
    std::uint32_t to = at_.own;
    unrolled<kInputRows>([&](auto index) {
      constexpr int row = decltype(index)::value;
      copies[row].template fetch<0, 0>(to, from, own_inside >> row & kPieceBytes);
      to += at_.row_bytes;
      from += params_.src_row_bytes;
      return true;
    });
    to = at_.own;
    unrolled<kInputRows>([&](auto index) {
      land(copies[decltype(index)::value], to);
      to += at_.row_bytes;
      return true;
    });
    each_edge([&](std::uint32_t edge) {
      ChunkCopy copy;
      copy.template fetch<0, 0>(edge, edge_from, edge_inside & kPieceBytes);
      land(copy, edge);
      edge_inside >>= edge_step_;
      edge_from += edge_step_ * params_.src_row_bytes;
    });
  }

  // ReLU of it, where copies have landed without: each thread's own, so that no barrier lies
  // between.
  __device__ __forceinline__ void rectify() const {
    if constexpr (!kRelu || ChunkCopy::kInRegister) {
      return;
    }
    std::uint32_t at = at_.own;
    unrolled<kInputRows>([&](auto) {
      rectify_piece(at);
      at += at_.row_bytes;
      return true;
    });
    each_edge([](std::uint32_t edge) { rectify_piece(edge); });
  }

 private:
  __device__ __forceinline__ static void land(ChunkCopy& copy, std::uint32_t address) {
    if constexpr (kRelu) {
      copy.change([](Words<4>& words) { rectify(words); });
    }
    copy.template land<0>(address);
  }

  // body(address) for each piece of the last two columns that this thread brings.
  template <class Body>
  __device__ __forceinline__ void each_edge(const Body& body) const {
    const std::uint32_t end = at_.tile + kInputRows * at_.row_bytes;
    const std::uint32_t step = kept(edge_step_ * at_.row_bytes);
    for (std::uint32_t at = edge_; at < end; at += step) {
      body(at);
    }
  }

  __device__ __forceinline__ static void rectify_piece(std::uint32_t address) {
    Words<4> words = load_shared<0>(address);
    rectify(words);
    store_shared(address, words);
  }

  __device__ __forceinline__ static void rectify(Words<4>& words) {
#pragma unroll
    for (std::uint32_t& word : words.word) {
      word = relu_pair(word, T{});
    }
  }

  const DepthwiseProductParams& params_;
  const DepthwiseProductPlace& at_;
  const std::uint32_t edge_row_;   // the first of this thread's pieces of the last columns
  const std::uint32_t edge_step_;  // rows to the next one
  const std::uint32_t edge_column_;
  const std::uint32_t edge_;  // where the first goes
};

}  // namespace xception
