// Compiled once for each instruction set (engine/CMakeLists.txt). Nothing here may call an inline
// function that other files may call too: the linker keeps one copy of such a function for the
// whole program, and it might keep this one.
//
// Depthwise, 3x3, stride 1. A thread takes a row of the output and as many channels as a vector or
// two hold, keeps their weights in registers and goes along the row. A column of three values is
// loaded once and added to the three outputs that see it, so that an output costs 3 loads and 9
// multiply-adds, and the left and right edge need no code of their own; rows above and below the
// picture are left out of the sum (kRows). What limits it is the cache that src comes from. Two of
// the three rows were read for the row before and are in the second-level cache, and the row that
// comes next is fetched into it, in the order of memory: at 147x147x64 and batch 8 a vector of
// outputs took 7.4 ns of an Emerald Rapids core, counted around this loop, and 9.1 where the
// fetches went from pixel to pixel. Nothing is fetched into the first-level cache: 64 to 256
// channels apart, values fall on few of its sets and drive each other out.
// Any other window takes the loop over its taps.
#include "engine/backend_cpu_loops.h"

#include <cstdint>

#include "engine/backend_cpu_vectors.h"

#if defined(XC_LOOPS_AVX512)
#define XC_LOOPS kAvx512Loops
#define XC_LOOPS_NAME "avx512"
#define XC_LANES 16
#elif defined(XC_LOOPS_AVX2)
#define XC_LOOPS kAvx2Loops
#define XC_LOOPS_NAME "avx2"
#define XC_LANES 8
#else
#define XC_LOOPS kBaselineLoops
#define XC_LOOPS_NAME "baseline"
#define XC_LANES 4
#endif

namespace xception::cpu {
namespace {

constexpr float kNoFloor = -__builtin_inff();

// Where row n * dst.h + p of the output reads: rows [begin, end) of the window lie in the picture.
struct Rows {
  int n;
  int top;
  int begin;
  int end;
};

Rows rows_of(const WindowTask& task, int row) {
  const int top = row % task.dst.h * task.window.stride - task.window.pad.top;
  const int below = task.src.h - top;
  return {row / task.dst.h, top, top < 0 ? -top : 0,
          below < task.window.size ? below : task.window.size};
}

// Where in src_data the first row is that the window has of the picture, and where the next one.
int first_line(const WindowTask& task, const Rows& rows) {
  return (rows.n * task.src.h + rows.top + rows.begin) % task.src_lines;
}
int next_line(const WindowTask& task, int line) {
  return line + 1 == task.src_lines ? 0 : line + 1;
}

template <class Src>
const Src* src_line(const WindowTask& task, int line) {
  return static_cast<const Src*>(task.src_data) +
         static_cast<std::int64_t>(line) * task.src.w * task.src.c;
}

template <int kLanes>
Float<kLanes> load_residual(const WindowTask& task, std::int64_t element) {
  return task.residual_is_bf16 ? load<kLanes>(static_cast<const Bf16*>(task.residual) + element)
                               : load<kLanes>(static_cast<const float*>(task.residual) + element);
}

// The sum of an output, with everything that follows it.
template <int kLanes, class Dst>
void finish(const DepthwiseTask& task, Float<kLanes> sum, std::int64_t element, int channel) {
  const Epilogue& epilogue = task.epilogue;
  if (epilogue.shift != nullptr) {
    sum += load<kLanes>(epilogue.shift + channel);
  }
  if (epilogue.relu) {
    sum = at_least<kLanes>(sum, 0.0F);
  }
  if (epilogue.second_scale != nullptr) {
    sum = sum * load<kLanes>(epilogue.second_scale + channel);
    sum = sum + load<kLanes>(epilogue.second_shift + channel);
  }
  if (task.slide.residual != nullptr) {
    sum += load_residual<kLanes>(task.slide, element);
  }
  if (epilogue.final_relu) {
    sum = at_least<kLanes>(sum, 0.0F);
  }
  store<kLanes>(sum, static_cast<Dst*>(task.slide.dst_data) + element);
}

constexpr int kPrefetchSecondLevel = 2;  // as __builtin_prefetch counts

// A row of a 3x3 window of stride 1, of which kRows rows lie in the picture, for a block of
// channels; nothing follows the sum but a shift and a ReLU. kClamps: a ReLU on load.
template <int kLanes, class Src, class Dst, int kRows, bool kClamps>
void depthwise_columns(const DepthwiseTask& task, const Rows& rows, int row, int channel) {
  using Channels = Block<kLanes, Src>;
  constexpr int kParts = Channels::kParts;
  const WindowTask& slide = task.slide;
  const std::int64_t channels = slide.src.c;
  const std::int64_t part = (channels + kParts - 1) / kParts;
  const float* taps = task.split_weights + rows.begin * 3 * part * kParts + channel / kParts;
  Channels weights[kRows][3];
  for (int tap = 0; tap < kRows * 3; ++tap) {
    weights[tap / 3][tap % 3].load_split(taps + tap * part * kParts, part);
  }
  Channels shift{};
  if (task.split_shift != nullptr) {
    shift.load_split(task.split_shift + channel / kParts, part);
  }
  const float floor = task.epilogue.relu ? 0.0F : kNoFloor;

  const Src* src[kRows];
  int line = first_line(slide, rows);
  for (int r = 0; r < kRows; ++r, line = next_line(slide, line)) {
    src[r] = src_line<Src>(slide, line) + channel;
  }
  // As much of the row below them as is computed of this one, in the order of memory.
  const Src* ahead = src_line<Src>(slide, line) + static_cast<std::int64_t>(channel) * slide.src.w;
  Dst* dst = static_cast<Dst*>(slide.dst_data) +
             static_cast<std::int64_t>(row - task.first_row) * slide.dst.w * channels + channel;
  int q = slide.window.pad.left - 2;  // the output that comes to its last column
  const auto write = [&](Channels sum) {
    if (q < 0) {
      return;
    }
    for (int i = 0; i < kParts; ++i) {
      sum.part[i] = at_least<kLanes>(sum.part[i] + shift.part[i], floor);
    }
    sum.store(dst);
    dst += channels;
  };
  // The sums of the outputs that see a column as their last and as their middle one.
  Channels last{};
  Channels middle{};
  for (int column = 0; column < slide.src.w; ++column, ++q) {
    __builtin_prefetch(ahead, 0, kPrefetchSecondLevel);
    ahead += kLanes * kParts;
    Channels fresh{};
    for (int r = 0; r < kRows; ++r) {
      Channels value;
      value.load(src[r]);
      src[r] += channels;
      for (int i = 0; i < kParts; ++i) {
        if constexpr (kClamps) {
          value.part[i] = at_least<kLanes>(value.part[i], 0.0F);
        }
        last.part[i] += weights[r][2].part[i] * value.part[i];
        middle.part[i] += weights[r][1].part[i] * value.part[i];
        fresh.part[i] += weights[r][0].part[i] * value.part[i];
      }
    }
    write(last);
    last = middle;
    middle = fresh;
  }
  for (; q < slide.dst.w; ++q) {
    write(last);
    last = middle;
  }
}

// A row of any window, tap by tap.
template <int kLanes, class Src, class Dst>
void depthwise_taps(const DepthwiseTask& task, const Rows& rows, int row, int channel) {
  const WindowTask& slide = task.slide;
  const float floor = task.relu_on_load ? 0.0F : kNoFloor;
  const int first = first_line(slide, rows);
  for (int q = 0; q < slide.dst.w; ++q) {
    Float<kLanes> sum{};
    for (int r = rows.begin, line = first; r < rows.end; ++r, line = next_line(slide, line)) {
      const Src* row_of_src = src_line<Src>(slide, line) + channel;
      for (int s = 0; s < slide.window.size; ++s) {
        const int column = q * slide.window.stride - slide.window.pad.left + s;
        if (column >= 0 && column < slide.src.w) {
          const Src* src = row_of_src + static_cast<std::int64_t>(column) * slide.src.c;
          const float* weight = task.weights + (r * slide.window.size + s) * slide.src.c + channel;
          sum += load<kLanes>(weight) * at_least<kLanes>(load<kLanes>(src), floor);
        }
      }
    }
    const std::int64_t pixel = static_cast<std::int64_t>(row - task.first_row) * slide.dst.w + q;
    finish<kLanes, Dst>(task, sum, pixel * slide.dst.c + channel, channel);
  }
}

template <int kLanes, class Src, class Dst>
void taps_of_channels(const DepthwiseTask& task, const Rows& rows, int row, int channel,
                      int channel_end) {
  for (; channel + kLanes <= channel_end; channel += kLanes) {
    depthwise_taps<kLanes, Src, Dst>(task, rows, row, channel);
  }
  if constexpr (kLanes > 1) {
    taps_of_channels<kLanes / 2, Src, Dst>(task, rows, row, channel, channel_end);
  }
}

// Blocks as long as they come, then shorter ones; the last few channels tap by tap.
template <int kLanes, class Src, class Dst, int kRows, bool kClamps>
void columns_of_channels(const DepthwiseTask& task, const Rows& rows, int row, int channel,
                         int channel_end) {
  constexpr int kBlock = kLanes * Block<kLanes, Src>::kParts;
  for (; channel + kBlock <= channel_end; channel += kBlock) {
    depthwise_columns<kLanes, Src, Dst, kRows, kClamps>(task, rows, row, channel);
  }
  if constexpr (kLanes > 4) {
    columns_of_channels<kLanes / 2, Src, Dst, kRows, kClamps>(task, rows, row, channel,
                                                              channel_end);
  } else {
    taps_of_channels<kLanes, Src, Dst>(task, rows, row, channel, channel_end);
  }
}

template <class Src, class Dst, bool kClamps>
void columns(const DepthwiseTask& task, const Rows& rows, int row, const Piece& piece) {
  const int begin = piece.channel_begin;
  const int end = piece.channel_end;
  switch (rows.end - rows.begin) {
    case 1:
      return columns_of_channels<XC_LANES, Src, Dst, 1, kClamps>(task, rows, row, begin, end);
    case 2:
      return columns_of_channels<XC_LANES, Src, Dst, 2, kClamps>(task, rows, row, begin, end);
    default:
      return columns_of_channels<XC_LANES, Src, Dst, 3, kClamps>(task, rows, row, begin, end);
  }
}

template <class Src, class Dst>
void depthwise(const DepthwiseTask& task, const Piece& piece) {
  const WindowTask& slide = task.slide;
  const Epilogue& epilogue = task.epilogue;
  // A block of bf16 is stored as one.
  constexpr bool kStores = __is_same(Src, float) || __is_same(Dst, Bf16);
  const bool by_columns = kStores && slide.window.size == 3 && slide.window.stride == 1 &&
                          epilogue.second_scale == nullptr && slide.residual == nullptr &&
                          !epilogue.final_relu;
  for (int row = piece.row_begin; row < piece.row_end; ++row) {
    const Rows rows = rows_of(slide, row);
    if (!by_columns) {
      taps_of_channels<XC_LANES, Src, Dst>(task, rows, row, piece.channel_begin, piece.channel_end);
    } else if constexpr (kStores) {
      if (task.relu_on_load) {
        columns<Src, Dst, true>(task, rows, row, piece);
      } else {
        columns<Src, Dst, false>(task, rows, row, piece);
      }
    }
  }
}

// --- max pooling ---------------------------------------------------------------------------------

constexpr int kMostRows = 3;  // of a window
constexpr int kMostTaps = kMostRows * kMostRows;

// Channels from `channel` on, of a type that stays, in whole blocks; the first one left over. A
// window at an edge names its first tap again for those that it lacks.
template <int kLanes, class T>
int pool_blocks(const T* const* taps, const T* residual, T* dst, int channel, int channel_end) {
  using Channels = Block<kLanes, T>;
  constexpr int kBlock = kLanes * Channels::kParts;
  for (; channel + kBlock <= channel_end; channel += kBlock) {
    Channels largest;
    largest.load(taps[0] + channel);
    for (int tap = 1; tap < kMostTaps; ++tap) {
      Channels value;
      value.load(taps[tap] + channel);
      for (int i = 0; i < Channels::kParts; ++i) {
        largest.part[i] = value.part[i] > largest.part[i] ? value.part[i] : largest.part[i];
      }
    }
    if (residual != nullptr) {
      Channels added;
      added.load(residual + channel);
      for (int i = 0; i < Channels::kParts; ++i) {
        largest.part[i] += added.part[i];
      }
    }
    largest.store(dst + channel);
  }
  return channel;
}

// The same of any types, what is left over in shorter and shorter vectors. `pixel` is the first
// element of the output's.
template <int kLanes, class Src, class Dst>
void pool_channels(const WindowTask& task, const Src* const* taps, std::int64_t pixel, int channel,
                   int channel_end) {
  Dst* dst = static_cast<Dst*>(task.dst_data) + pixel;
  if constexpr (__is_same(Src, Dst)) {
    if (task.residual == nullptr || task.residual_is_bf16 == __is_same(Src, Bf16)) {
      const Src* residual = static_cast<const Src*>(task.residual);
      channel = pool_blocks<kLanes, Src>(taps, residual == nullptr ? nullptr : residual + pixel,
                                         dst, channel, channel_end);
    }
  }
  for (; channel + kLanes <= channel_end; channel += kLanes) {
    Float<kLanes> largest = load<kLanes>(taps[0] + channel);
    for (int i = 1; i < kMostTaps; ++i) {
      const Float<kLanes> value = load<kLanes>(taps[i] + channel);
      largest = value > largest ? value : largest;
    }
    if (task.residual != nullptr) {
      largest += load_residual<kLanes>(task, pixel + channel);
    }
    store<kLanes>(largest, dst + channel);
  }
  if constexpr (kLanes > 1) {
    pool_channels<kLanes / 2, Src, Dst>(task, taps, pixel, channel, channel_end);
  }
}

template <class Src, class Dst>
void max_pool(const WindowTask& task, const Piece& piece) {
  const Window& window = task.window;
  for (int row = piece.row_begin; row < piece.row_end; ++row) {
    const Rows rows = rows_of(task, row);
    const Src* lines[kMostRows] = {};
    for (int r = rows.begin, line = first_line(task, rows); r < rows.end;
         ++r, line = next_line(task, line)) {
      lines[r] = src_line<Src>(task, line);
    }
    for (int q = 0; q < task.dst.w; ++q) {
      const Src* taps[kMostTaps] = {};
      int count = 0;
      for (int r = rows.begin; r < rows.end; ++r) {
        for (int s = 0; s < window.size; ++s) {
          const int column = q * window.stride - window.pad.left + s;
          if (column >= 0 && column < task.src.w) {
            taps[count++] = lines[r] + static_cast<std::int64_t>(column) * task.src.c;
          }
        }
      }
      for (; count < kMostTaps; ++count) {
        taps[count] = taps[0];
      }
      const std::int64_t pixel = (static_cast<std::int64_t>(row) * task.dst.w + q) * task.dst.c;
      pool_channels<XC_LANES, Src, Dst>(task, taps, pixel, piece.channel_begin, piece.channel_end);
    }
  }
}

void depthwise_of_any(const DepthwiseTask& task, const Piece& piece) {
  const WindowTask& slide = task.slide;
  if (slide.src_is_bf16) {
    slide.dst_is_bf16 ? depthwise<Bf16, Bf16>(task, piece) : depthwise<Bf16, float>(task, piece);
  } else {
    slide.dst_is_bf16 ? depthwise<float, Bf16>(task, piece) : depthwise<float, float>(task, piece);
  }
}

void max_pool_of_any(const WindowTask& task, const Piece& piece) {
  if (task.src_is_bf16) {
    task.dst_is_bf16 ? max_pool<Bf16, Bf16>(task, piece) : max_pool<Bf16, float>(task, piece);
  } else {
    task.dst_is_bf16 ? max_pool<float, Bf16>(task, piece) : max_pool<float, float>(task, piece);
  }
}

}  // namespace

const Loops XC_LOOPS = {XC_LOOPS_NAME, depthwise_of_any, max_pool_of_any};

}  // namespace xception::cpu
