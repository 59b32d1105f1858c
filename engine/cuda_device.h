// Which GPUs there are, and whether this build can use them.
#pragma once

#include <string>
#include <string_view>

#include "kernels/gpu.h"
#include "xception/engine.h"
#include "xception/status.h"

namespace xception::cuda {

// Whether code made for `targets` runs on a GPU of compute capability `arch` (10 * major + minor).
// A target is "80-real", machine code, which runs on its own major version from its minor version
// on, or "80-virtual", PTX, which runs on everything from it on; there are commas between.
bool has_code_for(std::string_view targets, int arch);

// "7.5"
std::string capability(int arch);

// A GPU that this build can use.
struct Device {
  int index = 0;
  int arch = 0;
  std::string name;         // "cuda:0", "cudnn:0"
  std::string description;  // "Tesla T4, compute capability 7.5, 40 multiprocessors, 14.6 GiB"
};

// What a GPU's peak follows from.
struct BoardRates {
  int arch = 0;
  int multiprocessors = 0;
  double clock_hz = 0;           // of the multiprocessors, the highest
  double memory_bits_per_s = 0;  // of all lines of the memory's bus
  bool geforce = false;          // which sum products of 16 bits in float32 at half the rate
};

// The rate of multiply-adds (two operations each) at the highest clock: on tensor cores with
// float32 sums where the kernels have them for `numeric`, else float32's. Zeros where a rate is not
// known. Multiply-adds of a multiprocessor and clock: the CUDA C++ Programming Guide, "Throughput
// of Native Arithmetic Instructions"; those of tensor cores: NVIDIA's data sheets, divided by
// multiprocessors and boost clock.
DevicePeak rated_peak(const BoardRates& board, Numeric numeric);

// Of a device, which the driver is asked for its clocks.
Result<DevicePeak> ask_peak(const Device& device, Numeric numeric);

// What "cuda" (the first GPU) or "cuda:N" stands for, or the same of "cudnn". Fails with kDevice:
// no driver, no GPU, none of that number, one that this build holds no code for; with
// kInvalidArgument where it is no such name.
Result<Device> find_device(const std::string& name);

}  // namespace xception::cuda
