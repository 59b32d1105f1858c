// Kernels of Hopper's that wait at mbarrier objects, in PTX, and what is wrong with them.
#pragma once

#include <string>
#include <vector>

#include "tests/emulator/ptx_fixture.h"

namespace xception::emulator {

inline constexpr u64 kSeeds = 12;

inline std::string text_of(u64 value) { return std::to_string(value); }

inline std::string replaced(std::string text, const std::string& what, const std::string& with) {
  const std::size_t at = text.find(what);
  REQUIRE(at != std::string::npos);
  return text.replace(at, what.size(), with);
}

inline void check_contains(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
}

// A kernel of two pointers, %rd1 and %rd2, %r1 = %tid.x, and 64 KiB of shared memory, at %r0.
inline std::string kernel(const std::string& body) {
  return ".visible .entry k(.param .u64 pa, .param .u64 pb)\n{\n.reg .pred %p<8>;\n"
         ".reg .b32 %r<32>;\n.reg .b64 %rd<16>;\n.shared .align 1024 .b8 area[65536];\n"
         "ld.param.u64 %rd1, [pa];\nld.param.u64 %rd2, [pb];\nmov.u32 %r1, %tid.x;\n"
         "mov.u32 %r0, area;\nsetp.eq.u32 %p1, %r1, 0;\n" +
         body + "\nret;\n}\n";
}

struct Hopper : PtxMachine {
  explicit Hopper(unsigned width = 32, u64 order = 0) {
    profile.arch = 90;
    block.x = width;
    seed = order;
  }
};

// Waits at the object of the address, spinning as kernels do.
inline std::string wait(const std::string& address, const std::string& parity,
                        const std::string& label, const std::string& kind = "try_wait") {
  return label + ":\nmbarrier." + kind + ".parity.shared::cta.b64 %p7, [" + address + "], " +
         parity + ";\n@!%p7 bra " + label + ";\n";
}

struct Expected {
  FaultKind kind;
  std::string part;
};

inline void check_fault(const std::string& body, const Expected& expected, unsigned threads = 32,
                        const std::vector<u32>& input = std::vector<u32>(4096, 7)) {
  for (u64 seed = 0; seed < kSeeds; ++seed) {
    INFO("seed " << seed << "\n" << body);
    Hopper machine(threads, seed);
    const Fault fault =
        machine.fault_of(kernel(body), {machine.upload(input), machine.allocate(65536)});
    INFO(fault.message);
    CHECK(std::string(fault_name(fault.kind)) == fault_name(expected.kind));
    check_contains(fault.message, expected.part);
  }
}

}  // namespace xception::emulator
