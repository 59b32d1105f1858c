// Shapes and non-owning views of images and logits in host memory.
#pragma once

#if __cplusplus < 202002L
#error "xception's headers are C++20: compile with -std=c++20, or include <xception/c/engine.h>"
#endif

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

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

  // What may be written may be read.
  template <class Read,
            class = std::enable_if_t<std::is_same_v<Read, const T> && !std::is_const_v<T>>>
  operator TensorView<Read>() const {  // NOLINT(google-explicit-constructor)
    return {data, shape, layout};
  }
};

}  // namespace xception

#pragma GCC visibility pop
