// Loops of the CPU backend's own, for what oneDNN does slowly or cannot fuse: the depthwise
// convolution with a ReLU on the way in, and max pooling with an add on the way out.
//
// They exist once for each instruction set, and select_loops() chooses. The header is included
// where the compiler may use instructions that the machine does not have, so there is no code in
// it.
#pragma once

#include "kernels/problem.h"

namespace xception::cpu {

// A window that slides over each channel by itself. Activations are NHWC, float32 or bf16 in memory
// and float32 in between; a bf16 is rounded to nearest, half to even.
struct WindowTask {
  Shape src;
  Shape dst;
  Window window;  // pads by less than its size
  bool src_is_bf16 = false;
  bool dst_is_bf16 = false;
  bool residual_is_bf16 = false;
  const void* src_data = nullptr;
  int src_lines = 0;  // rows of src that src_data has room for: n * h + y at % src_lines
  const void* residual = nullptr;  // of dst's shape, or null
  void* dst_data = nullptr;
};

// The steps of Epilogue, in its order; its own `residual` is not used, but the task's.
struct DepthwiseTask {
  WindowTask slide;
  int first_row = 0;  // of the output, that slide.dst_data and slide.residual begin with
  bool relu_on_load = false;
  const float* weights = nullptr;  // [size][size][c]
  Epilogue epilogue;
  // The same weights and epilogue.shift where src is float32. Where it is bf16, with all even
  // channels of a tap, and of the shift, before all odd ones; both as many.
  const float* split_weights = nullptr;
  const float* split_shift = nullptr;
};

// The part of an output that one thread computes: rows of all pictures, n * dst.h + p, and
// channels.
struct Piece {
  int row_begin = 0;
  int row_end = 0;
  int channel_begin = 0;
  int channel_end = 0;
};

struct Loops {
  const char* name = "";
  void (*depthwise)(const DepthwiseTask&, const Piece&) = nullptr;
  void (*max_pool)(const WindowTask&, const Piece&) = nullptr;
};

extern const Loops kBaselineLoops;  // what every processor of the architecture has
#ifdef XC_X86_LOOPS
extern const Loops kAvx2Loops;    // AVX2, FMA
extern const Loops kAvx512Loops;  // AVX-512 F, BW, DQ, VL
#endif

}  // namespace xception::cpu
