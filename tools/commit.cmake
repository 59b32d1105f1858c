# Writes OUTPUT, the source of commit.h: run at configure time and in every build, and the file is touched only where
# something has changed. Empty outside of a git checkout; "-dirty" where tracked files differ from the commit. git writes
# nothing, its index neither, which somebody may be committing from.
execute_process(COMMAND git -C "${SOURCE_DIR}" rev-parse --short HEAD
  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE ignored)
execute_process(COMMAND git --no-optional-locks -C "${SOURCE_DIR}" status --porcelain --untracked-files=no
  OUTPUT_VARIABLE changes ERROR_QUIET RESULT_VARIABLE ignored)
if(commit AND changes)
  string(APPEND commit -dirty)
endif()
file(CONFIGURE OUTPUT "${OUTPUT}" @ONLY CONTENT [[
#include "commit.h"

namespace xception::cli {

const char* commit() { return "@commit@"; }

}  // namespace xception::cli
]])
