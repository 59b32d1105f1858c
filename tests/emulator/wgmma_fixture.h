// Kernels that multiply by wgmma, in PTX.
#pragma once

#include <cstddef>
#include <string>

#include "tests/emulator/matrix.h"
#include "tests/emulator/ptx_fixture.h"
#include "tests/emulator/wgmma.h"

namespace xception::emulator {

inline constexpr const char* kTarget = ".version 8.5\n.target sm_90a\n.address_size 64\n";

struct Operands {
  MatrixType type = MatrixType::kF16;
  int n = 8;
  u32 swizzle_a = 0;
  u32 swizzle_b = 0;
  bool a_in_registers = false;
  int steps = 1;  // of 32 bytes along k
  bool adds = true;
  int sign_a = 1;
  int sign_b = 1;
  bool whole = false;  // small whole numbers
};

std::size_t element_bytes(MatrixType type) { return type == MatrixType::kTf32 ? 4 : 2; }
std::size_t depth_of(MatrixType type) { return 32 / element_bytes(type); }

inline std::string joined(const std::string& prefix, int count) {
  std::string text = "{";
  for (int i = 0; i < count; ++i) {
    text += (i == 0 ? "" : ", ") + prefix + std::to_string(i);
  }
  return text + "}";
}

inline const char* type_name(MatrixType type) {
  return type == MatrixType::kF16 ? "f16" : type == MatrixType::kBf16 ? "bf16" : "tf32";
}

inline std::string wgmma(const Operands& of, const std::string& a, const std::string& b) {
  const std::string type = type_name(of.type);
  const bool halves = of.type != MatrixType::kTf32;
  return "wgmma.mma_async.sync.aligned.m64n" + std::to_string(of.n) + (halves ? "k16" : "k8") +
         ".f32." + type + "." + type + " " + joined("%f", of.n / 2) + ", " + a + ", " + b +
         ", %p1, " + std::to_string(of.sign_a) + ", " + std::to_string(of.sign_b) +
         (!halves       ? ""
          : a[0] == '{' ? ", 0"
                        : ", 0, 0") +
         ";\n";
}

// A kernel of 128 threads a warpgroup: %rd1 the image of shared memory, %rd2 the accumulators of
// each thread, %rd3 its fragments of A, %rd4 descriptors: of A and B for each step.
inline std::string kernel(const std::string& body, std::size_t image_bytes) {
  return kTarget + (".visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc, "
                    ".param .u64 pd)\n{\n.shared .align 1024 .b8 tiles[" +
                    std::to_string(image_bytes) +
                    "];\n.reg .pred %p<4>;\n.reg .b32 %r<64>;\n.reg .f32 %f<128>;\n"
                    ".reg .b64 %rd<32>;\n"
                    "ld.param.u64 %rd1, [pa];\nld.param.u64 %rd2, [pb];\nld.param.u64 %rd3, [pc];\n"
                    "ld.param.u64 %rd4, [pd];\nmov.u32 %r1, %tid.x;\nmov.u32 %r2, tiles;\n" +
                    body + "\nret;\n}\n");
}

// Every thread copies 16 bytes of each `threads` * 16 of the image.
inline std::string copy_image(std::size_t bytes, std::size_t threads) {
  std::string text =
      "shl.b32 %r3, %r1, 4;\nadd.u32 %r4, %r2, %r3;\ncvt.u64.u32 %rd10, %r3;\n"
      "add.u64 %rd11, %rd1, %rd10;\n";
  for (std::size_t at = 0; at < bytes; at += 16 * threads) {
    const std::string place = "+" + std::to_string(at) + "]";
    text += "ld.global.v4.u32 {%r5, %r6, %r7, %r8}, [%rd11" + place + ";\nst.shared.v4.u32 [%r4" +
            place + ", {%r5, %r6, %r7, %r8};\n";
  }
  return text;
}

inline std::string move_sums(int n, bool load) {
  std::string text;
  for (int i = 0; i < n / 2; ++i) {
    const std::string place = "[%rd12+" + std::to_string(4 * i) + "]";
    const std::string name = "%f" + std::to_string(i);
    text += load ? "ld.global.f32 " + name + ", " + place + ";\n"
                 : "st.global.f32 " + place + ", " + name + ";\n";
  }
  return text;
}

}  // namespace xception::emulator
