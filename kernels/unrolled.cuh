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

}  // namespace xception
