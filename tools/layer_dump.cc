#include "layer_dump.h"

#include <filesystem>
#include <system_error>

#include "batch.h"
#include "xception/image.h"

namespace xception::cli {

Status LayerDump::prepare() {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  return error ? Status(Code::kIo, "cannot make the folder '" + folder_ + "': " + error.message())
               : Status();
}

Status LayerDump::write(const LayerOutput& output) {
  const Shape& shape = output.layer->output;
  const std::string name = output.layer->name + ".npy";
  if (!written_.insert(name).second) {
    return {Code::kInternal, "two layers would be written as '" + name + "'"};
  }
  nchw_.resize(output.values.size());
  to_nchw(output.values.data(), shape, nchw_.data());
  return write_npy(folder_ + '/' + name, {shape.n, shape.c, shape.h, shape.w}, nchw_.data());
}

}  // namespace xception::cli
