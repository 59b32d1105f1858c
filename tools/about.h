// --version and --list-devices: what can be told without a model.
#pragma once

#include <string>

namespace xception::cli {

std::string version_text();
std::string devices_text();

}  // namespace xception::cli
