#include "about.h"

#include "commit.h"
#include "options.h"
#include "table.h"

namespace xception::cli {

std::string version_text() {
  const std::string from = commit();
  std::string text = "xception-infer " XC_VERSION;
  text += from.empty() ? "\n" : " (" + from + ")\n";
  text += "backends  cpu (oneDNN), reference";
#ifdef XC_CUDA_VERSION
  text += ", cuda (CUDA " XC_CUDA_VERSION ")";
#endif
  text += '\n';
#ifdef XCEPTION_HAVE_JPEG
  text += "decoders  libjpeg-turbo (JPEG), stb_image (PNG), its own (the other formats)\n";
#else
  text += "decoders  stb_image (JPEG, PNG), its own (the other formats)\n";
#endif
  text += "networks ";
  for (const std::string& name : known_networks()) {
    text += ' ' + name;
  }
  return text + '\n';
}

std::string devices_text() {
  const DeviceList list = list_devices();
  Table table({{"device"}, {"what it is"}});
  for (const DeviceInfo& device : list.devices) {
    table.add({device.name, device.description});
  }
  return table.text() + (list.no_cuda.empty() ? "" : list.no_cuda + '\n');
}

}  // namespace xception::cli
