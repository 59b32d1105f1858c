// Which sources a program was built from.
#pragma once

namespace xception::cli {

// git's short name of the commit, with "-dirty" where the sources differed from it; empty where
// they were no checkout.
const char* commit();

}  // namespace xception::cli
