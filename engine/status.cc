#include "xception/status.h"

#include "xception/tensor.h"

namespace xception {

const char* code_name(Code code) {
  switch (code) {
    case Code::kOk:
      return "ok";
    case Code::kInvalidArgument:
      return "invalid_argument";
    case Code::kNotFound:
      return "not_found";
    case Code::kIo:
      return "io";
    case Code::kBadModel:
      return "bad_model";
    case Code::kBadImage:
      return "bad_image";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kDevice:
      return "device";
    case Code::kOutOfMemory:
      return "out_of_memory";
    case Code::kInternal:
      return "internal";
  }
  return "unknown";
}

std::string to_string(const Shape& shape) {
  return std::to_string(shape.n) + 'x' + std::to_string(shape.h) + 'x' + std::to_string(shape.w) +
         'x' + std::to_string(shape.c);
}

}  // namespace xception
