# Writes OUTPUT, the source of commit.h: run at configure time and in every build, and the file is touched only where
# something has changed. Empty outside of a git checkout; "-dirty" where tracked files differ from the commit.
execute_process(COMMAND git -C "${SOURCE_DIR}" describe --always --dirty --exclude=*
  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE ignored)
file(CONFIGURE OUTPUT "${OUTPUT}" @ONLY CONTENT [[
#include "commit.h"

namespace xception::cli {

const char* commit() { return "@commit@"; }

}  // namespace xception::cli
]])
