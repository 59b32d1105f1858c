#include "tensor_dump.h"

#include <utility>

#include "engine/atomic_file.h"
#include "xception/image.h"

namespace xception::cli {

Status TensorDump::prepare() const {
  AtomicFile trial;  // which goes again
  return path_.empty() ? Status() : trial.open(path_).with_context("--dump-input");
}

void TensorDump::add(const Batch& batch, const Preprocess& preprocess) {
  constexpr std::int64_t kMostElements = std::int64_t{1} << 28;  // 1 GiB
  if (path_.empty() || !status_.ok()) {
    return;
  }
  const Shape& shape = batch.shape;
  if (shape_.n > 0 && (shape.h != shape_.h || shape.w != shape_.w)) {
    status_ = Status(Code::kIo, "--dump-input '" + path_ +
                                    "' is not written: the pictures have different sizes, one "
                                    "array takes one; give --size");
  } else if (shape_.elements() + shape.elements() > kMostElements) {
    status_ = Status(Code::kIo, "--dump-input '" + path_ +
                                    "' is not written: the tensors take more than 1 GiB; give "
                                    "fewer pictures");
  }
  if (!status_.ok()) {
    values_ = std::vector<float>();  // which frees, where = {} would not
    return;
  }
  const std::vector<float> tensor = batch.tensor(preprocess);
  values_.insert(values_.end(), tensor.begin(), tensor.end());
  shape_ = {shape_.n + shape.n, shape.h, shape.w, 3};
}

Status TensorDump::finish() {
  if (path_.empty() || !status_.ok()) {
    return status_;
  }
  if (shape_.n == 0) {
    return {Code::kIo, "--dump-input '" + path_ + "' is not written: nothing was fed"};
  }
  return write_npy(path_, {shape_.n, 3, shape_.h, shape_.w}, values_.data());
}

}  // namespace xception::cli
