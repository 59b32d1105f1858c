#include "about.h"

#include <algorithm>
#include <string_view>
#include <thread>

#include "options.h"
#include "table.h"

namespace xception::cli {

std::string version_text() {
  constexpr std::string_view kCommit = XC_COMMIT;  // empty where it was not built from git
  std::string text = "xception-infer " XC_VERSION;
  text += kCommit.empty() ? "\n" : " (" + std::string(kCommit) + ")\n";
  text += "backends  cpu (oneDNN), reference\n";
#ifdef XCEPTION_HAVE_JPEG
  text += "decoders  libjpeg-turbo (JPEG), stb_image (the other formats)\n";
#else
  text += "decoders  stb_image\n";
#endif
  text += "networks ";
  for (const std::string& name : known_networks()) {
    text += ' ' + name;
  }
  return text + '\n';
}

std::string devices_text() {
  Table table({{"device"}, {"what it is"}});
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  table.add({"cpu", "oneDNN, " + std::to_string(cores) + (cores == 1 ? " core" : " cores")});
  table.add({"reference", "loops in double precision, slow, for checking"});
  return table.text() + "This build has no CUDA backend.\n";
}

}  // namespace xception::cli
