// Pictures of one size, run together.
#pragma once

#include <vector>

#include "network.h"
#include "picture.h"

namespace xception::cli {

// The pixels or values of pictures in one block, as a session takes them.
struct Batch {
  Shape shape;
  bool normalised = false;           // which of the two holds the pictures
  std::vector<std::uint8_t> pixels;  // NHWC
  std::vector<float> values;         // NCHW

  // Whether this picture may join: the first one decides the size.
  bool takes(const Picture& picture) const;
  void add(const Picture& picture);
  void clear();

  // What the network is fed, float32 NCHW, the 8-bit pixels normalised as `preprocess` says.
  std::vector<float> tensor(const Preprocess& preprocess) const;
};

// Runs the batch; logits are [picture][class].
Status run_batch(Network& network, const Batch& batch, std::vector<float>& logits);
Status run_batch(Session& session, const Batch& batch, std::vector<float>& logits);
// The same in two halves: see Session::submit.
Status submit_batch(Session& session, const Batch& batch);
Status collect_batch(Session& session, std::vector<float>& logits);

// All pictures of the source as one batch. Fails with the first picture that does, and with
// kInvalidArgument where the sizes differ.
Result<Batch> gather(const PictureSource& source);

// Values of one picture from NHWC to NCHW order, for all n pictures of the shape.
void to_nchw(const float* nhwc, const Shape& shape, float* nchw);

}  // namespace xception::cli
