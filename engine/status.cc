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

const char* data_type_name(DataType type) {
  switch (type) {
    case DataType::kF32:
      return "fp32";
    case DataType::kBF16:
      return "bf16";
    case DataType::kF16:
      return "fp16";
    case DataType::kU8:
      return "uint8";
  }
  return "unknown";
}

std::string to_string(const Shape& shape) {
  return std::to_string(shape.n) + 'x' + std::to_string(shape.h) + 'x' + std::to_string(shape.w) +
         'x' + std::to_string(shape.c);
}

}  // namespace xception
