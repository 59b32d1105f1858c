// What an emulated kernel did wrong, as a value: the emulator never crashes for it.
#pragma once

#include <string>

namespace xception::emulator {

enum class FaultKind {
  kOutOfBounds,  // no allocation there, or past its end
  kUseAfterFree,
  kMisaligned,
  kUninitialised,       // a read of memory that nobody has written
  kSharedRace,          // two threads, one location, no barrier between, one of them writing
  kGlobalRace,          // two blocks of one launch, one location, one of them writing
  kAsyncCopyNotWaited,  // cp.async data read before its wait, or overwritten in flight
  kWgmmaNotWaited,      // registers or operands of a wgmma touched before its wait
  kMissingFence,        // a wgmma without the wgmma.fence or fence.proxy.async that it needs
  kDependentLaunch,     // touches early what the kernel before may still use
  kMbarrier,            // an mbarrier used against its rules
  kDivergentBarrier,
  kDeadlock,
  kInvalidFree,
  kLeak,
  kUnsupported,  // an instruction, modifier or operand that the emulator does not know
  kLaunch,       // more threads, blocks, shared memory or registers than the device has
  kTrap,         // trap, or a device-side assert
};

// "out of bounds", "shared race".
const char* fault_name(FaultKind kind);

struct Fault {
  FaultKind kind = FaultKind::kUnsupported;
  // One sentence: kernel, block, thread, PTX line with its text, source line where -lineinfo gave
  // one, address and what stands there.
  std::string message;
};

}  // namespace xception::emulator
