// For tests of what only the emulator does or tells.
#pragma once

#include "emulator/control.h"
#include "testing.h"

namespace xception {

// The emulator's control, or, on a GPU, null and a warning that the test needs it.
inline const emulator::Control* needs_emulator() {
  const emulator::Control* control = emulator::emulator_control();
  if (control == nullptr) {
    WARN("not tested on a GPU: only the emulator tells what has run");
  }
  return control;
}

}  // namespace xception
