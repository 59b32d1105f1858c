#include "batch.h"

#include "message.h"
#include "xception/image.h"

namespace xception::cli {

bool Batch::takes(const Picture& picture) const {
  return shape.n == 0 || (shape.h == picture.height && shape.w == picture.width &&
                          normalised == !picture.values.empty());
}

void Batch::add(const Picture& picture) {
  normalised = !picture.values.empty();
  shape = {shape.n + 1, picture.height, picture.width, 3};
  pixels.insert(pixels.end(), picture.pixels.begin(), picture.pixels.end());
  values.insert(values.end(), picture.values.begin(), picture.values.end());
}

void Batch::clear() {
  shape = {};
  pixels.clear();
  values.clear();
}

std::vector<float> Batch::tensor(const Preprocess& preprocess) const {
  if (normalised) {
    return values;
  }
  std::vector<float> nhwc(pixels.size());
  normalise(pixels.data(), static_cast<std::int64_t>(pixels.size() / 3), preprocess, nhwc.data());
  std::vector<float> nchw(nhwc.size());
  to_nchw(nhwc.data(), shape, nchw.data());
  return nchw;
}

Status submit_batch(Session& session, const Batch& batch) {
  if (batch.normalised) {
    return session.submit(TensorView<const float>{batch.values.data(), batch.shape, Layout::kNCHW});
  }
  return session.submit(TensorView<const std::uint8_t>{batch.pixels.data(), batch.shape});
}

Status collect_batch(Session& session, std::vector<float>& logits) {
  const Shape& out = session.info().logits;
  logits.resize(static_cast<std::size_t>(out.elements()));
  return session.collect({logits.data(), out});
}

Status run_batch(Session& session, const Batch& batch, std::vector<float>& logits) {
  XC_RETURN_IF_ERROR(submit_batch(session, batch));
  return collect_batch(session, logits);
}

Status run_batch(Network& network, const Batch& batch, std::vector<float>& logits) {
  Result<Session*> session = network.session(batch.shape.n, batch.shape.h, batch.shape.w);
  XC_RETURN_IF_ERROR(session.status());
  return run_batch(**session, batch, logits);
}

Result<Batch> gather(const PictureSource& source) {
  Batch batch;
  for (std::size_t i = 0; i < source.count; ++i) {
    const Picture picture = source.load(i);
    XC_RETURN_IF_ERROR(picture.status);
    if (!batch.takes(picture)) {
      return Status(Code::kInvalidArgument,
                    "'" + picture.name +
                        "' has another size than the pictures before it, and this "
                        "runs as one batch; give pictures of one size, or --size");
    }
    batch.add(picture);
  }
  return batch;
}

void to_nchw(const float* nhwc, const Shape& shape, float* nchw) {
  const std::int64_t plane = static_cast<std::int64_t>(shape.h) * shape.w;
  for (std::int64_t n = 0; n < shape.n; ++n) {
    const float* src = nhwc + n * plane * shape.c;
    for (std::int64_t c = 0; c < shape.c; ++c) {
      for (std::int64_t pixel = 0; pixel < plane; ++pixel) {
        *nchw++ = src[pixel * shape.c + c];
      }
    }
  }
}

}  // namespace xception::cli
