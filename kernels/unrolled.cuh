// Loops whose index is a constant in each pass: for offsets in instructions and template arguments.
#pragma once

#include <type_traits>
#include <utility>

namespace xception {

// body(0), body(1), ... as constants, until one returns false or kCount is reached.
template <int kCount, class Body>
__device__ __forceinline__ bool unrolled(const Body& body) {
  return [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) {
    return (body(std::integral_constant<int, kIndex>()) && ...);
  }
  (std::make_integer_sequence<int, kCount>());
}

// body(0), body(1), ... as constants, of kCount things of which there are `inside`: mostly all, and
// then one question is enough.
template <int kCount, class Body>
__device__ __forceinline__ void each_inside(int inside, const Body& body) {
  if (inside >= kCount) [[likely]] {
    unrolled<kCount>([&](auto index) {
      body(index);
      return true;
    });
  } else {
    unrolled<kCount>([&](auto index) {
      constexpr int i = decltype(index)::value;
      if (i < inside) {
        body(index);
      }
      return true;
    });
  }
}

}  // namespace xception
