// Shapes and non-owning views of images and logits in host memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#pragma GCC visibility push(default)  // what programs see of the shared library

namespace xception {

// How the elements of a 4-D tensor follow each other in memory, the last letter fastest.
enum class Layout { kNHWC, kNCHW };

// Extents of an activation: images, height and width in pixels, channels. Logits are {n, 1, 1, k}.
struct Shape {
  int n = 0;
  int h = 0;
  int w = 0;
  int c = 0;

  std::int64_t elements() const { return static_cast<std::int64_t>(n) * h * w * c; }
  friend bool operator==(const Shape&, const Shape&) = default;
};

// "2x19x19x728", in the order n, h, w, c.
std::string to_string(const Shape& shape);

// A dense tensor that belongs to somebody else: `data` holds shape.elements() values in `layout`
// order and must outlive the view.
template <class T>
struct TensorView {
  T* data = nullptr;
  Shape shape;
  Layout layout = Layout::kNHWC;
};

}  // namespace xception

#pragma GCC visibility pop
