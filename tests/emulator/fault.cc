#include "tests/emulator/fault.h"

namespace xception::emulator {

const char* fault_name(FaultKind kind) {
  switch (kind) {
    case FaultKind::kOutOfBounds:
      return "out of bounds";
    case FaultKind::kUseAfterFree:
      return "use after free";
    case FaultKind::kMisaligned:
      return "misaligned address";
    case FaultKind::kUninitialised:
      return "uninitialised read";
    case FaultKind::kSharedRace:
      return "shared race";
    case FaultKind::kGlobalRace:
      return "global race";
    case FaultKind::kAsyncCopyNotWaited:
      return "async copy not waited for";
    case FaultKind::kWgmmaNotWaited:
      return "wgmma not waited for";
    case FaultKind::kMissingFence:
      return "missing fence";
    case FaultKind::kDependentLaunch:
      return "dependent launch";
    case FaultKind::kMbarrier:
      return "mbarrier misuse";
    case FaultKind::kDivergentBarrier:
      return "divergent barrier";
    case FaultKind::kDeadlock:
      return "deadlock";
    case FaultKind::kInvalidFree:
      return "invalid free";
    case FaultKind::kLeak:
      return "leak";
    case FaultKind::kUnsupported:
      return "unsupported";
    case FaultKind::kLaunch:
      return "launch";
    case FaultKind::kTrap:
      return "trap";
  }
  return "unknown fault";
}

}  // namespace xception::emulator
