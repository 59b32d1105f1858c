// Any bytes are an array whose data is as long as its shape says, or an error.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "xception/image.h"

using namespace xception;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Result<NpyArray> array =
      parse_npy(std::as_bytes(std::span<const std::uint8_t>(data, size)));
  if (!array.ok()) {
    return array.status().message().empty() ? (std::abort(), 1) : 0;
  }
  bool empty = false;
  for (const std::int64_t extent : array->shape) {
    if (extent < 0) {
      std::abort();
    }
    empty = empty || extent == 0;
  }
  std::size_t expected = array->type == NpyArray::Type::kU8 ? 1 : 4;
  for (const std::int64_t extent : array->shape) {
    expected *= empty ? 0 : static_cast<std::size_t>(extent);
  }
  if (array->data.size() != expected) {
    std::abort();
  }
  return 0;
}
